"""Detect a busy machine: time a fixed computation repeatedly and measure its spread."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tcseg.errors import CannotRunError

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

NOISY = 0.25  # spread of a fixed computation above which the machine is busy with something else


class NoisyMachineError(CannotRunError):
    """The machine is too busy for its times to mean anything. `table`: what was measured nevertheless, if it was."""

    def __init__(self, message: str, table: pd.DataFrame | None = None) -> None:
        super().__init__(message)
        self.table = table


def time_fixed_work(ms: float = 5.0, repeats: int = 300) -> np.ndarray:
    """Milliseconds that one fixed computation takes, again and again: the control of every percentile.

    What it shows of slow moments is the machine's own, whatever network runs.

    Args:
        ms: About how long it should take, as long as a frame; at least one matrix product of side 384.
        repeats: How often.
    """
    a = np.ones((384, 384), np.float32)

    def timed(products: int) -> float:
        started = time.perf_counter()
        for _ in range(products):
            a @ a
        return 1e3 * (time.perf_counter() - started)

    products = max(1, round(ms / np.median([timed(1) for _ in range(25)]))) if ms else 1
    return np.array([timed(products) for _ in range(repeats)])


def noise(repeats: int = 40) -> float:
    """How unsteady the machine is now: (p90 - p10) / p50 of the time of one fixed matrix product. Quiet: below 0.1."""
    return spread(time_fixed_work(ms=0, repeats=repeats))


def spread(milliseconds: Sequence[float], tail: float = 10) -> float:
    """How far a percentile and its mirror lie apart, as a share of the median."""
    low, middle, high = np.percentile(milliseconds, [tail, 50, 100 - tail])
    return float((high - low) / middle)


def lowest_noise(probes: int = 3, pause: float = 0.5) -> float:
    """`noise`, asked again after a pause where it is above the limit: a hiccup of a moment is not a busy machine."""
    lowest = noise()
    for _ in range(probes - 1):
        if lowest <= NOISY:
            break
        time.sleep(pause)
        lowest = min(lowest, noise())
    return lowest


def require_quiet(measured: float, anyway: bool, most: float = NOISY, table: pd.DataFrame | None = None) -> None:
    """Raise `NoisyMachineError`, with what was measured, where `noise` found the machine too busy; only warn with `anyway`."""
    if measured <= most:
        return
    busy = f"this machine is busy: a fixed computation varies by {100 * measured:.0f} % (idle: below 10 %)"
    if not anyway:
        raise NoisyMachineError(
            f"{busy}; stop other programs, or report anyway with --anyway (in Python: anyway=True)", table
        )
    log.warning("%s: measure again on an idle machine", busy)
