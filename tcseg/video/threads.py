"""The threads beside the network's: one reads and decodes, one paints and encodes, with bounded queues."""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tcseg.errors import InputError
from tcseg.video.reading.sources import Source

if TYPE_CHECKING:
    from tcseg.video.pipeline import Outputs

QUEUE = 6  # frames in flight at either end
END = object()
"""Comes out of a queue after the last frame."""


@dataclass(frozen=True)
class Stamped:
    """A frame uint8 (H,W,3), its time and its number: see `SegmentedFrame`."""

    frame: np.ndarray
    time: float | None
    index: int | None


class Reader(threading.Thread):
    """Decodes into a queue. With a live source the oldest waiting frame gives way to the newest."""

    def __init__(self, source: Source) -> None:
        super().__init__(daemon=True, name="decode")
        self.source, self.live, self.dropped = source, source.live, 0
        self.stream = source.frames()
        first = next(self.stream, None)
        if first is None:
            why = source.reading.first_loss or source.reading.cut
            raise InputError(f"{source.name} has no frames" + (f" that can be read: {why}" if why else ": an empty video"))
        self.first = self._stamped(first)
        self.frames: queue.Queue = queue.Queue(1 if source.live else QUEUE)
        self.frames.put(self.first)
        self.error: Exception | None = None
        self.stop = threading.Event()

    def _stamped(self, frame: np.ndarray) -> Stamped:
        """With its time: of a live source, when it came, so that a film takes as long as the stream took."""
        reading = self.source.reading
        return Stamped(frame, time.monotonic() if self.live else reading.time, reading.index)

    def run(self) -> None:
        """See the class."""
        try:
            for frame in self.stream:
                if not self._put(self._stamped(frame)):
                    break
        except Exception as error:  # handed to the main thread, which tells it, or raises it if there was no frame
            self.error = error
        finally:
            self.stream.close()
            self._put(END)

    def _put(self, item: object) -> bool:
        while not self.stop.is_set():
            with suppress(queue.Full):
                self.frames.put(item, timeout=0.0001 if self.live and item is not END else 0.1)
                return True
            if self.live and item is not END:
                with suppress(queue.Empty):
                    self.frames.get_nowait()
                    self.dropped += 1
        return False


class Writer(threading.Thread):
    """Writes answers from a queue; after an error it goes on emptying it, so that nobody waits for it."""

    def __init__(self, outputs: Outputs, live: bool) -> None:
        super().__init__(daemon=True, name="encode")
        self.outputs, self.written = outputs, 0
        self.queue: queue.Queue = queue.Queue(1 if live else QUEUE)  # what waits here is shown late
        self.error: Exception | None = None

    def run(self) -> None:
        """See the class."""
        while (segmented := self.queue.get()) is not END:
            if self.error is not None:
                continue
            try:
                self.outputs.write(segmented)
                self.written += 1
            except Exception as error:  # handed to the main thread, which raises it
                self.error = error
