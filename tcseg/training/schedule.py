"""The learning-rate schedule: one cycle (Smith and Topin 2019)."""

from __future__ import annotations

import math


def one_cycle(step: int, steps: int, peak: float, warmup: float = 0.15) -> float:
    """Learning rate at a step: linear up to `peak` over the first `warmup` share, then cosine down to peak / 1000."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return peak * (step + 1) / rise
    done = (step - rise) / max(1, steps - rise)
    return peak * (0.001 + 0.999 * (1 + math.cos(math.pi * done)) / 2)
