"""Confidence intervals over clips and seeds, correction for multiple tests, and the minimal detectable difference.

Frames of a clip are not independent, so the jackknife leaves out whole clips: the counts of the remaining clips are summed, and the
metric is computed from the sums. Two models are compared on the same clips, and clips without counted pixels are ignored. Intervals
use Student's t and the jackknife's error, with two corrections for mIoU and TC (`Jackknife`): sums over few clips are biased, and a
rare class occurs in few clips. `tcseg measure coverage` compares this with the plain t interval and with bootstraps, which are
narrower and contain the true value less often. With a single clip, blocks of its frames are the units, and the interval applies to
that street only. `by_cluster` handles similar clips of one city, and `seed_clip_effects` handles seeds and clips together.

Efron and Tibshirani 1993 (jackknife, bootstrap); Satterthwaite 1946 (degrees of freedom); Hesterberg 2015 (few clusters);
Kuensch 1989 (moving blocks); Holm 1979.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats as scipy_stats

from tcseg.errors import InputError
from tcseg.metrics.segmentation import Overlap

Counts = Mapping[str, Sequence]
"""Per-clip counts of one metric: {"intersection", "predicted", "labelled"} each (clips, K), or {"count", "total"} each (clips,)."""

FEWEST_CLUSTERS = 8
"""From so many cities on, sums over a city are good units (`by_cluster`); over three or four an interval is twice as wide."""


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


def counted(counts: Counts) -> np.ndarray:
    """Clips in which at least one pixel was counted, bool (clips,): the units of a metric."""
    return np.any([np.any(np.reshape(values, (clips_in(counts), -1)), axis=1) for values in counts.values()], axis=0)


def counted_units(counts: Counts) -> int:
    """Number of clips in which at least one pixel was counted: the units of an interval."""
    return int(counted(counts).sum())


def units(counts: Sequence[Counts], block: int = 1) -> list[dict[str, np.ndarray]]:
    """What can be left out: the clips in which anything was counted, by any of several networks.

    Args:
        counts: one entry a network, of the same clips.
        block: with one clip only, whose rows are consecutive frames: about so many of those that count are summed to one unit.

    Raises:
        ValueError: different numbers of clips.
    """
    require_same_clips(counts)
    used = np.any([counted(one) for one in counts], axis=0)
    rows = [{name: np.asarray(values)[used] for name, values in one.items()} for one in counts]
    return [in_blocks(one, block) for one in rows] if block > 1 else rows


def in_blocks(counts: Counts, length: int) -> dict[str, np.ndarray]:
    """Sum rows of consecutive frames into blocks side by side, all of one length or nearly so, as near to `length` as it goes."""
    rows = clips_in(counts)
    if not rows:
        return {name: np.asarray(values) for name, values in counts.items()}
    starts = np.linspace(0, rows, max(1, round(rows / length)), endpoint=False).round().astype(int)
    return {name: np.add.reduceat(np.asarray(values), starts, axis=0) for name, values in counts.items()}


def by_cluster(counts: Counts, clusters: Sequence[str]) -> dict[str, np.ndarray]:
    """Sum the counts of the clips of each cluster (such as a city), so that intervals are over clusters.

    Clips of one city are alike, and an interval that takes them for independent is too narrow for *other cities*: in coverage.csv
    it holds the truth 88 to 95 times in 100, by metric. With the city as the unit it is 94 to 97, from three cities on; from
    `FEWEST_CLUSTERS` on it is little wider than it must be. With fewer, keep the clips and say what they are of: `scope`.

    Args:
        counts: per-clip counts.
        clusters: the cluster of each clip, by name.

    Returns:
        Counts with a row a cluster, in the order of their names.

    Raises:
        ValueError: not one name for each clip.
    """
    if len(clusters) != clips_in(counts):
        raise InputError(f"clusters has {len(clusters)} names for {clips_in(counts)} clips; it must have one name per clip")
    names, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    member = (index[None] == np.arange(len(names))[:, None]).astype(np.int64)
    return {name: member @ np.asarray(values) for name, values in counts.items()}


def scope(cities: Sequence[str]) -> str:
    """A sentence for intervals whose units are clips, where these lie in few cities; empty where each has its own.

    Args:
        cities: the city of each clip that is a unit.
    """
    clips, found = len(cities), len(set(cities))
    if found in (0, clips):
        return ""
    these = "this one city" if found == 1 else f"these {found} cities"
    return f"The intervals speak of other clips of {these}, not of other cities."


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


def leave_one_out_weights(clips: int) -> np.ndarray:
    """Weights (1 + clips, clips): all clips, then all but one."""
    return np.concatenate([np.ones((1, clips)), 1 - np.eye(clips)])


# ------------------------------------------------------------------------------------------------ one factor


def _t_limits(value: float, error: float, df: float, level: float) -> Interval:
    if not df >= 1:
        return Interval(value, float("nan"), float("nan"))
    half = float(scipy_stats.t.ppf((1 + level) / 2, df) * error)
    return Interval(value, value - half, value + half)


class Jackknife(NamedTuple):
    """The jackknife of a metric: one unit left out at a time.

    Attributes:
        error: standard error.
        df: degrees of freedom of the error. n-1 for n units that are alike. Where few units carry the metric, as where a class lies
            in three clips of thirty, the error is less sure than that: 2 / (k/n + 2/(n-1)), with k the excess kurtosis of the
            pseudo-values (Satterthwaite 1946: the variance of a variance), not below two.
        correction: what the jackknife would add to the value to take off its bias. mIoU and TC of few clips are biased, by up to
            half of their error. Both values are kept in the interval: taking the corrected one alone would make differences,
            whose bias is small and not well known, worse.
    """

    error: float
    df: float
    correction: float


def jackknife(values: np.ndarray) -> Jackknife:
    """Error of a metric: values (1 + units,), of all units and of all but one; at least two units."""
    units = len(values) - 1
    pseudo = units * values[0] - (units - 1) * values[1:]
    away = pseudo - pseudo.mean()
    variance = float((away**2).mean())
    excess = 0.0
    if units > 3 and variance > 0:  # unbiased where values are normal (G2 of Joanes and Gill 1998)
        excess = (units + 1) * (float((away**4).mean()) / variance**2 - 3) + 6
        excess *= (units - 1) / ((units - 2) * (units - 3))
    df = max(2.0, 2 / (max(0.0, excess) / units + 2 / (units - 1)))
    error = np.sqrt(variance / (units - 1))
    return Jackknife(float(error), min(df, units - 1.0), float(pseudo.mean() - values[0]))


def _over_units(effect: Callable[[np.ndarray], np.ndarray], units: int, level: float) -> Interval:
    """The interval of effect(weights), whose weights are (draws, units)."""
    values = effect(leave_one_out_weights(units))
    if units < 2:
        return Interval(float(values[0]), float("nan"), float("nan"))
    estimate = jackknife(values)
    middle = _t_limits(float(values[0]), estimate.error, estimate.df, level)
    return Interval(middle.value, middle.low + min(0.0, estimate.correction), middle.high + max(0.0, estimate.correction))


def percentile_limits(value: float, resampled: np.ndarray, clusters: float, level: float = 0.95) -> Interval:
    """Percentile interval, widened for few clusters by sqrt(n/(n-1)) and the t quantile (Hesterberg 2015, sec. 5.3).

    A check on the others, and too narrow for mIoU and TC (`tcseg measure coverage`).
    """
    if not clusters >= 2:
        return Interval(value, float("nan"), float("nan"))
    tail = np.sqrt(clusters / (clusters - 1)) * scipy_stats.t.ppf((1 - level) / 2, clusters - 1)
    stretched = scipy_stats.norm.cdf(tail)
    low, high = np.nanquantile(resampled, [stretched, 1 - stretched])
    return Interval(value, float(low), float(high))


def clip_interval(counts: Counts, level: float = 0.95) -> Interval:
    """One metric and its interval over clips.

    Args:
        counts: per-clip counts (see `Counts`); clips in which nothing was counted change nothing.
        level: of the interval.

    Returns:
        The metric of all clips and its interval, which ends where shares do, at 0 and 1; (value, nan, nan) with fewer than two
        clips with counted pixels, since one clip does not show how clips differ.
    """
    (used,) = units([counts])
    estimate = _over_units(lambda weights: metric_of(used, weights), clips_in(used), level)
    return Interval(estimate.value, *np.clip([estimate.low, estimate.high], 0.0, 1.0).tolist())


def paired_interval(a: Counts, b: Counts, level: float = 0.95) -> Interval:
    """Difference metric(b) - metric(a) of two models on the same clips; as `clip_interval` otherwise, without its ends.

    Raises:
        ValueError: a and b have different numbers of clips.
    """
    a, b = units([a, b])
    return _over_units(lambda weights: metric_of(b, weights) - metric_of(a, weights), clips_in(a), level)


def require_same_clips(counts: Sequence[Counts]) -> None:
    """Check that counts can be compared clip by clip.

    Raises:
        ValueError: different numbers of clips.
    """
    found = sorted({clips_in(one) for one in counts})
    if len(found) > 1:
        raise InputError(
            f"the counts have {' and '.join(map(str, found))} clips; a paired comparison needs the same clips for all models"
        )


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean of independent values (seeds, or paired differences of seeds) with Student's t interval.

    Returns:
        (mean, nan, nan) for one value, since one seed does not show how seeds differ.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0:
        raise InputError("values is empty; it must have one number per seed")
    if values.size < 2:
        return Interval(float(values.mean()), float("nan"), float("nan"))
    return _t_limits(float(values.mean()), values.std(ddof=1) / np.sqrt(values.size), values.size - 1, level)


# ------------------------------------------------------------------------------------------------ many comparisons


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's adjustment (1979) of p values, which controls the chance of any false finding among all tests.

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
