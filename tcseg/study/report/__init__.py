"""The report and what is published with it: README, model card, data card, and pages made from tables."""
