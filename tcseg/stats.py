"""How sure are we? Intervals over clips and over seeds; what remains of a finding among many; what is too small to be found.

Frames of a clip are not independent, so the unit that is left out or drawn again is the clip: sum the counts of the clips at hand,
take the metric of the sums. Two models are compared on the same clips. With fewer than `FEW` clips a percentile bootstrap is too
narrow, and intervals are Student's t with the jackknife's error (`tcseg measure coverage` is the evidence). Where there is one
clip only, blocks of its frames stand in for clips, and the interval speaks of that one street. Seeds and clips at once: `crossed`.

Efron and Tibshirani 1993 (bootstrap, jackknife); Hesterberg 2015 (few clusters); Kuensch 1989 (moving blocks); Holm 1979.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats as scipy_stats

from tcseg.errors import InputError
from tcseg.metrics import Overlap

Counts = Mapping[str, Sequence]
"""Per-clip counts of one metric: {"intersection", "predicted", "labelled"} each (clips, K), or {"count", "total"} each (clips,)."""

FEW = 30
"""With fewer clips than this, intervals are t-based."""


class Interval(NamedTuple):
    """An estimate with its 95 % (or other) interval."""

    value: float
    low: float
    high: float


# ------------------------------------------------------------------------------------------------ counts, weights


def metric_of(counts: Counts, weights: np.ndarray) -> np.ndarray:
    """The metric of weighted sums over clips: weights (draws, clips) -> (draws,); nan where nothing was counted."""
    summed = {name: weights @ np.asarray(values, dtype=np.float64) for name, values in counts.items()}
    if "intersection" in summed:
        return Overlap(summed["intersection"], summed["predicted"], summed["labelled"]).miou()
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(summed["total"] > 0, summed["count"] / summed["total"], np.nan)


def clips_in(counts: Counts) -> int:
    """Number of clips (or blocks)."""
    return len(next(iter(counts.values())))


def in_blocks(counts: Counts, length: int) -> dict[str, np.ndarray]:
    """Sum rows of consecutive frames into blocks side by side, all of one length or nearly so, as near to `length` as it goes."""
    rows = clips_in(counts)
    starts = np.linspace(0, rows, max(1, round(rows / length)), endpoint=False).round().astype(int)
    return {name: np.add.reduceat(np.asarray(values), starts, axis=0) for name, values in counts.items()}


def clip_draws(clips: int, draws: int, seed: int) -> np.ndarray:
    """Draw clips with replacement: how often each occurs in each draw, (draws, clips)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(clips, np.full(clips, 1 / clips), size=draws).astype(np.float64)


