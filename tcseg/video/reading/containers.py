"""Read video files and streams with PyAV: the frames, when each is shown, what is damaged, and why a file does not open."""

from __future__ import annotations

import errno
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from tcseg.errors import CannotRunError, InputError, TcsegError
from tcseg.video.reading.sources import Reading, Source, shown
from tcseg.video.reading.structure import ISO, boxes, codec_tag, cut_off, head_of

av.logging.set_level(None)  # what the libraries print between our lines; the errors below say it

DEFAULT_FPS = 25.0
TIMEOUT = (20.0, 20.0)  # seconds: to open a stream, and to wait for its next frame
# The motion-JPEG decoder fills what is missing with grey; told so, it refuses the frame.
STRICT = {"mjpeg": {"err_detect": "explode"}}
NO_RANGE = (
    "the server sends files only from their start (no Range), and this one's index is at its end; "
    "download the file and give its path"
)
ENCRYPTED = ("encv", "drmi", "drms")


def open_video(path: Path) -> Source:
    """A video file, or a pipe that one comes through.

    Raises:
        InputError: it cannot be read as a video; the message says why.
    """
    name = shown(path.name)
    once = not path.is_file()
    try:
        size = None if once else path.stat().st_size
        head = b"" if once else head_of(path)
    except OSError as error:
        raise InputError(f"{shown(path)} cannot be read ({(error.strerror or str(error)).lower()})") from None
    if size == 0:
        raise InputError(f"{shown(path)} cannot be read as a video (it is empty)")
    if _is_animated_webp(head):
        return _animated_webp(path)
    try:
        container = av.open(f"file:{path}")  # "file:": a colon in a name is no protocol
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _explained(path, head, error) from None
    stream = _video_stream(container, shown(path), None if once else path)
    source = _described(name, container, stream, live=False)
    source.once = once
    has_sound = bool(container.streams.audio)
    source.sound, source.sound_lost = (path if has_sound and not once else None), has_sound and once
    source.reading.cut = "" if once else cut_off(path)

    def reopened() -> av.container.InputContainer:
        return av.open(f"file:{path}")

    source.frames = _Once(container, None if once else reopened, source.reading, source.fps, shown(path), False)
    return source


def open_stdin() -> Source:
    """The video that comes through standard input.

    Raises:
        InputError: nothing is piped in, or it is no video.
    """
    if os.isatty(0):
        raise InputError("source is -, standard input, but nothing is piped in; as in: cat drive.ts | tcseg segment -")
    try:
        container = av.open("pipe:0")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(
            f"standard input cannot be read as a video ({_reason(error)}); "
            "an MP4 needs its index first (faststart), .ts and .mkv do not"
        ) from None
    stream = _video_stream(container, "standard input")
    source = _described("standard input", container, stream, live=False)
    source.once, source.count, source.sound_lost = True, None, bool(container.streams.audio)
    source.frames = _Once(container, None, source.reading, source.fps, "standard input", False)
    return source


def open_url(url: str) -> Source:
    """A stream, or a file over the net; which of the two, its length says: it can be read at any pace, if it has one.

    Raises:
        CannotRunError: it does not open; the message says why.
    """
    options = {"rtsp_transport": "tcp"} if url.lower().startswith("rtsp") else {}
    try:
        container = av.open(url, timeout=TIMEOUT, options=options)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _explained_url(url, error) from None
    stream = _video_stream(container, url)
    live = not (container.duration and container.duration > 0)
    source = _described(url, container, stream, live)
    source.once, source.sound_lost = True, bool(container.streams.audio)
    source.count = None if live else source.count
    source.frames = _Once(container, None, source.reading, source.fps, url, live)
    return source


def _described(name: str, container: av.container.InputContainer, stream: av.VideoStream, live: bool) -> Source:
    rate = stream.average_rate or stream.guessed_rate
    fps = float(rate) if rate and 0 < rate <= 1000 else DEFAULT_FPS
    count = stream.frames or None
    if count is None and not live and container.duration:
        count = max(1, round(container.duration / av.time_base * fps))
    source = Source(name, fps, count, live, lambda: iter(()))
    source.tick = None if live else stream.time_base
    aspect = stream.sample_aspect_ratio
    source.pixel_aspect = aspect if aspect else Fraction(1)
    return source


