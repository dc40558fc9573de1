"""What every kind of teacher gives: scores of its own classes, on any grid of cells that covers the whole frame."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch.nn.functional as F
from torch import Tensor

from tcseg.labels import IGNORE


class Place(NamedTuple):
    """Where a frame comes from: the video's name without suffix, and the frame's own, "000017" or a picture's without suffix."""

    video: str
    frame: str


class Answers(Protocol):
    """One kind of teacher, with classes of its own.

    Attributes:
        classes: names of its K classes, in its order.
        key: a hash of all that decides its answers.
        licence: as it is told beside the teacher; "" where nothing is.
        seen: how it sees a frame, in a few words.
        by_name: its answers are found by the names of video and frame, not by what is to be seen.
    """

    classes: tuple[str, ...]
    key: str
    licence: str
    seen: str
    by_name: bool

    def __call__(self, frame: np.ndarray, grid: tuple[int, int], place: Place | None) -> np.ndarray:
        """Scores float32 (K,h,w), 0..1, of a frame uint8 (H,W,3) RGB on a grid (w,h); of each cell they sum to 1 at most."""

    def require(self, places: Sequence[Place]) -> None:
        """Refuse frames of which it has no answer, before anybody is asked."""


def resize_scores(scores: Tensor, grid: tuple[int, int]) -> Tensor:
    """Scores (K,h,w) float on another grid (w,h): means where it is coarser, bilinear where it is finer."""
    if scores.shape[-2:] == grid[::-1]:
        return scores
    return F.interpolate(scores[None], grid[::-1], mode="bilinear", align_corners=False, antialias=True)[0]


def shares(labels: np.ndarray, count: int, grid: tuple[int, int], confidence: np.ndarray | None = None) -> np.ndarray:
    """How much of each cell a label map gives to each class, weighted by its confidence.

    Args:
        labels: uint8 (H,W), 0..count-1; anything else gives nothing to anybody.
        count: K.
        grid: (w,h).
        confidence: uint8 (H,W), 255 = certain; None = all certain.

    Returns:
        float32 (K,h,w), 0..1; a cell's sum is the mean confidence of its pixels.
    """
    shrinks = grid[0] <= labels.shape[1] and grid[1] <= labels.shape[0]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    given = np.zeros((count, grid[1], grid[0]), np.float32)
    for index in np.flatnonzero(np.bincount(labels.ravel(), minlength=count)[:count]):
        of_class = cv2.compare(
            labels, int(index), cv2.CMP_EQ
        )  # 255 where it is; bytes are resized four times as fast as floats
        if confidence is not None:
            of_class &= confidence
        given[index] = cv2.resize(of_class, grid, interpolation=how)
    return given / 255


def without_void(labels: np.ndarray, count: int) -> np.ndarray:
    """Labels of any integers as uint8: what is not in 0..count-1 becomes `IGNORE`."""
    return np.where((labels >= 0) & (labels < count), labels, IGNORE).astype(np.uint8)


def digest(*parts: object) -> str:
    """A short hash of texts and numbers."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]


def digest_files(paths: Iterable[Path]) -> str:
    """A short hash of files' names and contents."""
    total = hashlib.sha256()
    for path in sorted(paths):
        with path.open("rb") as file:
            total.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()[:16]
