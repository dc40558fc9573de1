"""Batches of clips and their augmentation; frames, labels, flow and visibility are transformed together.

Labelled frames are zoomed, shifted and flipped with their labels. Pairs of video frames are only flipped: with them come flow,
visibility and the teacher's stored targets, and a flip leaves all of these exact, which resampling does not (targets resampled
under a zoom cost the student two points of mIoU). Light and colour change frames only. Frames stay uint8 until then.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from tcseg.data.clips import Clips, annotated_frame, as_tensor
from tcseg.errors import InputError
from tcseg.flow import homography_flow, resize_flow, synthetic_motion, warp
from tcseg.labels import IGNORE


@dataclass
class Clip:
    """A batch of clips of T frames: labelled frames (T = 1, with labels), or pairs (T = 2, with flow).

    Attributes:
        frames: (B,T,3,H,W) 0..255 RGB, uint8 as sampled, float32 once augmented.
        labels: (B,H,W) int64 of the annotated frame, 255 = ignore.
        flow: (B,2,H,W) float, first frame -> second, pixels.
        visible: (B,H,W) bool, pixels of the first frame that are seen in the second.
        targets: (B,T,K,h,w) float probabilities of the teacher; None without one.
        features: (B,T,C,h,w) float features of the teacher; None if the recipe does not use them.
        taught: (B,T,h,w) bool, where the targets are valid: not on the empty border of a moved still. None without targets.
    """

    frames: Tensor
    labels: Tensor | None = None
    flow: Tensor | None = None
    visible: Tensor | None = None
    targets: Tensor | None = None
    features: Tensor | None = None
    taught: Tensor | None = None


@dataclass(frozen=True)
class View:
    """How far an augmentation may go.

    Attributes:
        zoom: range, drawn evenly on a logarithmic scale; above 1 = closer. Labelled frames only.
        flip: share of clips that are mirrored.
        color: strength (0..1) of changes of saturation, contrast and brightness, the same for all frames of a clip.
        jitter: the same, drawn for each frame by itself.
        noise: largest standard deviation of Gaussian noise, grey levels.
    """

    zoom: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.5
    color: float = 0.0
    jitter: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.zoom
        if not 0 < low <= high:
            raise InputError(f"zoom is {self.zoom}; it must be (low, high) with 0 < low <= high")


LABELLED_VIEW = View(zoom=(0.9, 1.6), color=0.25)
PAIR_VIEW = View(color=0.25)
SYNTHETIC_VIEW = View(color=0.25, jitter=0.1, noise=8.0)  # a moved still is too perfect a second frame


def _zoom(clip: Clip, view: View, generator: torch.Generator) -> Clip:
    """Zoom, shift and flip labelled frames (B,1,3,H,W) with their labels; what lies outside the picture is ignored."""
    height, width = clip.frames.shape[-2:]
    low, high = view.zoom
    frames, labels = torch.empty_like(clip.frames), torch.empty_like(clip.labels)
    draws = torch.rand(len(frames), 4, generator=generator, dtype=torch.float64).tolist()
    for i, (closer, mirrored, right, down) in enumerate(draws):
        zoom = low * (high / low) ** closer
        flip = -1 if mirrored < view.flip else 1
        room = abs(1 - 1 / zoom)  # how far the view's centre may move, as a share of the frame
        center = width / 2 * (1 + room * (2 * right - 1)), height / 2 * (1 + room * (2 * down - 1))
        # Pixel index of the new picture -> of the old one; a pixel's centre is at index + 0.5.
        x, y = flip / zoom, 1 / zoom
        inverse_affine = np.array([
            [x, 0, center[0] + x * (0.5 - width / 2) - 0.5],
            [0, y, center[1] + y * (0.5 - height / 2) - 0.5],
        ])  # fmt: skip
        image = np.ascontiguousarray(clip.frames[i, 0].permute(1, 2, 0).numpy())
        zoomed = cv2.warpAffine(
            image,
            inverse_affine,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        frames[i, 0] = torch.from_numpy(zoomed).permute(2, 0, 1)
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        truth = clip.labels[i].numpy().astype(np.uint8)
        labels[i] = torch.from_numpy(
            cv2.warpAffine(truth, inverse_affine, (width, height), flags=flags, borderValue=IGNORE)
        )
    return replace(clip, frames=frames, labels=labels)


def _flip(clip: Clip, view: View, generator: torch.Generator) -> Clip:
    """Mirror some of the pairs, with all that belongs to them."""
    mirrored = torch.rand(len(clip.frames), generator=generator) < view.flip

    def mirror(x: Tensor | None) -> Tensor | None:
        if x is None:
            return None
        return torch.where(mirrored.view(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)

    flow = mirror(clip.flow)
    if flow is not None:
        flow = flow.clone()
        flow[mirrored, 0] *= -1
    rest = {name: mirror(getattr(clip, name)) for name in ("frames", "visible", "targets", "features", "taught")}
    return replace(clip, flow=flow, **rest)


def change_colors(frames: Tensor, view: View, generator: torch.Generator) -> Tensor:
    """Change saturation, contrast and brightness, and add noise: (B,T,3,H,W) uint8 or float -> float32 0..255.

    All three are one affine map of a frame's colours: contrast and saturation act about the clip's mean and the pixel's grey.
    """
    batch, length = frames.shape[:2]
    shared = 1 + view.color * (2 * torch.rand(3, batch, 1, 1, 1, generator=generator) - 1)
    own = 1 + view.jitter * (2 * torch.rand(3, batch, length, 1, 1, generator=generator) - 1)
    saturation, contrast, brightness = shared * own  # each (B,T,1,1)
    pixels = frames.float().flatten(3)  # (B,T,3,H*W)
    mean = pixels.mean((1, 2, 3)).view(-1, 1, 1, 1)
    mix = saturation * torch.eye(3) + (1 - saturation) / 3  # (B,T,3,3)
    pixels = (contrast * mix) @ pixels + (brightness - contrast) * mean
    if view.noise > 0:
        strength = view.noise * torch.rand(batch, length, 1, 1, generator=generator)
        pixels = pixels + strength * torch.randn(pixels.shape, generator=generator)
    return pixels.clamp(0, 255).unflatten(3, frames.shape[-2:])


def join(first: Clip, second: Clip) -> Clip:
    """One batch of two that have the same parts."""
    names = [field.name for field in fields(Clip) if getattr(first, field.name) is not None]
    return Clip(**{name: torch.cat((getattr(first, name), getattr(second, name))) for name in names})


def augment(clip: Clip, view: View, generator: torch.Generator) -> Clip:
    """Draw a view for each labelled frame, or a flip for each pair, then change light and colour."""
    placed = _zoom(clip, view, generator) if clip.labels is not None else _flip(clip, view, generator)
    return replace(placed, frames=change_colors(placed.frames, view, generator))


def _choose(pool: Tensor, batch: int, generator: torch.Generator) -> Tensor:
    """`batch` of the pool, without repetition while it lasts."""
    rounds = [pool[torch.randperm(len(pool), generator=generator)] for _ in range(-(-batch // len(pool)))]
    return torch.cat(rounds)[:batch]


def sample_labelled(clips: Clips, chosen: list[int], batch: int, generator: torch.Generator) -> Clip:
    """Labelled frames as clips of one frame, unaugmented.

    Args:
        clips: a training split.
        chosen: clip indices whose labels may be used.
        batch: B.
        generator: decides which.
    """
    index = _choose(torch.tensor(chosen), batch, generator)
    t = annotated_frame(clips)
    return Clip(as_tensor(clips.frames[:, t], index)[:, None], as_tensor(clips.labels[:, t], index).long())


def sample_pairs(
    clips: Clips,
    batch: int,
    generator: torch.Generator,
    targets: Tensor | None = None,
    features: Tensor | None = None,
) -> Clip:
    """Pairs of frames from any clip, labelled or not, unaugmented, with flow and visibility.

    The frames are as far apart as the split's flow says (see `flow_sources.with_flow`). Without flow (stills), the second frame
    is the first one moved by a known homography (`synthetic_motion`).

    Args:
        clips: a training split.
        batch: B.
        generator: decides which.
        targets, features: the teacher's, of every frame: uint8 (N,T,K,h,w) and float16 (N,T,C,h,w), or None.
    """
    index = _choose(torch.arange(len(clips)), batch, generator)
    length = clips.frames.shape[1]
    if clips.flow is None:
        t = torch.randint(0, length, (batch,), generator=generator)
        return _moved_stills(clips, index, t, generator, targets, features)
    starts = clips.flow.shape[1]
    t = torch.randint(0, starts, (batch,), generator=generator)
    rows, cols, gap = index.numpy(), t.numpy(), length - starts
    clip = Clip(
        torch.stack([torch.from_numpy(clips.frames[rows, cols + d]) for d in (0, gap)], 1),
        flow=torch.from_numpy(clips.flow[rows, cols]).float(),
        visible=torch.from_numpy(clips.visible[rows, cols]),
    )
    if targets is not None:
        clip.targets = torch.stack([_soft(targets, index, t + d) for d in (0, gap)], 1)
        clip.taught = torch.ones_like(clip.targets[:, :, 0], dtype=torch.bool)
    if features is not None:
        clip.features = torch.stack([features[index, t + d] for d in (0, gap)], 1).float()
    return clip


def _soft(targets: Tensor, index: Tensor, t: Tensor) -> Tensor:
    """Stored uint8 targets of chosen frames -> probabilities (B,K,h,w)."""
    probs = targets[index, t].float()
    return probs / probs.sum(1, keepdim=True).clamp(min=1)


def _moved_stills(
    clips: Clips,
    index: Tensor,
    t: Tensor,
    generator: torch.Generator,
    targets: Tensor | None,
    features: Tensor | None,
) -> Clip:
    """Pairs of a still and its moved copy. The copy is empty beyond the border of the still, and has no valid targets there."""
    still = torch.from_numpy(clips.frames[index.numpy(), t.numpy()]).float()
    homography = synthetic_motion(len(index), clips.size, generator)
    forward = homography_flow(homography, clips.size)
    backward = homography_flow(torch.linalg.inv(homography), clips.size)
    second, inside = warp(still, backward)
    seen, within = warp(inside[:, None].float(), forward)
    clip = Clip(torch.stack((still, second), 1), flow=forward, visible=(seen[:, 0] > 0.99) & within)

    def move(maps: Tensor) -> tuple[Tensor, Tensor]:
        return warp(maps, resize_flow(backward, (maps.shape[-1], maps.shape[-2])))

    if targets is not None:
        first = _soft(targets, index, t)
        second, kept = move(first)
        clip.targets, clip.taught = torch.stack((first, second), 1), torch.stack((torch.ones_like(kept), kept), 1)
    if features is not None:
        first = features[index, t].float()
        clip.features = torch.stack((first, move(first)[0]), 1)
    return clip
