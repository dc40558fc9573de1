"""Second, plain tellings of what the package does faster, and writers of the files it only reads."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from tcseg.flow import pixel_grid
from tcseg.labels import IGNORE


def warp_labels(labels_b: Tensor, flow_ab: Tensor) -> Tensor:
    """Labels (B,H,W) of b on a's grid, nearest; IGNORE where the flow (B,2,H,W) leaves the frame."""
    batch, height, width = labels_b.shape
    target = flow_ab.float() + pixel_grid(height, width)
    x, y = target[:, 0], target[:, 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = x.round().clamp(0, width - 1).long(), y.round().clamp(0, height - 1).long()
    warped = labels_b.reshape(batch, -1).gather(1, (y * width + x).reshape(batch, -1)).reshape(batch, height, width)
    return torch.where(inside, warped, torch.full_like(warped, IGNORE))


def write_kitti(path: Path, flow: np.ndarray, valid: np.ndarray) -> None:
    """Flow (2,H,W) and valid (H,W) bool as a KITTI 16-bit PNG: +-512 px in steps of 1/64."""
    coded = np.clip(np.rint(flow * 64) + 2**15, 0, 2**16 - 1).astype(np.uint16)
    assert cv2.imwrite(str(path), np.stack((valid.astype(np.uint16), coded[1], coded[0]), axis=-1))
