"""The difference between two recipes over seeds and clips: estimate, interval, p value.

Seeds and clips are crossed: every trained network is evaluated on every clip. The seeds are a sample of the networks that a recipe
can give, the clips are a sample of streets, and each contributes an error. The two half-widths are combined as the square root of
the sum of squares (MOVER, Zou and Donner 2008), so each uses the t quantile of its own degrees of freedom: with two seeds, their
spread is multiplied by 12.7, and that of the clips is not. The interval is too wide with two seeds and nearly exact from three on
(`tcseg measure coverage`). The part of the clips is computed as in `intervals`: it includes the jackknife's bias correction on one
side, and clips in which no network has counted pixels are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize
from scipy import stats as scipy_stats

from tcseg.errors import InputError
from tcseg.metrics import intervals
from tcseg.metrics.intervals import Counts, Interval

Contrast = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Metric of the base and metric of the other model, any shape -> the effect, same shape."""


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Difference b - a."""
    return b - a


def relative(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Relative change b / a - 1; nan where a is zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(a > 0, b / a - 1, np.nan)


def gap_closed(ceiling: float) -> Contrast:
    """Share of the gap from a to a ceiling that b closes: (b - a) / (ceiling - a).

    The ceiling is taken as known: leaving clips out of it, too, made intervals on procity 4 % narrower.
    """

    def contrast(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(ceiling > a, (b - a) / (ceiling - a), np.nan)

    return contrast


def seed_effects(a: Sequence[Counts], b: Sequence[Counts], contrast: Contrast, weights: np.ndarray) -> np.ndarray:
    """Each paired seed's effect under each row of weights: (seeds, draws)."""
    pairs = [
        (intervals.metric_of(base, weights), intervals.metric_of(other, weights))
        for base, other in zip(a, b, strict=True)
    ]
    return np.stack([contrast(*pair) for pair in pairs])


class Spread(NamedTuple):
    """Standard errors of an effect, and their degrees of freedom.

    Attributes:
        seeds, seeds_df: from seed to seed on these clips, sqrt(MS_seeds / (S C)), with S-1; with one seed zero: then the answer is
            about those two networks.
        clips, clips_df: from clip to clip with these seeds, sqrt(MS_clips / (S C)), with C-1, or fewer where few clips carry it
            (`intervals.Jackknife`).
        correction: what would take the bias off the effect; the leg of clips is longer by it on that side.
        own: of that variance, the share that clips add to what seeds show already, (MS_clips - MS_rest) / MS_clips, at least zero.
            MS_rest is taken off here, not from the seeds: of two seeds that happen to agree nothing would be left, and a
            p-value of 0.002 would be wrong one time in 25.
    """

    seeds: float
    seeds_df: int
    clips: float
    clips_df: float
    correction: float
    own: float

    def reach(self, quantile: Callable[[float], float], side: int = 0) -> float:
        """How far from the estimate an interval goes that takes this quantile of Student's t; nan with one clip.

        Args:
            quantile: of t, by degrees of freedom.
            side: -1 down, 1 up, 0 neither: without the correction.
        """
        clips = quantile(self.clips_df) * self.clips if self.clips_df else float("nan")
        return self.join(clips + max(0.0, side * self.correction), quantile)

    def join(self, clips: float, quantile: Callable[[float], float]) -> float:
        """Clips' leg and seeds' leg -> the hypotenuse, never less than the interval over clips alone."""
        seeds = quantile(self.seeds_df) * self.seeds if self.seeds_df else 0.0
        return max(clips, float(np.hypot(np.sqrt(self.own) * clips, seeds)))


class Effect(NamedTuple):
    """The difference between two recipes.

    Attributes:
        value, low, high: mean over paired seeds, and its interval over seeds and clips.
        p: two-sided, of no effect.
        mdd: minimal detectable difference (Bloom 1995): the true effect that a test at 5 % finds with a probability of 80 % on so
            many seeds and clips. Smaller ones may be there, and are likely missed.
        seeds: the t interval over seeds alone: other seeds, the same clips.
    """

    value: float
    low: float
    high: float
    p: float
    mdd: float
    seeds: Interval


