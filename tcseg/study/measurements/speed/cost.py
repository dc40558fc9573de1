"""Time of a training step by part, and of the teacher's targets."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from tcseg.data.clips import Clips, annotated_frame, labelled_subset
from tcseg.data.flow_sources import with_flow
from tcseg.deploy.runtimes import torch_threads
from tcseg.machine import cpu_name
from tcseg.models import registry
from tcseg.models.networks import SegmentationModel
from tcseg.study.opening import open_study
from tcseg.study.recipes import RECIPES, VARIATIONS
from tcseg.study.study import Study
from tcseg.training import loop, losses, teacher_targets
from tcseg.training import recipe as objective
from tcseg.training.loop import Lesson
from tcseg.training.recipe import Recipe

METHODS = tuple(
    name for name, one in VARIATIONS.items() if (one.sweep, one.base, one.longer) == ("distillation", "kd", 1)
)


def measure(out: Path, quick: bool = False) -> pd.DataFrame:
    """Time the steps of the six recipes and of `kd` by each method, each part apart, on the laptop's data, in one process.

    On one thread, as runs are made side by side, and on all.

    Args:
        out: where the table will be written; unused, as nothing else is.
        quick: the smoke data set, few steps.

    Returns:
        cpu, threads, size, recipe, frames (a step), step_ms and its parts (medians): network forward and backward, augmentation,
        losses forward and backward, optimiser; step_over_network = the whole step / network; targets_seconds: making the
        teacher's targets for the whole split.
    """
    study = open_study("procity", "smoke" if quick else "laptop")
    clips, count = study.clips("train"), 4 if quick else 40
    targets_by_kind = _targets(study, clips, 2 if quick else 8)
    rows = []
    for threads in sorted({1, torch.get_num_threads()}):
        with torch_threads(threads):
            rows += [_row(study, name, clips, targets_by_kind, count) for name in (*RECIPES, *METHODS)]
    return pd.DataFrame(rows)


def _row(
    study: Study, name: str, clips: Clips, targets_by_kind: dict[str, tuple[torch.Tensor, float]], count: int
) -> dict[str, object]:
    recipe = study.recipe(name)
    taught, seconds = targets_by_kind.get(recipe.teacher, (None, 0.0))
    features, more = targets_by_kind["features"] if recipe.needs_features else (None, 0.0)
    return {
        "cpu": cpu_name(), "threads": torch.get_num_threads(), "size": "x".join(map(str, clips.size)), "recipe": name,
        **_step(recipe, clips, taught, features, count), "targets_seconds": round(seconds + more, 1),
    }  # fmt: skip


def _targets(study: Study, clips: Clips, sample: int) -> dict[str, tuple[torch.Tensor, float]]:
    """Each kind of targets for all clips (those beyond a sample repeat it), and the seconds that making all of them takes."""
    teacher = registry.build("teacher", clips.label_set.num_classes, pretrained=False).eval()
    targets_by_kind = {}
    for kind in teacher_targets.KINDS:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            some = _first(clips, sample)
            stored = teacher_targets.make(teacher, some, kind, Path(folder) / "targets.npy").clone()
        seconds = (time.perf_counter() - started) / sample * len(clips)
        targets_by_kind[kind] = stored.repeat(-(-len(clips) // sample), 1, 1, 1, 1)[: len(clips)], seconds
    return targets_by_kind


def _first(clips: Clips, count: int) -> Clips:
    """The first clips of a split."""
    flows = {name: (flow[:count], visible[:count]) for name, (flow, visible) in clips.flows.items()}
    backward = None if clips.backward is None else tuple(part[:count] for part in clips.backward)
    arrays = {name: getattr(clips, name)[:count] for name in ("frames", "labels", "annotated", "names")}
    return replace(clips, flows=flows, backward=backward, **arrays)


def _step(
    recipe: Recipe, clips: Clips, taught: torch.Tensor | None, features: torch.Tensor | None, count: int
) -> dict[str, float]:
    """Medians over `count` steps after three that warm up, milliseconds."""
    chosen = labelled_subset(clips, recipe.labelled_share)
    lesson = Lesson(with_flow(clips) if recipe.needs_pairs else clips, chosen, taught, features)
    model = loop.untrained(recipe, lesson, None).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, fused=True)
    truth = torch.from_numpy(clips.labels[lesson.chosen, annotated_frame(clips)])
    weights = losses.class_weights(truth, clips.label_set.num_classes, recipe.balance)
    rows = [_parts(recipe, lesson, model, optimizer, weights, step) for step in range(count + 3)][3:]
    medians = pd.DataFrame(rows).median().round(2).to_dict()
    step = medians["augment_ms"] + medians["network_ms"] + medians["losses_ms"] + medians["optimizer_ms"]
    return {**medians, "step_ms": round(step, 2), "step_over_network": round(step / medians["network_ms"], 3)}


def _parts(
    recipe: Recipe,
    lesson: Lesson,
    model: SegmentationModel,
    optimizer: torch.optim.Optimizer,
    weights: torch.Tensor,
    step: int,
) -> dict[str, float]:
    """One step, taken apart: the losses see answers that are cut off from the network, whose backward pass gets their gradient."""
    clock = [time.perf_counter()]
    batch, offset = loop.draw_batch(recipe, lesson, step)
    frames = torch.cat([clip.frames.flatten(0, 1) for clip in batch])
    clock.append(time.perf_counter())
    outputs = model(frames, features=True) if recipe.needs_features else (model(frames),)
    clock.append(time.perf_counter())
    leaves = tuple(output.detach().requires_grad_() for output in outputs)
    cut_off = (lambda *_, **__: leaves) if recipe.needs_features else (lambda _: leaves[0])
    parts = objective.compute_losses(cut_off, batch, recipe, weights, torch.device("cpu"), offset)
    parts["loss"].backward()
    clock.append(time.perf_counter())
    optimizer.zero_grad()
    torch.autograd.backward(outputs, [leaf.grad for leaf in leaves])
    clock.append(time.perf_counter())
    optimizer.step()
    clock.append(time.perf_counter())
    draw, forward, loss, backward, update = (1000 * (b - a) for a, b in zip(clock, clock[1:], strict=False))
    return {
        "frames": len(frames),
        "augment_ms": draw,
        "network_ms": forward + backward,
        "losses_ms": loss,
        "optimizer_ms": update,
    }
