"""The one training loop: supervised, distilled, temporal; resumable to the step.

Teacher and students share it. A recipe is a frozen dataclass; everything random is derived from (seed, step), so two recipes
with one seed see the same initial weights and the same data in the same order (paired seeds), and a killed run goes on as if
nothing had happened. Optimiser: AdamW (Loshchilov and Hutter 2019) under a one-cycle schedule (Smith and Topin 2019). Devices
and mixed precision: accelerate.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from tcseg import losses, models
from tcseg.augment import LABELLED_VIEW, UNLABELLED_VIEW, Clip, augment, sample_labelled, sample_pairs
from tcseg.data import Clips, annotated_frame, labelled_subset
from tcseg.flow import resize_flow

TEACHERS = ("none", "plain", "trajectory")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a trained model, but the data and the code.

    Attributes:
        name: for people and tables.
        arch: a key of `models.REGISTRY`.
        steps, seed: length of the schedule; initial weights, data order and augmentation.
        labelled_share: of the training snippets whose labels may be used; the others are unlabelled video.
        batch: labelled frames a step.
        pairs: pairs of consecutive frames a step, drawn from all snippets; used when there is a teacher or a temporal loss.
        teacher: "none", "plain" or "trajectory" (see `targets`).
        distillation, temperature: weight and temperature of the KL term.
        temporal: weight of the temporal loss; 0 = off.
        learning_rate, weight_decay: AdamW's.
        balance: power of the class weights (0 = none).
    """

    name: str
    arch: str
    steps: int
    seed: int = 0
    labelled_share: float = 1.0
    batch: int = 8
    pairs: int = 3
    teacher: str = "none"
    distillation: float = 2.0
    temperature: float = 1.0
    temporal: float = 0.0
    learning_rate: float = 4e-3
    weight_decay: float = 0.02
    balance: float = 0.5

    def __post_init__(self) -> None:
        if self.teacher not in TEACHERS:
            raise ValueError(f"teacher is {self.teacher!r}; it must be one of {', '.join(TEACHERS)}")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; it must be at least 1")

    @property
    def needs_pairs(self) -> bool:
        """Whether unlabelled pairs are part of the batch."""
        return self.teacher != "none" or self.temporal > 0


def one_cycle(step: int, steps: int, peak: float, warmup: float = 0.15) -> float:
    """Learning rate at a step: linear up to `peak` over the first `warmup` share, then cosine down to peak / 1000."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return peak * (step + 1) / rise
    done = (step - rise) / max(1, steps - rise)
    return peak * (0.001 + 0.999 * (1 + math.cos(math.pi * done)) / 2)


def _generator(seed: int, step: int, stream: int) -> torch.Generator:
    """Random numbers of one purpose at one step, the same whatever else was drawn before."""
    return torch.Generator().manual_seed(((seed * 1_000_003 + step) * 16 + stream) % 2**63)


def _batch(recipe: Recipe, clips: Clips, chosen: list[int], targets: Tensor | None, step: int, rank: int) -> list[Clip]:
    """The step's labelled clips and, if the recipe needs them, its pairs; augmented on the CPU."""
    draw, look = _generator(recipe.seed, step, 4 * rank), _generator(recipe.seed, step, 4 * rank + 1)
    batch = [augment(sample_labelled(clips, chosen, recipe.batch, draw, targets), LABELLED_VIEW, look)]
    if recipe.needs_pairs:
        draw, look = _generator(recipe.seed, step, 4 * rank + 2), _generator(recipe.seed, step, 4 * rank + 3)
        batch.append(augment(sample_pairs(clips, recipe.pairs, draw, targets), UNLABELLED_VIEW, look))
    return batch


def _distil(logits: Tensor, clip: Clip, recipe: Recipe, weights: Tensor) -> Tensor:
    """KL to the stored targets of a clip; logits (B*T,K,h,w)."""
    targets = clip.targets.flatten(0, 1).to(logits.device)
    logits = torch.nn.functional.interpolate(logits, targets.shape[-2:], mode="bilinear", align_corners=False)
    mask = torch.nn.functional.interpolate(clip.valid[:, None].float(), targets.shape[-2:], mode="area")[:, 0] > 0.99
    mask = mask.repeat_interleave(clip.frames.shape[1], 0).to(logits.device)
    return losses.kl_distillation(logits, targets, recipe.temperature, mask, weights)


def _temporal(logits: Tensor, clip: Clip) -> Tensor:
    """Temporal loss of pairs on the logits' grid; logits (B*2,K,h,w)."""
    probs = logits.softmax(1).unflatten(0, (-1, 2))
    height, width = logits.shape[-2:]
    flow = resize_flow(clip.flow[:, 0].to(logits.device), (width, height))
    visible = clip.visible[:, 0].float()[:, None].to(logits.device)
    seen = torch.nn.functional.interpolate(visible, (height, width), mode="area")[:, 0] > 0.99
    return losses.temporal_consistency(probs[:, 0], probs[:, 1], flow, seen)


