"""Frames in and pictures out: video files, folders of images, cameras; MP4, AVI and GIF, written aside and renamed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

# The backend's own remarks ("moov atom not found") would stand between ours; read when the first video is opened.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".tif", ".tiff", ".webp")
CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
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
    """

    name: str
    fps: float
    count: int | None
    live: bool
    frames: Callable[[], Iterator[np.ndarray]]


def open_source(source: str | int | Path) -> Source:
    """Open a video file, a folder of images (in the order of their names), a camera (0, 1, ...) or a stream (URL).

    Raises:
        FileNotFoundError: no such file or folder, or no images in the folder.
        ValueError: the file cannot be read as a video; while reading: an unreadable image, or one of another size.
        RuntimeError: the camera or stream does not open.
    """
    text = str(source)
    if text.isdigit() or "://" in text:
        return _open_live(int(text) if text.isdigit() else text)
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; give a video file, a folder of images, or a camera's number")
    return _open_folder(path) if path.is_dir() else _open_file(path)


def _open_folder(folder: Path) -> Source:
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGES and not file.name.startswith("."))
    if not files:
        raise FileNotFoundError(f"{folder} has no images ({', '.join(IMAGES)}); give the folder that holds them itself")

    def frames() -> Iterator[np.ndarray]:
        shape = None
        for file in files:
            image = cv2.imread(str(file), cv2.IMREAD_COLOR)
            if image is None:
                raise ValueError(f"{file} cannot be read as an image; remove it or fetch it again")
            shape = shape or image.shape
            if image.shape != shape:
                raise ValueError(
                    f"{file} is {_size(image.shape)}, the images before it are {_size(shape)}; use one size"
                )
            yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    return Source(folder.name, FOLDER_FPS, len(files), False, frames)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _open_file(path: Path) -> Source:
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        size = path.stat().st_size
        why = "it is empty" if not size else f"{size} bytes; is it a video, and complete?"
        raise ValueError(f"{path} cannot be read as a video ({why})")
    fps, count = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    fps = fps if np.isfinite(fps) and 0 < fps <= 1000 else 25.0
    return Source(path.name, fps, count if count > 0 else None, False, lambda: _decode(capture))


def _open_live(source: int | str) -> Source:
    capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        what = f"camera {source}" if isinstance(source, int) else f"stream {source}"
        raise RuntimeError(f"{what} does not open; is it connected, and not in use by another program?")
    fps = capture.get(cv2.CAP_PROP_FPS)
    return Source(str(source), fps if 0 < fps <= 1000 else 30.0, None, True, lambda: _decode(capture))


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
        raise ValueError(f"{opened.name} has no frames")
    return np.stack(frames)


class Sink:
    """Writes pictures into `.NAME.part.SUFFIX` beside the target, and gives it its name when it is complete.

    .mp4 (MPEG-4 part 2: plays in VLC, mpv, QuickTime; not in browsers), .avi (motion JPEG), .gif (plays everywhere).

    Raises:
        ValueError: another suffix.
        PermissionError: the folder cannot be written. Raised before any work.
    """

    def __init__(self, path: Path, fps: float) -> None:
        if path.suffix.lower() not in (*CODECS, ".gif"):
            raise ValueError(f"out is {path.name!r}; its suffix must be one of {', '.join((*CODECS, '.gif'))}")
        self.path, self.fps, self.written = path, fps, 0
        self._aside = path.with_name(f".{path.stem}.part{path.suffix.lower()}")
        self._video: cv2.VideoWriter | None = None
        self._images: list = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._aside.touch()
        except OSError as error:
            raise PermissionError(f"out is {path}, but its folder cannot be written ({error.strerror})") from error

    def write(self, picture: np.ndarray) -> None:
        """Append one picture, uint8 (H,W,3) RGB; an odd side grows by a pixel, because video codecs need even ones."""
        self.written += 1
        if self.path.suffix.lower() == ".gif":
            self._images.append(_quantize(picture))
            return
        height, width = picture.shape[:2]
        if height % 2 or width % 2:
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._video is None:
            self._video = self._open_video(picture.shape[1], picture.shape[0])
        self._video.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def _open_video(self, width: int, height: int) -> cv2.VideoWriter:
        codec = CODECS[self.path.suffix.lower()]
        video = cv2.VideoWriter(str(self._aside), cv2.VideoWriter.fourcc(*codec), self.fps, (width, height))
        if not video.isOpened():
            raise RuntimeError(
                f"OpenCV cannot encode {codec} at {width}x{height} here; try a name that ends in .avi or .gif"
            )
        return video

    def close(self, keep: bool) -> None:
        """Complete the file and give it its name, or remove what was written.

        Raises:
            RuntimeError: the file has fewer frames than were written (a full disk, most often); it is removed.
        """
        try:
            if self._video is not None:
                self._video.release()
            if keep and self.written:
                self._complete()
        finally:
            with suppress(OSError):
                self._aside.unlink(missing_ok=True)

    def _complete(self) -> None:
        if self._images:
            first, *rest = self._images
            first.save(self._aside, save_all=True, append_images=rest, duration=round(1000 / self.fps), loop=0)
        else:
            check = cv2.VideoCapture(str(self._aside))
            count = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
            check.release()
            if count < self.written:
                raise RuntimeError(f"{self.path} has {count} of {self.written} frames after writing; is the disk full?")
        self._aside.replace(self.path)


def _quantize(picture: np.ndarray):
    from PIL import Image

    # 64 colours without dithering: sensor noise would double the file
    return Image.fromarray(picture).quantize(64, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
