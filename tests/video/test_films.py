"""Films in and out: times, damage, causes, names, pipes, sound and signals; each film is made here, with PyAV."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tcseg.atomic_files import beside
from tcseg.cli.app import CAUSES, interrupted_code, interruption, stopped_as_ctrl_c
from tcseg.errors import CannotRunError, TcsegError
from tcseg.models.registry import build, load_weights, save_weights
from tcseg.video import pipeline
from tcseg.video.encoding import Sink
from tcseg.video.frame_files import FrameFiles
from tcseg.video.pipeline import SegmentedFrame
from tcseg.video.reading.decoding import open_source, read_frames
from tcseg.video.reading.sources import Source, local_path
from tcseg.video.render import _checked, segment

CODECS = {
    ".mp4": "libx264", ".mov": "libx264", ".mkv": "libx264", ".ts": "libx264", ".flv": "libx264",
    ".avi": "mpeg4", ".webm": "libvpx-vp9", ".mpg": "mpeg2video",
}  # fmt: skip
QUALITY = {"libx264": {"crf": "5", "preset": "ultrafast"}, "libvpx-vp9": {"crf": "5", "cpu-used": "8"}}


def picture(index: int, width: int = 96, height: int = 64) -> np.ndarray:
    """Flat colours that say which frame it is: red grows with the number, green falls, blue stays."""
    colours = np.array([20 + 10 * (index % 20), 220 - 10 * (index % 20), 60], np.uint8)
    return np.broadcast_to(colours, (height, width, 3)).copy()


def number(image: np.ndarray) -> int:
    """Which frame it is."""
    return round((float(image[..., 0].mean()) - 20) / 10)


def film(
    path: Path, count: int = 12, rate: float | Fraction = 10, times: Sequence[float] | None = None, codec: str | None = None,
    pixels: str = "yuv420p", size: tuple[int, int] = (96, 64), sound: str | None = None, aspect: Fraction | None = None,
    keys: int = 4, tick: Fraction | None = None,
) -> Path:  # fmt: skip
    codec = codec or CODECS[path.suffix]
    with av.open(f"file:{path}", "w") as container:
        options = {**QUALITY.get(codec, {}), "g": str(keys)}
        video = container.add_stream(codec, rate=Fraction(rate).limit_denominator(100_000), options=options)
        video.width, video.height, video.pix_fmt = *size, pixels
        if aspect:
            video.codec_context.sample_aspect_ratio = aspect
        if codec in ("mpeg4", "mpeg2video", "mjpeg"):
            video.codec_context.bit_rate = 4_000_000
        if tick:
            video.codec_context.time_base = video.time_base = tick
        audio = container.add_stream(sound, rate=48000) if sound else None
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(picture(index, *size), "rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[index] / tick), tick
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None:
            for start in range(0, round(48000 * count / float(rate)), 1024):
                tone = np.sin(np.arange(start, start + 1024) / 20, dtype=np.float32)[None] * 0.3
                whole = {"s16": np.int16, "s32": np.int32}.get(audio.format.name[:3])
                samples = tone if whole is None else (tone * np.iinfo(whole).max).astype(whole)
                beat = av.AudioFrame.from_ndarray(samples, audio.format.name, layout="mono")
                beat.rate, beat.pts, beat.time_base = 48000, start, Fraction(1, 48000)
                container.mux(audio.encode(beat))
            container.mux(audio.encode())
    return path


def times_of(path: Path) -> list[float]:
    with av.open(f"file:{path}") as container:
        return [frame.time for frame in container.decode(video=0)]


class Copy:
    """Outputs of the pipeline that write what comes in: what `segment` does, without a network."""

    window = None

    def __init__(self, sink: Sink | None) -> None:
        self.sink, self.seen = sink, []

    def write(self, segmented: SegmentedFrame) -> None:
        self.seen.append((number(segmented.frame), segmented.time))
        if self.sink is not None:
            self.sink.write(segmented.frame, segmented.time)

    def paths(self) -> list[Path]:
        return [] if self.sink is None else [self.sink.path]

    def close(self, keep: bool) -> None:
        if self.sink is not None:
            self.sink.close(keep)


class Answer:
    """A network that knows one class."""

    def __call__(self, frame: np.ndarray) -> tuple[np.ndarray, None]:
        return np.zeros(frame.shape[:2], np.uint8), None


def passed(source: str | Path | Source, out: Path | None = None, wait: float = 0) -> tuple[dict, Copy]:
    """A source through the pipeline; `wait` is what the networks take to open, seconds."""
    opened = source if isinstance(source, Source) else open_source(source)
    outputs = Copy(None if out is None else Sink(out, opened.fps, opened))

    def networks(_: np.ndarray) -> list[list[Answer]]:
        time.sleep(wait)
        return [[Answer()]]

    return pipeline.run(opened, outputs, networks, None, progress=False), outputs


# ------------------------------------------------------------------------------------------------ the clock


RATES = [119.637, Fraction(24000, 1001), Fraction(30000, 1001), 25, 1, 240, 0.5]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_every_rate_is_kept(tmp_path: Path, rate: float, suffix: str) -> None:
    source = film(tmp_path / "in.mp4", 12, rate)
    result, _ = passed(source, tmp_path / f"x{suffix}")
    assert result["frames"] == 12 and result["complete"] and result["message"] is None
    there, back = times_of(source), times_of(tmp_path / f"x{suffix}")
    assert back == pytest.approx([one - there[0] for one in there], abs=1e-4 if suffix == ".mp4" else 2e-3)


UNEVEN = [0, 0.04, 0.0733, 0.3, 0.31, 1.0, 1.5, 4.25, 4.26, 4.3]


@pytest.mark.parametrize(("suffix", "tick"), [(".mp4", 1e-5), (".mov", 1e-5), (".mkv", 1e-3)])
def test_uneven_times_come_out_as_they_went_in(tmp_path: Path, suffix: str, tick: float) -> None:
    source = film(tmp_path / "in.mp4", 10, 30, UNEVEN, tick=Fraction(1, 90_000), codec="libx264")
    assert times_of(source) == pytest.approx(UNEVEN, abs=1e-4)
    result, outputs = passed(source, tmp_path / f"x{suffix}")
    assert times_of(tmp_path / f"x{suffix}") == pytest.approx(times_of(source), abs=tick)
    assert [index for index, _ in outputs.seen] == list(range(10)) and result["complete"]
    with av.open(str(tmp_path / f"x{suffix}")) as container:  # and the film is as long as that
        assert container.duration / 1e6 == pytest.approx(4.3 + 1 / open_source(source).fps, abs=0.5)


def test_a_gif_and_an_avi_have_uneven_times_to_their_own_tick(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mkv", 4, 10, [0, 0.1, 0.5, 1.0], tick=Fraction(1, 1000))
    passed(source, tmp_path / "x.gif")
    passed(source, tmp_path / "x.avi")
    assert times_of(tmp_path / "x.gif") == pytest.approx([0, 0.1, 0.5, 1.0], abs=0.02)
    assert times_of(tmp_path / "x.avi") == pytest.approx([0, 0.1, 0.5, 1.0], abs=0.2)  # at its mean rate


def test_times_that_stand_still_or_go_back_go_on(tmp_path: Path) -> None:
    sink = Sink(tmp_path / "x.mp4", 25)
    for index, moment in enumerate((5.0, 5.0, 4.0, 5.2)):
        sink.write(picture(index), moment)
    sink.close(keep=True)
    back = times_of(tmp_path / "x.mp4")
    assert back == sorted(set(back)) and len(back) == 4 and back[-1] == pytest.approx(0.2)


def test_a_transport_stream_s_times_begin_at_its_first_frame(tmp_path: Path) -> None:
    """Its clock starts at 1.4 s, or after any hour: so did the times of the JSON lines."""
    source = film(tmp_path / "in.ts", 12, times=[3000 + index / 10 for index in range(12)], tick=Fraction(1, 90_000))
    assert times_of(source)[0] > 2999
    torch.manual_seed(0)
    model = build("student", 19, False).eval()

    def lines(**options: object) -> list[tuple[int, float]]:
        stream = io.StringIO()
        segment(source, tmp_path / "out.mp4", model, lines=stream, progress=False, **options)
        told = [json.loads(line) for line in stream.getvalue().splitlines()]
        return [(one["frame"], one["time"]) for one in told]

    def at(indices: Sequence[int]) -> list[tuple]:
        return [(index, pytest.approx(index / 10, abs=1e-4)) for index in indices]

    assert lines() == at(range(12)) and times_of(tmp_path / "out.mp4")[0] == 0
    assert lines(stride=5) == at([0, 5, 10])
    assert lines(start=0.3, end=0.8) == at(range(3, 8)) and lines(start=0.3, stride=4) == at([3, 7, 11])
    assert [number(image) for image in read_frames(source, 12)] == list(range(12))


def test_a_film_of_another_pace(tmp_path: Path) -> None:
    source = open_source(film(tmp_path / "in.mp4", 6, 30, sound="aac"))
    sink = Sink(tmp_path / "x.mp4", 10, source, retimed=True)
    assert "another pace" in sink.sound_note
    for index, _ in enumerate(source.frames()):
        sink.write(picture(index), source.reading.time)
    sink.close(keep=True)
    assert times_of(tmp_path / "x.mp4") == pytest.approx([i / 10 for i in range(6)])


def test_a_live_source_s_film_takes_as_long_as_the_source_and_starts_fresh(tmp_path: Path) -> None:
    started = time.monotonic()

    def stream():
        for index in range(20):
            time.sleep(max(0, started + index * 0.05 - time.monotonic()))
            yield picture(index)

    result, outputs = passed(Source("0", 30, None, True, stream), tmp_path / "x.mp4", wait=0.4)
    first, moments = outputs.seen[0][0], times_of(tmp_path / "x.mp4")
    assert first >= 6  # those that came while the networks opened are not shown late
    assert moments[-1] == pytest.approx((19 - first) * 0.05, abs=0.15) and result["dropped"] < 5


# ------------------------------------------------------------------------------------------------ what a film is


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_film_is_h264_that_a_browser_plays(tmp_path: Path, suffix: str) -> None:
    passed(film(tmp_path / "in.mp4", size=(98, 66)), tmp_path / f"x{suffix}")
    with av.open(str(tmp_path / f"x{suffix}")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.width, context.height) == ("h264", "yuv420p", 98, 66)
    data = (tmp_path / f"x{suffix}").read_bytes()
    if suffix != ".mkv":
        assert 0 < data.index(b"moov") < data.index(b"mdat")  # it plays before it is loaded


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".gif"])
def test_colours_go_through_as_they_are(tmp_path: Path, suffix: str) -> None:
    sink = Sink(tmp_path / f"x{suffix}", 10)
    colours = [(230, 20, 20), (20, 200, 30), (30, 40, 220), (128, 128, 128)]
    for one in colours:
        sink.write(np.full((64, 96, 3), one, np.uint8))
    sink.close(keep=True)
    back = read_frames(tmp_path / f"x{suffix}", 9)
    assert np.abs(back.mean((1, 2)) - colours).max() < 6


@pytest.mark.parametrize(("codec", "pixels", "suffix"), [
    ("libx265", "yuv420p10le", ".mp4"), ("libsvtav1", "yuv420p", ".mp4"), ("libvpx-vp9", "yuv420p", ".webm"),
    ("mpeg4", "yuv420p", ".mp4"), ("mjpeg", "yuvj420p", ".avi"), ("ffv1", "yuv444p", ".mkv"), ("libx264", "yuv422p", ".mkv"),
    ("prores", "yuv422p10le", ".mov"), ("mpeg2video", "yuv420p", ".mpg"), ("libx264", "yuv420p", ".flv"),
    ("libx264", "yuv420p", ".ts"),
])  # fmt: skip
def test_every_codec_and_container_gives_all_frames(tmp_path: Path, codec: str, pixels: str, suffix: str) -> None:
    source = film(tmp_path / f"in{suffix}", 12, 25, codec=codec, pixels=pixels, size=(128, 96))
    result, outputs = passed(source)
    assert [index for index, _ in outputs.seen] == list(range(12))
    assert (result["complete"], result["message"], result["lost"]) == (True, None, 0)
    assert np.diff([moment for _, moment in outputs.seen]) == pytest.approx(0.04, abs=2e-3)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_turned_film_is_upright(tmp_path: Path, degrees: int) -> None:
    upright = np.zeros((64, 96, 3), np.uint8)
    upright[:32, :48] = 255  # bright in the upper left corner
    with av.open(str(tmp_path / "x.mp4"), "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        video.set_display_rotation(degrees)
        container.mux(video.encode(av.VideoFrame.from_ndarray(upright, "rgb24")))
        container.mux(video.encode())
    capture = cv2.VideoCapture(str(tmp_path / "x.mp4"))
    expected = capture.read()[1][..., ::-1]
    capture.release()
    (image,) = open_source(tmp_path / "x.mp4").frames()
    assert image.shape == expected.shape and np.abs(image.astype(int) - expected).max() < 40
    assert image.flags.c_contiguous


def test_the_shape_of_pixels_is_kept(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mp4", aspect=Fraction(4, 3))
    assert open_source(source).pixel_aspect == Fraction(4, 3)
    passed(source, tmp_path / "x.mp4")
    assert open_source(tmp_path / "x.mp4").pixel_aspect == Fraction(4, 3)


@pytest.mark.parametrize(("codec", "suffix", "kept"), [
    ("aac", ".mp4", True), ("aac", ".mov", True), ("aac", ".mkv", True), ("libmp3lame", ".mp4", True), ("pcm_s16le", ".mkv", True),
    ("pcm_s16le", ".mp4", False), ("aac", ".gif", False), ("aac", ".avi", False), ("libmp3lame", ".avi", True),
])  # fmt: skip
def test_sound_is_copied_or_said_to_be_left_out(tmp_path: Path, codec: str, suffix: str, kept: bool) -> None:
    opened = open_source(film(tmp_path / "in.mkv", 20, 10, sound=codec))
    sink = Sink(tmp_path / f"x{suffix}", opened.fps, opened)
    assert (sink.sound_note == "") == kept and (kept or "the sound of in.mkv is left out" in sink.sound_note)
    for index, image in enumerate(opened.frames()):
        if 5 <= index < 15:  # a part of the film has that part of the sound
            sink.write(image, opened.reading.time)
    sink.close(keep=True)
    with av.open(str(tmp_path / f"x{suffix}")) as container:
        assert len(container.streams.audio) == kept
        if kept:
            moments = [packet.pts * packet.time_base for packet in container.demux(audio=0) if packet.size]
            assert -0.1 < moments[0] < 0.1 and 0.8 < moments[-1] <= 1.05


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    sink = Sink(tmp_path / "x.mp4", 10)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        with pytest.raises(CannotRunError, match=r"x.mp4 cannot be written \(file too large\); is the disk full"):
            try:
                for _ in range(30):
                    sink.write(noise.integers(0, 255, (128, 192, 3), np.uint8))
            finally:
                sink.close(keep=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == []


# ------------------------------------------------------------------------------------------------ damage


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "libx264"), (".avi", "mjpeg"), (".mkv", "libx264"), (".ts", "libx264")])
def test_reading_goes_on_after_damage(tmp_path: Path, suffix: str, codec: str) -> None:
    source = film(tmp_path / f"in{suffix}", 20, codec=codec, pixels="yuvj420p" if codec == "mjpeg" else "yuv420p", size=(256, 192))
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    start, size = packets[8][0], packets[9][0] + packets[9][1] - packets[8][0]  # a key frame and the one after it
    data[start : start + size] = bytes(size) if suffix == ".ts" else np.random.default_rng(0).bytes(size)
    source.write_bytes(data)
    result, outputs = passed(source)
    numbers = [index for index, _ in outputs.seen]
    assert numbers[:8] == list(range(8)) and numbers[-8:] == list(range(12, 20)), (result, numbers)
    if suffix not in (".ts", ".mkv"):  # where what is overwritten leaves no trace that there was a frame
        assert not result["complete"] and 1 <= result["lost"] <= 4 and "could not be read" in result["message"]


def test_stop_ends_at_the_damage(tmp_path: Path) -> None:
    source = film(tmp_path / "in.avi", 20, codec="mjpeg", pixels="yuvj420p")
    with av.open(str(source)) as container:
        at = [packet.pos for packet in container.demux(video=0) if packet.size][8]
    data = bytearray(source.read_bytes())
    data[at + 8 : at + 500] = bytes(492)
    source.write_bytes(data)
    opened = open_source(source)
    opened.reading.on_error = "stop"
    result, outputs = passed(opened)
    assert 6 <= len(outputs.seen) <= 8 and not result["complete"] and "frames before it are good" in result["message"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".flv", ".avi", ".webm"])
@pytest.mark.parametrize("share", [0.45, 0.7])
def test_what_is_cut_off_is_called_truncated(tmp_path: Path, suffix: str, share: float) -> None:
    whole = film(tmp_path / f"in{suffix}", 30, size=(128, 96))
    if suffix == ".mp4":  # its index first, or it does not open
        passed(whole, tmp_path / "index_first.mp4")
        whole = tmp_path / "index_first.mp4"
    assert passed(whole)[0]["message"] is None
    data = whole.read_bytes()
    start = data.index({".mp4": b"mdat", ".avi": b"movi"}[suffix]) if suffix in (".mp4", ".avi") else 0
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(data[: start + round(share * (len(data) - start)) | 1])
    result, outputs = passed(cut)
    assert "is truncated" in result["message"] and not result["complete"], result
    numbers = [index for index, _ in outputs.seen]
    assert 5 < len(numbers) < 30 and numbers == [index % 20 for index in range(len(numbers))]


def test_the_number_in_the_header_is_a_hint(tmp_path: Path) -> None:
    for name, tick in (("a.flv", None), ("v.mp4", Fraction(1, 90_000)), ("v.mkv", Fraction(1, 1000))):
        result, _ = passed(film(tmp_path / name, 10, 30, UNEVEN if tick else None, tick=tick))
        assert (result["frames"], result["complete"], result["message"]) == (10, True, None), name
    source = bytearray(film(tmp_path / "x.avi", 10).read_bytes())
    at = source.index(b"avih") + 8 + 16  # dwTotalFrames
    source[at : at + 4] = (5000).to_bytes(4, "little")
    (tmp_path / "x.avi").write_bytes(source)
    assert passed(tmp_path / "x.avi")[0]["complete"]


# ------------------------------------------------------------------------------------------------ causes


def _no_moov(path: Path) -> None:
    data = film(path).read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])


def _patched(before: bytes, after: bytes):
    return lambda path: path.write_bytes(film(path).read_bytes().replace(before, after))


def _audio_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=48000)
        beat = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", layout="mono")
        beat.rate = 48000
        container.mux(audio.encode(beat))
        container.mux(audio.encode())


@pytest.mark.parametrize(("make", "text"), [
    (lambda path: path.touch(), "it is empty"),
    (lambda path: path.write_text("no film\n" * 99), "it is text"),
    (lambda path: path.write_bytes(bytes(range(256)) * 9), "no format that is known here"),
    (_no_moov, "no index, the moov atom"),
    (_patched(b"avc1\0\0\0\0", b"qqq1\0\0\0\0"), r"a codec that is not known here \(qqq1\)"),
    (_patched(b"avc1\0\0\0\0", b"encv\0\0\0\0"), "is encrypted"),
    (_audio_only, "has no video: it holds audio only"),
    (lambda path: path.symlink_to("nowhere"), "is a link to nothing"),
])  # fmt: skip
def test_a_cause_has_a_name(tmp_path: Path, make, text: str) -> None:
    make(tmp_path / "x.mp4")
    with pytest.raises(TcsegError, match=text) as caught:
        open_source(tmp_path / "x.mp4")
    assert "x.mp4" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".webp", ".gif", ".png"])
def test_animated_pictures_are_films(tmp_path: Path, suffix: str) -> None:
    first, *rest = [Image.fromarray(picture(index)) for index in range(4)]
    first.save(tmp_path / f"x{suffix}", save_all=True, append_images=rest, duration=100)
    _, outputs = passed(tmp_path / f"x{suffix}")
    assert [index for index, _ in outputs.seen] == [0, 1, 2, 3]
    assert [moment for _, moment in outputs.seen] == pytest.approx([0, 0.1, 0.2, 0.3])
    first.save(tmp_path / f"one{suffix}")
    assert len(read_frames(tmp_path / f"one{suffix}", 9)) == 1


def test_a_half_grey_jpeg_is_not_shown(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for index in range(4):
        Image.fromarray(rng.integers(0, 255, (64, 96, 3), np.uint8)).save(tmp_path / f"{index}.jpg")
    data = (tmp_path / "2.jpg").read_bytes()
    (tmp_path / "2.jpg").write_bytes(data[: len(data) // 2])
    opened = open_source(tmp_path)
    opened.reading.on_error = "skip"
    result, outputs = passed(opened)
    assert len(outputs.seen) == 3 and result["lost"] == 1 and "2.jpg is cut off or damaged" in result["message"]


class _Server(BaseHTTPRequestHandler):
    """Sends files from their start, without Range; or a film, slowly, without an end."""

    folder = Path()

    def do_GET(self) -> None:  # noqa: N802 - the library's name
        path = self.folder / self.path[1:].removeprefix("live/")
        if not path.exists():
            self.send_error(404)
            return
        self.send_response(200)
        data, live = path.read_bytes(), self.path.startswith("/live/")
        if not live:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        for start in range(0, len(data), 188 * 40):
            try:
                self.wfile.write(data[start : start + 188 * 40])
            except OSError:
                return
            time.sleep(0.01 if live else 0)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server(tmp_path: Path):
    _Server.folder = tmp_path
    with HTTPServer(("127.0.0.1", 0), _Server) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def test_over_the_net(tmp_path: Path, server: str) -> None:
    passed(film(tmp_path / "in.mp4"), tmp_path / "first.mp4")
    opened = open_source(f"{server}/first.mp4")
    assert not opened.live and opened.once
    assert [number(image) for image in opened.frames()] == list(range(12))
    film(tmp_path / "in.ts", 12, size=(256, 192))
    live = open_source(f"{server}/live/in.ts")
    assert live.live and live.count is None
    next(live.frames())
    with pytest.raises(CannotRunError, match="404 not found"):
        open_source(f"{server}/nothing.mp4")
    with pytest.raises(CannotRunError, match="does not open"):
        open_source("http://127.0.0.1:9/x.mp4")
    with pytest.raises(TcsegError, match="protocol that is not known here"):
        open_source("nosuch://somewhere/x.mp4")


def test_a_server_without_range(tmp_path: Path, server: str) -> None:
    """It sends a file from its start alone: an index at the end cannot be looked up first."""
    film(tmp_path / "last.mp4", 60, size=(640, 480))
    data = (tmp_path / "last.mp4").read_bytes()
    assert data.index(b"mdat") < data.index(b"moov") and data.index(b"moov") > 1 << 15  # beyond what FFmpeg keeps
    why = r"last.mp4 has no frames that can be read: the server sends files only from their start \(no Range\).*download the file"
    with pytest.raises(TcsegError, match=why):
        passed(f"{server}/last.mp4")
    passed(tmp_path / "last.mp4", tmp_path / "first.mp4")
    data = (tmp_path / "first.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    result, outputs = passed(f"{server}/first.mp4")
    assert result["complete"] and len(outputs.seen) == 60 and result["dropped"] == 0


# ------------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize("name", ["0001", "00", "0", "50%done", "a*b", "[x]", "-", "a ! b", "x%03dy"])
def test_a_folder_is_looked_up_before_it_is_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / name).mkdir()
    Image.fromarray(picture(3)).save(tmp_path / name / "1.png")
    monkeypatch.chdir(tmp_path)
    for source in (name, tmp_path / name):
        assert [number(image) for image in open_source(source).frames()] == [3]


@pytest.mark.parametrize("name", ["a:b.mp4", "50%03d.mp4", "http:x.mp4", os.fsdecode(b"h\xff.mp4"), "ü b.mp4"])
def test_files_with_names_of_any_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    film(tmp_path / name, 4)
    monkeypatch.chdir(tmp_path)
    for source in (name, tmp_path / name):
        _, outputs = passed(source, tmp_path / f"out {name}")
        assert len(outputs.seen) == 4
    assert len(read_frames(tmp_path / f"out {name}", 9)) == 4


def test_pictures_and_folders_whose_names_are_not_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"f\xe9")
    folder.mkdir()
    for index in range(2):
        Image.fromarray(picture(index)).save(folder / os.fsdecode(b"\xff%d.png" % index))
    source = open_source(folder)
    files = FrameFiles(tmp_path / os.fsdecode(b"l\xfe"), "labels", source.names)
    for image in source.frames():
        files.write(image[..., 0], source.reading.index)
    files.close(keep=True)
    assert [path.stem for path in sorted(files.path.iterdir())] == list(source.names)
    with pytest.raises(TcsegError, match="has no images") as caught:
        (tmp_path / os.fsdecode(b"e\xff")).mkdir()
        open_source(tmp_path / os.fsdecode(b"e\xff"))
    str(caught.value).encode()  # a terminal can print it


def test_file_urls_and_an_out_that_is_the_source(tmp_path: Path) -> None:
    source = film(tmp_path / "a b.mp4", 3)
    url = source.as_uri()
    assert "%20" in url and local_path(url) == source and len(read_frames(url, 9)) == 3
    (tmp_path / "soft.mp4").symlink_to(source)
    os.link(source, tmp_path / "hard.mp4")
    for given in (str(source), url, url.replace("file://", "FILE://localhost"), str(tmp_path / "soft.mp4")):
        for out in (source, tmp_path / "soft.mp4", tmp_path / "hard.mp4", tmp_path / "." / "a b.mp4"):
            with pytest.raises(TcsegError, match="out is the source itself"):
                _checked(given, out, None, False)
    with pytest.raises(TcsegError, match="is a file of elsewhere"):
        open_source("file://elsewhere/x.mp4")


def test_a_pipe_is_opened_once(tmp_path: Path) -> None:
    data, fifo = film(tmp_path / "in.ts", 12).read_bytes(), tmp_path / "pipe"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(data), daemon=True)
    writer.start()
    result, outputs = passed(fifo)
    assert [index for index, _ in outputs.seen] == list(range(12)) and result["complete"]
    writer.join(5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fifo", "stdin"])
def test_int8_of_a_pipe_is_calibrated_on_its_own_frames(tmp_path: Path, kind: str) -> None:
    """They are kept meanwhile: every frame is segmented, as from a file that is calibrated on the same frames."""
    pytest.importorskip("onnxruntime")
    source = film(tmp_path / "in.ts", 40)
    torch.manual_seed(0)
    save_weights(build("student", 19, False), tmp_path / "w.safetensors")
    command = [sys.executable, "-m", "tcseg", "segment", "--weights", tmp_path / "w.safetensors", "--precision", "int8"]
    command += ["--runtime", "onnxruntime", "--labels", tmp_path / "maps", "--json", "-", "--size", "96x64"]
    if kind == "fifo":
        os.mkfifo(tmp_path / "pipe")
        threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(source.read_bytes()), daemon=True).start()
        done = subprocess.run([*command, tmp_path / "pipe"], capture_output=True, text=True)
    else:
        with source.open("rb") as data:
            done = subprocess.run([*command, "-"], stdin=data, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name = "pipe" if kind == "fifo" else "standard input"
    assert f"int8 is calibrated on 20 of the first 40 frames of {name}, which are segmented, too" in done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["frame"] for one in told] == list(range(40))
    assert [one["time"] for one in told] == pytest.approx([index / 10 for index in range(40)], abs=1e-4)
    network, frames = load_weights(tmp_path / "w.safetensors"), read_frames(source, 40)
    more = {"runtime": "onnxruntime", "precision": "int8", "calibrate": lambda _: frames[::2], "progress": False}
    segment(source, None, network, (96, 64), labels=tmp_path / "again", **more)
    for index in range(40):
        one, other = (cv2.imread(str(tmp_path / folder / f"{index:06d}.png"), -1) for folder in ("maps", "again"))
        assert np.array_equal(one, other), index


def test_standard_input(tmp_path: Path) -> None:
    film(tmp_path / "in.mkv", 7)
    code = "from tcseg.video.reading.decoding import read_frames; print(len(read_frames('-', 99)))"
    with (tmp_path / "in.mkv").open("rb") as file:
        done = subprocess.run([sys.executable, "-c", code], stdin=file, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "7"


# ------------------------------------------------------------------------------------------------ stopped


def test_two_films_of_one_name_are_both_whole(tmp_path: Path) -> None:
    one, other = Sink(tmp_path / "x.mp4", 10), Sink(tmp_path / "x.mp4", 10)
    for index in range(4):
        one.write(picture(index))
        other.write(picture(10 + index))
    one.close(keep=True)
    assert [number(image) for image in read_frames(tmp_path / "x.mp4", 9)] == [0, 1, 2, 3]
    other.close(keep=True)
    assert [number(image) for image in read_frames(tmp_path / "x.mp4", 9)] == [10, 11, 12, 13]
    assert os.listdir(tmp_path) == ["x.mp4"]
    folders = [FrameFiles(tmp_path / "l", "labels") for _ in range(3)]
    for value, folder in enumerate(folders):
        folder.write(np.full((4, 4), value, np.uint8))
        folder.close(keep=True)
    assert [folder.path.name for folder in folders] == ["l", "l-2", "l-3"]
    assert [cv2.imread(str(folder.path / "000000.png"), -1)[0, 0] for folder in folders] == [0, 1, 2]
    assert beside(tmp_path / "x") != beside(tmp_path / "x")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_is_a_ctrl_c_and_a_second_one_waits(number: int) -> None:
    before = signal.getsignal(signal.SIGTERM)
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with stopped_as_ctrl_c():
            with pytest.raises(KeyboardInterrupt) as stop:
                os.kill(os.getpid(), number)
                time.sleep(1)
            if number != signal.SIGINT:
                os.kill(os.getpid(), signal.SIGTERM)  # while files are finished
                time.sleep(0.01)
    finally:
        signal.signal(signal.SIGINT, interrupt)
    causes = {signal.SIGTERM: "interrupted by SIGTERM, as kill", signal.SIGHUP: "interrupted by SIGHUP: the terminal"}
    assert interruption(stop.value).startswith(causes.get(number, "interrupted"))
    assert interrupted_code() == 128 + number and signal.getsignal(signal.SIGTERM) == before


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopped_as_ctrl_c():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
        assert interrupted_code() == 130
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_command_leaves_a_whole_film(tmp_path: Path, sent: int) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(picture(0)).save(folder / "0.png")
    for index in range(1, 3000):
        os.link(folder / "0.png", folder / f"{index}.png")
    out, log = tmp_path / "out" / "x.mp4", tmp_path / "log"
    with log.open("w") as errors:
        command = [sys.executable, "-m", "tcseg", "segment", str(folder), "--out", str(out)]
        process = subprocess.Popen(command, stderr=errors, stdout=subprocess.DEVNULL)
    deadline = time.time() + 120
    while time.time() < deadline and not re.search(r" \d\d+/3000", log.read_text()):
        time.sleep(0.05)
    os.kill(process.pid, sent)
    assert process.wait(timeout=60) == 128 + sent, log.read_text()
    assert f"interrupted by {CAUSES[sent]}: the first" in log.read_text() and os.listdir(out.parent) == ["x.mp4"]
    assert 0 < len(times_of(out)) < 3000


@pytest.mark.slow
def test_a_damaged_source_ends_with_three(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(4):
        Image.fromarray(picture(index)).save(folder / f"{index}.png")
    (folder / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n rubbish")
    for more, frames in (([], 3), (["--on-error", "stop"], 2)):
        command = [sys.executable, "-m", "tcseg", "segment", str(folder), "--out", str(tmp_path / "x.mp4"), *more]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 3 and "2.png is cut off" in done.stderr and len(times_of(tmp_path / "x.mp4")) == frames
