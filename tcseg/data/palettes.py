"""Colours for classes that have none: each as far as possible from all others, as the eye sees it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

Color = tuple[int, int, int]
_STEPS = (0, 36, 73, 109, 146, 182, 219, 255)
_BLACK = (0, 0, 0)
"""The colour of ignored pixels: no class gets one near it."""


def as_lab(colors: Sequence[Color]) -> np.ndarray:
    """Colours (N,3), 0..255, in CIE Lab, float32: equal distances look about equally different (2.3 can just be seen)."""
    return cv2.cvtColor(np.array([colors], np.float32) / 255, cv2.COLOR_RGB2Lab)[0]


def fill(colors: Sequence[Color | None]) -> list[Color]:
    """Replace each None by a colour: the one of 512 whose nearest neighbour among those taken is the farthest.

    Args:
        colors: of each class, (red, green, blue) in 0..255, or None.

    Returns:
        All colours in the same order; the same input gives the same colours. 250 classes without any are at least 12 apart in Lab.
    """
    grid = [(r, g, b) for r in _STEPS for g in _STEPS for b in _STEPS]
    lab = as_lab(grid)
    taken = [_BLACK, *(color for color in colors if color is not None)]
    nearest = np.min([np.linalg.norm(lab - one, axis=1) for one in as_lab(taken)], axis=0)
    filled: list[Color] = []
    for color in colors:
        if color is None:
            place = int(nearest.argmax())
            color = grid[place]
            nearest = np.minimum(nearest, np.linalg.norm(lab - lab[place], axis=1))
        filled.append(tuple(color))
    return filled
