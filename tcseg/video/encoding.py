"""Write frames as MP4, AVI or GIF, and predictions as one label map (PNG) or probability array (npz) per frame.

Whatever is written is written aside and gets its name when it is complete.
"""

from __future__ import annotations

import math
import shutil
import zipfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from tcseg.errors import CannotRunError, CannotWriteError, InputError
from tcseg.evaluation.label_map_values import write_meta
from tcseg.labels import LabelSet

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}


def _make(parent: Path, make: Callable[[], None], what: str) -> None:
    """Make what is written aside, so that a folder that cannot be written is told before any work."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        make()
    except OSError as error:
        raise CannotWriteError(f"{what}, but its folder cannot be written ({error.strerror})") from error


class Sink:
    """Writes pictures into `.NAME.part.SUFFIX` beside the target, and gives it its name when it is complete.

    .mp4 (MPEG-4 part 2: plays in VLC, mpv, QuickTime; not in browsers), .avi (motion JPEG), .gif (plays everywhere).

    Raises:
        ValueError: another suffix.
        CannotWriteError: the folder cannot be written. Raised before any work.
    """

    def __init__(self, path: Path, fps: float) -> None:
        if path.suffix.lower() not in (*CODECS, ".gif"):
            raise InputError(f"out is {path.name!r}; its suffix must be one of {', '.join((*CODECS, '.gif'))}")
        self.path, self.fps, self.written = path, fps, 0
        self._partial = path.with_name(f".{path.stem}.part{path.suffix.lower()}")
        self._video: cv2.VideoWriter | None = None
        self._images: list = []
        _make(path.parent, self._partial.touch, f"out is {path}")

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
        video = cv2.VideoWriter(str(self._partial), cv2.VideoWriter.fourcc(*codec), self.fps, (width, height))
        if not video.isOpened():
            raise CannotRunError(
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
                self._partial.unlink(missing_ok=True)

    def _complete(self) -> None:
        if self._images:
            pages = [(image, ms) for image, ms in zip(self._images, _durations(len(self._images), self.fps)) if ms]
            images, durations = map(list, zip(*pages, strict=True))
            images[0].save(self._partial, save_all=True, append_images=images[1:], duration=durations, loop=0)
        else:
            check = cv2.VideoCapture(str(self._partial))
            count = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
            check.release()
            if count < self.written:
                raise CannotRunError(f"{self.path} has {count} of {self.written} frames after writing; is the disk full?")
        self._partial.replace(self.path)


def _durations(count: int, fps: float) -> list[int]:
    """Milliseconds that each picture of a GIF is shown: whole hundredths of a second, as the format has them, that keep the pace.

    Browsers slow down what is shorter than 20 ms: above 50 pictures a second some are not shown (0).
    """
    step = 10 if fps <= 50 else 20
    ends = [step * math.ceil(1000 * (i + 1) / fps / step - 1e-9) for i in range(count)]
    return [end - before for end, before in zip(ends, [0, *ends], strict=False)]


def record(frames: Iterable[np.ndarray], path: Path, fps: float) -> Path:
    """Write frames to a video of their own, so that what a camera saw can be looked at twice.

    Args:
        frames: uint8 (H,W,3) RGB, all of one size.
        path: as a `Sink`'s; .avi keeps most of the picture.
        fps: frames a second.

    Returns:
        path.

    Raises:
        ValueError: there are no frames, or it is another suffix.
        CannotWriteError, RuntimeError: as `Sink`.
    """
    sink, finished = Sink(path, fps), False
    try:
        for frame in frames:
            sink.write(frame)
        finished = True
    finally:
        sink.close(keep=finished)
    if not sink.written:
        raise InputError(f"there are no frames for {path.name}: an empty video, or a camera that is in use")
    return path


def _quantize(picture: np.ndarray):
    from PIL import Image

    # 64 colours without dithering: sensor noise would double the file
    return Image.fromarray(picture).quantize(64, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


# ------------------------------------------------------------------------------------------------ a file a frame


def save_labels(path: Path, labels: np.ndarray) -> None:
    """Write a label map, uint8 (H,W) trainIds, as an 8-bit grey PNG: what `tcseg evaluate` reads."""
    # Encoded in memory and written by Python: OpenCV's own writing says nothing when the disk is full.
    path.write_bytes(cv2.imencode(".png", labels)[1].tobytes())


def save_probs(path: Path, probs: np.ndarray) -> None:
    """Write probabilities, uint8 (K,h,w), as `probs` in an .npz that `np.load` reads."""
    # numpy's own savez_compressed takes zlib's level 6, which costs several times as much and saves some percent.
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("probs.npy", "w") as file,
    ):
        np.lib.format.write_array(file, np.ascontiguousarray(probs), allow_pickle=False)


class FrameFiles:
    """A folder with a file a frame, filled as `.NAME.part/` beside it, which gets its name when it is complete.

    Args:
        folder: new, or empty: files of two runs are not mixed, and nothing is deleted.
        what: the argument's name, for messages: "labels" (NAME.png) or "probs" (NAME.npz).
        names: of the frames, as `Source.names`; None = 000000, 000001, ...
        label_set: the classes of label maps, for the `meta.json` that is written beside them.

    Raises:
        ValueError: the folder has files already, or two frames have the same name.
        CannotWriteError: the folder beside it cannot be written. Raised before any work, as the others are.
    """

    SAVE = {"labels": (".png", save_labels), "probs": (".npz", save_probs)}

    def __init__(
        self, folder: Path, what: str, names: Sequence[str] | None = None, label_set: LabelSet | None = None
    ) -> None:
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise InputError(f"{what} is {folder}, which is there already; give a new folder, or remove it")
        if names is not None and len(set(names)) < len(names):
            twice = next(name for name in names if list(names).count(name) > 1)
            raise InputError(f"two images of the source are called {twice}; {what} needs a name for each frame")
        self.path, self.names, self.written, self.label_set = folder, names, 0, label_set
        self._suffix, self._save = self.SAVE[what]
        self._partial = folder.with_name(f".{folder.name}.part")
        if self._partial.exists():
            shutil.rmtree(self._partial)  # left by a run that was killed
        _make(folder.parent, self._partial.mkdir, f"{what} is {folder}")

    def write(self, array: np.ndarray) -> None:
        """Write the next frame's file.

        Raises:
            OSError: the disk is full.
        """
        name = f"{self.written:06}" if self.names is None else self.names[self.written]
        self._save(self._partial / f"{name}{self._suffix}", array)
        self.written += 1

    def close(self, keep: bool) -> None:
        """Give the folder its name, or remove what was written."""
        if keep and self.written:
            if self.label_set is not None:
                write_meta(self._partial, self.label_set.classes, self.label_set.name)
            if self.path.exists():
                self.path.rmdir()
            self._partial.replace(self.path)
        else:
            shutil.rmtree(self._partial, ignore_errors=True)
