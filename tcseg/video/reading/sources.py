"""What a source of frames is, what becomes known of it while it is read, and which file a name means."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np

from tcseg.errors import InputError


@dataclass
class Reading:
    """What becomes known while frames are read; all about the frame that was given last.

    Attributes:
        time: seconds, when it is shown, by the source's own clock (that of its sound); None = the source does not say.
        began: its time of the first frame, damaged or not: a transport stream's clock starts anywhere. None = as `time`.
        index: its number in the source, from 0, damaged ones counted; None = the source does not say.
        lost: frames so far that could not be read.
        first_loss: why, of the first of them.
        cut: why the source is known to be cut off; "" = it is not.
        on_error: "skip" goes on after a damaged frame, "stop" raises.
    """

    time: float | None = None
    began: float | None = None
    index: int | None = None
    lost: int = 0
    first_loss: str = ""
    cut: str = ""
    on_error: str = "skip"

    def since_start(self, time: float) -> float:
        """Seconds from the first frame to a time of the source's clock."""
        return time - (self.began or 0.0)

    def damaged(self, why: str) -> None:
        """Count a frame that cannot be read.

        Raises:
            InputError: `on_error` is "stop".
        """
        self.lost += 1
        self.first_loss = self.first_loss or why
        if self.on_error == "stop":
            raise InputError(why)


@dataclass
class Source:
    """Frames to read: `frames()` yields uint8 (H,W,3) RGB, all of one size.

    Attributes:
        name: for messages.
        fps: frames a second that it was recorded at; a mean, where the rate varies.
        count: frames it says it has, a hint; None = unknown or endless.
        live: frames come whether or not they are fetched (camera, stream), so that old ones may be dropped.
        frames: starts reading; closing the iterator closes the file.
        names: of the images of a folder, without suffix; None = the frames have only numbers.
        still: it is one picture.
        reading: what is known of the frame that came last.
        once: it cannot be opened a second time (a pipe, a stream, a camera).
        tick: seconds, of which its times are multiples; None = not known.
        pixel_aspect: width by height of a pixel.
        sound: the file whose sound belongs to it; None = there is none, or it cannot be read again.
        sound_lost: it has sound that cannot be read again.
    """

    name: str
    fps: float
    count: int | None
    live: bool
    frames: Callable[[], Iterator[np.ndarray]]
    names: tuple[str, ...] | None = None
    still: bool = False
    reading: Reading = field(default_factory=Reading)
    once: bool = False
    tick: Fraction | None = None
    pixel_aspect: Fraction = Fraction(1)
    sound: Path | None = None
    sound_lost: bool = False


def shown(path: Path | str) -> str:
    """A name as a terminal can print it: bytes that are not UTF-8 become question marks."""
    return str(path).encode(errors="replace").decode()


def local_path(source: str | int | Path) -> Path | None:
    """The file or folder that a source means, `file://` URLs included; None = it is a camera, a stream or a pipeline.

    What is there is looked up before it is guessed: a folder called `0` is the folder, not the first camera.

    Raises:
        InputError: a `file://` URL of another computer.
    """
    if isinstance(source, int):
        return None
    if isinstance(source, Path):
        return source
    if os.path.lexists(source):
        return Path(source)
    if source.lower().startswith("file:"):
        parts = urlsplit(source)
        if parts.netloc not in ("", "localhost"):
            raise InputError(f"{shown(source)} is a file of {parts.netloc}; file:// reads this computer's: file:///path")
        return Path(unquote(parts.path, errors="surrogateescape"))
    other = source.isdigit() or "://" in source or " ! " in source or source == "-"
    return None if other or not source else Path(source)
