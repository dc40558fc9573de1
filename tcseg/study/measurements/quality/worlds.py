"""Simulated validation splits with a known true value, for `tcseg measure coverage`.

The worlds are like procity's val at profile laptop: 19 classes, whose shares, and how they differ from clip to clip, are of its
size. What is measured is as nonlinear as the real thing, and so are the traps:

- "miou": classes from a quarter of the pixels down to a thousandth, the rarest five in one clip of three; recall differs from clip
  to clip, the same way for both models and a little differently for each.
- "tc": what a network answers in neighbouring frames. The rarest five classes have 0.04 % of the pixels each, nearly all of them
  in a few clips, and where they are small they flicker. The steadier network answers them in one clip of three, and elsewhere not
  at all: the mean over classes present jumps.
- "flicker": a share.

Seeds differ "little" (as mIoU did in the first reference study) or "much" (more than clips do, as TC did). One street is a clip of
101 frames whose difficulty drifts. A city is six clips that are alike: in 340 fresh clips of procity's seven cities beyond train
two clips of a city correlated by 0 to 0.11, by metric (one-way analysis of variance of the jackknife's pseudo-values).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import signal, special

from tcseg.metrics import intervals, seed_clip_effects
from tcseg.metrics.intervals import Counts

SPREADS = {"none": 0.0, "little": 0.04, "much": 0.12}
"""How much seeds differ: standard deviation of a class's recall, in logits."""
CLASSES = 19
PIXELS = 29 * 256 * 128  # pairs of pixels in a clip of 30 frames
RARE = 5  # classes
CITY = 6  # clips
LARGE = 4000  # clips of a split that has nearly all there is
ALIKE = 0.1  # correlation of two clips of one city

_RANK = np.linspace(0, 1, CLASSES)
_SHARE = np.exp(-5.5 * _RANK) / np.exp(-5.5 * _RANK).sum()
_PRESENT = np.where(_RANK < 0.75, 1.0, 1 / 3)
_SIZE_SPREAD, _RECALL, _RECALL_SPREAD = 0.3 + 0.9 * _RANK, 3 - 4.5 * _RANK, 0.6 + 1.2 * _RANK
_TAIL = np.exp(-7 * np.minimum(_RANK / _RANK[-RARE], 1))
_ANSWERED = _TAIL / _TAIL.sum()  # share of the pixels, "tc"
_IS_RARE = np.arange(CLASSES) >= CLASSES - RARE
_PEAKED = (
    0.18 * 10**_RANK
)  # 1 / shape of a Weibull distribution; at 1.8 sums over 24 clips are as sure as over five like ones
_STEADY, _STEADY_SPREAD = 3.6 - 2.8 * _RANK, 0.3 + 0.5 * _RANK


def _confused(share: np.ndarray) -> np.ndarray:
    """What a class is taken for: the larger ones more often. (K,K), rows of sum one."""
    rates = np.sqrt(share) * (1 - np.eye(CLASSES))
    return rates / rates.sum(1, keepdims=True)


