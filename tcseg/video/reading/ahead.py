"""Look at the first frames of a source that is read once (a pipe, standard input), without losing them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tcseg.video.reading.sources import Source

FRAMES = 128  # four seconds at 30 a second
BYTES = 1 << 28  # of frames that are kept: 41 at 1920x1080


@dataclass(frozen=True)
class _Kept:
    """A frame with what `Reading` said of it."""

    frame: np.ndarray
    time: float | None
    index: int | None


class Ahead:
    """A source whose next frames can be looked at; they come out in their order afterwards, with their times.

    Attributes:
        source: as the one that it is made of; its frames are read through this.
    """

    def __init__(self, source: Source) -> None:
        self._original = source
        self._stream: Iterator[np.ndarray] | None = None
        self._last: np.ndarray | None = None
        self._kept: deque[_Kept] = deque()
        self._error: Exception | None = None
        self.source = replace(source, frames=self._frames)

    def _frames(self) -> Iterator[np.ndarray]:
        """The frames: those that were looked at, then the others."""
        self._stream = self._original.frames()
        reading = self._original.reading
        try:
            while True:
                if self._kept:
                    kept = self._kept.popleft()
                    self._last, reading.time, reading.index = kept.frame, kept.time, kept.index
                elif self._error is not None:
                    raise self._error
                else:
                    self._last = next(self._stream, None)
                if self._last is None:
                    return
                yield self._last
        finally:
            self._stream.close()

    def look(self, frames: int = FRAMES, memory: int = BYTES) -> list[np.ndarray]:
        """The frame that was given last, and those after it, as many as there are, at most.

        What goes wrong meanwhile is raised where that frame would have come. Only for the thread that reads the frames, between two
        of them.

        Args:
            frames: in all.
            memory: bytes of all of them.
        """
        if self._stream is None or self._last is None:
            return []
        reading, limit = self._original.reading, min(frames, max(1, memory // self._last.nbytes))
        now = reading.time, reading.index
        try:
            while 1 + len(self._kept) < limit and self._error is None:
                frame = next(self._stream, None)
                if frame is None:
                    break
                self._kept.append(_Kept(frame, reading.time, reading.index))
        except Exception as error:  # told in its place
            self._error = error
        reading.time, reading.index = now
        return [self._last, *(kept.frame for kept in self._kept)]


def spread(frames: list[np.ndarray], count: int) -> list[np.ndarray]:
    """At most `count` of the frames, evenly spread: neighbours in a video look alike."""
    step = -(-len(frames) // count)
    return frames[:: max(1, step)]