def block_draws(frames: int, length: int, draws: int, seed: int) -> np.ndarray:
    """Moving blocks (Kuensch 1989): draw overlapping runs of `length` frames of one clip until there are as many frames as in it.

    Returns:
        How often each frame occurs in each draw, (draws, frames); a row's sum is `frames`, rounded up to whole blocks.
    """
    length = min(length, frames)
    needed = -(-frames // length)
    starts = np.random.default_rng(seed).integers(0, frames - length + 1, (draws, needed))
    marks = np.zeros((draws, frames + 1))
    rows = np.arange(draws)[:, None]
    np.add.at(marks, (rows, starts), 1)  # a run begins here ...
    np.add.at(marks, (rows, starts + length), -1)  # ... and has ended here
    return marks.cumsum(1)[:, :frames]


def draws_of(clips: int, block: int, draws: int, seed: int) -> np.ndarray:
    """Of clips, or with block > 1 of overlapping blocks of so many rows."""
    return block_draws(clips, block, draws, seed) if block > 1 else clip_draws(clips, draws, seed)


def all_and_each_left_out(clips: int) -> np.ndarray:
    """Weights (1 + clips, clips): all clips, then all but one."""
    return np.concatenate([np.ones((1, clips)), 1 - np.eye(clips)])


# ------------------------------------------------------------------------------------------------ one factor


def _t_limits(value: float, error: float, df: float, level: float) -> Interval:
    if not df >= 1:
        return Interval(value, float("nan"), float("nan"))
    half = float(scipy_stats.t.ppf((1 + level) / 2, df) * error)
    return Interval(value, value - half, value + half)


def _jackknife(values: np.ndarray, level: float) -> Interval:
    """Student's t with the jackknife's error: values (1 + clips,), of all clips and of all but one."""
    value, others = float(values[0]), values[1:]
    clips = len(others)
    error = np.sqrt((clips - 1) / clips * ((others - others.mean()) ** 2).sum())
    return _t_limits(value, float(error), clips - 1 if clips > 1 else np.nan, level)


def percentile_limits(value: float, resampled: np.ndarray, clusters: float, level: float = 0.95) -> Interval:
    """Percentile interval, widened for few clusters by sqrt(n/(n-1)) and the t quantile (Hesterberg 2015, sec. 5.3)."""
    if not clusters >= 2:
        return Interval(value, float("nan"), float("nan"))
    tail = np.sqrt(clusters / (clusters - 1)) * scipy_stats.t.ppf((1 - level) / 2, clusters - 1)
    stretched = scipy_stats.norm.cdf(tail)
    low, high = np.nanquantile(resampled, [stretched, 1 - stretched])
    return Interval(value, float(low), float(high))


def _one_factor(
    effect: Callable[[np.ndarray], np.ndarray], clips: int, draws: int, seed: int, level: float
) -> Interval:
    """The interval of effect(weights) over clips: t for few, bootstrap for many."""
    if clips < FEW:
        return _jackknife(effect(all_and_each_left_out(clips)), level)
    value = float(effect(np.ones((1, clips)))[0])
    return percentile_limits(value, effect(clip_draws(clips, draws, seed)), clips, level)


def bootstrap_interval(counts: Counts, draws: int = 2000, seed: int = 0, level: float = 0.95) -> Interval:
    """One metric over clips: cluster bootstrap, or with fewer than `FEW` clips the jackknife's t.

    Args:
        counts: per-clip counts (see `Counts`).
        draws: resamples.
        seed: of the draws; the same seed gives the same clips for every metric.
        level: of the interval.

    Returns:
        The metric of all clips and its interval, which ends where shares do, at 0 and 1; (value, nan, nan) when there is one clip.
    """
    found = _one_factor(lambda weights: metric_of(counts, weights), clips_in(counts), draws, seed, level)
    return Interval(found.value, *np.clip([found.low, found.high], 0.0, 1.0).tolist())


def paired_bootstrap(a: Counts, b: Counts, draws: int = 2000, seed: int = 0, level: float = 0.95) -> Interval:
    """Difference metric(b) - metric(a) of two models, both on the same clips of every draw; as `bootstrap_interval` otherwise.

    Raises:
        ValueError: a and b have different numbers of clips.
    """
    require_same_clips([a, b])
    return _one_factor(lambda weights: metric_of(b, weights) - metric_of(a, weights), clips_in(a), draws, seed, level)


def require_same_clips(counts: Sequence[Counts]) -> None:
    """Refuse counts that cannot be compared clip by clip.

    Raises:
        ValueError: different numbers of clips.
    """
    found = sorted({clips_in(one) for one in counts})
    if len(found) > 1:
        raise InputError(
            f"counts are of {' and of '.join(map(str, found))} clips; a paired comparison needs the same clips"
        )


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean of independent values (seeds, or paired differences of seeds) with Student's t interval.

    Returns:
        (mean, nan, nan) for one value: one seed says nothing about the spread of seeds.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0:
        raise InputError("values is empty; give one number per seed")
    if values.size < 2:
        return Interval(float(values.mean()), float("nan"), float("nan"))
    return _t_limits(float(values.mean()), values.std(ddof=1) / np.sqrt(values.size), values.size - 1, level)


# ------------------------------------------------------------------------------------------------ many comparisons


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's adjustment (1979): keeps the chance of even one false finding among all below the level that p is held against.

    Args:
        p: of a family of tests; nan = not tested, stays nan and does not count.

    Returns:
        Adjusted values in the order given.
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, kind="stable")[: int(np.isfinite(p).sum())]  # nan sorts last
    adjusted = np.full(p.shape, np.nan)
    steps = np.maximum.accumulate(p[order] * (len(order) - np.arange(len(order))))
    adjusted[order] = np.minimum(1.0, steps)
    return adjusted
