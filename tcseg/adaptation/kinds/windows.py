"""The size at which a network sees a frame, and the windows that cover it where a network takes frames of one size only."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tcseg.errors import InputError
from tcseg.models.trained_on import size_text

SHORT_SIDE = 1024
STEP = 32
CANVAS = 4  # pixels of a teacher's frame, each way, of a cell on which windows are put together


def shown_size(frame: tuple[int, int], size: int | tuple[int, int], window: tuple[int, int] | None) -> tuple[int, int]:
    """The (W,H) that a frame is resized to for a teacher.

    Args:
        frame: (W,H).
        size: the shorter side, or (W,H).
        window: (W,H) of a network that takes one size; the frame covers at least that. None = any multiple of 32.
    """
    wanted = size
    if isinstance(size, int):
        wanted = tuple(side * size / min(frame) for side in frame)
    if window is None:
        return tuple(max(STEP, STEP * round(side / STEP)) for side in wanted)
    if isinstance(size, int):  # as small as covers the window, at the frame's own aspect ratio
        grow = max(1.0, *(least / side for least, side in zip(window, wanted, strict=True)))
        wanted = tuple(side * grow for side in wanted)
    return tuple(max(least, CANVAS * round(side / CANVAS)) for least, side in zip(window, wanted, strict=True))


def window_corners(shown: tuple[int, int], window: tuple[int, int] | None) -> Iterator[tuple[int, int]]:
    """(x,y) of the windows that cover a frame of size (W,H), as few as do, evenly spread; multiples of `CANVAS`."""
    if window is None:
        yield 0, 0
        return
    starts = []
    for side, step in zip(shown, window, strict=True):
        count = math.ceil(side / step)
        starts.append([CANVAS * round(i * (side - step) / max(count - 1, 1) / CANVAS) for i in range(count)])
    yield from ((x, y) for y in starts[1] for x in starts[0])


def window_of(config: object) -> tuple[int, int]:
    """(W,H) of the one size that a network takes."""
    size = getattr(config, "image_size", None)
    if size is None and getattr(config, "backbone_config", None) is not None:
        size = config.backbone_config.image_size
    sides = (size, size) if isinstance(size, int) else tuple(size[::-1])
    if any(side % CANVAS for side in sides):
        raise InputError(
            f"the checkpoint takes frames of {size_text(sides)}; sides that are no multiples of {CANVAS} are not known"
        )
    return sides


def checked_size(
    size: int | tuple[int, int] | None, window: tuple[int, int] | None, name: str
) -> int | tuple[int, int]:
    """The size at which a teacher sees a frame: as given, or its default.

    Raises:
        InputError: it is smaller than the one size that the network takes.
    """
    if window is None:
        return SHORT_SIDE if size is None else size
    if size is None:
        return min(window)
    least = (size, size) if isinstance(size, int) else size
    if any(side < own for side, own in zip(least, window, strict=True)):
        told = size if isinstance(size, int) else size_text(size)
        raise InputError(f"size of the teacher is {told}, but {name} takes frames of {size_text(window)}: give that or more")
    return size
