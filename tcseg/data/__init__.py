"""Data sets: where they lie, which files make a split, clips in memory, and their augmentation."""
