"""How the frames of a snippet move, and the teacher's answers made steady along that motion.

Motion is estimated by DIS both ways, and believed where going there and back returns (forward-backward check). A teacher that errs
in one frame of a snippet is outvoted by the frames beside it; what is hidden in one of them has no vote there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tcseg.adaptation.store import Stored
from tcseg.flow import estimated_flow, resize_flow
from tcseg.training.teacher_targets import fuse
from tcseg.video.pipeline import resized

WIDTH = 640  # of the frames on which motion is estimated, at most: what keeps it cheap
SEEN = 0.99  # of a cell's pixels must be visible
MOVES = 0.25  # pixels of the answers' grid a frame: less is a still camera over a street where nothing happens

Steps = dict[int, tuple[Tensor, Tensor]]
"""Direction (+1, -1) -> flow (T-1,2,h,w) and visible (T-1,h,w) of single steps: t -> t+1, and t+1 -> t."""


@dataclass(frozen=True)
class Prepared:
    """A snippet that is ready to learn from.

    Attributes:
        frames: uint8 (T,3,H,W) RGB.
        probs: uint8 (T,K,h,w), 255 = probability 1, fused; of a cell they sum to how sure the teacher was.
        flow: float16 (T-1,2,h,w), t -> t+1, cells.
        visible: bool (T-1,h,w), what of t is seen in t+1.
    """

    frames: Tensor
    probs: Tensor
    flow: Tensor
    visible: Tensor

    @property
    def bytes(self) -> int:
        """In memory."""
        return sum(one.numel() * one.element_size() for one in vars(self).values())


def motion(frames: np.ndarray, grid: tuple[int, int]) -> Steps:
    """Motion of consecutive frames on a coarser grid.

    Args:
        frames: uint8 (T,H,W,3) RGB of one scene.
        grid: (w,h).

    Returns:
        See `Steps`; flows are empty where there is one frame.
    """
    if len(frames) < 2:
        nothing = torch.zeros(0, 2, *grid[::-1]), torch.zeros(0, *grid[::-1], dtype=torch.bool)
        return {+1: nothing, -1: nothing}
    height, width = frames.shape[1:3]
    if width > WIDTH:
        small = WIDTH, max(16, round(height * WIDTH / width))
        frames = np.stack([resized(frame, small) for frame in frames])
    both = estimated_flow(frames.transpose(0, 3, 1, 2), "dis")
    return {direction: _coarse(*pair, grid) for direction, pair in zip((+1, -1), both, strict=True)}


def _coarse(flow: np.ndarray, visible: np.ndarray, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A flow (T-1,2,H,W) in cells of the grid; a cell is visible where (nearly) all of its pixels are."""
    seen = F.interpolate(torch.from_numpy(visible).float()[:, None], grid[::-1], mode="area")[:, 0]
    return resize_flow(torch.from_numpy(flow).float(), grid), seen > SEEN


def prepare(stored: Stored, fusing: bool = True) -> Prepared:
    """A stored snippet with its motion, and its answers fused along it.

    Args:
        stored: frames and answers.
        fusing: without it the answers stay as they are.
    """
    probs = torch.from_numpy(stored.probs)
    steps = motion(stored.frames, (probs.shape[-1], probs.shape[-2]))
    if fusing and len(probs) > 1:
        probs = fuse(probs.float(), steps).round().to(torch.uint8)
    flow, visible = steps[+1]
    frames = torch.from_numpy(np.ascontiguousarray(stored.frames.transpose(0, 3, 1, 2)))
    return Prepared(frames, probs, flow.half(), visible)


def moves(prepared: Prepared) -> bool:
    """Whether a tenth of what is visible moves from one frame to the next."""
    if not len(prepared.flow) or not prepared.visible.any():
        return False
    speed = prepared.flow.float().square().sum(1).sqrt()
    return float((speed[prepared.visible] > MOVES).float().mean()) > 0.1
