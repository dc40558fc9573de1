"""Batches of clips and their joint augmentation: frames, labels, flow, visibility and soft targets move together.

One random affine view (zoom, shift, flip) is drawn a clip and applied to everything in it. Flow is not an image: under a view that
takes new pixel q to old pixel p = A q + b, the flow's values become A^-1 flow(p). Light and colour change frames only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from tcseg.data import Clips, annotated_frame, as_tensor
from tcseg.flow import homography_flow, resize_flow, synthetic_motion, warp
from tcseg.labels import IGNORE


@dataclass
class Clip:
    """A batch of clips of T frames.

    Attributes:
        frames: (B,T,3,H,W) float 0..255 RGB.
        labels: (B,H,W) int64 of the annotated frame, 255 = ignore; None for unlabelled clips.
        flow: (B,T-1,2,H,W) float, t -> t+1, pixels of this grid; None for T = 1.
        visible: (B,T-1,H,W) bool; None for T = 1.
        targets: (B,T,K,h,w) float probabilities of the teacher; None without one.
        valid: (B,H,W) bool, pixels that the view took from inside the picture.
    """

    frames: Tensor
    labels: Tensor | None = None
    flow: Tensor | None = None
    visible: Tensor | None = None
    targets: Tensor | None = None
    valid: Tensor | None = None


@dataclass(frozen=True)
class View:
    """How far a view may go: zoom range, share of flips, strength of light and colour changes (0..1)."""

    zoom: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.5
    color: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.zoom
        if not 0 < low <= high:
            raise ValueError(f"zoom is {self.zoom}; it must be (low, high) with 0 < low <= high")


LABELLED_VIEW = View(zoom=(0.9, 1.6), color=0.25)
UNLABELLED_VIEW = View(color=0.25)  # unzoomed: stored targets are then exact for the view the student sees


def random_views(batch: int, view: View, generator: torch.Generator) -> Tensor:
    """Affine maps (B,2,3) from the new picture to the old one, in grid_sample's coordinates (-1..1 over the borders)."""
    low, high = view.zoom
    zoom = torch.exp(torch.empty(batch).uniform_(1e-9, 1, generator=generator) * _log(high / low)) * low
    flip = 1 - 2.0 * (torch.rand(batch, generator=generator) < view.flip)
    shift = (torch.rand(batch, 2, generator=generator) * 2 - 1) * (1 - 1 / zoom).abs()[:, None]
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = flip / zoom, 1 / zoom, shift
    return theta


def _log(value: float) -> Tensor:
    return torch.tensor(value).log()


def _sample(x: Tensor, theta: Tensor, mode: str, padding: str = "border") -> Tensor:
    """Show (B,C,H,W) under the views."""
    grid = F.affine_grid(theta.to(x.dtype), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=False)


def apply_views(clip: Clip, theta: Tensor) -> Clip:
    """Show every part of a clip under the views theta (B,2,3); see `random_views`."""
    batch, length, _, height, width = clip.frames.shape
    each = theta.repeat_interleave(length, 0)  # one view for all frames of a clip
    pairs = theta.repeat_interleave(max(1, length - 1), 0)
    inside = _sample(torch.ones(batch, 1, height, width), theta, "nearest", "zeros")[:, 0] > 0.5
    out = Clip(_sample(clip.frames.flatten(0, 1), each, "bilinear").view_as(clip.frames), valid=inside)
    if clip.labels is not None:
        labels = _sample(clip.labels[:, None].float(), theta, "nearest")[:, 0].round().long()
        out.labels = torch.where(inside, labels, IGNORE)
    if clip.flow is not None and clip.visible is not None:
        # theta's linear part is diagonal and the aspect is kept, so A^-1 acts on pixel vectors as it does on grid coordinates.
        unzoom = torch.stack((1 / theta[:, 0, 0], 1 / theta[:, 1, 1]), 1).view(batch, 1, 2, 1, 1)
        out.flow = _sample(clip.flow.flatten(0, 1), pairs, "bilinear").view_as(clip.flow) * unzoom
        visible = _sample(clip.visible.flatten(0, 1)[:, None].float(), pairs, "nearest", "zeros")[:, 0] > 0.5
        out.visible = visible.view_as(clip.visible)
    if clip.targets is not None:
        out.targets = _sample(clip.targets.flatten(0, 1), each, "bilinear").view_as(clip.targets)
    return out


