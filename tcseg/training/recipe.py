"""A recipe, and the losses that one training step minimises.

    loss = cross-entropy(labelled frames) + distillation x method(pairs, teacher's targets) + temporal x form(pairs, flow)

Teacher and temporal loss act on pairs of frames drawn from *all* snippets, labelled or not; the cross-entropy on labelled frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tcseg.data.augmentation import Clip
from tcseg.data.flow_sources import FLOW_SOURCES
from tcseg.errors import InputError
from tcseg.flow import resize_flow
from tcseg.training import losses, temporal_losses

TEACHERS = ("none", "plain", "trajectory")
METHODS = ("kl", "kl_unbalanced", "cwd", "dist", "feature", "pf")
FORMS = ("l2", "kl", "js", "soft_tc", "etc")
MASKS = ("visible", "photometric")
NEEDS_FEATURES = ("feature", "pf")


@dataclass(frozen=True)
class Recipe:
    """All settings that determine a trained model, apart from data and code.

    Attributes:
        name: for people and tables.
        arch: a key of `registry.REGISTRY`.
        steps, seed: length of the schedule; initial weights, data order and augmentation.
        labelled_share: of the training snippets whose labels may be used; the others are unlabelled video.
        batch: labelled frames a step.
        pairs: pairs of frames a step, drawn from all snippets; used when there is a teacher or a temporal loss.
        teacher: "none", "plain" or "trajectory" (see `targets`).
        method: of distillation: "kl" (class-balanced), "kl_unbalanced", "cwd", "dist", "feature" or "pf"; see `losses`. "pf" is
            added to the class-balanced KL, as ETC does.
        distillation, temperature: weight, and temperature of KL, CWD and DIST.
        temporal: weight of the temporal loss; 0 = off.
        form: of the temporal loss (see `temporal_losses`): "soft_tc"; a distance, "l2", "kl" or "js"; or "etc", as ETC's code does.
        balanced: whether a pixel's temporal loss weighs as much as its class (distances only).
        stop: frame whose answer is taken as given in "l2", "kl", "js": "none", "a" or "b".
        mask: "visible", or "photometric" x visible.
        flow: where motion comes from: "best" of the data set, or one of `flow_sources.FLOW_SOURCES`.
        gap: frames between the two of a pair.
        synthetic: share of pairs that are stills moved by a known homography; without video, all pairs are.
        ramp: share of the steps over which the temporal loss grows from nothing to its weight; 0 = it is there at once.
        learning_rate, weight_decay: AdamW's.
        balance: power of the class weights (0 = none).
        label_stride: every so many-th pixel, both ways, enters a step's cross-entropy; see `losses.upsample_lattice`.

    Example:
        >>> recipe = tcseg.Recipe("mine", "student-cpu", steps=2, batch=2, temporal=1.0)
        >>> recipe.needs_pairs
        True
    """

    name: str
    arch: str
    steps: int
    seed: int = 0
    labelled_share: float = 1.0
    batch: int = 8
    pairs: int = 3
    teacher: str = "none"
    method: str = "kl"
    distillation: float = 2.0
    temperature: float = 1.0
    temporal: float = 0.0
    form: str = "soft_tc"
    balanced: bool = False
    stop: str = "none"
    mask: str = "visible"
    flow: str = "best"
    gap: int = 1
    synthetic: float = 0.0
    ramp: float = 0.0
    learning_rate: float = 4e-3
    weight_decay: float = 0.02
    balance: float = 0.5
    label_stride: int = 2

    def __post_init__(self) -> None:
        choices = {
            "teacher": TEACHERS,
            "method": METHODS,
            "form": FORMS,
            "stop": temporal_losses.STOPS,
            "mask": MASKS,
            "flow": ("best", *FLOW_SOURCES),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise InputError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(known)}")
        least_of = {"steps": 1, "gap": 1, "label_stride": 1}
        for name in (*least_of, "temporal", "distillation", "ramp", "synthetic"):
            least = least_of.get(name, 0)
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        for name in ("synthetic", "ramp", "labelled_share"):
            if getattr(self, name) > 1:
                raise InputError(f"{name} is {getattr(self, name)}; it is a share, at most 1")

    @property
    def needs_pairs(self) -> bool:
        """Whether unlabelled pairs are part of the batch."""
        return self.teacher != "none" or self.temporal > 0

    @property
    def needs_features(self) -> bool:
        """Whether the student learns the teacher's features."""
        return self.teacher != "none" and self.method in NEEDS_FEATURES


def supervised(logits: Tensor, labels: Tensor, recipe: Recipe, weights: Tensor, offset: tuple[int, int]) -> Tensor:
    """Class-weighted cross-entropy of the step's lattice of pixels: logits (B,K,h,w), labels (B,H,W)."""
    stride, size = recipe.label_stride, labels.shape[-2:]
    upsampled = losses.upsample_lattice(logits, size, offset, stride)
    return losses.cross_entropy(upsampled, labels[:, offset[0] :: stride, offset[1] :: stride], weights)


