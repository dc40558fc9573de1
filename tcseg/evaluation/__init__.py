"""Evaluation of a network on a split, and of label maps on disk (`tcseg evaluate`)."""
