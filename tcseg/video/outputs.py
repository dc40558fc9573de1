"""Outputs beside films: one painted picture, and a line of JSON a frame."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np

from tcseg.errors import CannotWriteError, InputError, explain_unwritable, require_writable
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

    def write(self, picture: np.ndarray) -> None:
        """Take the picture, uint8 (H,W,3) RGB."""
        options = {".jpg": cv2.IMWRITE_JPEG_QUALITY, ".jpeg": cv2.IMWRITE_JPEG_QUALITY, ".webp": cv2.IMWRITE_WEBP_QUALITY}
        suffix = self.path.suffix.lower()
        more = [options[suffix], QUALITY] if suffix in options else []
        self._data = cv2.imencode(suffix, np.ascontiguousarray(picture[..., ::-1]), more)[1].tobytes()

    def close(self, keep: bool) -> None:
        """Write the file, or nothing."""
        if keep and self._data is not None:
            aside = self.path.with_name(f".{self.path.stem}.{os.getpid()}.part{self.path.suffix}")
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
