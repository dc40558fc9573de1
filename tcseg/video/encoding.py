"""Write frames as a film with their own times.

Whatever is written is written aside and gets its name when it is complete.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from tcseg.atomic_files import beside
from tcseg.errors import CannotRunError, CannotWriteError, InputError
from tcseg.video.reading.sources import Source, shown

CODECS = {".mp4": "libx264", ".mov": "libx264", ".mkv": "libx264", ".avi": "mjpeg"}
SUFFIXES = (*CODECS, ".gif")
SOUND = {"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"}
"""Codecs of sound that an MP4 takes and a browser or player plays; a MOV also takes PCM, an MKV takes all."""
# A baseline picture that every browser plays, as fast to encode as MPEG-4 was; no frame waits for a later one, so that a film is as
# long as its times say.
H264 = {"preset": "ultrafast", "crf": "21", "bf": "0"}
JPEG = {"qmin": "2", "qmax": "2"}
FINEST = 1_000_000  # ticks a second, at most
USUAL = Fraction(1, 90_000)  # seconds


def make_aside(parent: Path, make: Callable[[], None], what: str) -> None:
    """Make what is written aside, so that a folder that cannot be written is told before any work."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        make()
    except OSError as error:
        raise CannotWriteError(f"{what}, but its folder cannot be written ({error.strerror})") from error


class Sink:
    """Writes pictures into a file beside the target, a name of this run's own, and gives it its name when it is complete.

    .mp4, .mov and .mkv hold H.264 that browsers play; .avi motion JPEG; .gif plays everywhere.

    Args:
        path: of the film.
        fps: frames a second, of pictures that come without a time.
        like: the source whose ticks, shape of pixels and sound the film has; None = none's.
        retimed: `fps` is not the source's: its sound does not fit.

    Attributes:
        sound_note: what became of the source's sound, if it is not in the film; "" = it is, or there is none.

    Raises:
        ValueError: another suffix, or a folder has this name.
        CannotWriteError: the folder cannot be written. Raised before any work.
    """

    def __init__(self, path: Path, fps: float, like: Source | None = None, retimed: bool = False) -> None:
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise InputError(f"out is {shown(path.name)!r}; its suffix must be one of {', '.join(SUFFIXES)}")
        if path.is_dir():
            raise InputError(f"out is {shown(path)}, a folder; give the name of a file")
        if not 0 < fps <= 1000:
            raise InputError(f"fps is {fps}; it must be frames a second, above 0 and at most 1000")
        self.path, self.fps, self.written, self.retimed = path, fps, 0, retimed
        self.aspect = like.pixel_aspect if like else Fraction(1)
        self.tick = _tick(suffix, fps, None if like is None or retimed else like)
        self._partial = beside(path, suffix)
        self._container: av.container.OutputContainer | None = None
        self._video: av.VideoStream | None = None
        self._start, self._last, self._size = 0.0, -1, (0, 0)
        self._images: list = []
        self._ticks: list[int] = []
        self._sound, self.sound_note = _Sound.of(like, suffix, retimed)
        make_aside(path.parent, self._partial.touch, f"out is {shown(path)}")

    def write(self, picture: np.ndarray, time: float | None = None) -> None:
        """Append one picture, uint8 (H,W,3) RGB; an odd side grows by a pixel, because video codecs need even ones.

        Args:
            picture: of one size, all of them.
            time: seconds, when it is shown, from any start; None = at the pace of `fps`.
        """
        if time is None or self.retimed:
            time = self.written / self.fps
        if not self.written:
            self._start = time
        # Times that go back, or a rate above what the ticks can hold: the next tick, never the same
        self._last = max(self._last + 1, round((time - self._start) / self.tick))
        self.written += 1
        if self.path.suffix.lower() == ".gif":
            self._images.append(_quantize(picture))
            self._ticks.append(self._last)
            return
        height, width = picture.shape[:2]
        if height % 2 or width % 2:
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        with self._told():
            if self._container is None:
                self._open(picture.shape[1], picture.shape[0])
            frame = av.VideoFrame.from_ndarray(cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420), "yuv420p")
            if self._video.pix_fmt == "yuvj420p":
                frame = frame.reformat(format="yuvj420p", src_color_range="MPEG", dst_color_range="JPEG")
            frame.pts, frame.time_base = self._last, self.tick
            self._container.mux(self._video.encode(frame))
            if self._sound is not None:
                self._sound.write(self._container, self._start, float(self._last * self.tick))

    def _told(self) -> AbstractContextManager[None]:
        return _encoding(self.path)

    def _open(self, width: int, height: int) -> None:
        suffix = self.path.suffix.lower()
        options = {"movflags": "faststart"} if suffix in (".mp4", ".mov") else {}
        self._container = av.open(f"file:{self._partial}", "w", options=options)
        rate = 1 / self.tick if suffix == ".avi" else Fraction(self.fps).limit_denominator(1001)
        video = self._container.add_stream(CODECS[suffix], rate=rate, options=JPEG if suffix == ".avi" else H264)
        video.width, video.height, video.pix_fmt = width, height, "yuvj420p" if suffix == ".avi" else "yuv420p"
        video.codec_context.time_base = video.time_base = self.tick
        video.codec_context.sample_aspect_ratio = self.aspect
        if suffix != ".avi":  # what OpenCV's conversion makes: BT.601, limited range
            video.codec_context.colorspace, video.codec_context.color_range = 6, 1
            video.codec_context.color_primaries = video.codec_context.color_trc = 6
        self._video = video
        if self._sound is not None:
            self._sound.open(self._container)

    def close(self, keep: bool) -> None:
        """Complete the file and give it its name, or remove what was written.

        Raises:
            RuntimeError: the file cannot be completed (a full disk, most often); it is removed.
        """
        try:
            if keep and self.written:
                with self._told():
                    self._complete()
                self._partial.replace(self.path)
        finally:
            with suppress(OSError, av.FFmpegError):
                if self._container is not None:
                    self._container.close()
            if self._sound is not None:
                self._sound.close()
            with suppress(OSError):
                self._partial.unlink(missing_ok=True)

    def _complete(self) -> None:
        if self._images:
            starts = [float(tick * self.tick) for tick in self._ticks]
            pages = [(image, ms) for image, ms in zip(self._images, _durations(starts, self.fps)) if ms]
            images, durations = map(list, zip(*pages, strict=True))
            images[0].save(self._partial, save_all=True, append_images=images[1:], duration=durations, loop=0)
            return
        self._container.mux(self._video.encode())
        if self._sound is not None:
            self._sound.write(self._container, self._start, float(self._last * self.tick) + 1 / self.fps)
        container, self._container = self._container, None
        container.close()


