"""The teacher's targets: its predictions on every training frame, computed once and stored.

Two kinds of probabilities, as uint8. *plain*: the teacher's softmax, frame by frame. *trajectory*: test-time augmented (flip,
scale 1.5) and fused along flow trajectories over the neighbouring frames, so that the student learns from answers that are steady
before it sees them. Fusing happens at training time only; at inference there is one small network and one frame. For the methods
that copy features: *features*, what the teacher's head sees, at stride 8, as float16.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tcseg.data.clips import Clips
from tcseg.errors import InputError
from tcseg.flow import compose, resize_flow, warp
from tcseg.machine import require_disk
from tcseg.models.networks import SegmentationModel


@torch.no_grad()
def plain_probs(model: SegmentationModel, frames: Tensor) -> Tensor:
    """Softmax of the logits: (T,3,H,W) uint8 -> (T,K,h,w) float."""
    return model(frames).softmax(1)


@torch.no_grad()
def augmented_probs(model: SegmentationModel, frames: Tensor, scale: float = 1.5) -> Tensor:
    """Mean softmax over {scale 1, `scale`} x {as it is, flipped}: (T,3,H,W) uint8 -> (T,K,h,w) float."""
    height, width = frames.shape[-2:]
    larger = [max(32, round(side * scale / 32) * 32) for side in (height, width)]
    total: Tensor | float = 0.0
    for size in ([height, width], larger):
        shown = F.interpolate(frames.float(), size, mode="bilinear", align_corners=False)
        for flipped in (False, True):
            probs = model(shown.flip(-1) if flipped else shown).softmax(1)
            probs = probs.flip(-1) if flipped else probs
            total = total + F.interpolate(probs, (height // 4, width // 4), mode="bilinear", align_corners=False)
    return total / 4


def fuse(probs: Tensor, steps: dict[int, tuple[Tensor, Tensor]], reach: int = 2, decay: float = 0.7) -> Tensor:
    """Average each frame's probabilities with its neighbours' along the flow.

    p_t <- (p_t + sum_d decay^|d| V_td warp(p_{t+d}, w_td)) / (1 + sum_d decay^|d| V_td), d = -reach..reach, d != 0.

    Args:
        probs: (T,K,h,w).
        steps: direction (+1, -1) -> flow (T-1,2,h,w) and visible (T-1,h,w) of single steps: t -> t+1, and t+1 -> t.
        reach: frames on each side.
        decay: weight of a neighbour, to the power of its distance.
    """
    length = len(probs)
    fused = torch.empty_like(probs)
    for t in range(length):
        total, weight = probs[t : t + 1].clone(), torch.ones_like(probs[t : t + 1, :1])
        for direction, (flow, visible) in steps.items():
            path: tuple[Tensor, Tensor] | None = None
            for distance in range(1, reach + 1):
                arrival = t + direction * distance
                if not 0 <= arrival < length:
                    break
                pair = min(arrival, arrival - direction)  # single steps are stored by the earlier frame
                step = flow[pair : pair + 1], visible[pair : pair + 1]
                path = step if path is None else compose(path[0], step[0], path[1], step[1])
                moved, inside = warp(probs[arrival : arrival + 1], path[0])
                share = decay**distance * (path[1] & inside)[:, None]
                total, weight = total + share * moved, weight + share
        fused[t] = (total / weight)[0]
    return fused


def _steps(clips: Clips, index: int, size: tuple[int, int]) -> dict[int, tuple[Tensor, Tensor]]:
    """Single-step flows of a clip both ways on a grid of size (w,h); empty for stills."""
    if clips.flow is None or clips.backward is None:
        return {}
    both = {+1: (clips.flow[index], clips.visible[index]), -1: (clips.backward[0][index], clips.backward[1][index])}
    steps = {}
    for direction, (flow, visible) in both.items():
        small = resize_flow(torch.from_numpy(np.asarray(flow)).float(), size)
        seen = F.interpolate(torch.from_numpy(np.asarray(visible)).float()[:, None], size[::-1], mode="area")[:, 0]
        steps[direction] = (small, seen > 0.99)
    return steps


KINDS = ("plain", "trajectory", "features")
FEATURE_STRIDE = 8


@torch.no_grad()
def teacher_features(model: SegmentationModel, frames: Tensor) -> Tensor:
    """The input of the teacher's head, averaged to stride 8: (T,3,H,W) uint8 -> (T,C,H/8,W/8) float."""
    return F.avg_pool2d(model(frames, features=True)[1], FEATURE_STRIDE // model.stride)


def make(model: SegmentationModel, clips: Clips, kind: str, path: Path) -> Tensor:
    """The teacher's targets for a training split, read from `path` if it exists.

    Args:
        model: the teacher.
        clips: a training split.
        kind: "plain", "trajectory" or "features".
        path: a .npy file, named by what it depends on.

    Returns:
        uint8 (N,T,K,H/4,W/4), 255 = probability 1; or float16 (N,T,C,H/8,W/8) features.

    Raises:
        ValueError: unknown kind.
        CannotWriteError: the disk is too small; the message says how much space is needed.
    """
    if kind not in KINDS:
        raise InputError(f"kind of targets is {kind!r}; it must be one of {', '.join(KINDS)}")
    if not path.exists():
        width, height = clips.size
        is_features = kind == "features"
        stride, dtype = (FEATURE_STRIDE, np.float16) if is_features else (model.stride, np.uint8)
        channels = model.head.in_channels if is_features else model.num_classes
        shape = (*clips.frames.shape[:2], channels, height // stride, width // stride)
        path.parent.mkdir(parents=True, exist_ok=True)
        require_disk(path.parent, int(np.prod(shape)) * np.dtype(dtype).itemsize, f"the teacher's {kind} targets")
        aside = path.with_suffix(".part")
        stored = np.lib.format.open_memmap(aside, "w+", dtype, shape)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = model.to(device).eval()
        for i in range(len(clips)):
            frames = torch.from_numpy(np.asarray(clips.frames[i])).to(device)
            stored[i] = _answers(model, clips, i, frames, kind).to(getattr(torch, np.dtype(dtype).name)).numpy()
        stored.flush()
        aside.replace(path)
        model.cpu()
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def _answers(model: SegmentationModel, clips: Clips, index: int, frames: Tensor, kind: str) -> Tensor:
    """One clip's targets, on the CPU; probabilities as 0..255."""
    if kind == "features":
        return teacher_features(model, frames).cpu()
    if kind == "plain":
        return (plain_probs(model, frames).cpu() * 255).round()
    width, height = clips.size
    steps = _steps(clips, index, (width // 4, height // 4))
    return (fuse(augmented_probs(model, frames).cpu(), steps) * 255).round()
