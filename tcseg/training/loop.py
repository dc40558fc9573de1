"""The training loop for supervised, distilled and temporal training; resumable at every step.

Teacher and students share it. A recipe is a frozen dataclass; everything random is derived from (seed, step), so two recipes
with one seed see the same initial weights and the same data in the same order (paired seeds), and a killed run goes on as if
nothing had happened. Optimiser: AdamW (Loshchilov and Hutter 2019) under a one-cycle schedule (Smith and Topin 2019). Devices
and mixed precision: accelerate.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from tcseg.data.augmentation import (
    LABELLED_VIEW,
    PAIR_VIEW,
    SYNTHETIC_VIEW,
    Clip,
    augment,
    join,
    sample_labelled,
    sample_pairs,
)
from tcseg.data.clips import Clips, annotated_frame, labelled_subset
from tcseg.data.flow_sources import with_flow
from tcseg.errors import InputError
from tcseg.models import registry as models
from tcseg.models.networks import SegmentationModel
from tcseg.training import losses
from tcseg.training.recipe import Recipe, compute_losses
from tcseg.training.schedule import one_cycle


def _generator(seed: int, step: int, rank: int, stream: int) -> torch.Generator:
    """Random numbers of one purpose (stream 0..15) at one step in one process, the same whatever else was drawn before.

    The generator looks at 32 bits of its seed only. Multiples of the golden ratio keep processes apart in these: with one recipe
    seed, fewer than 64 processes never meet within a million steps.
    """
    return torch.Generator().manual_seed(((seed * 1_000_003 + step) * 16 + stream + rank * 0x9E3779B1) % 2**63)


@dataclass(frozen=True)
class Lesson:
    """What a step draws from: the clips, which of them have labels, and the teacher's targets (see `objective`)."""

    clips: Clips
    chosen: list[int]
    targets: Tensor | None = None
    features: Tensor | None = None


def draw_batch(recipe: Recipe, lesson: Lesson, step: int, rank: int = 0) -> tuple[list[Clip], tuple[int, int]]:
    """The step's labelled clips and, if the recipe needs them, its pairs, augmented on the CPU; and the lattice's offset."""
    draw, look = (_generator(recipe.seed, step, rank, stream) for stream in (0, 1))
    clips = lesson.clips
    batch = [augment(sample_labelled(clips, lesson.chosen, recipe.batch, draw), LABELLED_VIEW, look)]
    row, column = torch.randint(0, recipe.label_stride, (2,), generator=draw).tolist()
    if recipe.needs_pairs:
        draw, look = (_generator(recipe.seed, step, rank, stream) for stream in (2, 3))
        batch.append(_draw_pairs(recipe, lesson, draw, look))
    return batch, (row, column)


def _draw_pairs(recipe: Recipe, lesson: Lesson, draw: torch.Generator, look: torch.Generator) -> Clip:
    """The step's pairs: of video, of stills moved by known homographies, or some of each."""
    clips = lesson.clips
    n_synthetic = recipe.pairs if clips.flow is None else round(recipe.synthetic * recipe.pairs)
    parts = []
    for count, source, view in (
        (recipe.pairs - n_synthetic, clips, PAIR_VIEW),
        (n_synthetic, with_flow(clips, "synthetic"), SYNTHETIC_VIEW),
    ):
        if count:
            parts.append(augment(sample_pairs(source, count, draw, lesson.targets, lesson.features), view, look))
    return parts[0] if len(parts) == 1 else join(*parts)


def _batches(
    recipe: Recipe, lesson: Lesson, steps: range, rank: int, ahead: bool
) -> Iterator[tuple[list[Clip], tuple[int, int]]]:
    """Each step's batch; `ahead`: drawn in a thread while the step before it is computed.

    That pays where a GPU computes. On two cores the thread and the network's own threads stood in each other's way, and a step
    took nearly twice as long.
    """
    if not ahead:
        yield from (draw_batch(recipe, lesson, step, rank) for step in steps)
        return
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(draw_batch, recipe, lesson, steps.start, rank) if steps else None
        for step in steps:
            batch = future.result()
            if step + 1 < steps.stop:
                future = thread.submit(draw_batch, recipe, lesson, step + 1, rank)
            yield batch