@contextmanager
def _encoding(path: Path) -> Iterator[None]:
    """Failures of the encoder as a message."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise CannotRunError(f"{shown(path)} cannot be written ({why}); is the disk full?") from error


def _tick(suffix: str, fps: float, like: Source | None) -> Fraction:
    """Seconds, of which a film's times are multiples: the source's own, where the container can hold them."""
    pace = 1 / Fraction(fps).limit_denominator(1001)
    if suffix == ".avi":  # which has one rate and no times: a longer wait is empty frames
        return pace
    if like is not None and like.live:
        return USUAL
    tick = pace if like is None or like.tick is None else like.tick
    if suffix == ".mkv":  # which has milliseconds
        return Fraction(1, 1000)
    return tick if tick.denominator <= FINEST and tick.numerator <= FINEST else USUAL


class _Sound:
    """Copies a file's sound into a film, as far as the film has come."""

    def __init__(self, path: Path) -> None:
        self.container = av.open(f"file:{path}")
        self.stream = self.container.streams.audio[0]
        self.copy: av.AudioStream | None = None
        self.packets = self.container.demux(self.stream)
        self.waiting: av.Packet | None = None

    @classmethod
    def of(cls, like: Source | None, suffix: str, retimed: bool) -> tuple[_Sound | None, str]:
        """The sound of a source, if a film can have it, and if not, why not."""
        if like is None or not (like.sound or like.sound_lost):
            return None, ""
        if suffix == ".gif" or like.sound is None or retimed:
            kind = "a GIF has none" if suffix == ".gif" else "the film has another pace" if retimed else "it is read once"
            return None, f"the sound of {like.name} is left out: {kind}"
        sound = cls(like.sound)
        codec = sound.stream.codec_context.name.removesuffix("float") if sound.stream.codec_context else "an unknown codec"
        admitted = suffix == ".mkv" or codec in SOUND or (suffix in (".mov", ".avi") and codec.startswith("pcm_"))
        if suffix == ".avi":
            admitted = codec in ("mp3", "ac3") or codec.startswith("pcm_")
        if admitted and sound.stream.codec_context is not None:
            return sound, ""
        sound.close()
        return None, f"the sound of {like.name} is left out: {suffix} does not hold {codec}; .mkv does"

    def open(self, film: av.container.OutputContainer) -> None:
        self.copy = film.add_stream_from_template(self.stream)

    def write(self, film: av.container.OutputContainer, start: float, until: float) -> None:
        """Copy what sounds from the film's start to a time of the film, seconds."""
        while True:
            packet, self.waiting = self.waiting or self._next(), None
            if packet is None:
                return
            time = float(packet.pts * packet.time_base) - start
            if time > until:
                self.waiting = packet
                return
            if time < 0:
                continue
            shift = round(start / packet.time_base)
            packet.pts -= shift
            packet.dts = packet.pts
            packet.stream = self.copy
            film.mux(packet)

    def _next(self) -> av.Packet | None:
        with suppress(av.FFmpegError, OSError):  # damage: the film has the sound up to there
            for packet in self.packets:
                if packet.size and packet.pts is not None:
                    return packet
        return None

    def close(self) -> None:
        self.container.close()


def _durations(starts: Sequence[float], fps: float) -> list[int]:
    """Milliseconds that each picture of a GIF is shown: whole hundredths of a second, as the format has them, that keep the pace.

    Browsers slow down what is shorter than 20 ms: where pictures come faster, some are not shown (0).

    Args:
        starts: seconds, when each is shown, from 0.
        fps: frames a second; the last one is shown for one of it.
    """
    fastest = min((after - before for before, after in zip(starts, starts[1:], strict=False)), default=1 / fps)
    step = 10 if fastest >= 0.02 - 1e-9 else 20
    ends = [step * math.ceil(1000 * end / step - 1e-6) for end in (*starts[1:], starts[-1] + 1 / fps)]
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