def change_colors(frames: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Random brightness, contrast and saturation, one draw a clip (B,T,3,H,W): the same for all of its frames."""
    if strength == 0:
        return frames
    draw = 1 + strength * (2 * torch.rand(3, len(frames), 1, 1, 1, 1, generator=generator) - 1)
    gray = frames.mean(2, keepdim=True)
    frames = gray + (frames - gray) * draw[0]
    mean = frames.mean((1, 2, 3, 4), keepdim=True)
    return ((frames - mean) * draw[1] + mean * draw[2]).clamp(0, 255)


def augment(clip: Clip, view: View, generator: torch.Generator) -> Clip:
    """Draw a view a clip and apply it, then change light and colour."""
    shown = apply_views(clip, random_views(len(clip.frames), view, generator))
    return replace(shown, frames=change_colors(shown.frames, view.color, generator))


def _choose(pool: Tensor, batch: int, generator: torch.Generator) -> Tensor:
    """`batch` of the pool, without repetition while it lasts."""
    rounds = [pool[torch.randperm(len(pool), generator=generator)] for _ in range(-(-batch // len(pool)))]
    return torch.cat(rounds)[:batch]


def _soft(targets: Tensor, index: tuple) -> Tensor:
    """Stored uint8 targets -> probabilities."""
    probs = targets[index].float()
    return probs / probs.sum(-3, keepdim=True).clamp(min=1)


def sample_labelled(
    clips: Clips, chosen: list[int], batch: int, generator: torch.Generator, targets: Tensor | None = None
) -> Clip:
    """Labelled frames as clips of one frame, unaugmented.

    Args:
        clips: a training split.
        chosen: clip indices whose labels may be used.
        batch: B.
        generator: decides which.
        targets: uint8 (N,T,K,h,w) of the teacher, or None.
    """
    index = _choose(torch.tensor(chosen), batch, generator)
    t = annotated_frame(clips)
    frames = as_tensor(clips.frames[:, t], index)[:, None].float()
    labels = as_tensor(clips.labels[:, t], index).long()
    return Clip(frames, labels, targets=None if targets is None else _soft(targets, (index, slice(t, t + 1))))


def sample_pairs(clips: Clips, batch: int, generator: torch.Generator, targets: Tensor | None = None) -> Clip:
    """Pairs of consecutive frames from any clip, labelled or not, unaugmented, with flow and visibility.

    Where the split has stills only (CamVid), the second frame is the first one moved by a known homography (`synthetic_motion`).
    """
    index = _choose(torch.arange(len(clips)), batch, generator)
    if clips.flow is None:
        return _moved_stills(clips, index, generator, targets)
    t = torch.randint(0, clips.frames.shape[1] - 1, (batch,), generator=generator)
    rows, cols = index.numpy(), t.numpy()
    frames = torch.stack([torch.from_numpy(clips.frames[rows, cols + d]) for d in (0, 1)], 1).float()
    clip = Clip(frames, flow=torch.from_numpy(clips.flow[rows, cols]).float()[:, None])
    clip.visible = torch.from_numpy(clips.visible[rows, cols])[:, None]
    if targets is not None:
        clip.targets = torch.stack([_soft(targets, (index, t + d)) for d in (0, 1)], 1)
    return clip


def _moved_stills(clips: Clips, index: Tensor, generator: torch.Generator, targets: Tensor | None) -> Clip:
    still = as_tensor(clips.frames[:, 0], index).float()
    there = synthetic_motion(len(index), clips.size, generator)
    forward = homography_flow(there, clips.size)
    backward = homography_flow(torch.linalg.inv(there), clips.size)
    moved, inside = warp(still, backward)
    seen, within = warp(inside[:, None].float(), forward)
    clip = Clip(torch.stack((still, moved), 1), flow=forward[:, None], visible=((seen[:, 0] > 0.99) & within)[:, None])
    if targets is not None:
        first = _soft(targets, (index, 0))
        small = resize_flow(backward, (first.shape[-1], first.shape[-2]))
        second, kept = warp(first, small)
        # Where the moved still shows nothing, the teacher says nothing: a uniform target would teach doubt.
        clip.targets = torch.stack((first, torch.where(kept[:, None], second, first)), 1)
    return clip
