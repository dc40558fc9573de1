"""Distil a teacher's stored answers into a small network: soft cross-entropy, the study's temporal loss, and procity's labels.

A step sees single frames, cut around rare classes half of the time, and pairs of neighbours, whose motion is known. Every fourth
step also sees drawn streets with true labels, which keep alive what the video does not show. All that is random is derived from
(seed, step), so a run that was killed goes on as if nothing had happened. At regular steps the network is held against the teacher
on frames that are kept apart; the best one is kept, and a run that stops getting better ends.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from tcseg.adaptation.kinds.answers import digest
from tcseg.adaptation.motion import Prepared, prepare
from tcseg.adaptation.store import Targets
from tcseg.adaptation.teachers import STRIDE
from tcseg.atomic_files import write_json
from tcseg.data.augmentation import Clip, View, change_colors
from tcseg.data.procity_clips import draw_frames
from tcseg.errors import InputError
from tcseg.flow import homography_flow, synthetic_motion, warp
from tcseg.labels import CITYSCAPES
from tcseg.models.networks import SegmentationModel
from tcseg.training.loop import load_checkpoint, save_checkpoint, why_foreign
from tcseg.training.losses import cross_entropy
from tcseg.training.recipe import Recipe, consistent, distilled
from tcseg.training.schedule import one_cycle

ROUND = 200  # steps that draw from one pool
COLORS = View(color=0.25)
RAREST = 0.003  # share of the pixels below which a class is not looked for more often: it may be a mistake of the teacher's
DRAWN = 48  # frames of procity that are drawn for replay


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
        fusing: whether the teacher's answers are fused along the motion.
        checks: times that the network is held against the teacher.
        patience: checks without a better one, after which the run ends; it is never the learning rate's first half.
        memory: bytes of snippets that are held at a time.
    """

    steps: int = 2500
    seed: int = 0
    batch: int = 6
    pairs: int = 3
    crop: tuple[int, int] = (480, 352)
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    temporal: float = 4.0
    ramp: float = 0.3
    balance: float = 0.5
    replay: int = 4
    rare: float = 0.5
    zoom: tuple[float, float] = (0.8, 1.6)
    fusing: bool = True
    checks: int = 10
    patience: int = 4
    memory: int = 1 << 30

    def __post_init__(self) -> None:
        least = {"steps": 1, "seed": 0, "batch": 1, "pairs": 0, "replay": 0, "checks": 1, "patience": 1, "temporal": 0}
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


# ------------------------------------------------------------------------------------------------ what is learned from


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


# ------------------------------------------------------------------------------------------------ a step's batch


def draw(material: Material, step: int) -> list[Clip]:
    """A step's single frames and pairs, augmented: a `Clip` of T = 1, and one of T = 2 where there are pairs."""
    settings = material.settings
    rng = np.random.default_rng([settings.seed, 1, step])
    look = torch.Generator().manual_seed(int(rng.integers(2**31)))
    pool = material.at(step)
    singles = [_single(_pick(material, pool, rng), settings, rng) for _ in range(settings.batch)]
    batch = [_stacked(singles)]
    moving = [one for one in pool if len(one.flow)]
    if settings.pairs and moving:
        batch.append(_stacked([_pair(moving[rng.integers(len(moving))], settings, rng) for _ in range(settings.pairs)]))
    elif settings.pairs:
        batch.append(_moved([singles[i % len(singles)] for i in range(settings.pairs)], look))
    for clip in batch:
        clip.frames = change_colors(clip.frames, COLORS, look)
    return batch


Cut = tuple[Prepared, int, tuple[float, float] | None]
"""A snippet, a frame of it, and what the cut shall be centred at, (x,y) in pixels."""


def _pick(material: Material, pool: list[Prepared], rng: np.random.Generator) -> Cut:
    """A frame: any, or one that shows a rare class, with a place where it is."""
    counts, shares = material.counts, material.shares
    if rng.random() >= material.settings.rare or not counts.any():
        one = pool[rng.integers(len(pool))]
        return one, int(rng.integers(len(one.frames))), None
    present = counts.sum(0) > 0
    wanted = np.where(present, np.maximum(shares, RAREST) ** -0.5, 0.0) * np.minimum(1.0, shares / RAREST)
    kind = int(rng.choice(len(wanted), p=wanted / wanted.sum()))
    one = pool[int(rng.choice(len(pool), p=counts[:, kind] / counts[:, kind].sum()))]
    t = int(rng.integers(len(one.frames)))
    amount = one.probs[t, kind].numpy().ravel().astype(float)
    if not amount.any():
        return one, t, None
    cell = int(rng.choice(amount.size, p=amount / amount.sum()))
    row, column = divmod(cell, one.probs.shape[-1])
    return one, t, (STRIDE * (column + 0.5), STRIDE * (row + 0.5))