def training_key(recipe: Recipe, lesson: Lesson, initial: SegmentationModel | None, processes: int) -> str:
    """Sixteen hex digits of all that decides a training: recipe, data, targets, initial network and number of processes.

    Two trainings with one key take the same steps; a checkpoint is of use to its own alone. Of targets and features, which may
    be gigabytes, eight snippets are looked at: teachers differ everywhere.
    """
    clips = lesson.clips
    data = [clips.dataset, clips.split, clips.key, list(clips.frames.shape), lesson.chosen]
    key = hashlib.sha256(json.dumps([asdict(recipe), data, processes], sort_keys=True).encode())
    sampled = [None if given is None else given[:: max(1, len(given) // 8)] for given in (lesson.targets, lesson.features)]
    for tensor in (*sampled, *(initial.state_dict().values() if initial is not None else ())):
        described = "none" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype}"
        key.update(described.encode())
        if tensor is not None:
            key.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return key.hexdigest()[:16]


def save_checkpoint(
    path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int, seconds: float, key: str
) -> None:
    """Save weights, AdamW's moments, steps done, seconds spent and `training_key` in one file, atomically."""
    tensors = {f"model.{key}": value.contiguous() for key, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value).contiguous() for key, value in state.items()}
    aside = path.with_suffix(".part")
    save_file(tensors, aside, metadata={"step": str(step), "seconds": str(seconds), "key": key})
    aside.replace(path)


def why_foreign(path: Path, key: str) -> str:
    """Why a training of this key cannot go on from a checkpoint; empty where it can."""
    try:
        with safe_open(path, "pt") as file:
            theirs = (file.metadata() or {}).get("key")
    except SafetensorError as error:
        return f"cannot be read ({error})"
    if theirs is None:
        return "does not say of which training it is"
    return "" if theirs == key else "is of another training: another recipe, data, teacher or number of processes"


def load_checkpoint(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """Restore what `save_checkpoint` wrote; returns (steps done, seconds spent)."""
    weights: dict[str, Tensor] = {}
    moments: dict[int, dict[str, Tensor]] = {}
    with safe_open(path, "pt") as file:
        meta = file.metadata()
        for name in file.keys():  # noqa: SIM118 (safe_open is not a dict)
            part, key = name.split(".", 1)
            if part == "model":
                weights[key] = file.get_tensor(name)
            else:
                index, field = key.split(".", 1)
                moments.setdefault(int(index), {})[field] = file.get_tensor(name)
    model.load_state_dict(weights)
    for index, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        for field, value in moments.get(index, {}).items():
            if value.ndim:  # the fused AdamW needs moments to lie in memory as their parameter does, and does not check
                moments[index][field] = torch.empty_like(parameter).copy_(value)
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(meta["step"]), float(meta["seconds"])


def _restore(
    path: Path, key: str, model: torch.nn.Module, optimizer: torch.optim.Optimizer, is_main: bool
) -> tuple[int, float]:
    """(steps done, seconds spent) of the checkpoint, if there is one of this training, else (0, 0.0)."""
    if not path.exists():
        return 0, 0.0
    if not (reason := why_foreign(path, key)):
        return load_checkpoint(path, model, optimizer)
    if is_main:
        print(f"{path} {reason}; the training starts anew", file=sys.stderr, flush=True)
    return 0, 0.0


class _Log:
    """Training log as JSON lines; on resume, lines past the checkpoint are dropped."""

    def __init__(self, path: Path, first_step: int) -> None:
        kept = [line for line in path.read_text().splitlines() if _step_of(line) < first_step] if path.exists() else []
        path.write_text("".join(line + "\n" for line in kept))
        self.file = path.open("a")

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, row: dict[str, float]) -> None:
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except ValueError:  # the line that a kill cut in half
        return math.inf


def untrained(recipe: Recipe, lesson: Lesson, initial: SegmentationModel | None) -> SegmentationModel:
    """The network as it is before the first step: from scratch (or ImageNet), or with another one's weights."""
    torch.manual_seed(recipe.seed)
    model = models.build(recipe.arch, lesson.clips.label_set)
    if initial is not None:
        new_head = initial.label_set.classes != model.label_set.classes
        kept = {key: value for key, value in initial.state_dict().items() if not (new_head and key.startswith("head."))}
        model.load_state_dict(kept, strict=not new_head)
    if recipe.needs_features and recipe.method == "feature":
        model.adapter = torch.nn.Conv2d(model.head.in_channels, lesson.features.shape[2], 1)
    return model


def train(
    recipe: Recipe,
    clips: Clips,
    folder: Path,
    targets: Tensor | None = None,
    features: Tensor | None = None,
    initial: SegmentationModel | None = None,
    checkpoint_seconds: float = 15.0,
    log_every: int = 20,
) -> tuple[SegmentationModel, dict[str, float]]:
    """Train a model, resuming from the last checkpoint in `folder` if it belongs to the same training.

    Any other checkpoint there is passed over, with a line that says so, and is written over in time.

    Args:
        recipe: what to do.
        clips: the training split.
        folder: for `checkpoint.safetensors` and `log.jsonl`.
        targets: uint8 (N,T,K,h,w) teacher probabilities; required by recipes with a teacher.
        features: float16 (N,T,C,h,w) teacher features; required by the methods "feature" and "pf".
        initial: a network of the same architecture to start from; its head is left behind where the classes differ.
        checkpoint_seconds: how much work a kill may cost at most.
        log_every: steps between log lines.

    Returns:
        The model in eval mode on the CPU, and its cost: train_seconds, steps, seconds_per_step, threads.

    Raises:
        ValueError: the recipe needs targets or features and has none, or the clips have no such flow.
        FloatingPointError: the loss is not finite.

    Example:
        >>> recipe = tcseg.Recipe("mine", "student-cpu", steps=2, batch=2)
        >>> network, cost = tcseg.train(recipe, tcseg.load_clips("procity", root, "train", (128, 64), folder), folder / "run")
        >>> cost["steps"]
        2
    """
    for name, needed, given in (
        ("targets", recipe.teacher != "none", targets),
        ("features", recipe.needs_features, features),
    ):
        if needed and given is None:
            raise InputError(
                f"recipe {recipe.name!r} has teacher {recipe.teacher!r} and method {recipe.method!r} but {name} is None; make "
                f"them with targets.make"
            )
    if recipe.needs_pairs:
        clips = with_flow(clips, recipe.flow, recipe.gap)
    lesson = Lesson(clips, labelled_subset(clips, recipe.labelled_share), targets, features)
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(mixed_precision="bf16" if torch.cuda.is_available() else "no")
    model = untrained(recipe, lesson, initial)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    checkpoint = folder / "checkpoint.safetensors"
    key = training_key(recipe, lesson, initial, accelerator.num_processes)
    start, seconds = _restore(checkpoint, key, model, optimizer, accelerator.is_main_process)
    model, optimizer = accelerator.prepare(model, optimizer)
    model.train()
    progress = _Progress(recipe, start, seconds, log_every, checkpoint_seconds)
    with _Log(folder / "log.jsonl", start) as log:
        for step, parts in _steps(recipe, lesson, model, optimizer, accelerator, start):
            if not accelerator.is_main_process:
                continue
            progress.log(step, parts, optimizer.param_groups[0]["lr"], log)
            if progress.due():
                bare = accelerator.unwrap_model(model)
                save_checkpoint(checkpoint, bare, optimizer.optimizer, step + 1, progress.elapsed(), key)
    trained = accelerator.unwrap_model(model).cpu().eval()
    trained.adapter = None
    return trained, progress.cost()


def _steps(
    recipe: Recipe,
    lesson: Lesson,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    start: int,
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Do the steps from `start` on; yields each step and its losses after the update."""
    truth = torch.from_numpy(lesson.clips.labels[lesson.chosen, annotated_frame(lesson.clips)])
    weights = losses.class_weights(truth, lesson.clips.label_set.num_classes, recipe.balance).to(accelerator.device)
    steps, ahead = range(start, recipe.steps), accelerator.device.type != "cpu"
    batches = _batches(recipe, lesson, steps, accelerator.process_index, ahead)
    for step, (batch, offset) in zip(steps, batches, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = one_cycle(step, recipe.steps, recipe.learning_rate)
        parts = compute_losses(model, batch, recipe, weights, accelerator.device, offset, step / recipe.steps)
        if not torch.isfinite(parts["loss"]):
            raise FloatingPointError(
                f"{recipe.name}: loss is {parts['loss'].item()} at step {step}; lower learning_rate"
            )
        optimizer.zero_grad()
        accelerator.backward(parts["loss"])
        optimizer.step()
        yield step, parts


class _Progress:
    """The clock of a training: decides when to log, report progress and save a checkpoint."""

    def __init__(self, recipe: Recipe, start: int, seconds: float, log_every: int, checkpoint_seconds: float) -> None:
        self.recipe, self.seconds = recipe, seconds
        self.log_every, self.checkpoint_seconds = log_every, checkpoint_seconds
        self.label = f"{recipe.name} seed {recipe.seed}"
        self.watched = _watched()
        self.bar = tqdm(desc=self.label, initial=start, total=recipe.steps, disable=not self.watched)
        self.began = self.saved = self.said = time.perf_counter()

    def elapsed(self) -> float:
        """Seconds of training so far, in all sittings."""
        return self.seconds + time.perf_counter() - self.began

    def log(self, step: int, parts: dict[str, Tensor], rate: float, log: _Log) -> None:
        """Log a step and update the progress bar, or print one line per minute if there is no terminal."""
        self.bar.update()
        if step % self.log_every == 0 or step == self.recipe.steps - 1:
            row = {name: round(value.item(), 5) for name, value in parts.items()}
            log.write({"step": step, **row, "lr": rate, "seconds": round(self.elapsed(), 2)})
        if not self.watched and time.perf_counter() - self.said > 60:
            print(f"{self.label}: step {step + 1}/{self.recipe.steps}, loss {parts['loss'].item():.3f}")
            self.said = time.perf_counter()

    def due(self) -> bool:
        """Whether as much work is unsaved as a kill may cost."""
        now = time.perf_counter()
        if now - self.saved <= self.checkpoint_seconds:
            return False
        self.saved = now
        return True

    def cost(self) -> dict[str, float]:
        """What the training took."""
        self.bar.close()
        elapsed, steps = self.elapsed(), self.recipe.steps
        return {
            "train_seconds": round(elapsed, 2),
            "steps": steps,
            "seconds_per_step": round(elapsed / steps, 4),
            "threads": torch.get_num_threads(),
        }


def _watched() -> bool:
    """Whether a person sees a progress bar: in a terminal or a notebook's page, not under the study's runner."""
    return sys.stderr.isatty() or ("JPY_PARENT_PID" in os.environ and "TCSEG_QUIET" not in os.environ)
