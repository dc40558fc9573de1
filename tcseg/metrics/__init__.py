"""Metrics and their uncertainty: mIoU, temporal consistency, flicker, confidence intervals.

Classes for custom evaluation loops: `MeanIoU`, `TemporalConsistency`, `FlickerRate` (see `metrics.streaming`).
"""

from importlib import import_module

_MODULES = ("intervals", "seed_clip_effects", "segmentation", "streaming", "temporal", "trajectories")
__all__ = ["FlickerRate", "MeanIoU", "TemporalConsistency"]


def __getattr__(name: str) -> object:
    """Import what is used: intervals need no compiled code."""
    if name in _MODULES:
        return import_module(f"tcseg.metrics.{name}")
    if name in __all__:
        return getattr(import_module("tcseg.metrics.streaming"), name)
    raise AttributeError(f"module 'tcseg.metrics' has no attribute {name!r}; it has {', '.join((*__all__, *_MODULES))}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