def _box(
    size: tuple[int, int], box: tuple[int, int], centre: tuple[float, float] | None, rng: np.random.Generator
) -> tuple[slice, slice]:
    """Rows and columns of a box, in cells; about a centre, somewhere near it, or anywhere."""
    found = []
    for whole, wide, middle in zip(size, box, centre or (None, None), strict=True):
        room = (whole - wide) // STRIDE
        if middle is None:
            start = int(rng.integers(room + 1))
        else:
            start = round((middle - wide / 2 + (rng.random() - 0.5) * wide * 0.6) / STRIDE)
        start = min(max(start, 0), room)
        found.append(slice(start, start + wide // STRIDE))
    return found[1], found[0]


def _pixels(cells: slice) -> slice:
    return slice(STRIDE * cells.start, STRIDE * cells.stop)


def _single(cut: Cut, settings: Settings, rng: np.random.Generator) -> dict[str, Tensor]:
    """A zoomed cut of one frame: frames (1,3,h,w), probs (1,K,h/4,w/4) 0..255."""
    one, t, centre = cut
    size, crop = (one.frames.shape[-1], one.frames.shape[-2]), settings.crop
    low, high = settings.zoom
    zoom = low * (high / low) ** rng.random()
    box = tuple(min(whole, STRIDE * round(side / zoom / STRIDE)) for whole, side in zip(size, crop, strict=True))
    rows, columns = _box(size, box, centre, rng)
    image = one.frames[t, :, _pixels(rows), _pixels(columns)].permute(1, 2, 0).numpy()
    probs = one.probs[t : t + 1, :, rows, columns].float()
    if (image.shape[1], image.shape[0]) != crop:
        how = cv2.INTER_AREA if image.shape[1] > crop[0] else cv2.INTER_LINEAR
        image = cv2.resize(np.ascontiguousarray(image), crop, interpolation=how)
        probs = F.interpolate(probs, (crop[1] // STRIDE, crop[0] // STRIDE), mode="bilinear", align_corners=False)
    frames = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    return _flipped({"frames": frames, "probs": probs}, rng.random() < 0.5)


def _pair(one: Prepared, settings: Settings, rng: np.random.Generator) -> dict[str, Tensor]:
    """The same cut of two neighbours, without resampling: frames (2,3,h,w), probs, flow (2,h/4,w/4), visible."""
    size = one.frames.shape[-1], one.frames.shape[-2]
    t = int(rng.integers(len(one.flow)))
    box = tuple(min(whole, side) for whole, side in zip(size, settings.crop, strict=True))
    rows, columns = _box(size, box, None, rng)
    cut = {
        "frames": one.frames[t : t + 2, :, _pixels(rows), _pixels(columns)],
        "probs": one.probs[t : t + 2, :, rows, columns].float(),
        "flow": one.flow[t, :, rows, columns].float(),
        "visible": one.visible[t, rows, columns],
    }
    return _flipped(cut, rng.random() < 0.5)


def _flipped(cut: dict[str, Tensor], mirrored: bool) -> dict[str, Tensor]:
    if not mirrored:
        return cut
    cut = {name: value.flip(-1) for name, value in cut.items()}
    if "flow" in cut:
        cut["flow"][0] *= -1
    return cut


def _stacked(cuts: list[dict[str, Tensor]]) -> Clip:
    """A batch as the study's losses take it; `taught` says how sure the teacher was, 0..1."""
    probs = torch.stack([cut["probs"] for cut in cuts])
    sure = probs.sum(2)
    clip = Clip(
        torch.stack([cut["frames"] for cut in cuts]),
        targets=probs / sure[:, :, None].clamp(min=1),
        taught=(sure / 255).clamp(max=1),
    )
    if "flow" in cuts[0]:
        clip.flow, clip.visible = (torch.stack([cut[name] for cut in cuts]) for name in ("flow", "visible"))
    return clip


def _moved(cuts: list[dict[str, Tensor]], look: torch.Generator) -> Clip:
    """Stills and the same moved by known homographies, where there is no video; what the moved one does not show has no vote."""
    still = torch.cat([cut["frames"] for cut in cuts]).float()
    probs = torch.cat([cut["probs"] for cut in cuts])
    size, grid = (still.shape[-1], still.shape[-2]), (probs.shape[-1], probs.shape[-2])
    moves = synthetic_motion(len(cuts), size, look)
    back = torch.linalg.inv(moves)
    second, _ = warp(still, homography_flow(back, size))
    shrink = torch.tensor([[1 / STRIDE, 0, 0.5 / STRIDE - 0.5], [0, 1 / STRIDE, 0.5 / STRIDE - 0.5], [0, 0, 1]])
    there, here = (homography_flow(shrink @ one @ torch.linalg.inv(shrink), grid) for one in (moves, back))
    told, kept = warp(probs, here)
    clip = _stacked([{"frames": torch.stack(f), "probs": torch.stack(p)} for f, p in
                     zip(zip(still, second, strict=True), zip(probs, told, strict=True), strict=True)])  # fmt: skip
    clip.taught[:, 1] *= kept
    clip.flow, clip.visible = there, torch.ones_like(kept)
    return clip


# ------------------------------------------------------------------------------------------------ replay


class Replay:
    """Frames of drawn streets with their true labels: drawn once, in a few seconds, and kept in a file."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        height = settings.crop[1]
        path = folder / f"procity-{height}.npz"
        if not path.exists():
            frames, labels = draw_frames(DRAWN, (2 * height, height))
            aside = path.with_suffix(f".{os.getpid()}.part")
            with aside.open("wb") as file:
                np.savez(file, frames=frames, labels=labels)
            aside.replace(path)
        with np.load(path) as kept:
            self.frames, self.labels = torch.from_numpy(kept["frames"]), torch.from_numpy(kept["labels"])

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Frames (B,3,h,w) float, changed in colour, and labels (B,h,w)."""
        rng = np.random.default_rng([self.settings.seed, 2, step])
        look = torch.Generator().manual_seed(int(rng.integers(2**31)))
        width, count = self.settings.crop[0], len(self.frames)
        some = rng.choice(count, min(self.settings.batch, count), replace=False)
        room = self.frames.shape[-1] - width
        frames, labels = [], []
        for index in some:
            start = int(rng.integers(max(0, room) + 1))
            frame, label = (one[index][..., start : start + width] for one in (self.frames, self.labels))
            mirrored = rng.random() < 0.5
            frames.append(frame.flip(-1) if mirrored else frame)
            labels.append(label.flip(-1) if mirrored else label)
        return change_colors(torch.stack(frames)[:, None], COLORS, look)[:, 0], torch.stack(labels).long()


class _Momentum:
    """Norms use a batch's own statistics and remember nothing of them: drawn streets do not look like the video."""

    def __init__(self, model: nn.Module) -> None:
        self.norms = [one for one in model.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]

    def __enter__(self) -> None:
        self.kept = [one.momentum for one in self.norms]
        for one in self.norms:
            one.momentum = 0.0

    def __exit__(self, *_: object) -> None:
        for one, momentum in zip(self.norms, self.kept, strict=True):
            one.momentum = momentum


# ------------------------------------------------------------------------------------------------ the loop


def compute_losses(
    model: nn.Module, batch: list[Clip], replayed: tuple[Tensor, Tensor] | None, settings: Settings, weights: Tensor, done: float
) -> dict[str, Tensor]:
    """The losses of a step: "kd" of single frames and pairs, "temporal" of pairs, "ce" of drawn streets, and "loss", their sum."""
    recipe, device = settings.recipe, weights.device
    batch = [_balanced(clip, weights.cpu()) for clip in batch]
    frames = torch.cat([clip.frames.flatten(0, 1) for clip in batch]).to(device)
    logits = model(frames).float().split([clip.frames.shape[0] * clip.frames.shape[1] for clip in batch])
    shown = [len(one) for one in logits]
    kd = sum(n * distilled(one, None, clip, recipe, weights) for n, one, clip in zip(shown, logits, batch, strict=True))
    parts = {"kd": kd / sum(shown)}
    total = parts["kd"]
    if len(batch) > 1 and settings.temporal:
        parts["temporal"] = _consistent(logits[1], batch[1], recipe, weights)
        total = total + settings.temporal * min(1.0, done / settings.ramp if settings.ramp else 1.0) * parts["temporal"]
    if replayed is not None:
        drawn, labels = (one.to(device) for one in replayed)
        with _Momentum(model):
            answers = model(drawn).float()
        small = labels[:, 1::2, 1::2]
        answers = F.interpolate(answers, small.shape[-2:], mode="bilinear", align_corners=False)
        parts["ce"] = cross_entropy(answers, small, weights)
        total = total + parts["ce"]
    return {"loss": total, **parts}


def _balanced(clip: Clip, weights: Tensor) -> Clip:
    """Answers in which each class speaks as loud as its weight: a soft class-weighted cross-entropy, -sum_k w_k p_k log q_k.

    Balancing pixels alone leaves the best answer to each where it was, and a pole that fills a third of a cell is never said.
    """
    louder = clip.targets * weights[:, None, None]
    total = louder.sum(2)
    return replace(clip, targets=louder / total[:, :, None].clamp(min=1e-6), taught=clip.taught * total)


def _consistent(logits: Tensor, clip: Clip, recipe: Recipe, weights: Tensor) -> Tensor:
    """The study's temporal loss, on the answers' grid."""
    grid = clip.flow.shape[-2:]
    if logits.shape[-2:] != grid:
        logits = F.interpolate(logits, grid, mode="bilinear", align_corners=False)
    return consistent(logits, clip, recipe, weights)


Check = Callable[[SegmentationModel], float]
"""How well a network in eval mode does on what is kept apart: higher is better."""


@dataclass(frozen=True)
class Trained:
    """The best network in eval mode, the settings, the step it is of, what each check said, and the seconds of training."""

    network: SegmentationModel
    settings: Settings
    step: int
    checks: list[tuple[int, float]]
    seconds: float


def train(
    settings: Settings,
    material: Material,
    network: SegmentationModel,
    check: Check,
    folder: Path,
    replay: Replay | None = None,
    progress: bool = True,
    checkpoint_seconds: float = 15.0,
) -> Trained:
    """Adapt a network; goes on from the folder's checkpoint if that is of the same adaptation.

    Args:
        settings: see `Settings`.
        material: what is learned from.
        network: where it starts; it is trained in place.
        check: see `Check`; the best network by it is returned.
        folder: for checkpoints; one run at a time.
        replay: drawn streets, or None.
        progress: a bar, with the time left.
        checkpoint_seconds: how much work a kill may cost at most.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(settings, material, network, folder, progress)
    weights = material.weights().to(run.device)
    for step in range(run.start, settings.steps):
        for group in run.optimizer.param_groups:
            group["lr"] = one_cycle(step, settings.steps, settings.learning_rate)
        replayed = replay.draw(step) if replay and settings.replay and step % settings.replay == settings.replay - 1 else None
        parts = compute_losses(run.model, draw(material, step), replayed, settings, weights, step / settings.steps)
        if not torch.isfinite(parts["loss"]):
            raise FloatingPointError(f"loss is {parts['loss'].item()} at step {step}; lower learning_rate")
        run.optimizer.zero_grad()
        parts["loss"].backward()
        run.optimizer.step()
        run.tell(step, parts)
        if (step + 1) in run.due or step + 1 == settings.steps:
            run.check(step + 1, check)
            run.save(step + 1)
            if run.is_over(step + 1):
                break
        elif time.perf_counter() - run.saved > checkpoint_seconds:
            run.save(step + 1)
    return run.finish()


def time_step(settings: Settings, material: Material, network: SegmentationModel, replay: Replay | None, count: int = 4) -> float:
    """Seconds of a step, the mean of a few; the network is trained meanwhile, and no more of use."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, weights = network.to(device).train(), material.weights().to(device)
    began = 0.0
    for step in range(count + 1):
        if step == 1:  # the first one warms up
            began = time.perf_counter()
        drawn = replay.draw(step) if replay and step == 1 else None
        compute_losses(network, draw(material, step), drawn, settings, weights, 1.0)["loss"].backward()
    return (time.perf_counter() - began) / count


class _Run:
    """The state of a training, on disk and in memory."""

    def __init__(self, settings: Settings, material: Material, network: SegmentationModel, folder: Path, progress: bool) -> None:
        self.settings, self.folder = settings, folder
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.key = _key(settings, material, network)
        self.model = network.to(self.device).train()
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        every = max(1, settings.steps // settings.checks)
        self.due = set(range(every, settings.steps + 1, every))
        self.checkpoint, self.history = folder / "checkpoint.safetensors", folder / "checks.json"
        self.start, self.seconds = 0, 0.0
        self._resume()
        self.checks = [one for one in self._read_checks() if one[0] <= self.start]
        self.bar = tqdm(desc="adapting", unit="step", initial=self.start, total=settings.steps, disable=not progress)
        self.began = self.saved = time.perf_counter()
        if self.is_over(self.start):
            self.start = settings.steps

    def _resume(self) -> None:
        if not self.checkpoint.exists():
            return
        if reason := why_foreign(self.checkpoint, self.key):
            print(f"{self.checkpoint} {reason}; the training starts anew", file=sys.stderr, flush=True)
            return
        self.start, self.seconds = load_checkpoint(self.checkpoint, self.model, self.optimizer)

    def _read_checks(self) -> list[tuple[int, float]]:
        try:
            return [(int(step), float(value)) for step, value in json.loads(self.history.read_text())]
        except (OSError, ValueError, TypeError):
            return []

    def elapsed(self) -> float:
        """Seconds of training so far, in all sittings."""
        return self.seconds + time.perf_counter() - self.began

    def tell(self, step: int, parts: dict[str, Tensor]) -> None:
        self.bar.update()
        if step % 20 == 0:
            self.bar.set_postfix({name: f"{value.item():.3f}" for name, value in parts.items()}, refresh=False)

    def check(self, step: int, check: Check) -> None:
        """Hold the network against the teacher, and keep it if it is the best so far."""
        value = check(self.model.eval())
        self.model.train()
        if not self.checks or value > max(score for _, score in self.checks):
            aside = self.folder / ".best.part"
            save_file({name: one.contiguous() for name, one in self.model.state_dict().items()}, aside)
            aside.replace(self._best(step))
        self.checks.append((step, value))
        write_json(self.history, self.checks)
        if not self.bar.disable:
            self.bar.write(f"step {step}: agreement {100 * value:.1f} %", file=sys.stderr)

    def _best(self, step: int) -> Path:
        return self.folder / f"best-{step}.safetensors"

    def best(self) -> tuple[int, float]:
        """Step and value of the best check; the first of equals."""
        return max(self.checks, key=lambda one: (one[1], -one[0]))

    def save(self, step: int) -> None:
        """A checkpoint; what no check of it needs is removed after it."""
        save_checkpoint(self.checkpoint, self.model, self.optimizer, step, self.elapsed(), self.key)
        self.saved = time.perf_counter()
        kept = self._best(self.best()[0]) if self.checks else None
        for path in self.folder.glob("best-*.safetensors"):
            if path != kept:
                path.unlink(missing_ok=True)

    def is_over(self, step: int) -> bool:
        """Whether enough checks in the second half were no better than the best before them."""
        late = [one for one in self.checks if one[0] > self.settings.steps / 2]
        since = [one for one in late if self.checks and one[0] > self.best()[0]]
        return step > 0 and len(since) >= self.settings.patience

    def finish(self) -> Trained:
        """The best network."""
        self.bar.close()
        step, _ = self.best()
        self.model.load_state_dict(load_file(self._best(step)))
        return Trained(self.model.cpu().eval(), self.settings, step, self.checks, self.elapsed())


def _key(settings: Settings, material: Material, network: SegmentationModel) -> str:
    """Sixteen hex digits of all that decides a training."""
    state = digest(*(math.fsum(value.double().flatten().tolist()) for value in network.state_dict().values()))
    data = [(one.folder.name, len(one)) for one in material.targets]
    return digest("adapt 1", asdict(settings), data, material.where, state, network.arch, network.label_set.classes)


def can_replay(network: SegmentationModel) -> bool:
    """Whether drawn streets have the network's classes."""
    return network.label_set.classes == CITYSCAPES.classes