def _video_stream(container: av.container.InputContainer, name: str, path: Path | None = None) -> av.VideoStream:
    """The first stream of moving pictures, not the cover of a song.

    Raises:
        InputError: there is none, or its codec is not known here.
    """
    videos = [one for one in container.streams.video if not one.disposition & av.stream.Disposition.attached_pic]
    if not videos:
        kinds = ", ".join(sorted({one.type for one in container.streams})) or "nothing"
        container.close()
        raise InputError(f"{name} has no video: it holds {kinds} only")
    stream = videos[0]
    if stream.codec_context is None:
        tag = (codec_tag(path) if path is not None else "") or "it has no name"
        container.close()
        if tag in ENCRYPTED:
            raise InputError(f"{name} is encrypted (DRM); no program reads it without its key")
        raise InputError(f"{name} has a codec that is not known here ({tag}); convert it to H.264 with ffmpeg")
    stream.thread_type = "AUTO"
    stream.codec_context.options = STRICT.get(stream.codec_context.name, {})
    return stream


class _Once:
    """Starts reading: the container that is open already, and after that, where it can be, a new one."""

    def __init__(self, container, reopen, reading: Reading, fps: float, name: str, live: bool) -> None:  # noqa: ANN001
        self.container, self.reopen = container, reopen
        self.reading, self.fps, self.name, self.live = reading, fps, name, live

    def __call__(self) -> Iterator[np.ndarray]:
        container, self.container = self.container, None
        if container is None:
            if self.reopen is None:
                raise InputError(f"{self.name} was read already; a stream or pipe is read once")
            container = self.reopen()
        return _decode(container, self.reading, self.fps, self.name, self.live)


def _decode(
    container: av.container.InputContainer, reading: Reading, fps: float, name: str, live: bool
) -> Iterator[np.ndarray]:
    """Frames of a container, after damage too; `reading` has each one's time."""
    stream = _video_stream(container, name)
    if live:
        stream.thread_type = "SLICE"  # frames in threads come late
    given, size, time = 0, None, None
    with container:
        for frame in _frames(container, stream, reading, name):
            time = _time(frame, time, fps)
            reading.began = time if reading.began is None else reading.began
            if frame.is_corrupt:
                reading.damaged(f"{name}: the frame at {time:.2f} s is damaged")
                continue
            size = size or (frame.width, frame.height)
            image = frame.to_ndarray(format="rgb24", width=size[0], height=size[1])
            reading.time, reading.index = time, given + reading.lost
            given += 1
            yield _upright(image, frame.rotation)


def _time(frame: av.VideoFrame, before: float | None, fps: float) -> float:
    if frame.pts is not None and frame.time_base:
        return float(frame.pts * frame.time_base)
    return 0.0 if before is None else before + 1 / fps


