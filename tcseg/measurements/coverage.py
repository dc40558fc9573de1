"""Do 95 % intervals hold the truth 95 times in 100? Each method on thousands of made-up validation splits whose truth is known.

The worlds are like procity's val at profile laptop: 19 classes from a quarter of the pixels down to a thousandth, the rarest
five in one clip of three; recall differs from clip to clip as it does there, the same way for both models and a little
differently for each. Nonlinear as the real thing: mIoU of summed counts, and relative flicker. Seeds differ "little" (as mIoU
did in the first reference study) or "much" (more than clips do, as TC did). One street is a clip of 101 frames whose
difficulty drifts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import signal
from scipy import stats as scipy_stats

from tcseg import crossed, stats
from tcseg.machine import usable_cores, worker_pool
from tcseg.stats import Counts, Interval

DRAWS = 2000
SPREADS = {"none": 0.0, "little": 0.04, "much": 0.12}
"""How much seeds differ: standard deviation of a class's recall, in logits."""
BLOCK, STREET = 17, 101  # frames
CLASSES = 19
_RANK = np.linspace(0, 1, CLASSES)
_SHARE = np.exp(-5.5 * _RANK) / np.exp(-5.5 * _RANK).sum()
_PRESENT = np.where(_RANK < 0.75, 1.0, 1 / 3)
_SIZE_SPREAD, _RECALL, _RECALL_SPREAD = 0.3 + 0.9 * _RANK, 3 - 4.5 * _RANK, 0.6 + 1.2 * _RANK
_TAKEN_FOR = np.sqrt(_SHARE) * (1 - np.eye(CLASSES))
_TAKEN_FOR /= _TAKEN_FOR.sum(1, keepdims=True)

Pair = tuple[list[Counts], list[Counts]]


@dataclass(frozen=True)
class World:
    """Where made-up splits come from.

    Attributes:
        metric: "miou" or "flicker".
        spread: of seeds, see `SPREADS`.
        drift: correlation of neighbouring rows; 0 for clips, near 1 for the frames of one street.
    """

    metric: str
    spread: float = 0.0
    drift: float = 0.0

    def split(self, rng: np.random.Generator, seeds: int, clips: int) -> Pair:
        """Counts of two models on the same clips, a list over seeds each."""
        make = self._overlaps if self.metric == "miou" else self._shares
        return make(rng, seeds, clips)

    def _noise(self, rng: np.random.Generator, rows: int, *shape: int) -> np.ndarray:
        """Standard normal (rows, ...), correlated along rows by `drift`."""
        fresh = rng.normal(size=(rows, *shape))
        if not self.drift:
            return fresh
        fresh[1:] *= np.sqrt(1 - self.drift**2)
        return signal.lfilter([1], [1, -self.drift], fresh, axis=0)

    def _overlaps(self, rng: np.random.Generator, seeds: int, clips: int) -> Pair:
        there = scipy_stats.norm.cdf(self._noise(rng, clips, CLASSES)) < _PRESENT
        size = _SHARE / _PRESENT * there * np.exp(_SIZE_SPREAD * self._noise(rng, clips, CLASSES))
        hard = _RECALL + _RECALL_SPREAD * self._noise(rng, clips, CLASSES)
        both: Pair = ([], [])
        for model, gain in zip(both, (0.0, 0.15), strict=True):
            own = hard + gain + 0.35 * self._noise(rng, clips, CLASSES)
            for _ in range(seeds):
                seed = self.spread * (rng.normal(size=CLASSES) + rng.normal())
                right = size / (1 + np.exp(-(own + seed + 0.3 * self._noise(rng, clips, CLASSES))))
                predicted = right + (size - right) @ _TAKEN_FOR
                model.append({"intersection": right, "predicted": predicted, "labelled": size})
        return both

    def _shares(self, rng: np.random.Generator, seeds: int, clips: int) -> Pair:
        total = np.exp(0.2 * self._noise(rng, clips))
        hard = np.log(0.08) + 0.35 * self._noise(rng, clips)
        both: Pair = ([], [])
        for model, gain in zip(both, (0.0, np.log(0.7)), strict=True):
            own = hard + gain + 0.12 * self._noise(rng, clips)
            for _ in range(seeds):
                share = np.exp(own + self.spread * rng.normal() + 0.05 * self._noise(rng, clips))
                model.append({"count": share * total, "total": total})
        return both

    @property
    def contrast(self) -> crossed.Contrast:
        """What is compared: the difference of mIoU; flicker relative to the base's."""
        return crossed.difference if self.metric == "miou" else crossed.relative

    def truth(self, rng: np.random.Generator, splits: int) -> float:
        """The effect with all clips and seeds that there could be: the mean over many large splits."""
        seeds = 20 if self.spread else 1
        found = []
        for _ in range(splits):
            a, b = self.split(rng, seeds, 4000)
            found.append(crossed.seed_effects(a, b, self.contrast, np.ones((1, 4000))).mean())
        return float(np.mean(found))


