"""The report and all published documents: README, model card, data card, and pages made from tables."""
