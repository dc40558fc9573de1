"""tcseg: real-time, temporally consistent semantic segmentation of driving video. A course and a reproducible study."""

__version__ = "0.1.0"
