"""Read frames from video files, folders of images, cameras and streams."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tcseg.data.images import IMAGES, in_order, is_hidden, natural, read_rgb
from tcseg.errors import CannotRunError, InputError, NotFoundError

FOLDER_FPS = 17.0  # of a folder of images, which does not say: Cityscapes' rate


@dataclass
class Source:
    """Frames to read: `frames()` yields uint8 (H,W,3) RGB, all of one size.

    Attributes:
        name: for messages.
        fps: frames a second that it was recorded at.
        count: frames it says it has; None = unknown or endless.
        live: frames come whether or not they are fetched (camera, stream), so that old ones may be dropped.
        frames: starts reading; closing the iterator closes the file.
        names: of the images of a folder, without suffix; None = the frames have only numbers.
        still: it is one picture.
    """

    name: str
    fps: float
    count: int | None
    live: bool
    frames: Callable[[], Iterator[np.ndarray]]
    names: tuple[str, ...] | None = None
    still: bool = False


def open_source(source: str | int | Path) -> Source:
    """Open a video file, a picture, a folder of them (in the order of their names), a camera (0, /dev/video0) or a stream (URL).

    Also what else OpenCV's `VideoCapture` opens by name: numbered images (`drive/%04d.png`) and GStreamer pipelines (`a ! b`).
    What comes over the net but says how many frames it has is a file: it can be read at any pace, and no frame of it is dropped.

    Raises:
        FileNotFoundError: no such file or folder, or no images in the folder.
        ValueError: the file cannot be read as a video; while reading: an unreadable image, or one of another size.
        RuntimeError: the camera or stream does not open.
    """
    text, path = str(source), Path(str(source))
    if text.isdigit() or "://" in text or " ! " in text or path.is_char_device():
        return _open_stream(int(text) if text.isdigit() else text)
    if re.search(r"%0?\d*d", path.name):
        return _open_file(path)
    if not path.exists():
        raise NotFoundError(f"{path} does not exist; give a video file, a folder of images, or a camera's number")
    if path.suffix.lower() in IMAGES and path.is_file():
        return Source(path.name, 1.0, 1, False, lambda: (read_rgb(one) for one in [path]), (path.stem,), still=True)
    return _open_folder(path) if path.is_dir() else _open_file(path)


def _open_folder(folder: Path) -> Source:
    files = _pictures(folder)
    if not files:
        raise NotFoundError(f"{folder} has no images ({', '.join(IMAGES)}); give the folder that holds them itself")

    def frames() -> Iterator[np.ndarray]:
        shape = None
        for file in files:
            image = read_rgb(file)
            shape = shape or image.shape
            if image.shape != shape:
                raise InputError(
                    f"{file} is {_size(image.shape)}, the images before it are {_size(shape)}; use one size"
                )
            yield image

    return Source(folder.name, FOLDER_FPS, len(files), False, frames, tuple(file.stem for file in files))


def _pictures(folder: Path) -> list[Path]:
    """A folder's own pictures in the order of the numbers in their names.

    Raises:
        InputError: two names differ in leading zeros alone: frames of two clips would take turns.
    """
    pictures = (file for file in folder.iterdir() if file.suffix.lower() in IMAGES and not is_hidden(file.name))
    files = in_order(file for file in pictures if not file.is_dir())
    for file, after in zip(files, files[1:], strict=False):
        if natural(file.stem) == natural(after.stem) and file.stem != after.stem:
            raise InputError(f"{file} and {after} have the same number: are these two clips? Give each a folder of its own")
    return files


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _open_file(path: Path) -> Source:
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened() and not path.exists():
        raise NotFoundError(f"{path} does not exist; numbered images begin with 0 to 4, and none of these is there")
    if not capture.isOpened():
        size = path.stat().st_size
        why = "it is empty" if not size else f"{size} bytes; is it a video, and complete?"
        raise InputError(f"{path} cannot be read as a video ({why})")
    return _captured(path.name, capture, 25.0, live=False)


def _open_stream(source: int | str) -> Source:
    capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        what = f"camera {source}" if isinstance(source, int) else f"stream {source}"
        raise CannotRunError(f"{what} does not open; is it connected, and not in use by another program?")
    return _captured(str(source), capture, 30.0, live=True)


def _captured(name: str, capture: cv2.VideoCapture, default_fps: float, live: bool) -> Source:
    fps, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    fps = fps if 0 < fps <= 1000 else default_fps  # False for nan
    count = int(count) if 0 < count < 1e9 else None  # a stream without an end has a negative or absurd number
    return Source(name, fps, count, live and count is None, lambda: _decode(capture))


def _decode(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    try:
        while True:
            good, image = capture.read()
            if not good:
                return
            yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()


def read_frames(source: str | int | Path, limit: int) -> np.ndarray:
    """The first `limit` frames of a source, or all there are: uint8 (N,H,W,3) RGB."""
    opened = open_source(source)
    stream = opened.frames()
    frames = [frame for frame, _ in zip(stream, range(limit), strict=False)]
    stream.close()
    if not frames:
        raise InputError(f"{opened.name} has no frames")
    return np.stack(frames)
