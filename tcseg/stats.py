"""How sure are we? Intervals over clips (cluster bootstrap) and over seeds (t).

Frames of a clip are not independent, so the unit that is resampled is the clip: draw clips with replacement, add their counts,
take the metric of the sums. Two models are compared on the same draws. (Efron and Tibshirani 1993; issue: few clusters.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats as scipy_stats

from tcseg.metrics import Overlap

Counts = Mapping[str, Sequence]
"""Per-clip counts of one metric: {"intersection", "predicted", "labelled"} each (clips, K), or {"count", "total"} each (clips,)."""


class Interval(NamedTuple):
    """An estimate with its 95 % (or other) interval."""

    value: float
    low: float
    high: float


def _metric(counts: Counts, weights: np.ndarray) -> np.ndarray:
    """The metric of weighted sums over clips: weights (draws, clips) -> (draws,)."""
    summed = {name: weights @ np.asarray(values, dtype=np.float64) for name, values in counts.items()}
    if "intersection" in summed:
        return Overlap(summed["intersection"], summed["predicted"], summed["labelled"]).miou()
    return summed["count"] / np.maximum(summed["total"], 1)


def _clips(counts: Counts) -> int:
    return len(next(iter(counts.values())))


def _draws(clips: int, draws: int, seed: int) -> np.ndarray:
    """How often each clip occurs in each resample: (draws, clips)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(clips, np.full(clips, 1 / clips), size=draws).astype(np.float64)


def _interval(estimate: float, resampled: np.ndarray, clips: int, level: float) -> Interval:
    """Percentile interval, widened for few clusters by sqrt(n/(n-1)) and the t quantile (Hesterberg 2015, sec. 5.3)."""
    tail = (1 - level) / 2
    if clips < 2:
        return Interval(estimate, float("nan"), float("nan"))
    stretched = scipy_stats.norm.cdf(np.sqrt(clips / (clips - 1)) * scipy_stats.t.ppf(tail, clips - 1))
    low, high = np.nanquantile(resampled, [stretched, 1 - stretched])
    return Interval(estimate, float(low), float(high))


def bootstrap_interval(counts: Counts, draws: int = 2000, seed: int = 0, level: float = 0.95) -> Interval:
    """Cluster bootstrap over clips of one metric.

    Args:
        counts: per-clip counts (see `Counts`).
        draws: resamples.
        seed: of the draws; the same seed gives the same clips for every metric.
        level: of the interval.

    Returns:
        The metric of all clips and its interval; (value, nan, nan) when there is one clip only.
    """
    clips = _clips(counts)
    estimate = float(_metric(counts, np.ones((1, clips)))[0])
    return _interval(estimate, _metric(counts, _draws(clips, draws, seed)), clips, level)


def paired_bootstrap(a: Counts, b: Counts, draws: int = 2000, seed: int = 0, level: float = 0.95) -> Interval:
    """Difference metric(b) - metric(a), both on the same resampled clips.

    Raises:
        ValueError: a and b have different numbers of clips.
    """
    clips = _clips(a)
    if clips != _clips(b):
        raise ValueError(f"a has {clips} clips and b {_clips(b)}; a paired comparison needs the same clips")
    whole, weights = np.ones((1, clips)), _draws(clips, draws, seed)
    estimate = float((_metric(b, whole) - _metric(a, whole))[0])
    return _interval(estimate, _metric(b, weights) - _metric(a, weights), clips, level)


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean of independent values (seeds, or paired differences of seeds) with Student's t interval.

    Returns:
        (mean, nan, nan) for one value: one seed says nothing about the spread of seeds.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0:
        raise ValueError("values is empty; give one number per seed")
    mean = float(values.mean())
    if values.size < 2:
        return Interval(mean, float("nan"), float("nan"))
    half = scipy_stats.t.ppf((1 + level) / 2, values.size - 1) * values.std(ddof=1) / np.sqrt(values.size)
    return Interval(mean, mean - float(half), mean + float(half))