_TAKEN_FOR, _CHANGES_TO = _confused(_SHARE), _confused(_ANSWERED)
Pair = tuple[list[Counts], list[Counts]]


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@dataclass(frozen=True)
class World:
    """Where made-up splits come from.

    Attributes:
        metric: "miou", "tc" or "flicker".
        spread: of seeds, see `SPREADS`.
        drift: correlation of neighbouring rows; 0 for clips, near 1 for the frames of one street.
        alike: correlation of the clips of a city, which are `CITY` rows side by side.
    """

    metric: str
    spread: float = 0.0
    drift: float = 0.0
    alike: float = 0.0

    def split(self, rng: np.random.Generator, seeds: int, clips: int) -> Pair:
        """Counts of two models on the same clips, a list over seeds each."""
        make = {"miou": self._overlaps, "tc": self._neighbours, "flicker": self._shares}[self.metric]
        return make(rng, seeds, clips)

    def _noise(self, rng: np.random.Generator, rows: int, *shape: int) -> np.ndarray:
        """Standard normal (rows, ...), correlated along rows by `drift`, within a city by `alike`."""
        fresh = rng.normal(size=(rows, *shape))
        if self.alike:
            cities = rng.normal(size=(-(-rows // CITY), *shape)).repeat(CITY, axis=0)[:rows]
            return np.sqrt(1 - self.alike) * fresh + np.sqrt(self.alike) * cities
        if not self.drift:
            return fresh
        fresh[1:] *= np.sqrt(1 - self.drift**2)
        return signal.lfilter([1], [1, -self.drift], fresh, axis=0)

    def _seed(self, rng: np.random.Generator) -> np.ndarray:
        """What a seed adds to each class, and to all."""
        return self.spread * (rng.normal(size=CLASSES) + rng.normal())

    def _overlaps(self, rng: np.random.Generator, seeds: int, clips: int) -> Pair:
        there = special.ndtr(self._noise(rng, clips, CLASSES)) < _PRESENT
        size = _SHARE / _PRESENT * there * np.exp(_SIZE_SPREAD * self._noise(rng, clips, CLASSES))
        hard = _RECALL + _RECALL_SPREAD * self._noise(rng, clips, CLASSES)
        both: Pair = ([], [])
        for model, gain in zip(both, (0.0, 0.15), strict=True):
            own = hard + gain + 0.35 * self._noise(rng, clips, CLASSES)
            for _ in range(seeds):
                right = size * _logistic(own + self._seed(rng) + 0.3 * self._noise(rng, clips, CLASSES))
                predicted = right + (size - right) @ _TAKEN_FOR
                model.append({"intersection": right, "predicted": predicted, "labelled": size})
        return both

    def _neighbours(self, rng: np.random.Generator, seeds: int, clips: int) -> Pair:
        """Pixels that stay in a class along the flow, and that leave it and come to it, half each, as a network's do."""
        size = (-special.log_ndtr(self._noise(rng, clips, CLASSES))) ** _PEAKED / special.gamma(1 + _PEAKED)
        hard = _STEADY + 0.5 * np.log(size) + _STEADY_SPREAD * self._noise(rng, clips, CLASSES)
        both: Pair = ([], [])
        for model, gain, answered in zip(both, (0.0, 0.7), (1.0, 1 / 3), strict=True):
            seen = special.ndtr(self._noise(rng, clips, CLASSES)) < np.where(_IS_RARE, answered, 1.0)
            own = size * seen * np.exp((0.05 + 0.6 * _RANK) * self._noise(rng, clips, CLASSES))
            steady = hard + gain + (0.1 + 0.3 * _RANK) * self._noise(rng, clips, CLASSES)
            for _ in range(seeds):
                pixels = np.floor(own * _ANSWERED * PIXELS)
                stay = _logistic(steady + self._seed(rng) + 0.15 * self._noise(rng, clips, CLASSES))
                kept = np.floor(pixels * stay)
                there = kept + (pixels - kept + (pixels - kept) @ _CHANGES_TO) / 2
                model.append({"intersection": kept, "predicted": there, "labelled": there})
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
    def contrast(self) -> seed_clip_effects.Contrast:
        """What is compared: the difference of mIoU or TC; flicker relative to the base's."""
        return seed_clip_effects.relative if self.metric == "flicker" else seed_clip_effects.difference

    def truth(self, rng: np.random.Generator, splits: int) -> tuple[float, float, float]:
        """The metric of the base, of the other model, and the effect, with all clips and seeds that there could be.

        Args:
            splits: large ones, whose mean is taken.
        """
        world, seeds, ones = replace(self, alike=0.0), 20 if self.spread else 1, np.ones((1, LARGE))
        estimates = []
        for _ in range(splits):
            a, b = world.split(rng, seeds, LARGE)
            values = [np.mean([intervals.metric_of(one, ones) for one in model]) for model in (a, b)]
            estimates.append([*values, seed_clip_effects.seed_effects(a, b, self.contrast, ones).mean()])
        return tuple(np.mean(estimates, axis=0).tolist())
