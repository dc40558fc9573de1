"""Pre- and post-processing at inference: padding of a frame, and logits to a full-size label map in one pass.

`F.interpolate(mode="bilinear")` followed by `argmax` costs more than a small network: it writes K full-size planes to
memory only to read them back. `upsample_argmax` gives the same answer without them. Bilinear weights are convex, so

- a class that has the top score at all four corners of a cell has it everywhere inside: such cells are filled;
- in the other cells (4..13 % of them in a student's answer of stride 4, a fifth at stride 8) a class whose greatest corner score is
  below another class' least one can win nowhere inside: only the classes left, about three, are interpolated.

Both hold for rounded arithmetic too, because rounding is monotone. Convention: `align_corners=False`, a pixel's centre
is at +0.5, source coordinates are computed in float32 as torch does, and the first class wins a tie.

On one thread, on purpose: two would save a part of a millisecond, and after it spin for some more on the core that the network's
own threads need. On two cores that made the slowest frame in a hundred five times slower than the usual one.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from numba import njit

from tcseg.errors import InputError

if TYPE_CHECKING:
    import torch

MAX_CLASSES = 255  # labels are uint8 and 255 means "ignore"
_BITS = 30  # classes of a word of `_suspects`: an int32 that is never negative


class _Axis(NamedTuple):
    """One axis of an upsampling: each output pixel's `weight` of its second corner, each cell's first pixel."""

    start: np.ndarray  # int64 (n+1,): output pixels start[i]..start[i+1] lie between source pixels i and i+1
    weight: np.ndarray  # float32 (N,), 0..1
    like: np.ndarray  # int64 (n,): the first cell that has the same weights; with a whole ratio, one for nearly all
    largest: int  # pixels of the largest cell
    unit: int  # 4, 2 or 1: the most pixels that fill every cell without a rest
    word: np.ndarray  # int64 (n+1,): `start` in units


@lru_cache(maxsize=64)
def _axis(source: int, target: int) -> _Axis:
    scale = np.float32(source) / np.float32(target)
    position = scale * (np.arange(target, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    position = np.maximum(position, np.float32(0))
    cell = np.minimum(position.astype(np.int64), source - 1)
    weight = np.clip(position - cell.astype(np.float32), 0, 1).astype(np.float32)
    start = np.searchsorted(cell, np.arange(source + 1)).astype(np.int64)
    first_of: dict[bytes, int] = {}
    like = [first_of.setdefault(weight[a:b].tobytes(), i) for i, (a, b) in enumerate(pairwise(start))]
    unit = int(np.gcd.reduce(start, initial=4))
    return _Axis(start, weight, np.array(like, np.int64), int(np.diff(start).max()), unit, start // unit)


@njit(cache=True, nogil=True)
def _corner_labels(logits: np.ndarray, labels: np.ndarray) -> None:
    """Argmax over classes at the network's resolution: (K,h,w) -> (h,w)."""
    classes, height, width = logits.shape
    for y in range(height):
        best = logits[0, y].copy()
        winner = np.zeros(width, np.int32)  # as wide as a float, so that the loop below vectorises
        for k in range(1, classes):
            row = logits[k, y]
            for x in range(width):
                better = row[x] > best[x]
                best[x] = row[x] if better else best[x]
                winner[x] = k if better else winner[x]
        for x in range(width):
            labels[y, x] = winner[x]


@njit(cache=True, nogil=True)
def _floors(logits, y0, y1, low, floor) -> None:
    """The score that is reached everywhere in each cell of a row: the greatest over classes of the least corner.

    `low` is scratch, one longer than the row: the last cell has no neighbour, and a loop that stops one short of a round number is
    twice as slow. No `min` and `max`, here and below: they look for NaN first, and that does not vectorise.
    """
    width = logits.shape[2]
    floor[:] = -np.inf
    for k in range(logits.shape[0]):
        top, bottom = logits[k, y0], logits[k, y1]
        for x in range(width):
            low[x] = top[x] if top[x] < bottom[x] else bottom[x]
        low[width] = low[width - 1]
        for x in range(width):
            least = low[x] if low[x] < low[x + 1] else low[x + 1]
            floor[x] = least if least > floor[x] else floor[x]


