"""A part of a source: from a time to a time, and every so manieth frame."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from tcseg.errors import InputError
from tcseg.video.reading.sources import Source

_SLACK = 1e-6  # seconds: 0.3 s is frame 3 of 10 a second, though 3 / 10 and 0.3 may differ in the last bit


def read_time(text: str) -> float:
    """Seconds of "90", "1:30", "0:01:30.5".

    Raises:
        InputError: it is none of these; minutes or seconds after a colon are 60 or more.
    """
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)", text.strip(), re.ASCII)
    if not match:
        raise InputError(f"{text!r} is no time; write seconds or h:m:s, such as 90, 1:30 or 0:01:30.5")
    hours, minutes, seconds = match[1], match[2], float(match[3])
    if (minutes and seconds >= 60) or (hours and int(minutes) >= 60):
        raise InputError(f"{text!r} is no time; minutes and seconds after a colon are below 60")
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + seconds


@dataclass(frozen=True)
class Excerpt:
    """Which frames of a source are taken: those at start <= time < end, and of these the first and every `stride`th after it.

    Attributes:
        start, end: seconds from the source's first frame; None = from its first frame, to its last.
        stride: 1 = every frame.

    Raises:
        InputError: times that are negative or the wrong way round, a stride below 1.
    """

    start: float | None = None
    end: float | None = None
    stride: int = 1

    def __post_init__(self) -> None:
        for name, value in (("start", self.start), ("end", self.end)):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} is {value}; it must be seconds from the first frame, 0 or more")
        if self.end is not None and self.end <= (self.start or 0):
            raise InputError(f"end is {_told(self.end)}; it must be later than start ({_told(self.start or 0)})")
        if isinstance(self.stride, bool) or self.stride != int(self.stride) or self.stride < 1:
            raise InputError(f"stride is {self.stride}; it must be a whole number, 1 (every frame) or more")

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return self.start is None and self.end is None and self.stride == 1

    def of(self, source: Source) -> Source:
        """The source with these frames alone; it has their rate and their number; `reading` says which each is.

        Raises:
            InputError: it is known that no frame lies there.
        """
        if self.is_all:
            return source
        places = None if source.count is None else self._places(source)
        return replace(
            source,
            fps=source.fps / self.stride,
            count=None if places is None else len(places),
            frames=lambda: self._frames(source),
        )

    def place(self, index: int, source: Source) -> tuple[int, float]:
        """Which frame of the source the excerpt's frame with this index is, and its time in seconds."""
        frame = self._first(source.fps) + index * self.stride
        return frame, frame / source.fps

    def _first(self, fps: float) -> int:
        return 0 if self.start is None else max(0, math.ceil((self.start - _SLACK) * fps))

    def _places(self, source: Source) -> range:
        first, length = self._first(source.fps), source.count / source.fps
        if first >= source.count:
            last = f"{source.name} lasts {_told(length)}"
            raise InputError(f"start is {_told(self.start)}, but {last} ({source.count} frames at {source.fps:g} a second)")
        stop = source.count if self.end is None else min(source.count, math.ceil((self.end - _SLACK) * source.fps))
        if stop <= first:
            raise InputError(
                f"end is {_told(self.end)}; from {_told(self.start or 0)} to there {source.name} has no frame "
                f"({source.fps:g} a second)"
            )
        return range(first, stop, self.stride)

    def _frames(self, source: Source) -> Iterator[np.ndarray]:
        stream = source.frames()
        try:
            times = _clock() if source.live else _times(source)
            yield from self.taken(stream, times)
        finally:
            stream.close()

    def taken(self, frames: Iterable[np.ndarray], times: Iterable[float]) -> Iterator[np.ndarray]:
        """The frames that are taken, given the time of each in seconds."""
        start, end = (self.start or 0) - _SLACK, math.inf if self.end is None else self.end - _SLACK
        since = 0
        for frame, when in zip(frames, times, strict=False):
            if when >= end:
                return
            if when >= start:
                if since % self.stride == 0:
                    yield frame
                since += 1


def _times(source: Source) -> Iterator[float]:
    """Seconds from the source's first frame to the frame that was read last: its own times, else at its rate."""
    first, index = None, 0
    while True:
        reading = source.reading
        if reading.time is None:
            yield (index if reading.index is None else reading.index) / source.fps
        else:
            first = reading.time if first is None else first
            yield reading.time - first if reading.began is None else reading.since_start(reading.time)
        index += 1


def _clock() -> Iterator[float]:
    """Seconds since the first frame of a live source came."""
    started = time.monotonic()
    while True:
        yield time.monotonic() - started


def _told(seconds: float) -> str:
    return f"{seconds:g} s"
