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

NOISY = 0.25  # the machine counts as busy if the spread of a fixed computation is larger


class NoisyMachineError(CannotRunError):
    """The machine is too busy for reliable times. `table` has the measurements, if any were made."""

    def __init__(self, message: str, table: pd.DataFrame | None = None) -> None:
        super().__init__(message)
        self.table = table


def time_fixed_work(ms: float = 5.0, repeats: int = 300) -> np.ndarray:
    """Time a fixed computation repeatedly, in milliseconds, as a reference for the percentiles of other times.

    Its slow moments are caused by the machine and not by a network.

    Args:
        ms: approximate duration, such as that of a frame; at least one matrix product of side 384.
        repeats: number of measurements.
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
    """Current noise of the machine: (p90 - p10) / p50 of the time of a fixed matrix product. Below 0.1 on an idle machine."""
    return spread(time_fixed_work(ms=0, repeats=repeats))


def spread(milliseconds: Sequence[float], tail: float = 10) -> float:
    """Distance between the percentiles `tail` and 100 - `tail`, as a share of the median."""
    low, middle, high = np.percentile(milliseconds, [tail, 50, 100 - tail])
    return float((high - low) / middle)


def lowest_noise() -> float:
    """The lowest of up to three measurements of `noise`, so that a short disturbance does not count as a busy machine."""
    lowest = noise()
    for _ in range(2):
        if lowest <= NOISY:
            break
        time.sleep(0.5)
        lowest = min(lowest, noise())
    return lowest


def require_quiet(measured: float, anyway: bool, most: float = NOISY, table: pd.DataFrame | None = None) -> None:
    """Raise `NoisyMachineError`, with the measurements, if the machine is too busy; with `anyway`, only log a warning."""
    if measured <= most:
        return
    busy = f"this machine is busy: the time of a fixed computation varies by {100 * measured:.0f} % (idle: below 10 %)"
    if not anyway:
        raise NoisyMachineError(
            f"{busy}; stop other programs, or pass --anyway to report the times anyway (in Python: anyway=True)", table
        )
    log.warning("%s; repeat the measurement on an idle machine", busy)
