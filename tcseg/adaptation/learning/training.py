"""Distil a teacher's stored answers into a small network: soft cross-entropy, the study's temporal loss, and procity's labels.

Every fourth step also sees drawn streets with true labels, which keep alive what the video does not show. A run that was killed
goes on as if nothing had happened. At regular steps the network is held against the teacher on frames that are kept apart; the best
one is kept, and a run that stops getting better ends.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from tcseg.adaptation.kinds.answers import digest
from tcseg.adaptation.learning.batches import Replay, draw
from tcseg.adaptation.learning.material import Material, Settings
from tcseg.adaptation.report import decided
from tcseg.adaptation.store import Targets
from tcseg.atomic_files import explained, replacing, write_json
from tcseg.data.augmentation import Clip
from tcseg.metrics.segmentation import Overlap, confusion_matrix
from tcseg.models.networks import SegmentationModel
from tcseg.training.loop import load_checkpoint, save_checkpoint, why_foreign
from tcseg.training.losses import cross_entropy
from tcseg.training.recipe import Recipe, consistent, distilled
from tcseg.training.schedule import one_cycle


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


CHECKED = 60  # snippets that a `QuickCheck` looks at
OFTEN = 0.001  # share of the pixels, see there

Check = Callable[[SegmentationModel], float]
"""How well a network in eval mode does on what is kept apart: higher is better."""


class QuickCheck:
    """Agreement with the teacher on stored frames, 0..1: mIoU over the classes that it says of at least `OFTEN` of the pixels.

    A class of a few pixels, often a mistake of the teacher's, would decide by chance which step is the best.

    Args:
        targets: of each video.
        kept: snippets that are kept apart, of which `CHECKED` are looked at.
    """

    def __init__(self, targets: Sequence[Targets], kept: Sequence[Sequence[int]]) -> None:
        where = [(one, index) for one, some in zip(targets, kept, strict=True) for index in some]
        self.where = where[:: max(1, -(-len(where) // CHECKED))]

    @torch.inference_mode()
    def __call__(self, network: SegmentationModel) -> float:
        """Of a network in eval mode."""
        total: np.ndarray | int = 0
        device = next(network.parameters()).device
        for targets, index in self.where:
            stored = targets[index]
            middle = len(stored.frames) // 2
            planes = torch.from_numpy(stored.frames[middle]).permute(2, 0, 1)[None].contiguous().to(device)
            told = decided(torch.from_numpy(stored.probs[middle]).float())
            logits = F.interpolate(network(planes).float(), told.shape, mode="bilinear", align_corners=False)
            answer = logits.argmax(1)[0].to(torch.uint8).cpu().numpy()
            total = total + confusion_matrix(told, answer, network.num_classes)
        overlap = Overlap.from_confusion(total)
        often = overlap.labelled >= OFTEN * max(1, overlap.labelled.sum())
        return float(np.mean(overlap.iou()[often])) if often.any() else 0.0


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
            with replacing(self._best(step)) as aside:
                save_file({name: one.contiguous() for name, one in self.model.state_dict().items()}, aside)
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
        with explained(self.checkpoint, "free some space, or give another folder with --work, and run again: what is done is kept"):
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