def _upright(image: np.ndarray, degrees: int) -> np.ndarray:
    """Turned as the file's metadata says, which counts counter-clockwise."""
    turns = round(degrees / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else np.ascontiguousarray(image)


def _frames(
    container: av.container.InputContainer, stream: av.VideoStream, reading: Reading, name: str
) -> Iterator[av.VideoFrame]:
    """Decoded frames. What does not decode is counted, and reading goes on; where the file itself ends too early is told."""
    packets, seen, corrupt, marked = container.demux(stream), 0, False, False
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except (av.FFmpegError, OSError) as error:
            reading.cut = reading.cut or _why_it_ends(name, error, seen)
            packet = None
        if packet is not None and packet.size:
            seen, corrupt = seen + 1, packet.is_corrupt
        if packet is not None and stream.codec_context.name == "mjpeg" and packet.size:
            ended = bytes(packet).rstrip(b"\0").endswith(b"\xff\xd9")
            if marked and not ended:  # the decoder fills what is missing, without a word if zeros stand there
                reading.damaged(f"{name}: the frame {_near(packet)} has no end")
                continue
            marked = marked or ended  # some cameras write no end at all
        try:
            yield from stream.decode(packet)
        except av.FFmpegError as error:
            # The decoder says it late: with threads, it is a frame or two behind the packet.
            reading.damaged(f"{name}: a frame {_near(packet)} is damaged ({_reason(error)})")
        if packet is None:
            break
    listed = stream.index_entries if container.format.name.startswith(("mov", "avi")) else ()
    table = sum(entry.size > 0 for entry in listed) if seen < len(listed) else 0
    if seen < table and "mp4" in container.format.name:
        reading.cut = reading.cut or f"{table - seen} of {table} frames that its index lists are missing"
    elif seen < table and not reading.cut:  # the demuxer stepped over them
        reading.lost += table - seen - 1
        reading.damaged(f"{name}: {table - seen} of {table} frames that its index lists are not there")
    elif corrupt:
        reading.cut = reading.cut or "its last frame is incomplete"


# ------------------------------------------------------------------------------------------------ why


def _near(packet: av.Packet | None) -> str:
    if packet is None or packet.pts is None:
        return "near the end"
    return f"near {float(packet.pts * packet.time_base):.2f} s"


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def _why_it_ends(name: str, error: Exception, seen: int) -> str:
    """Why reading ends with an error after so many packets."""
    if seen == 0 and name.lower().startswith("http") and not _answers_ranges(name):
        return NO_RANGE  # the demuxer found the index, behind all frames, and cannot go back to the first
    return f"reading ends with an error ({_reason(error)})"


def _explained(path: Path, head: bytes, error: Exception) -> TcsegError:
    """Why a file does not open, as a message."""
    name, number = shown(path), getattr(error, "errno", None)
    if number in (errno.EACCES, errno.EPERM, errno.ENOENT, errno.EIO):
        return InputError(f"{name} cannot be read ({os.strerror(number).lower()})")
    if head[4:8] in ISO:
        if not any(kind == b"moov" for kind, _, _ in boxes(path)):
            return InputError(
                f"{name} cannot be read as a video (it has no index, the moov atom: it was cut off, or its recording never ended)"
            )
        return InputError(f"{name} cannot be read as a video (its index, the moov atom, is damaged)")
    if head and b"\0" not in head and all(byte >= 9 for byte in head):
        return InputError(f"{name} cannot be read as a video (it is text)")
    size = f"{path.stat().st_size} bytes; " if path.is_file() else ""
    return InputError(f"{name} cannot be read as a video ({size}no format that is known here begins like this)")


def _explained_url(url: str, error: Exception) -> TcsegError:
    """Why a stream does not open, as a message."""
    kind, name = type(error).__name__, shown(url)
    if kind.startswith("HTTP"):  # its reason has the status
        return CannotRunError(f"stream {name} does not open: {_reason(error)}")
    if kind == "ProtocolNotFoundError":
        return InputError(f"{name} has a protocol that is not known here; http, https, rtsp, rtmp, udp, srt and file are")
    if kind in ("TimeoutError", "ExitError"):
        return CannotRunError(f"stream {name} does not open: no answer in {TIMEOUT[0]:.0f} s")
    if url.lower().startswith("http") and not _answers_ranges(url):
        return CannotRunError(f"stream {name} does not open: {NO_RANGE}")
    return CannotRunError(f"stream {name} does not open ({_reason(error)}); is the address right, and is it running?")


def _answers_ranges(url: str) -> bool:
    """Whether a server gives a part of a file; yes, where nothing is known."""
    request = urllib.request.Request(url, headers={"Range": "bytes=0-0"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - http, as the caller looked
            return answer.status == 206
    except (OSError, ValueError, urllib.error.URLError):
        return True


def _is_animated_webp(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and b"ANIM" in head[:64]


def _animated_webp(path: Path) -> Source:
    """An animated WebP, which FFmpeg does not decode and Pillow does."""
    name = shown(path.name)
    try:
        with Image.open(path) as image:
            count, first = getattr(image, "n_frames", 1), image.info.get("duration") or 40
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{shown(path)} cannot be read as a video ({_reason(error)})") from None
    source = Source(name, 1000 / first, count, False, lambda: iter(()), tick=Fraction(1, 1000))

    def frames() -> Iterator[np.ndarray]:
        milliseconds = 0
        with Image.open(path) as image:
            for index in range(count):
                try:
                    image.seek(index)
                    picture = np.asarray(image.convert("RGB"))
                except (OSError, EOFError, ValueError, SyntaxError) as error:
                    source.reading.damaged(f"{name}: picture {index} is damaged ({_reason(error)})")
                    continue
                source.reading.time, source.reading.index = milliseconds / 1000, index
                milliseconds += image.info.get("duration") or first
                yield picture

    source.frames = frames
    return source
