"""Outputs that are no film: one painted picture, a line of JSON a frame, and a window that shows the newest frame."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np

from tcseg.atomic_files import beside
from tcseg.errors import CannotRunError, CannotWriteError, InputError, explain_unwritable, require_writable
from tcseg.labels import LabelSet

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
QUALITY = 95  # of a JPEG or WebP
STDOUT = "-"


class PictureFile:
    """Writes one picture; as `encoding.Sink`, it has its name when it is complete.

    Raises:
        InputError: the suffix is no picture's. CannotWriteError: the folder cannot be written. Both before any work.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in PICTURES:
            raise InputError(
                f"out is {path.name!r}, but the source is one picture; its suffix must be one of {', '.join(PICTURES)}"
            )
        self.path, self._data = path, None
        require_writable(path.parent, "give out another folder")

    def write(self, picture: np.ndarray, time: float | None = None) -> None:
        """Take the picture, uint8 (H,W,3) RGB; a picture has no time."""
        options = {".jpg": cv2.IMWRITE_JPEG_QUALITY, ".jpeg": cv2.IMWRITE_JPEG_QUALITY, ".webp": cv2.IMWRITE_WEBP_QUALITY}
        suffix = self.path.suffix.lower()
        more = [options[suffix], QUALITY] if suffix in options else []
        self._data = cv2.imencode(suffix, np.ascontiguousarray(picture[..., ::-1]), more)[1].tobytes()

    def close(self, keep: bool) -> None:
        """Write the file, or nothing."""
        if keep and self._data is not None:
            aside = beside(self.path)
            try:
                aside.write_bytes(self._data)
                aside.replace(self.path)
            finally:
                aside.unlink(missing_ok=True)


@contextmanager
def open_lines(target: Path | str) -> Iterator[TextIO]:
    """Where lines go: "-" is stdout, a pipe or device is written at once, and a file gets its name when it is complete.

    A file is kept as far as it came when an exception passes that is not ours to undo (Ctrl-C).

    Raises:
        CannotWriteError: it cannot be written.
    """
    if str(target) == STDOUT:
        yield sys.stdout
        return
    path = Path(target)
    if path.is_dir():
        raise InputError(f"json is {path}, which is a folder; give a file, such as {path / 'frames.jsonl'}")
    try:
        if path.exists() and not path.is_file():
            with path.open("w", encoding="utf-8") as stream:
                yield stream
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}.part")
        stream = aside.open("w", encoding="utf-8")
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise explain_unwritable(path, error, "give --json another file") from error
    try:
        with stream:
            yield stream
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


class FrameLines:
    """Writes a line of JSON a frame, for programs; `notebooks/use.md` says what its fields are.

    Args:
        stream: text; it is flushed after each line, so that a reader sees a live source live.
        label_set: the network's classes.
        source: its name, which each line has.
        chosen: trainIds that are counted by name, the rest as "other"; None = all.
    """

    def __init__(self, stream: TextIO, label_set: LabelSet, source: str, chosen: Sequence[int] | None = None) -> None:
        self.stream, self.source, self.chosen = stream, source, chosen
        self.classes = label_set.classes

    def write(self, place: tuple[int, float], labels: np.ndarray, flicker: float, milliseconds: float) -> None:
        """Write a frame's line.

        Args:
            place: which frame of the source, and its time in seconds.
            labels: uint8 (H,W), the whole answer.
            flicker: share of changed pixels, 0..1, or nan.
            milliseconds: frame in to label map out.

        Raises:
            BrokenPipeError: nobody reads any more.
            CannotWriteError: the disk is full.
        """
        line = {"source": self.source, "frame": place[0], "time": round(place[1], 6)} | self._shares(labels)
        line |= {"flicker": _number(flicker, 6), "ms": _number(milliseconds, 3)}
        try:
            self.stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            self.stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise CannotWriteError(f"the JSON lines cannot be written ({(error.strerror or str(error)).lower()})") from error

    def _shares(self, labels: np.ndarray) -> dict:
        counts = np.bincount(labels.ravel(), minlength=256)
        places = range(len(self.classes)) if self.chosen is None else self.chosen
        shares = {"classes": {self.classes[place]: int(counts[place]) / labels.size for place in places}}
        if self.chosen is not None:
            shares["other"] = int(labels.size - sum(counts[place] for place in places)) / labels.size
        return shares


def _number(value: float, digits: int) -> float | None:
    return round(value, digits) if math.isfinite(value) else None


def leave_stdout() -> None:
    """After a reader has gone: let Python's own flush at its end go nowhere, instead of complaining."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# ------------------------------------------------------------------------------------------------ a window


def require_window() -> None:
    """Refuse to go on where no window can be opened.

    Tried in a process of its own, because Qt, which OpenCV mostly opens windows with, ends the process where no display answers.

    Raises:
        RuntimeError: this OpenCV has no windows, or there is no display.
    """
    program = "import cv2; cv2.namedWindow('tcseg'); cv2.waitKey(1)"
    try:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        failed, message = done.returncode != 0, done.stderr
    except subprocess.TimeoutExpired:
        failed, message = True, ""
    if "not implemented" in message:
        raise CannotRunError(
            "show needs windows, which this OpenCV is built without; install opencv-python, not -headless"
        )
    if failed:
        display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        where = f"display {display!r} does not answer" if display else "there is no display here"
        raise CannotRunError(f"show needs a window, but {where}; write a file instead (out), or run it on a desktop")


class Window:
    """Shows the newest picture. Any thread may offer one; `alive` belongs to the main thread, as OpenCV's windows do."""

    WIDTH = 1280  # pixels, at most, when it opens; its user may resize it

    def __init__(self, title: str) -> None:
        self.title = title
        self._newest: deque[np.ndarray] = deque(maxlen=1)
        self._open = False

    def write(self, picture: np.ndarray) -> None:
        """Offer a picture, uint8 (H,W,3) RGB; one that was not shown yet gives way to it."""
        self._newest.append(picture)

    def alive(self) -> bool:
        """Show what there is and look at the keyboard; False once the user pressed q or Esc, or closed the window."""
        if self._newest:
            picture = self._newest.pop()
            if not self._open:
                self._open_at(picture.shape[1], picture.shape[0])
            cv2.imshow(self.title, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        if not self._open:
            return True
        key = cv2.pollKey() & 0xFF
        return key not in (ord("q"), ord("Q"), 27) and cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) >= 1

    def _open_at(self, width: int, height: int) -> None:
        cv2.namedWindow(self.title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        scale = min(1.0, self.WIDTH / width)
        cv2.resizeWindow(self.title, round(width * scale), round(height * scale))
        self._open = True

    def close(self, keep: bool = True) -> None:
        """Close the window."""
        if self._open:
            with suppress(cv2.error):  # its user has closed it
                cv2.destroyWindow(self.title)
            self._open = False
