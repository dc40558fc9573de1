"""Read frames from video files, folders of images, cameras and streams."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from tcseg.data.images import IMAGES, in_order, is_hidden, natural, read_rgb
from tcseg.errors import CannotRunError, InputError, NotFoundError
from tcseg.video.reading.containers import open_stdin, open_url, open_video
from tcseg.video.reading.sources import Source, local_path, shown

FOLDER_FPS = 17.0  # of a folder of images, which does not say: Cityscapes' rate
NUMBERED = re.compile(r"%0?\d*d")


def open_source(source: str | int | Path) -> Source:
    """Open a video file, a picture, a folder of them (in the order of their names), a camera (0, /dev/video0) or a stream (URL).

    Also a pipe (`-` is standard input), a `file://` URL, numbered images (`drive/%04d.png`) and GStreamer pipelines (`a ! b`). What
    is there is looked up before it is guessed: a folder called `0` is the folder. What comes over the net but says how long it is,
    is a file: it can be read at any pace, and no frame of it is dropped.

    A damaged frame of a video is left out and counted in `reading`; a folder's damaged picture is an error, unless
    `reading.on_error` is set to "skip".

    Raises:
        FileNotFoundError: no such file or folder, or no images in the folder.
        ValueError: the file cannot be read as a video; while reading: an unreadable image, or one of another size.
        RuntimeError: the camera or stream does not open.
    """
    path = local_path(source)
    if path is None:
        return _open_elsewhere(source)
    try:
        if path.is_dir():
            return _open_folder(path)
        if path.is_char_device() and path.name.startswith("video"):
            return _open_camera(str(path))
        if path.exists():
            return _open_picture(path) if _is_picture(path) else open_video(path)
    except PermissionError:
        raise InputError(f"{shown(path)} cannot be read (permission denied)") from None
    if NUMBERED.search(path.name):
        return _open_numbered(path)
    if path.is_symlink():
        raise NotFoundError(f"{shown(path)} is a link to nothing; remove it, or repair it")
    raise NotFoundError(f"{shown(path)} does not exist; give a video file, a folder of images, or a camera's number")


def _open_elsewhere(source: str | int | Path) -> Source:
    text = str(source)
    if not text:
        raise InputError("source is empty; give a video file, a folder of images, or a camera's number")
    if text == "-":
        return open_stdin()
    if isinstance(source, str) and "://" in text and " ! " not in text:
        return open_url(text)
    return _open_camera(int(text) if text.isdigit() else text)


# ------------------------------------------------------------------------------------------------ pictures


def _open_picture(path: Path) -> Source:
    return replace(_open_pictures([path], path.name), fps=1.0, still=True)


def _open_folder(folder: Path) -> Source:
    files = _pictures(folder)
    if not files:
        raise NotFoundError(f"{shown(folder)} has no images ({', '.join(IMAGES)}); give the folder that holds them itself")
    return _open_pictures(files, folder.resolve().name)


def _open_numbered(pattern: Path) -> Source:
    before, after = map(re.escape, NUMBERED.split(pattern.name, maxsplit=1))
    matching = re.compile(f"{before}\\d+{after}")
    folder = pattern.parent
    files = [file for file in folder.iterdir() if matching.fullmatch(file.name)] if folder.is_dir() else []
    if not files:
        raise NotFoundError(f"{shown(pattern)} does not exist, and no pictures have such names with a number")
    return _open_pictures(sorted(files, key=lambda file: natural(file.stem)), pattern.name)


def _open_pictures(files: Sequence[Path], name: str) -> Source:
    source = Source(shown(name), FOLDER_FPS, len(files), False, lambda: iter(()), tuple(file.stem for file in files))
    source.reading.on_error = "stop"

    def frames() -> Iterator[np.ndarray]:
        shape = None
        for index, file in enumerate(files):
            try:
                image = read_rgb(file)
            except InputError as error:
                source.reading.damaged(shown(error))
                continue
            shape = shape or image.shape
            if image.shape != shape:
                source.reading.damaged(
                    f"{shown(file)} is {_size(image.shape)}, the images before it are {_size(shape)}; use one size"
                )
                continue
            source.reading.index = index
            source.reading.time = index / FOLDER_FPS
            yield image

    source.frames = frames
    return source


def _is_picture(path: Path) -> bool:
    """Whether a file is one picture: an animated one (WebP, APNG) is a video."""
    if path.suffix.lower() not in IMAGES or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(1 << 12)
    return bool(head) and not (b"ANIM" in head[:64] and head[:4] == b"RIFF") and b"acTL" not in head


def _pictures(folder: Path) -> list[Path]:
    """A folder's own pictures in the order of the numbers in their names.

    Raises:
        InputError: two names differ in leading zeros alone: frames of two clips would take turns.
    """
    pictures = (file for file in folder.iterdir() if file.suffix.lower() in IMAGES and not is_hidden(file.name))
    files = in_order(file for file in pictures if not file.is_dir())
    for file, after in zip(files, files[1:], strict=False):
        if natural(file.stem) == natural(after.stem) and file.stem != after.stem:
            raise InputError(
                f"{shown(file)} and {shown(after)} have the same number: are these two clips? Give each a folder of its own"
            )
    return files


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


# ------------------------------------------------------------------------------------------------ cameras


def _open_camera(source: int | str) -> Source:
    """A camera or a GStreamer pipeline, with OpenCV: PyAV's wheels have no cameras of Linux."""
    capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        what = f"camera {source}" if isinstance(source, int) else f"stream {source}"
        raise CannotRunError(f"{what} does not open; is it connected, and not in use by another program?")
    fps, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    fps = fps if 0 < fps <= 1000 else 30.0  # False for nan
    count = int(count) if 0 < count < 1e9 else None  # a stream without an end has a negative or absurd number
    return Source(str(source), fps, count, count is None, _capturing(capture), once=True)


def _capturing(capture: cv2.VideoCapture) -> Callable[[], Iterator[np.ndarray]]:
    def frames() -> Iterator[np.ndarray]:
        try:
            while True:
                good, image = capture.read()
                if not good:
                    return
                yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        finally:
            capture.release()

    return frames


def read_frames(source: str | int | Path, limit: int) -> np.ndarray:
    """The first `limit` frames of a source, or all there are: uint8 (N,H,W,3) RGB."""
    opened = open_source(source)
    stream = opened.frames()
    frames = [frame for frame, _ in zip(stream, range(limit), strict=False)]
    stream.close()
    if not frames:
        raise InputError(f"{opened.name} has no frames")
    return np.stack(frames)
