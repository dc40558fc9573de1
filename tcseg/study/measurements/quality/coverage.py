"""Coverage of 95 % intervals: each method on thousands of simulated validation splits (`worlds`).

For clips of one training: the study's method against the plain jackknife, three bootstraps, and other amendments of the jackknife.
For seeds and clips at once, for one street in blocks of frames, and for clips that lie in cities. The study's own methods are
called as the study calls them, not written again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special
from scipy import stats as scipy_stats

from tcseg.machine import usable_cores, worker_pool
from tcseg.metrics import intervals, seed_clip_effects
from tcseg.metrics.intervals import Counts
from tcseg.study.measurements.quality.worlds import ALIKE, CITY, SPREADS, Pair, World

DRAWS = 2000
STUDENTISED = 500  # draws, of which each has an error of its own
SHARED = 25  # trials with the same draws
BLOCK, STREET = 17, 101  # frames
CLIPS = (6, 12, 24, 30, 48, 60, 100, 200)
CITIES = (3, 4, 6, 8, 12, 20)
MODELS = ("base", "other", "pair")
OURS = {"clips": "jackknife t, adjusted", "both": "seeds x clips, jackknife t"}
"""Names of the study's own methods."""

Limits = dict[str, tuple[float, float]]  # method -> low and high end
Methods = Callable[[World, Pair, int], Iterator[tuple[str, Limits]]]
"""World, a split of it, the trial's number -> what is asked ("base", "other", "pair"), and each method's answer."""


# ------------------------------------------------------------------------------------------------ clips


