"""What an adaptation learns from: its settings, and the snippets of several videos, as many as the memory may take at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tcseg.adaptation.motion import Prepared, prepare
from tcseg.adaptation.store import Targets
from tcseg.errors import InputError
from tcseg.training.recipe import Recipe

ROUND = 200  # steps that draw from one pool


@dataclass(frozen=True)
class Settings:
    """What decides an adaptation, apart from data and code.

    Attributes:
        steps, seed: length of the schedule; order of the data and augmentation.
        batch, pairs: single frames, and pairs of neighbours, a step.
        crop: (W,H) of what is cut from the frames, multiples of 32.
        learning_rate, weight_decay: AdamW's, under one cycle.
        temporal, ramp: weight of the temporal loss, and the share of the steps over which it grows.
        balance: power of the class weights; 0 = none.
        replay: every so many-th step also sees drawn streets with labels; 0 = none.
        rare: share of the single frames that are looked for around a rare class.
        zoom: range of the cuts of single frames; above 1 = closer.
        light: strength of other light, colours and sharpness; see `augmentation.change_light`.
        mixing: share of the single frames that get classes of another; see `augmentation.mix_classes`.
        fusing: whether the teacher's answers are fused along the motion.
        checks: times that the network is held against the teacher.
        patience: checks without a better one, after which the run ends; it is never the learning rate's first half.
        memory: bytes of snippets that are held at a time.
    """

    steps: int = 2000
    seed: int = 0
    batch: int = 6
    pairs: int = 3
    crop: tuple[int, int] = (480, 352)
    learning_rate: float = 4e-3
    weight_decay: float = 0.02
    temporal: float = 3.0
    ramp: float = 0.3
    balance: float = 0.5
    replay: int = 8
    rare: float = 0.25
    zoom: tuple[float, float] = (0.9, 1.6)
    light: float = 0.0
    mixing: float = 0.0
    fusing: bool = True
    checks: int = 10
    patience: int = 4
    memory: int = 1 << 30

    def __post_init__(self) -> None:
        least = {"steps": 1, "seed": 0, "batch": 1, "pairs": 0, "replay": 0, "checks": 1, "patience": 1}
        least |= {"temporal": 0, "light": 0, "mixing": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise InputError(f"{name} is {getattr(self, name)}; it must be {value} or more")
        if not 0 < self.learning_rate < 1:
            raise InputError(f"learning_rate is {self.learning_rate}; it must lie between 0 and 1, as 0.002")

    @property
    def recipe(self) -> Recipe:
        """The same for the study's losses."""
        temporal = self.temporal if self.pairs else 0.0
        return Recipe("adapt", "student", self.steps, teacher="plain", method="kl_unbalanced", temporal=temporal)


class Material:
    """Snippets of several videos, of which as many as the memory may take are held at a time.

    Args:
        targets: of each video.
        learned: of each video, the snippets that may be learned from.
        settings: which pool is held at which step depends on its seed and memory alone.
    """

    def __init__(self, targets: Sequence[Targets], learned: Sequence[Sequence[int]], settings: Settings) -> None:
        self.targets, self.settings = targets, settings
        self.where = [(video, index) for video, some in enumerate(learned) for index in some]
        if not self.where:
            raise InputError("there are no snippets to learn from; give a longer video, or hold out less of it")
        self._round, self.pool, self.counts = -1, [], np.zeros((0, 0))
        firsts = [self._prepared((video, some[0])) for video, some in enumerate(learned) if len(some)]
        each = sum(one.bytes * len(some) for one, some in zip(firsts, filter(len, learned), strict=True)) / len(self.where)
        self.held = min(len(self.where), max(8, int(settings.memory / each)))
        self.sums = self._class_sums()

    def _prepared(self, where: tuple[int, int]) -> Prepared:
        return prepare(self.targets[where[0]][where[1]], self.settings.fusing)

    def _class_sums(self) -> np.ndarray:
        """How much of the answers each class has, float64 (K,): of 400 snippets at most."""
        chosen = self.where[:: max(1, len(self.where) // 400)]
        return sum(self.targets[video][index].probs.sum((0, 2, 3), dtype=np.float64) for video, index in chosen)

    @property
    def shares(self) -> np.ndarray:
        """Share of each class, (K,)."""
        return self.sums / max(1.0, self.sums.sum())

    def weights(self) -> Tensor:
        """Class weights, as `losses.class_weights` of soft answers: (K,), mean 1 over pixels."""
        share = torch.from_numpy(self.shares).clamp(min=1e-6)
        weights = share.pow(-self.settings.balance)
        weights = weights.clamp(max=10 * weights.min())
        return (weights / (weights * share).sum()).float()

    def at(self, step: int) -> list[Prepared]:
        """The pool of a step."""
        number = 0 if self.held >= len(self.where) else step // ROUND
        if number != self._round:
            self.pool, self._round = [], number
            self.pool = [self._prepared(self.where[i]) for i in self._chosen(number)]
            sums = [one.probs.sum((0, 2, 3), dtype=torch.int64).numpy() for one in self.pool]
            self.counts = np.stack(sums).astype(float)
        return self.pool

    def _chosen(self, number: int) -> list[int]:
        """Snippets of a round: all in turn, in an order that is new each time."""
        count, wanted = len(self.where), range(number * self.held, (number + 1) * self.held)
        orders = {
            turn: np.random.default_rng([self.settings.seed, 7, turn]).permutation(count)
            for turn in range(wanted.start // count, (wanted.stop - 1) // count + 1)
        }
        return [int(orders[place // count][place % count]) for place in wanted]