def effect(
    a: Sequence[Counts], b: Sequence[Counts], contrast: Contrast = difference, block: int = 1, level: float = 0.95
) -> Effect:
    """Difference between b and a, with an interval over seeds *and* clips.

    The effect is taken seed by seed (seed i of b against seed i of a), then averaged. Leaving out one clip at a time gives a table
    of pseudo-values, a row a seed and a column a clip, whose two-way mean squares give the two errors (`Spread`).

    Args:
        a, b: counts of the base and of the other model, one entry a seed, paired.
        contrast: `difference`, `relative` or `gap_closed(...)`.
        block: with one clip only, whose rows are consecutive frames: about so many are summed to a block that stands in for a clip.
        level: of the intervals.

    Returns:
        nan for all but the value, and the interval over seeds, with fewer than two clips in which anything was counted.

    Raises:
        ValueError: different numbers of seeds or clips.
    """
    per_seed, spread = _spread(*_units(a, b, block), contrast)
    value = float(per_seed.mean())
    down, up = (spread.reach(_quantile((1 + level) / 2), side) for side in (-1, 1))
    both = spread.reach(lambda df: _quantile(0.975)(df) + _quantile(0.8)(df))
    return Effect(
        value, value - down, value + up, _p_value(value, spread), both, intervals.t_interval(per_seed, level)
    )  # fmt: skip


def hierarchical_bootstrap(
    a: Sequence[Counts],
    b: Sequence[Counts],
    contrast: Contrast = difference,
    block: int = 1,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The same difference with a bootstrap over clips, as a check; all seeds and both models share the samples.

    Two to five seeds are *not* drawn again: of two seeds every second draw would have one of them twice, and half of their variance
    would be gone (method "naive" of coverage.csv). Their part is Student's t with S-1 degrees of freedom, added as in `effect`.

    Args:
        a, b, contrast, level: as in `effect`.
        block: with one clip only: rows of the overlapping blocks that are drawn (`intervals.block_draws`).
        draws, seed: resamples, and what they begin with.
    """
    blocks = _units(a, b, block)
    per_seed, spread = _spread(*blocks, contrast)
    clips = intervals.clips_in(blocks[0][0])
    if clips < 2:
        return Interval(float(per_seed.mean()), float("nan"), float("nan"))
    a, b = _units(a, b)
    drawn = seed_effects(a, b, contrast, intervals.draws_of(intervals.clips_in(a[0]), block, draws, seed)).mean(0)
    value, low, high = intervals.percentile_limits(float(per_seed.mean()), drawn, clips, level)
    down, up = (spread.join(leg, _quantile((1 + level) / 2)) for leg in (value - low, high - value))
    return Interval(value, value - down, value + up)


def _quantile(level: float) -> Callable[[float], float]:
    """Student's quantile as a function of the degrees of freedom."""
    return lambda df: float(scipy_stats.t.ppf(level, df))


def _p_value(value: float, spread: Spread) -> float:
    """The level at which the interval just touches zero."""
    if not np.isfinite([value, spread.clips, spread.seeds]).all() or spread.clips_df < 1:
        return float("nan")  # as where leaving a clip out leaves nothing to score

    def beyond(log_p: float) -> float:
        toward_zero = -1 if value > 0 else 1
        return spread.reach(lambda df: float(scipy_stats.t.isf(np.exp(log_p) / 2, df)), toward_zero) - abs(value)

    if beyond(0.0) >= 0:
        return 1.0
    if spread.clips == 0 and spread.seeds == 0:
        return 0.0
    lowest = np.log(1e-15)
    return float(np.exp(optimize.brentq(beyond, lowest, 0.0))) if beyond(lowest) > 0 else 1e-15


def _units(a: Sequence[Counts], b: Sequence[Counts], block: int = 1) -> tuple[list[Counts], list[Counts]]:
    """Both models' counts of the clips that any network counted in, in blocks where there is one clip only."""
    if not a or len(a) != len(b):
        raise InputError(
            f"a has {len(a)} seeds and b has {len(b)}; both need the same seeds, at least one, because they are paired"
        )
    kept = intervals.units([*a, *b], block)
    return kept[: len(a)], kept[len(a) :]


def _spread(a: Sequence[Counts], b: Sequence[Counts], contrast: Contrast) -> tuple[np.ndarray, Spread]:
    """The effect of each seed, (seeds,), and the errors of their mean."""
    seeds, clips = len(a), intervals.clips_in(a[0])
    effects = seed_effects(a, b, contrast, intervals.leave_one_out_weights(clips))
    if clips < 2:
        return effects[:, 0], Spread(0.0, 0, float("nan"), 0.0, 0.0, 1.0)
    over_clips = intervals.jackknife(effects.mean(0))
    if seeds == 1:
        return effects[:, 0], Spread(0.0, 0, *over_clips, 1.0)
    table = clips * effects[:, :1] - (clips - 1) * effects[:, 1:]
    rows, columns = table.mean(1), table.mean(0)
    rest = ((table - rows[:, None] - columns + table.mean()) ** 2).sum() / ((seeds - 1) * (clips - 1)) / (seeds * clips)
    own = max(0.0, 1 - rest / over_clips.error**2) if over_clips.error > 0 else 0.0
    return effects[:, 0], Spread(float(rows.std(ddof=1) / np.sqrt(seeds)), seeds - 1, *over_clips, float(own))