def over_clips(world: World, pair: Pair, trial: int, draws: int = DRAWS) -> Iterator[tuple[str, Limits]]:
    """Every method for clips: of the base alone, of the other model, and of what the one is against the other."""
    (a,), (b,) = pair
    clips = intervals.clips_in(a)
    resamples = _resamples(clips, draws, trial // SHARED)
    weights = (intervals.leave_one_out_weights(clips), resamples)
    one, other = ([intervals.metric_of(model, rows) for rows in weights] for model in (a, b))
    errors = [_errors(model, resamples[:STUDENTISED]) for model in (a, b)]
    ours = [intervals.clip_interval(a), intervals.clip_interval(b), seed_clip_effects.effect([a], [b], world.contrast)]
    for name, (left_out, drawn), error, own in zip(
        MODELS,
        (one, other, [world.contrast(*both) for both in zip(one, other, strict=True)]),
        (errors[0].error, errors[1].error, _of_pair(world, one[1], other[1], *errors)),
        ours,
        strict=True,
    ):
        limits = _jackknives(left_out, name != "pair") | _bootstraps(left_out, drawn, error)
        yield name, limits | {OURS["clips"]: tuple(own[1:3])}


@lru_cache(maxsize=2)
def _resamples(clips: int, draws: int, seed: int) -> np.ndarray:
    return intervals.clip_draws(clips, draws, seed)


def _jackknives(values: np.ndarray, share: bool) -> Limits:
    """Student's t with the jackknife's error: plain; about the corrected value; with fewer degrees of freedom; on logits."""
    clips, jackknife = len(values) - 1, intervals.jackknife(values)
    plain, fewer = (scipy_stats.t.ppf(0.975, df) * jackknife.error for df in (clips - 1, jackknife.df))
    middles = {"jackknife t": (values[0], plain), "jackknife t, fewer df": (values[0], fewer)}
    middles["jackknife t, corrected"] = (values[0] + jackknife.correction, plain)
    limits = {name: (middle - half, middle + half) for name, (middle, half) in middles.items()}
    if share:
        logits = special.logit(values)
        half = scipy_stats.t.ppf(0.975, clips - 1) * intervals.jackknife(logits).error
        limits["jackknife t of logits"] = tuple(special.expit([logits[0] - half, logits[0] + half]))
    return limits


def _bootstraps(left_out: np.ndarray, drawn: np.ndarray, errors: np.ndarray) -> Limits:
    """Efron's percentiles; the same, widened for few clips; BCa, widened; and bootstrap-t, on the first draws."""
    value, others, clips = left_out[0], left_out[1:], len(left_out) - 1
    limits = {"percentile": np.quantile(drawn, [0.025, 0.975])}
    limits["percentile, widened"] = intervals.percentile_limits(value, drawn, clips)[1:]
    away = others.mean() - others
    acceleration = (away**3).sum() / (6 * max((away**2).sum(), 1e-300) ** 1.5)
    bias = scipy_stats.norm.ppf(np.clip((drawn < value).mean(), 1e-3, 1 - 1e-3))
    tail = bias + np.array([1, -1]) * np.sqrt(clips / (clips - 1)) * scipy_stats.t.ppf(0.025, clips - 1)
    limits["BCa, widened"] = np.quantile(drawn, special.ndtr(bias + tail / (1 - acceleration * tail)))
    with np.errstate(invalid="ignore", divide="ignore"):
        away = np.where(errors > 0, (drawn[: len(errors)] - value) / errors, 0.0)
    low, high = np.quantile(away, [0.025, 0.975])
    error = intervals.jackknife(left_out).error
    limits["studentised"] = (value - high * error, value - low * error)
    return {name: (float(low), float(high)) for name, (low, high) in limits.items()}


class _Drawn(NamedTuple):
    """How a resample's metric answers to each clip, (draws, clips), and its standard error by that."""

    answers: np.ndarray
    weights: np.ndarray

    @property
    def error(self) -> np.ndarray:
        clips = self.weights.shape[1]
        return np.sqrt((self.weights * self.answers**2).sum(1) * clips / (clips - 1))


def _errors(counts: Counts, weights: np.ndarray) -> _Drawn:
    """The infinitesimal jackknife (Efron and Tibshirani 1993, section 21.1) of each resample, by the metric's derivative."""
    if "total" in counts:
        below = weights @ counts["total"]
        share = weights @ counts["count"] / below
        return _Drawn((counts["count"] - share[:, None] * counts["total"]) / below[:, None], weights)
    union = counts["predicted"] + counts["labelled"] - counts["intersection"]
    both, either = weights @ counts["intersection"], weights @ union
    with np.errstate(invalid="ignore", divide="ignore"):
        inverse = np.where(either > 0, 1 / either, 0.0) / (either > 0).sum(1, keepdims=True)
    ious = np.where(either > 0, both, 0.0) / np.maximum(either, 1e-300)
    return _Drawn(inverse @ counts["intersection"].T - (inverse * ious) @ union.T, weights)


def _of_pair(world: World, one: np.ndarray, other: np.ndarray, a: _Drawn, b: _Drawn) -> np.ndarray:
    """Errors of the contrast: of a difference, or of a ratio."""
    if world.contrast is seed_clip_effects.difference:
        return _Drawn(b.answers - a.answers, a.weights).error
    one, other = one[: len(a.weights), None], other[: len(a.weights), None]
    return _Drawn(b.answers / one - other / one**2 * a.answers, a.weights).error


# ------------------------------------------------------------------------------------------------ seeds, one street, cities


def over_both(world: World, pair: Pair, trial: int, draws: int = DRAWS) -> Iterator[tuple[str, Limits]]:
    """Seeds and clips."""
    a, b = pair
    estimate = seed_clip_effects.effect(a, b, world.contrast)
    drawn = seed_clip_effects.seed_effects(a, b, world.contrast, intervals.clip_draws(intervals.clips_in(a[0]), draws, trial))
    seeds = intervals.clip_draws(len(a), draws, trial + 1).T / len(a)
    hierarchical = seed_clip_effects.hierarchical_bootstrap(a, b, world.contrast, 1, draws, trial)
    limits = {"seeds alone, t": estimate.seeds[1:]}
    limits["naive: seeds and clips drawn"] = tuple(np.quantile((seeds * drawn).sum(0), [0.025, 0.975]))
    yield "pair", limits | {"hierarchical bootstrap": hierarchical[1:], OURS["both"]: estimate[1:3]}


def over_frames(world: World, pair: Pair, trial: int, draws: int = DRAWS) -> Iterator[tuple[str, Limits]]:
    """Frames of one street."""
    limits = {"frames as if independent": seed_clip_effects.effect(*pair, world.contrast)[1:3]}
    limits["moving blocks"] = seed_clip_effects.hierarchical_bootstrap(*pair, world.contrast, BLOCK, draws, trial)[1:]
    yield "pair", limits | {"blocks, jackknife t": seed_clip_effects.effect(*pair, world.contrast, BLOCK)[1:3]}


def over_cities(world: World, pair: Pair, trial: int, draws: int = DRAWS) -> Iterator[tuple[str, Limits]]:
    """Clips that lie in cities, `worlds.CITY` in each: the truth is of other cities."""
    rows = intervals.clips_in(pair[0][0])
    names = [f"{row // CITY:03d}" for row in range(rows)]
    cities = tuple([intervals.by_cluster(counts, names) for counts in model] for model in pair)
    for kind, units in (("clips as if independent", pair), ("cities as units", cities)):
        (a,), (b,) = units
        yield "base", {kind: intervals.clip_interval(a)[1:]}
        yield "pair", {kind: seed_clip_effects.effect([a], [b], world.contrast)[1:3]}


# ------------------------------------------------------------------------------------------------ table


UNITS: dict[Methods, str] = {
    over_clips: "clips", over_both: "seeds x clips", over_frames: "frames of a street", over_cities: "clips in cities"
}  # fmt: skip


class Case(NamedTuple):
    """One world, one size of study, and what to ask there; `clusters` are clips, blocks of frames, or cities."""

    world: World
    spread: str
    seeds: int
    rows: int
    clusters: int
    ask: Methods


def cases(quick: bool) -> Iterator[Case]:
    """Everything that the table has."""
    for metric in ("miou", "tc", "flicker"):
        for clips in (6, 30) if quick else CLIPS:
            yield Case(World(metric), "none", 1, clips, clips, over_clips)
        for spread in ("much",) if quick else ("little", "much"):
            for seeds in (2,) if quick else (2, 3, 5):
                for clips in (6,) if quick else (6, 24):
                    yield Case(World(metric, SPREADS[spread]), spread, seeds, clips, clips, over_both)
        yield Case(World(metric, drift=0.8), "none", 1, STREET, round(STREET / BLOCK), over_frames)
        for cities in (8,) if quick else CITIES:
            yield Case(World(metric, alike=ALIKE), "none", 1, cities * CITY, cities, over_cities)


def _drawn(method: str, draws: int) -> int:
    """Draws that a method takes of those it may: none for Student's t."""
    if method == "studentised":
        return min(draws, STUDENTISED)
    known = ("percentile", "percentile, widened", "BCa, widened", "naive: seeds and clips drawn")
    return draws if method in (*known, "hierarchical bootstrap", "moving blocks") else 0


def _rows(case: Case, truth: Sequence[float], trials: int, draws: int, seed: int) -> Iterator[dict]:
    rng = np.random.default_rng(seed)
    limits: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for trial in range(trials):
        pair = case.world.split(rng, case.seeds, case.rows)
        for models, limits_of in case.ask(case.world, pair, trial, draws):
            for method, ends in limits_of.items():
                limits.setdefault((method, models), []).append(ends)
    for (method, models), limits_of in limits.items():
        (low, high), right = np.transpose(limits_of), truth[MODELS.index(models)]
        inside = int(((low <= right) & (right <= high)).sum())
        sure = scipy_stats.binomtest(inside, trials).proportion_ci(method="wilson")
        yield {
            "metric": case.world.metric,
            "units": UNITS[case.ask],
            "method": method,
            "models": models,
            "clusters": case.clusters,
            "seeds": case.seeds,
            "spread_of_seeds": case.spread,
            "trials": trials,
            "draws": _drawn(method, draws),
            "coverage": inside / trials,
            "coverage_low": sure.low,
            "coverage_high": sure.high,
            "missed_low": float((high < right).mean()),
            "width": float(np.nanmedian(high - low)),
        }  # fmt: skip


def measure(out: Path, quick: bool = False) -> pd.DataFrame:
    """How often each method's 95 % interval holds the truth.

    Args:
        out: where measurements are written; nothing but the table is.
        quick: few trials.

    Returns:
        metric, units (see `UNITS`), method, models ("base" or "other" alone, or the "pair": the effect), clusters (clips, blocks of
        a street, or cities of six clips), seeds, spread_of_seeds, trials, draws, coverage with its 95 % (Wilson) interval,
        missed_low (share of intervals that lie wholly below the truth), and the intervals' median width.
    """
    numbers = range(len(list(cases(quick))))
    if quick:
        return pd.DataFrame(chain.from_iterable(_measure_case(number, quick) for number in numbers))
    with worker_pool(usable_cores()) as pool:
        return pd.DataFrame(chain.from_iterable(pool.map(_measure_case, numbers, repeat(quick))))


def _measure_case(number: int, quick: bool) -> list[dict]:
    case = list(cases(quick))[number]
    trials, draws, large = (60, 200, 3) if quick else (2000, DRAWS, 100)
    return list(_rows(case, _truth(case.world, large), trials, draws, seed=number))


@cache
def _truth(world: World, splits: int) -> tuple[float, float, float]:
    """Of the base, of the other model, of the effect."""
    return world.truth(np.random.default_rng(0), splits)
