"""Data sets: their folders, the files of a split, clips in memory, and augmentation."""