def distilled(logits: Tensor, features: Tensor | None, clip: Clip, recipe: Recipe, weights: Tensor) -> Tensor:
    """The recipe's distillation on pairs: logits (2B,K,h,w), features (2B,C,h,w) of the student, already adapted."""
    taught = clip.taught.to(logits.device)
    if recipe.needs_features:
        teacher_features = clip.features.to(logits.device)
        mask = F.interpolate(taught.float(), teacher_features.shape[-2:], mode="area") > 0.99
    if recipe.method == "feature":
        return losses.feature_distillation(features, teacher_features.flatten(0, 1), nn.Identity(), mask.flatten(0, 1))
    targets, counted = clip.targets.flatten(0, 1).to(logits.device), taught.flatten(0, 1)
    if targets.shape[-2:] != logits.shape[-2:]:
        logits = F.interpolate(logits, targets.shape[-2:], mode="bilinear", align_corners=False)
    if recipe.method == "cwd":
        return losses.channel_wise_distillation(logits, targets, recipe.temperature, counted)
    if recipe.method == "dist":
        return losses.dist_distillation(logits, targets, temperature=recipe.temperature, mask=counted)
    balance = None if recipe.method == "kl_unbalanced" else weights
    kl = losses.kl_distillation(logits, targets, recipe.temperature, counted, balance)
    if recipe.method != "pf":
        return kl
    pair = features.unflatten(0, (-1, 2)).unbind(1)
    return kl + losses.pairwise_frame_dependency(*pair, *teacher_features.unbind(1), mask_b=mask[:, 1])


def consistent(logits: Tensor, clip: Clip, recipe: Recipe, weights: Tensor) -> Tensor:
    """The recipe's temporal loss on pairs, on the logits' grid: logits (2B,K,h,w)."""
    size = logits.shape[-2:]
    flow = resize_flow(clip.flow.to(logits.device), size[::-1])
    visible = F.interpolate(clip.visible[:, None].float().to(logits.device), size, mode="area")[:, 0] > 0.99
    if recipe.mask == "photometric" or recipe.form == "etc":
        a, b = (F.interpolate(frame.to(logits.device), size, mode="area") for frame in clip.frames.unbind(1))
        released = temporal_losses.photometric_mask(a, b, flow, "released" if recipe.form == "etc" else "published")
        visible = released if recipe.form == "etc" else released * visible
    first, second = logits.unflatten(0, (-1, 2)).unbind(1)
    if recipe.form == "etc":
        return temporal_losses.etc_compat(first, second, flow, visible)
    first, second = first.softmax(1), second.softmax(1)
    if recipe.form == "soft_tc":
        return temporal_losses.soft_tc(first, second, flow, visible)
    balance = weights if recipe.balanced else None
    return temporal_losses.temporal_consistency(first, second, flow, visible, recipe.form, recipe.stop, balance)


def compute_losses(
    model: nn.Module,
    batch: list[Clip],
    recipe: Recipe,
    weights: Tensor,
    device: torch.device,
    offset: tuple[int, int],
    done: float = 1.0,
) -> dict[str, Tensor]:
    """One forward pass over all frames of the step, then each loss of the recipe.

    Args:
        model: the student.
        batch: labelled clips, and pairs where the recipe needs them.
        recipe: which losses.
        weights: (K,) class weights.
        device: where the model is.
        offset: (row, column) of the first pixel of the cross-entropy's lattice, below recipe.label_stride.
        done: share of the training's steps, which decides the temporal loss's weight where that is ramped.

    Returns:
        "loss" (the weighted sum) and its unweighted parts: "ce", and "kd" and "temporal" where they are on.
    """
    frames = torch.cat([clip.frames.flatten(0, 1) for clip in batch]).to(device)
    features = None
    if recipe.needs_features:
        logits, features = model(frames, features=True)
        features = features[len(batch[0].frames) :].float()
    else:
        logits = model(frames)
    labelled, *pairs = logits.float().split([clip.frames.shape[0] * clip.frames.shape[1] for clip in batch])
    parts = {"ce": supervised(labelled, batch[0].labels.to(device), recipe, weights, offset)}
    if recipe.teacher != "none":
        parts["kd"] = distilled(pairs[0], features, batch[1], recipe, weights)
    if recipe.temporal > 0:
        parts["temporal"] = consistent(pairs[0], batch[1], recipe, weights)
    temporal = recipe.temporal * (min(1.0, done / recipe.ramp) if recipe.ramp else 1.0)
    total = parts["ce"] + recipe.distillation * parts.get("kd", 0.0) + temporal * parts.get("temporal", 0.0)
    return {"loss": total, **parts}
