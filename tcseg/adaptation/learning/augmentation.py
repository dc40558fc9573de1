"""Light, colour, sharpness and classes that a step's frames did not have: what one camera on one day cannot teach.

Without it a student learns its camera: `tcseg measure unseen_camera` shows it on frames of another one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tcseg.adaptation.teachers import STRIDE
from tcseg.data.augmentation import Clip, View, change_colors

MILD, STRONG = 0.25, 0.4  # of brightness, contrast and saturation: always, and at full strength
GAIN = 0.15  # of each colour channel, at most: white balance
GAMMA = 0.5  # natural logarithm of the exponent, at most
BLURRED = 0.25  # share of the clips
SHARPNESS = (0.5, 0.9)  # of the size that a blurred clip is reduced to
SURE = 0.3  # of the teacher, where a class is cut out


def change_light(frames: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Other light, white balance, contrast and sharpness; all frames of a clip alike, so that neighbours stay neighbours.

    Args:
        frames: (B,T,3,H,W), uint8 or float, 0..255.
        strength: 0 = only brightness, contrast and saturation change, by `MILD`; at 1 they change by `STRONG`, and white balance,
            gamma and sharpness by `GAIN`, `GAMMA` and `BLURRED`.
        generator: of all that is random.

    Returns:
        float32 (B,T,3,H,W), 0..255.
    """
    frames = change_colors(frames, View(color=MILD + (STRONG - MILD) * strength), generator)
    if not strength:
        return frames
    count = len(frames)
    gain = 1 + GAIN * strength * (2 * torch.rand(count, 3, 1, generator=generator) - 1)
    gamma = torch.exp(GAMMA * strength * (2 * torch.rand(count, 1, 1, generator=generator) - 1))
    curves = 255 * (gain * torch.arange(256) / 255).clamp(0, 1) ** gamma  # (B,3,256), looked up: a power of each pixel is slow
    levels = frames.round().long().transpose(1, 2)  # (B,3,T,H,W)
    frames = curves.gather(2, levels.flatten(2)).view(levels.shape).transpose(1, 2).contiguous()
    blurred = torch.rand(count, generator=generator) < BLURRED * strength
    low, high = SHARPNESS
    kept = low + (high - low) * torch.rand(count, generator=generator)
    for index in torch.nonzero(blurred).flatten().tolist():
        frames[index] = _blurred(frames[index], float(kept[index]))
    return frames


def _blurred(frames: Tensor, kept: float) -> Tensor:
    """Reduced and enlarged again."""
    size = frames.shape[-2:]
    small = F.interpolate(frames, [max(1, int(side * kept)) for side in size], mode="bilinear", antialias=True)
    return F.interpolate(small, size, mode="bilinear", align_corners=False)


def mix_classes(clip: Clip, share: float, rng: np.random.Generator) -> Clip:
    """Paste half of the classes of one frame into another, with what the teacher said of them (ClassMix, Olsson et al. 2021).

    What is rare is then seen before many more backgrounds.

    Args:
        clip: B clips of one frame: frames (B,1,3,H,W), targets (B,1,K,H/4,W/4), taught (B,1,H/4,W/4).
        share: of the frames that are pasted into.
        rng: of all that is random.
    """
    if not share:
        return clip
    frames, targets, taught = clip.frames.clone(), clip.targets.clone(), clip.taught.clone()
    best = clip.targets[:, 0].argmax(1)
    best[clip.taught[:, 0] < SURE] = -1
    for into in range(len(frames)):
        source = (into + 1) % len(frames)
        present = [kind for kind in best[source].unique().tolist() if kind >= 0]
        if source == into or not present or rng.random() >= share:
            continue
        some = rng.permutation(present)[: max(1, len(present) // 2)]
        cells = torch.isin(best[source], torch.from_numpy(some))
        pixels = cells.repeat_interleave(STRIDE, 0).repeat_interleave(STRIDE, 1)
        frames[into] = torch.where(pixels, clip.frames[source], frames[into])
        targets[into] = torch.where(cells, clip.targets[source], targets[into])
        taught[into] = torch.where(cells, clip.taught[source], taught[into])
    return replace(clip, frames=frames, targets=targets, taught=taught)
