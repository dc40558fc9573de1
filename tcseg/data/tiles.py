"""Cut single images into tiles, to train on large images in small pieces, like the crops used for Cityscapes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tcseg.data.clips import Clips
from tcseg.errors import InputError


def cut(clips: Clips, size: tuple[int, int]) -> Clips:
    """Cut the frames of stills into tiles that cover them without overlap.

    Args:
        clips: N clips of one frame.
        size: (W,H) of a tile; it must divide the frames' size.

    Returns:
        The tiles as clips of one frame, those of a frame one after the other, row by row: frames uint8 (N*n,1,3,h,w).

    Raises:
        ValueError: the clips have several frames, or the size does not divide theirs.
    """
    count, length, _, height, width = clips.frames.shape
    if length > 1:
        raise InputError(
            f"clips have {length} frames; only single frames can be cut into tiles, because moving objects leave "
            "their tile"
        )
    if width % size[0] or height % size[1]:
        raise InputError(f"tile size is {size[0]}x{size[1]}; it must divide the frame size {width}x{height}")
    rows, columns = height // size[1], width // size[0]
    names = [f"{name}+{y}.{x}" for name in clips.names for y in range(rows) for x in range(columns)]
    return replace(
        clips,
        frames=_cut(clips.frames, rows, columns),
        labels=_cut(clips.labels, rows, columns),
        annotated=np.repeat(clips.annotated, rows * columns, axis=0),
        names=names,
        key=f"{clips.key}-{size[0]}x{size[1]}",
    )


def _cut(arrays: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """(N,1,...,H,W) -> (N*rows*columns,1,...,h,w)."""
    *outer, height, width = arrays.shape
    tall, wide = height // rows, width // columns
    split = arrays.reshape(*outer, rows, tall, columns, wide)
    split = np.moveaxis(split, (-4, -2), (1, 2))  # (N, rows, columns, 1, ..., h, w)
    return np.ascontiguousarray(split.reshape(outer[0] * rows * columns, *outer[1:], tall, wide))
