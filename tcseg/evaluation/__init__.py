"""Predictions in, metrics out: a network over a split, or anyone's label maps on disk (`tcseg evaluate`)."""
