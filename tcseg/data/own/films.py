"""Single frames of a film by their number."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np

from tcseg.errors import InputError

FILMS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")
_KEPT = 36  # frames that are kept: windows of a film overlap, and have 30 at most


def _opened(path: Path) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise InputError(f"{path} cannot be read as a film; convert it (ffmpeg -i ... film.mp4), or write its frames as PNG")
    return capture


def frame_count(path: Path) -> int:
    """The number of frames that a film's header tells.

    Raises:
        InputError: the film cannot be read, or its header tells none.
    """
    capture = _opened(path)
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    if count < 1:
        raise InputError(f"{path} does not tell how many frames it has; convert it (ffmpeg -i ... film.mp4)")
    return count


def frame_size(path: Path) -> tuple[int, int]:
    """(W,H) of a film's frames."""
    capture = _opened(path)
    size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    capture.release()
    return size


def frame_rate(path: Path) -> float:
    """Frames per second of a film; 25 where it does not tell."""
    capture = _opened(path)
    rate = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return rate if 0 < rate < 1000 else 25.0


class Film:
    """A film that is read from front to back; the last frames are kept, and an earlier one starts it again."""

    def __init__(self, path: Path) -> None:
        self.path, self._capture, self._next = path, None, 0
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()

    def frame(self, number: int) -> np.ndarray:
        """Frame `number`, counted from 0, as uint8 (H,W,3) RGB.

        Raises:
            InputError: the film is shorter.
        """
        if number in self._kept:
            return self._kept[number]
        if self._capture is None or number < self._next:
            self.close()
            self._capture, self._next = _opened(self.path), 0
        while self._next <= number:
            done, frame = self._capture.read()
            if not done:
                raise InputError(f"{self.path} ends before frame {number}; its last whole frame is {self._next - 1}")
            self._kept[self._next] = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            self._next += 1
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return self._kept[number]

    def close(self) -> None:
        """Let go of the file."""
        if self._capture is not None:
            self._capture.release()
        self._capture = None
        self._kept.clear()