# ------------------------------------------------------------------------------------------------ methods


def _percentile(a: list[Counts], b: list[Counts], contrast: crossed.Contrast, draws: int, seed: int) -> Interval:
    """Efron's percentile interval, nothing added."""
    drawn = crossed.seed_effects(a, b, contrast, stats.clip_draws(stats.clips_in(a[0]), draws, seed)).mean(0)
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Interval(float("nan"), float(low), float(high))


def _widened(a: list[Counts], b: list[Counts], contrast: crossed.Contrast, draws: int, seed: int) -> Interval:
    """The percentile interval, widened for few clips."""
    clips = stats.clips_in(a[0])
    drawn = crossed.seed_effects(a, b, contrast, stats.clip_draws(clips, draws, seed)).mean(0)
    return stats.percentile_limits(float("nan"), drawn, clips)


def _studentised(a: list[Counts], b: list[Counts], contrast: crossed.Contrast, draws: int, seed: int) -> Interval:
    """Bootstrap-t: a draw's distance from the estimate, in errors of its own (jackknife over its clips). Slow: fewer draws."""
    clips = stats.clips_in(a[0])
    weights = stats.clip_draws(clips, _drawn("studentised", draws), seed)
    value, error = _with_error(a, b, contrast, np.ones((1, clips)))
    drawn, errors = _with_error(a, b, contrast, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = np.nanquantile(np.where(errors > 0, (drawn - value) / errors, np.nan), [0.025, 0.975])
    return Interval(float(value[0]), float(value[0] - high * error[0]), float(value[0] - low * error[0]))


def _with_error(a, b, contrast, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Effect of each row of weights, and its jackknife error: clip c is left out of a draw as often as it is in it."""
    clips = weights.shape[1]
    value = crossed.seed_effects(a, b, contrast, weights).mean(0)
    fewer = np.maximum(weights[:, None] - np.eye(clips), 0).reshape(-1, clips)
    others = crossed.seed_effects(a, b, contrast, fewer).mean(0).reshape(weights.shape)
    middle = np.nansum(weights * others, 1, keepdims=True) / clips
    return value, np.sqrt((clips - 1) / clips * np.nansum(weights * (others - middle) ** 2, 1))


def _naive(a: list[Counts], b: list[Counts], contrast: crossed.Contrast, draws: int, seed: int) -> Interval:
    """Seeds and clips both drawn with replacement, and the middle of the differences."""
    drawn = crossed.seed_effects(a, b, contrast, stats.clip_draws(stats.clips_in(a[0]), draws, seed))
    seeds = stats.clip_draws(len(a), draws, seed + 1).T / len(a)
    low, high = np.nanquantile((seeds * drawn).sum(0), [0.025, 0.975])
    return Interval(float("nan"), float(low), float(high))


def _effect(block: int) -> Callable[..., Interval]:
    return lambda a, b, contrast, draws, seed: Interval(*crossed.effect(a, b, contrast, block)[:3])


def _hierarchical(block: int) -> Callable[..., Interval]:
    return lambda a, b, contrast, draws, seed: crossed.hierarchical_bootstrap(a, b, contrast, block, draws, seed)


def _seeds_alone(a: list[Counts], b: list[Counts], contrast: crossed.Contrast, draws: int, seed: int) -> Interval:
    """Student's t over paired seeds, as if there were no other clips."""
    return crossed.effect(a, b, contrast).seeds


CLIPS = {"percentile": _percentile, "percentile, widened": _widened, "studentised": _studentised}
CLIPS["jackknife t"] = _effect(1)
BOTH = {"seeds alone, t": _seeds_alone, "naive: seeds and clips drawn": _naive}
BOTH |= {"hierarchical bootstrap": _hierarchical(1), "seeds x clips, jackknife t": _effect(1)}
ONE_STREET = {
    "frames as if independent": _effect(1),
    "moving blocks": _hierarchical(BLOCK),
    "blocks, jackknife t": _effect(BLOCK),
}


# ------------------------------------------------------------------------------------------------ table


class Case(NamedTuple):
    """One world, one size of study, and the methods to try on it."""

    world: World
    spread: str
    seeds: int
    clips: int
    methods: dict[str, Callable[..., Interval]]


def _cases(quick: bool) -> Iterator[Case]:
    for metric in ("miou", "flicker"):
        for clips in (6, 24) if quick else (6, 12, 24, 48):
            yield Case(World(metric), "none", 1, clips, CLIPS)
        for spread in ("much",) if quick else ("little", "much"):
            for seeds in (2,) if quick else (2, 3, 5):
                for clips in (6,) if quick else (6, 24):
                    yield Case(World(metric, SPREADS[spread]), spread, seeds, clips, BOTH)
        yield Case(World(metric, drift=0.8), "none", 1, STREET, ONE_STREET)


def _drawn(method: str, draws: int) -> int:
    """Draws that a method takes of those it may: none for Student's t, at most 500 where each is studentised."""
    if method == "studentised":
        return min(draws, 500)
    return 0 if method.endswith(" t") or method == "frames as if independent" else draws


def _rows(case: Case, truth: float, trials: int, draws: int, seed: int) -> Iterator[dict]:
    rng = np.random.default_rng(seed)
    limits: dict[str, list[Interval]] = {name: [] for name in case.methods}
    for trial in range(trials):
        pair = case.world.split(rng, case.seeds, case.clips)
        for name, method in case.methods.items():
            limits[name].append(method(*pair, case.world.contrast, draws, trial))
    for name, found in limits.items():
        low, high = np.array([one.low for one in found]), np.array([one.high for one in found])
        inside = int(((low <= truth) & (truth <= high)).sum())
        sure = scipy_stats.binomtest(inside, trials).proportion_ci(method="wilson")
        yield {
            "metric": case.world.metric,
            "method": name,
            "clusters": case.clips if case.methods is not ONE_STREET else round(STREET / BLOCK),
            "seeds": case.seeds,
            "spread_of_seeds": case.spread,
            "trials": trials,
            "draws": _drawn(name, draws),
            "coverage": inside / trials,
            "coverage_low": sure.low,
            "coverage_high": sure.high,
            "width": float(np.nanmedian(high - low)),
        }  # fmt: skip


def measure(out: Path, quick: bool = False) -> pd.DataFrame:
    """How often each method's 95 % interval holds the truth.

    Args:
        out: where measurements are written; nothing but the table is.
        quick: few trials.

    Returns:
        metric, method, clusters, seeds, spread_of_seeds, trials, draws, coverage with its 95 % (Wilson) interval, and the
        intervals' median width.
    """
    cases = range(len(list(_cases(quick))))
    if quick:
        return pd.DataFrame(chain.from_iterable(_measure_case(number, quick) for number in cases))
    with worker_pool(usable_cores()) as pool:
        return pd.DataFrame(chain.from_iterable(pool.map(_measure_case, cases, repeat(quick))))


def _measure_case(number: int, quick: bool) -> list[dict]:
    case = list(_cases(quick))[number]
    trials, draws, large = (60, 200, 5) if quick else (2000, DRAWS, 100)
    return list(_rows(case, _truth(case.world, large), trials, draws, seed=number))


@cache
def _truth(world: World, splits: int) -> float:
    return world.truth(np.random.default_rng(0), splits)