@njit(cache=True, nogil=True)
def _suspects(logits, y0, y1, high, floor, suspects) -> None:
    """The classes that may win somewhere in each cell of a row: whose greatest corner reaches the floor.

    Class k is bit k % 30 of `suspects[k // 30, x]`; `high` is scratch, one longer than the row.
    """
    width = logits.shape[2]
    suspects[:] = 0
    for k in range(logits.shape[0]):
        top, bottom, found = logits[k, y0], logits[k, y1], suspects[k // _BITS]
        bit = np.int32(1) << np.int32(k % _BITS)
        for x in range(width):
            high[x] = top[x] if top[x] > bottom[x] else bottom[x]
        high[width] = high[width - 1]
        for x in range(width):
            greatest = high[x] if high[x] > high[x + 1] else high[x + 1]
            found[x] = found[x] | bit if greatest >= floor[x] else found[x]


@njit(cache=True, nogil=True)
def _weigh(y_weight, x_weight, weights) -> None:
    """Weights (4,n) of a cell's pixels, row by row: left, right, upper, lower."""
    p = 0
    for down in y_weight:
        for right in x_weight:
            weights[0, p], weights[1, p] = np.float32(1) - right, right
            weights[2, p], weights[3, p] = np.float32(1) - down, down
            p += 1


@njit(cache=True, nogil=True)
def _decide(logits, y0, y1, x0, x1, suspects, weights, n, best, winner) -> None:
    """The best class of each of a cell's `n` pixels: every suspect interpolated between its four corner scores."""
    best[:n] = -np.inf
    for group in range(suspects.shape[0]):
        left, k = suspects[group, x0], group * _BITS
        while left:
            if left & 1:
                a, b, c, d = logits[k, y0, x0], logits[k, y0, x1], logits[k, y1, x0], logits[k, y1, x1]
                name = np.int32(k)
                for p in range(n):
                    score = weights[0, p] * (weights[2, p] * a + weights[3, p] * c) + weights[1, p] * (
                        weights[2, p] * b + weights[3, p] * d
                    )
                    better = score > best[p]
                    best[p] = score if better else best[p]
                    winner[p] = name if better else winner[p]
            left >>= 1
            k += 1


@njit(cache=True, nogil=True)
def _put(out, first, last, start, end, n, winner, narrow, words) -> None:
    """Write a cell's `n` labels to rows first..last, words start..end; `narrow` is the memory of `words` as bytes."""
    for p in range(n):
        narrow[p] = winner[p]
    step = end - start
    for word in range(step):  # a column at a time: the longer loop inside
        for row in range(last - first):
            out[first + row, start + word] = words[row * step + word]


@njit(cache=True, nogil=True)
def _fill(logits, labels, y_start, y_weight, x_start, x_weight, x_like, x_word, narrow, words, out) -> None:
    """Write the label map, one row of cells at a time: runs of agreeing cells are filled, the others evaluated.

    `out` is the map in words of as many bytes as divide every cell's columns; cell i begins at word `x_word[i]`. `narrow` and
    `words` are one scratch of a cell's labels, as bytes and as words.
    """
    classes, height, width = logits.shape
    weights, best = np.empty((4, narrow.size), np.float32), np.empty(narrow.size, np.float32)
    winner = np.zeros(narrow.size, np.int32)  # a name as wide as its score vectorises
    scratch, floor = np.empty(width + 1, np.float32), np.empty(width, np.float32)
    suspects = np.empty(((classes - 1) // _BITS + 1, width), np.int32)
    for y0 in range(height):
        first, last = y_start[y0], y_start[y0 + 1]
        y1 = min(y0 + 1, height - 1)
        x0, weighed = 0, -1  # the cell that `weights` are of; -1: nothing is known of this row yet
        while x0 < width and first < last:
            x1 = min(x0 + 1, width - 1)
            label = labels[y0, x0]
            if labels[y0, x1] == label and labels[y1, x0] == label and labels[y1, x1] == label:
                end = x0 + 1
                while end < width:
                    ahead = min(end + 1, width - 1)
                    if labels[y0, ahead] != label or labels[y1, ahead] != label:
                        break
                    end += 1
                narrow[: narrow.size // words.size] = label
                for row in range(first, last):
                    out[row, x_word[x0] : x_word[end]] = words[0]
                x0 = end
                continue
            if weighed < 0:
                _floors(logits, y0, y1, scratch, floor)
                _suspects(logits, y0, y1, scratch, floor, suspects)
            if x_like[x0] != weighed:
                _weigh(y_weight[first:last], x_weight[x_start[x0] : x_start[x0 + 1]], weights)
                weighed = x_like[x0]
            n = (x_start[x0 + 1] - x_start[x0]) * (last - first)
            _decide(logits, y0, y1, x0, x1, suspects, weights, n, best, winner)
            _put(out, first, last, x_word[x0], x_word[x0 + 1], n, winner, narrow, words)
            x0 += 1


def _as_planes(logits: np.ndarray | torch.Tensor) -> np.ndarray:
    """Logits as contiguous float32 (B,K,h,w) in host memory."""
    if not isinstance(logits, np.ndarray):
        logits = logits.detach().float().contiguous().cpu().numpy()
    planes = np.ascontiguousarray(logits, np.float32)
    if planes.ndim == 3:
        planes = planes[None]
    if planes.ndim != 4 or 0 in planes.shape:
        raise InputError(f"logits have shape {tuple(logits.shape)}; they must be (K,h,w) or (B,K,h,w), none of them 0")
    if planes.shape[1] > MAX_CLASSES:
        raise InputError(f"logits have {planes.shape[1]} classes; a uint8 label map holds at most {MAX_CLASSES}")
    return planes


def upsample_argmax(logits: np.ndarray | torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """The full-size label map: bilinear `F.interpolate(align_corners=False)` and `argmax`, exactly, in one pass.

    Equal to torch up to ties within float32 rounding. Any ratio is allowed, also a non-integer one or one below 1.
    NaN logits give an unspecified valid class.

    Args:
        logits: float (K,h,w) or (B,K,h,w), numpy or torch, 1..255 classes. A tensor on a GPU is copied to the host.
        size: (W,H) of the label map in pixels.

    Returns:
        uint8 (H,W), or (B,H,W) for a batch; values 0..K-1. Always numpy.

    Raises:
        ValueError: the logits are not (K,h,w) or (B,K,h,w), have more than 255 classes, or a side of `size` is below 1.
    """
    width, height = size
    if width < 1 or height < 1:
        raise InputError(f"size is {width}x{height}; both sides must be at least 1")
    planes = _as_planes(logits)
    batch, _, rows, columns = planes.shape
    out = np.empty((batch, height, width), np.uint8)
    labels = np.empty((rows, columns), np.uint8)
    x_axis, y_axis = _axis(columns, width), _axis(rows, height)
    narrow = np.empty(-(-x_axis.largest * y_axis.largest // 4) * 4, np.uint8)
    word = np.dtype(f"u{x_axis.unit}")  # labels are written four at a time where they can be
    axes = (y_axis.start, y_axis.weight, x_axis.start, x_axis.weight, x_axis.like, x_axis.word)
    for index in range(batch):
        _corner_labels(planes[index], labels)
        _fill(planes[index], labels, *axes, narrow, narrow.view(word), out[index].view(word))
    return out[0] if logits.ndim == 3 else out


def _check_frame(frame: np.ndarray) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise InputError(f"frame is {frame.dtype} {frame.shape}; it must be uint8 (H,W,3) RGB with H and W at least 1")


def padded_size(size: tuple[int, int], multiple: int = 32) -> tuple[int, int]:
    """The smallest (W,H) that holds `size` and whose sides are multiples of `multiple`."""
    return tuple(-(-side // multiple) * multiple for side in size)


def pad_to_multiple(frame: np.ndarray, multiple: int = 32) -> tuple[np.ndarray, tuple[int, int]]:
    """Repeat a frame's right and bottom edge until both sides are multiples of `multiple`.

    Args:
        frame: uint8 (H,W,3) RGB.
        multiple: the network's coarsest stride.

    Returns:
        The padded frame (the frame itself where nothing is missing), and (H,W) to crop the label map to.

    Raises:
        ValueError: the frame is not uint8 (H,W,3).
    """
    _check_frame(frame)
    height, width = frame.shape[:2]
    full_width, full_height = padded_size((width, height), multiple)
    if (full_width, full_height) == (width, height):
        return frame, (height, width)
    missing = ((0, full_height - height), (0, full_width - width), (0, 0))
    return np.pad(frame, missing, mode="edge"), (height, width)


def to_planes(frame: np.ndarray, multiple: int = 32) -> np.ndarray:
    """A frame as a runtime takes it: uint8 (H,W,3) -> (1,3,H',W'), edge-padded to multiples of `multiple`.

    Raises:
        ValueError: the frame is not uint8 (H,W,3).
    """
    padded, _ = pad_to_multiple(frame, multiple)
    out = np.empty((1, 3, *padded.shape[:2]), np.uint8)
    cv2.split(padded, list(out[0]))  # six times faster than a transposed copy
    return out
