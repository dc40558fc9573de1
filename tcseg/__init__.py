"""tcseg: real-time, temporally consistent semantic segmentation of driving video. A course and a reproducible study."""

from .caches import prepare as _prepare_caches

__version__ = "0.1.0"

_prepare_caches()  # before numba and matplotlib are imported, which read where they may write