def compute_losses(
    model: torch.nn.Module, batch: list[Clip], recipe: Recipe, weights: Tensor, device: torch.device
) -> dict[str, Tensor]:
    """One forward pass over all frames of the step, then each loss that the recipe asks for.

    Returns:
        "loss" (the weighted sum) and its unweighted parts: "ce", and "kd" and "temporal" where they are on.
    """
    frames = torch.cat([clip.frames.flatten(0, 1) for clip in batch]).to(device)
    logits = model(frames).float()
    labelled, *pairs = logits.split([clip.frames.shape[0] * clip.frames.shape[1] for clip in batch])
    parts = {"ce": losses.cross_entropy(labelled, batch[0].labels.to(device), weights)}
    if recipe.teacher != "none":
        each = [_distil(z, clip, recipe, weights) for z, clip in zip((labelled, *pairs), batch, strict=True)]
        parts["kd"] = torch.stack(each).mean()
    if recipe.temporal > 0:
        parts["temporal"] = _temporal(pairs[0], batch[1])
    total = parts["ce"] + recipe.distillation * parts.get("kd", 0.0) + recipe.temporal * parts.get("temporal", 0.0)
    return {"loss": total, **parts}


def save_checkpoint(
    path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int, seconds: float
) -> None:
    """Weights, AdamW's moments, steps done and seconds spent, in one safetensors file, written aside and renamed."""
    tensors = {f"model.{key}": value.contiguous() for key, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value).contiguous() for key, value in state.items()}
    aside = path.with_suffix(".part")
    save_file(tensors, aside, metadata={"step": str(step), "seconds": str(seconds)})
    aside.replace(path)


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
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(meta["step"]), float(meta["seconds"])


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


def train(
    recipe: Recipe,
    clips: Clips,
    folder: Path,
    targets: Tensor | None = None,
    checkpoint_seconds: float = 15.0,
    log_every: int = 20,
) -> tuple[models.SegmentationModel, dict[str, float]]:
    """Train a model, or go on from the last checkpoint in `folder`.

    Args:
        recipe: what to do.
        clips: the training split.
        folder: for `checkpoint.safetensors` and `log.jsonl`.
        targets: uint8 (N,T,K,h,w) teacher probabilities; required by recipes with a teacher.
        checkpoint_seconds: how much work a kill may cost at most.
        log_every: steps between log lines.

    Returns:
        The model in eval mode on the CPU, and its cost: train_seconds, steps, seconds_per_step.

    Raises:
        ValueError: the recipe needs targets and has none.
        FloatingPointError: the loss is not finite.
    """
    if recipe.teacher != "none" and targets is None:
        raise ValueError(
            f"recipe {recipe.name!r} has teacher {recipe.teacher!r} but targets is None; make them with targets.make"
        )
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    accelerator = Accelerator(mixed_precision="bf16" if torch.cuda.is_available() else "no")
    model = models.build(recipe.arch, clips.label_set.num_classes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    checkpoint = folder / "checkpoint.safetensors"
    start, seconds = load_checkpoint(checkpoint, model, optimizer) if checkpoint.exists() else (0, 0.0)
    model, optimizer = accelerator.prepare(model, optimizer)
    chosen = labelled_subset(clips, recipe.labelled_share)
    weights = losses.class_weights(
        torch.from_numpy(clips.labels[chosen, annotated_frame(clips)]), clips.label_set.num_classes, recipe.balance
    ).to(accelerator.device)

    watched, steps, label = _watched(), range(start, recipe.steps), f"{recipe.name} seed {recipe.seed}"
    model.train()
    began = saved = said = time.perf_counter()
    with _Log(folder / "log.jsonl", start) as log:
        for step in tqdm(steps, desc=label, initial=start, total=recipe.steps, disable=not watched):
            for group in optimizer.param_groups:
                group["lr"] = one_cycle(step, recipe.steps, recipe.learning_rate)
            batch = _batch(recipe, clips, chosen, targets, step, accelerator.process_index)
            parts = compute_losses(model, batch, recipe, weights, accelerator.device)
            if not torch.isfinite(parts["loss"]):
                raise FloatingPointError(
                    f"{recipe.name}: loss is {parts['loss'].item()} at step {step}; lower learning_rate"
                )
            optimizer.zero_grad()
            accelerator.backward(parts["loss"])
            optimizer.step()
            if not accelerator.is_main_process:
                continue
            now = time.perf_counter()
            spent = seconds + now - began
            if step % log_every == 0 or step == recipe.steps - 1:
                row = {name: round(value.item(), 5) for name, value in parts.items()}
                log.write({"step": step, **row, "lr": optimizer.param_groups[0]["lr"], "seconds": round(spent, 2)})
            if not watched and now - said > 60:
                print(f"{label}: step {step + 1}/{recipe.steps}, loss {parts['loss'].item():.3f}")
                said = now
            if now - saved > checkpoint_seconds:
                save_checkpoint(checkpoint, accelerator.unwrap_model(model), optimizer.optimizer, step + 1, spent)
                saved = now
    seconds += time.perf_counter() - began
    cost = {
        "train_seconds": round(seconds, 2),
        "steps": recipe.steps,
        "seconds_per_step": round(seconds / recipe.steps, 4),
    }
    return accelerator.unwrap_model(model).cpu().eval(), cost


def _watched() -> bool:
    """Whether a person sees a progress bar: in a terminal or a notebook's page, not under the study's runner."""
    return sys.stderr.isatty() or ("JPY_PARENT_PID" in os.environ and "TCSEG_QUIET" not in os.environ)
