"""Metrics of more than two frames: flow over gaps, trajectories that stay right, and VSPW's video consistency.

Conventions are those of `temporal`. A trajectory is walked step by step: at each frame it takes the flow of the pixel nearest to
it, and it ends where that pixel is hidden in the next frame or its flow leaves the picture.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from tcseg.labels import IGNORE
from tcseg.metrics.segmentation import Share
from tcseg.metrics.temporal import as_float32

FlowOf = Callable[[int, int], tuple[np.ndarray, np.ndarray]]
"""(t, gap) -> flow t -> t+gap, float32 (2,H,W), and what of t is visible in t+gap, bool (H,W)."""

TRAJECTORY = 8  # frames that a trajectory is followed for
WINDOWS = (8, 16)  # frames of VSPW's VC8 and VC16

_kernel = njit(cache=True, nogil=True)


@_kernel
def _advance(flow, visible, at_x, at_y, alive) -> None:
    """Follow trajectories for one frame: a position takes the flow of the pixel nearest to it, while that is visible."""
    height, width = alive.shape
    for y in range(height):
        for x in range(width):
            if not alive[y, x]:
                continue
            row, column = int(np.rint(at_y[y, x])), int(np.rint(at_x[y, x]))
            to_x, to_y = at_x[y, x] + flow[0, row, column], at_y[y, x] + flow[1, row, column]
            inside = (
                np.rint(to_x) >= 0 and np.rint(to_x) <= width - 1 and np.rint(to_y) >= 0 and np.rint(to_y) <= height - 1
            )
            if inside and visible[row, column]:
                at_x[y, x], at_y[y, x] = to_x, to_y
            else:
                alive[y, x] = False


class Positions:
    """Where each pixel of a frame has got to: x and y, float32 (H,W), and whether it has been visible ever since, bool (H,W)."""

    def __init__(self, shape: tuple[int, int]) -> None:
        height, width = shape
        self.x = np.tile(np.arange(width, dtype=np.float32), (height, 1))
        self.y = np.repeat(np.arange(height, dtype=np.float32)[:, None], width, 1)
        self.alive = np.ones(shape, np.bool_)

    def advance(self, flow: np.ndarray, visible: np.ndarray) -> None:
        """Go on to the next frame along its flow (2,H,W)."""
        _advance(as_float32(flow), np.ascontiguousarray(visible), self.x, self.y, self.alive)

    def flow(self) -> np.ndarray:
        """From where they started to where they are, float32 (2,H,W)."""
        height, width = self.alive.shape
        grid = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
        return np.stack((self.x - grid[0], self.y - grid[1]))


def chained(step: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> FlowOf:
    """Flow over any gap from flow between neighbours: the steps are walked one after the other, and all must be visible.

    Args:
        step: t -> flow t -> t+1, float32 (2,H,W), and visible, bool (H,W).
    """

    def flow_of(t: int, gap: int) -> tuple[np.ndarray, np.ndarray]:
        flow, visible = step(t)
        if gap == 1:
            return flow, visible
        positions = Positions(visible.shape)
        positions.advance(flow, visible)
        for now in range(t + 1, t + gap):
            positions.advance(*step(now))
        return positions.flow(), positions.alive

    return flow_of


@_kernel
def _check_trajectories(answer, labels, at_x, at_y, truth, alive, right) -> None:
    """End trajectories whose true class changes; spoil those whose answer is wrong here."""
    height, width = alive.shape
    for y in range(height):
        for x in range(width):
            if alive[y, x]:
                row, column = int(np.rint(at_y[y, x])), int(np.rint(at_x[y, x]))
                alive[y, x] = labels[row, column] == truth[y, x] and truth[y, x] != IGNORE
                right[y, x] &= answer[row, column] == truth[y, x]


class Trajectories:
    """Steady *and* right: the pixels of every 8th frame are followed for 8 frames, while they are visible and of one true class.

    Feed labelled frames in order; a completed window gives a `Share`: right in all 8 frames, of all trajectories that lasted.
    """

    def __init__(self) -> None:
        self._frames = 0

    def step(self, answer: np.ndarray, labels: np.ndarray, arrival: tuple[np.ndarray, np.ndarray] | None) -> Share:
        """Add a frame; `arrival` is flow and visibility from the previous frame to this one (None: start here)."""
        if arrival is None or self._frames == TRAJECTORY:
            self._frames = 0
        if self._frames == 0:
            self._positions, self._truth = Positions(labels.shape), np.ascontiguousarray(labels)
            self._right = np.ones(labels.shape, np.bool_)
        else:
            self._positions.advance(*arrival)
        at, maps = self._positions, (np.ascontiguousarray(answer), np.ascontiguousarray(labels))
        _check_trajectories(*maps, at.x, at.y, self._truth, at.alive, self._right)
        self._frames += 1
        if self._frames < TRAJECTORY:
            return Share()
        return Share(int((self._right & at.alive).sum()), int(at.alive.sum()))


_LONGEST = 255  # a run is counted in a uint8; longer ones need not be told apart


@_kernel
def _extend_runs(answer, labels, last_answer, last_labels, runs, windows, counts) -> None:
    """Lengthen each pixel's runs (3,N) of one true class, one answer, right answers; count those as long as each window."""
    for i in range(labels.size):
        same, again = labels[i] == last_labels[i], answer[i] == last_answer[i]
        right = answer[i] == labels[i] and labels[i] != IGNORE
        runs[0, i] = min(runs[0, i] + 1, _LONGEST) if same else 1
        runs[1, i] = min(runs[1, i] + 1, _LONGEST) if again else 1
        runs[2, i] = min(runs[2, i] + 1, _LONGEST) if right else 0
        for j in range(windows.size):
            if runs[0, i] >= windows[j]:
                counts[j, 0] += 1
                counts[j, 1] += runs[1, i] >= windows[j]
                counts[j, 2] += labels[i] != IGNORE
                counts[j, 3] += runs[2, i] >= windows[j]


class Windows:
    """VSPW's video consistency VC8 and VC16 (Miao et al. 2021), also with the right class required.

    In a window of n frames, over the pixels whose label is the same in all of them: VC is the share whose answer is the same, too.
    The published script (`VC_perclip.py`) looks at fixed pixels (no motion), takes void for a class, never asks whether the
    answer is right, leaves out the window that ends with a clip's last frame, and averages over all windows of all clips; so does
    this. `vc8_right` demands the true class in all n frames, of pixels that are not void.
    """

    def __init__(self) -> None:
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    def step(self, answer: np.ndarray, labels: np.ndarray) -> dict[str, Share]:
        """Take the next labelled frame: metric -> sum of the shares, and number, of the windows that end here."""
        answer, labels = np.ravel(answer), np.ravel(labels)
        if self._last is None:
            self._runs = np.zeros((3, labels.size), np.uint8)
            self._last = answer, labels
        counts = np.zeros((len(WINDOWS), 4), np.int64)
        _extend_runs(answer, labels, *self._last, self._runs, np.array(WINDOWS), counts)
        self._last = answer, labels
        found = {}
        for n, (still, steady, valid, right) in zip(WINDOWS, counts.tolist(), strict=True):
            found[f"vc{n}"] = Share(steady / still, 1) if still else Share()
            found[f"vc{n}_right"] = Share(right / valid, 1) if valid else Share()
        return found
