"""Video in, video out: what comes out can be played, and whatever goes wrong leaves no half-written file."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from itertools import cycle
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from tcseg.bench.throughput import pipeline_rates
from tcseg.deploy import runtimes
from tcseg.deploy.label_map import upsample_argmax
from tcseg.deploy.runtimes import Network
from tcseg.errors import CannotWriteError
from tcseg.evaluation.label_map_files import read_as
from tcseg.evaluation.label_map_layouts import find_clips
from tcseg.evaluation.label_map_values import inspect_map
from tcseg.labels import own_classes
from tcseg.models.networks import SegmentationModel
from tcseg.models.registry import build, save_weights
from tcseg.video import encoding, outputs, pipeline, render
from tcseg.video.encoding import Sink
from tcseg.video.flicker_meter import strip_height
from tcseg.video.frame_files import FrameFiles
from tcseg.video.painting import blend
from tcseg.video.reading.decoding import Source, open_source, read_frames
from tcseg.video.render import segment, side_by_side, summary


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    torch.manual_seed(0)
    return build("student", 19, False).eval()


def pictures(count: int, width: int = 96, height: int = 64) -> list[np.ndarray]:
    """A bright square that moves over a gradient."""
    ground = np.linspace(0, 120, width, dtype=np.uint8)[None, :, None].repeat(height, 0).repeat(3, 2)
    frames = [ground.copy() for _ in range(count)]
    for i, frame in enumerate(frames):
        frame[8:24, 3 * i : 3 * i + 16] = (250, 40, 40)
    return frames


def folder_of(path: Path, frames: list[np.ndarray]) -> Path:
    path.mkdir()
    for i, frame in enumerate(frames):
        cv2.imwrite(str(path / f"{i:03}.png"), frame[..., ::-1])
    return path


def film(path: Path, frames: list[np.ndarray], codec: str = "MJPG") -> Path:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10.0, (width, height))
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    return path


def only_file(folder: Path) -> Path:
    files = [file for file in folder.iterdir() if file.is_file()]
    assert len(files) == 1, files
    return files[0]


def test_folder_to_mp4_that_plays(tmp_path: Path, model: SegmentationModel) -> None:
    frames = pictures(9)
    seen: list[tuple[int, np.ndarray, np.ndarray]] = []
    result = segment(
        folder_of(tmp_path / "in", frames), tmp_path / "out" / "x.mp4", model, progress=False,
        on_frame=lambda i, frame, maps: seen.append((i, frame, maps[0])),
    )  # fmt: skip
    assert (result["frames"], result["width"], result["height"], result["message"]) == (9, 96, 64, None)
    assert result["fps"] > 0 and result["p50_ms"] > 0 and not result["interrupted"]
    assert [i for i, _, _ in seen] == list(range(9)) and (seen[4][1] == frames[4]).all()
    with torch.inference_mode():
        planes = torch.from_numpy(frames[4]).permute(2, 0, 1)[None]
        assert (seen[4][2] == upsample_argmax(model(planes), (96, 64))[0]).mean() > 0.999
    back = read_frames(only_file(tmp_path / "out"), 99)
    assert back.shape == (9, 64, 96, 3)
    painted = blend(frames[4], seen[4][2], model.label_set)
    for wrong in (seen[4][2].astype(np.int64), seen[4][2][:-1]):
        with pytest.raises(ValueError, match=r"labels are .* they must be uint8 \(64, 96\)"):
            blend(frames[4], wrong, model.label_set)
    assert np.abs(back[4].astype(int) - painted).mean() < 12  # lossy


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".gif"])
def test_odd_sides_are_padded_and_every_format_plays(tmp_path: Path, model: SegmentationModel, suffix: str) -> None:
    shapes = []
    source = folder_of(tmp_path / "in", pictures(4, 101, 67))
    out = tmp_path / f"x{suffix}"
    segment(source, out, model, progress=False, on_frame=lambda i, frame, maps: shapes.append(maps[0].shape))
    assert shapes == [(67, 101)] * 4
    assert read_frames(out, 9).shape == (4, 67, 101, 3) if suffix == ".gif" else (4, 68, 102, 3)


@pytest.mark.parametrize("fps", [8, 17, 25, 60, 240])
def test_a_gif_plays_at_the_pace_of_the_video(tmp_path: Path, fps: float) -> None:
    sink, count = Sink(tmp_path / "x.gif", fps), 24
    for i in range(count):
        sink.write(np.full((8, 8, 3), 10 * i, np.uint8))
    sink.close(keep=True)
    with Image.open(tmp_path / "x.gif") as gif:
        shown = [frame.info["duration"] for frame in ImageSequence.Iterator(gif)]
    assert min(shown) >= 20 and sum(shown) == pytest.approx(1000 * count / fps, abs=20)


def test_network_at_half_size_answers_at_the_frames_size(tmp_path: Path, model: SegmentationModel) -> None:
    maps = []
    source = folder_of(tmp_path / "in", pictures(2, 128, 64))
    segment(source, None, model, size=(64, 32), progress=False, on_frame=lambda i, frame, got: maps.append(got[0]))
    small = cv2.resize(pictures(2, 128, 64)[1], (64, 32), interpolation=cv2.INTER_AREA)
    with torch.inference_mode():
        expected = upsample_argmax(model(torch.from_numpy(small).permute(2, 0, 1)[None]), (128, 64))[0]
    assert (maps[1] == expected).mean() > 0.999
    with pytest.raises(ValueError, match="pass 64x32"):
        segment(source, None, model, size=(60, 32))


def test_side_by_side_has_three_panels(tmp_path: Path, model: SegmentationModel) -> None:
    source = film(tmp_path / "in.avi", pictures(3))
    result = side_by_side(source, tmp_path / "x.gif", {"a": model, "b": model}, panel_width=48, progress=False)
    back = read_frames(tmp_path / "x.gif", 9)
    assert back.shape == (3, 32, 144, 3) and result["frames"] == 3
    assert (back[:, :, 48:96][:, 14:] == back[:, :, 96:][:, 14:]).mean() > 0.99  # below the captions


def test_wrong_sources_get_one_clear_line(tmp_path: Path, model: SegmentationModel) -> None:
    out = tmp_path / "out" / "x.mp4"
    (tmp_path / "nothing").mkdir()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video, but long enough to be looked at\n" * 50)
    broken = folder_of(tmp_path / "broken", pictures(2))
    for picture in broken.iterdir():
        picture.write_bytes(picture.read_bytes()[:60])
    for name, error, text in (
        ("absent.mp4", FileNotFoundError, "absent.mp4 does not exist"),
        ("nothing", FileNotFoundError, "has no images"),
        ("empty.mp4", ValueError, "it is empty"),
        ("text.mp4", ValueError, "cannot be read as a video"),
        ("broken", ValueError, "000.png is cut off or damaged"),
    ):
        with pytest.raises(error, match=text):
            segment(tmp_path / name, out, model, progress=False)
        assert not out.parent.exists() or not list(out.parent.iterdir()), name


def test_a_video_without_frames(tmp_path: Path, model: SegmentationModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "open_source", lambda source: Source("x.mp4", 10, 0, False, lambda: iter(())))
    with pytest.raises(ValueError, match=r"x.mp4 has no frames"):
        segment(tmp_path / "x.mp4", tmp_path / "out" / "y.mp4", model, progress=False)
    assert not list((tmp_path / "out").iterdir())


def test_truncated_video_gives_the_good_frames_and_a_message(tmp_path: Path, model: SegmentationModel) -> None:
    whole = film(tmp_path / "whole.avi", pictures(20))
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    result = segment(cut, tmp_path / "x.mp4", model, progress=False)
    assert 0 < result["frames"] < 20 and "truncated" in result["message"]
    assert len(read_frames(tmp_path / "x.mp4", 99)) == result["frames"]


def test_a_damaged_picture_is_left_out_and_counted(tmp_path: Path, model: SegmentationModel) -> None:
    mixed = folder_of(tmp_path / "mixed", pictures(5))
    cv2.imwrite(str(mixed / "003.png"), np.zeros((32, 32, 3), np.uint8))
    broken = folder_of(tmp_path / "broken", pictures(5))
    (broken / "003.png").write_bytes((broken / "000.png").read_bytes()[:60])
    for folder, text in ((mixed, "003.png is 32x32, the images before it are 96x64"), (broken, "003.png is cut off")):
        for on_error, left in (("skip", ["000", "001", "002", "004"]), ("stop", ["000", "001", "002"])):
            labels = tmp_path / f"{folder.name} {on_error}"
            out = tmp_path / f"{folder.name}.avi"
            result = segment(folder, out, model, labels=labels, on_error=on_error, progress=False)
            assert text in result["message"] and not result["complete"] and result["lost"] == 1
            assert ("the 3 frames before it are good" in result["message"]) == (on_error == "stop")
            assert sorted(path.stem for path in labels.glob("*.png")) == left  # each under its own name
            assert len(read_frames(out, 9)) == len(left) == result["frames"]
    with pytest.raises(ValueError, match="on_error is 'ignore'; it must be one of skip, stop"):
        segment(broken, None, model, on_error="ignore")


def test_wrong_targets_fail_before_any_work(tmp_path: Path, model: SegmentationModel) -> None:
    source = film(tmp_path / "in.avi", pictures(2))
    blocked = tmp_path / "a_file"
    blocked.touch()
    never = lambda *_: pytest.fail("work was done")  # noqa: E731
    for out, error, text in (
        (tmp_path / "x.webm", ValueError, "suffix must be one of"),
        (blocked / "x.mp4", CannotWriteError, "cannot be written"),
        (source, ValueError, "out is the source itself"),
    ):
        with pytest.raises(error, match=text):
            segment(source, out, model, on_frame=never, progress=False)
    with pytest.raises(ValueError, match="overlay is 60"):
        segment(source, tmp_path / "x.mp4", model, overlay=60)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a_file", "in.avi"]


def test_interruption_keeps_a_playable_file(tmp_path: Path, model: SegmentationModel) -> None:
    def interrupt(index: int, *_: object) -> None:
        if index == 5:
            raise KeyboardInterrupt

    source = folder_of(tmp_path / "in", pictures(20))
    result = segment(source, tmp_path / "out" / "x.mp4", model, on_frame=interrupt, progress=False)
    assert result["interrupted"] and "interrupted: the first 5 frames are kept" in result["message"]
    assert result["frames"] == len(read_frames(only_file(tmp_path / "out"), 99)) == 5


@pytest.mark.parametrize("where", ["on_frame", "encode", "disk"])
def test_an_error_leaves_nothing_and_keeps_the_old_file(
    tmp_path: Path, model: SegmentationModel, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no more")

    if where == "encode":
        monkeypatch.setattr(encoding.Sink, "write", fail)
    if where == "disk":
        monkeypatch.setattr(encoding.av, "open", full_disk)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.mp4").write_text("of yesterday")
    source = folder_of(tmp_path / "in", pictures(12))
    with pytest.raises(RuntimeError, match="disk full" if where == "disk" else "no more"):
        on_frame = fail if where == "on_frame" else None
        segment(source, tmp_path / "out" / "x.mp4", model, on_frame=on_frame, progress=False)
    assert only_file(tmp_path / "out").read_text() == "of yesterday"


def full_disk(_: str, *__: object, open_file=av.open, **___: object):
    """A film on a disk that is always full."""
    return open_file("/dev/full", "w", format="matroska")


def test_a_live_source_drops_old_frames_and_a_file_never(
    tmp_path: Path, model: SegmentationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stream():
        for frame in pictures(25) * 3 if live else pictures(25):
            time.sleep(0.004)
            yield frame

    for live in (True, False):
        monkeypatch.setattr(render, "open_source", lambda _, live=live: Source("0", 30, None, live, stream))
        result = segment("0", None, model, on_frame=lambda *_: time.sleep(0.02), progress=False)
        assert (result["frames"] == 25) == (not live)  # what comes while the networks open is not counted
        assert (result["dropped"] > 0) == live
    monkeypatch.setattr(render, "open_source", lambda _: Source("0", 30, None, True, stream))
    with pytest.raises(ValueError, match="out is 'x.gif': a GIF is kept in memory"):
        segment("0", tmp_path / "x.gif", model)


def test_sources(tmp_path: Path) -> None:
    source = open_source(film(tmp_path / "in.avi", pictures(7)))
    assert (source.fps, source.count, source.live) == (10.0, 7, False)
    assert len(read_frames(tmp_path / "in.avi", 3)) == 3
    folder = open_source(folder_of(tmp_path / "in", pictures(3)))
    assert (folder.fps, folder.count) == (17.0, 3)
    with pytest.raises(RuntimeError, match="camera 77 does not open"):
        open_source("77")


class _Camera:
    """`cv2.VideoCapture` of a camera or stream that gives 8 pictures and then no more; files are opened as ever."""

    real = cv2.VideoCapture
    count, fps = -1.0, 0.0

    def __new__(cls, source: int | str):
        return object.__new__(cls) if isinstance(source, int) or "://" in source else cls.real(source)

    def __init__(self, source: int | str) -> None:
        self.source, self.left, self.released = source, pictures(8), False

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def get(self, what: int) -> float:
        return {cv2.CAP_PROP_FRAME_COUNT: self.count, cv2.CAP_PROP_FPS: self.fps}[what]

    def read(self) -> tuple[bool, np.ndarray | None]:
        time.sleep(0.002)
        return (True, self.left.pop(0)) if self.left else (False, None)

    def release(self) -> None:
        self.released = True


@pytest.mark.parametrize("source", ["0", 0])
def test_a_camera_or_stream(
    tmp_path: Path, model: SegmentationModel, monkeypatch: pytest.MonkeyPatch, source: str | int
) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", _Camera)
    opened = open_source(source)
    assert (opened.live, opened.count, opened.fps, opened.names) == (True, None, 30.0, None)
    result = segment(source, tmp_path / "x.avi", model, progress=False)
    assert 0 < result["frames"] + result["dropped"] <= 8 and result["frames"] > 0
    assert "gives no more frames" in result["message"]
    assert len(read_frames(tmp_path / "x.avi", 9)) == result["frames"]


def test_a_folder_s_pictures_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder, frames = tmp_path / "drive", pictures(4)
    folder_of(folder, frames)
    for number, name in enumerate(("f8.png", "f9.PNG", "f10.Png", "f11.png")):
        (folder / f"{number:03d}.png").rename(folder / name)
    (folder / "f11.png").rename(tmp_path / "elsewhere.png")
    (folder / "f11.png").symlink_to(tmp_path / "elsewhere.png")
    (folder / "._f8.png").write_bytes(b"rubbish")
    (folder / "f12.png").mkdir()
    source = open_source(folder)
    assert source.names == ("f8", "f9", "f10", "f11") and source.count == 4
    assert all(np.array_equal(one, other) for one, other in zip(source.frames(), frames, strict=True))
    (folder / "f009.png").write_bytes((folder / "f8.png").read_bytes())
    with pytest.raises(ValueError, match=r"f009.png and .*f9.PNG have the same number: are these two clips"):
        open_source(folder)
    (folder / "f009.png").unlink()
    (folder / "f13.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match="f13.png does not exist or is a broken link"):
        list(open_source(folder).frames())


def test_numbered_images(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", pictures(4))
    assert len(read_frames(folder / "%03d.png", 9)) == 4
    with pytest.raises(FileNotFoundError, match="no pictures have such names"):
        open_source(folder / "x_%03d.png")


def test_a_video_damaged_in_the_middle_gives_the_good_frames(tmp_path: Path, model: SegmentationModel) -> None:
    frames = [texture_of(i) for i in range(20)]
    damaged = bytearray(film(tmp_path / "x.avi", frames).read_bytes())
    fifth = len(damaged) // 5
    damaged[2 * fifth : 3 * fifth] = bytes(fifth)
    (tmp_path / "x.avi").write_bytes(damaged)
    seen = []
    result = segment(
        tmp_path / "x.avi", tmp_path / "y.avi", model, progress=False, on_frame=lambda i, frame, maps: seen.append(frame)
    )
    assert 14 <= result["frames"] < 20 and 0 < result["lost"] <= 6 and "could not be read" in result["message"]
    whole = [cv2.cvtColor(one, cv2.COLOR_RGB2BGR) for one in frames]
    jpeg = [cv2.imdecode(cv2.imencode(".jpg", one)[1], cv2.IMREAD_COLOR)[..., ::-1].astype(int) for one in whole]
    assert np.abs(seen[0] - jpeg[0]).mean() < 15 and np.abs(seen[-1] - jpeg[-1]).mean() < 15  # the last one, too
    assert all(min(np.abs(frame - one).mean() for one in jpeg) < 15 for frame in seen)  # none is half grey


def texture_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (64, 96, 3), np.uint8)


# ------------------------------------------------------------------------------------------------ the answers themselves


NAMES = tuple(f"a_000000_{i:06}_leftImg8bit" for i in range(4))


@pytest.mark.parametrize("layout", ["folder", "cityscapes"])
def test_label_maps_are_read_by_evaluate(tmp_path: Path, model: SegmentationModel, layout: str) -> None:
    frames = tmp_path / "in"
    frames.mkdir()
    for name, frame in zip(NAMES, pictures(4, 100, 66), strict=True):
        cv2.imwrite(str(frames / f"{name}.png"), frame[..., ::-1])
    maps = []
    result = segment(
        frames, None, model, labels=tmp_path / "out", on_frame=lambda i, f, m: maps.append(m[0]), progress=False
    )
    assert result["written"] == [tmp_path / "out"] and str(tmp_path / "out") in summary(result)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    (clip,) = find_clips(tmp_path / "out", frames, None, layout).clips
    assert [path.stem for path in clip.predictions] == list(NAMES)
    looks = {("predictions", path): inspect_map(path) for path in clip.predictions}
    readings, table = read_as(looks, tmp_path / "out", layout, None, None)
    assert table.label_set == model.label_set and readings["predictions", None].values == "trainIds"
    read = [readings["predictions", None].read(path) for path in clip.predictions]
    assert (np.stack(read) == np.stack(maps)).all()


def test_label_maps_and_pictures_have_the_network_s_own_classes(tmp_path: Path) -> None:
    own = own_classes(["road", "crack", "rest"], [(1, 2, 3), (4, 5, 6), (7, 8, 9)], "cracks")
    network, seen = build("student", own, False).eval(), []
    source = film(tmp_path / "in.avi", pictures(2, 64, 32))
    segment(source, None, network, labels=tmp_path / "l", on_frame=lambda i, f, m: seen.append(m[0]), progress=False)
    said = json.loads((tmp_path / "l" / "meta.json").read_text())
    assert said["classes"] == ["road", "crack", "rest"] and said["class_set"] == "cracks"
    painted = blend(np.zeros((32, 64, 3), np.uint8), seen[0], network.label_set, 1.0)
    assert (painted == own.colors[seen[0]]).all()


@pytest.mark.parametrize(("side", "size", "cells"), [((100, 66), None, (17, 25)), ((128, 64), (64, 32), (8, 16))])
def test_probabilities_round_trip(
    tmp_path: Path, model: SegmentationModel, side: tuple[int, int], size: tuple[int, int] | None, cells: tuple
) -> None:
    source = film(tmp_path / "in.avi", pictures(3, *side))
    plain, seen = [], []
    segment(source, None, model, size, on_frame=lambda i, f, m: plain.append(m[0]), progress=False)
    folders = {"labels": tmp_path / "l", "probs": tmp_path / "p"}
    segment(source, None, model, size, on_frame=lambda i, f, m: seen.append((f, m[0])), progress=False, **folders)
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == [f"00000{i}.npz" for i in range(3)]
    probs = np.load(tmp_path / "p" / "000001.npz")["probs"]
    assert probs.dtype == np.uint8 and probs.shape == (19, *cells)
    assert np.abs(probs.astype(int).sum(0) - 255).max() <= 10  # 19 roundings
    assert (seen[1][1] == plain[1]).all()  # the maps do not depend on it
    frame = seen[1][0] if size is None else cv2.resize(seen[1][0], size, interpolation=cv2.INTER_AREA)
    padded = np.pad(frame, ((0, -frame.shape[0] % 32), (0, -frame.shape[1] % 32), (0, 0)), mode="edge")
    with torch.inference_mode():
        wanted = model(torch.from_numpy(padded).permute(2, 0, 1)[None]).softmax(1)[0, :, : cells[0], : cells[1]]
    assert np.abs(probs / 255 - wanted.numpy()).max() < 0.003


def test_folders_are_new_and_whole(tmp_path: Path, model: SegmentationModel) -> None:
    source = film(tmp_path / "in.avi", pictures(12))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    never = lambda *_: pytest.fail("work was done")  # noqa: E731
    for folders, text in (
        ({"labels": tmp_path / "full"}, "labels is .*full, which is there already"),
        ({"probs": source}, "probs is .*in.avi, which is there already"),
        ({"labels": tmp_path / "a", "probs": str(tmp_path / "a")}, "labels and probs are both"),
    ):
        with pytest.raises(ValueError, match=text):
            segment(source, tmp_path / "x.avi", model, on_frame=never, progress=False, **folders)
    with pytest.raises(ValueError, match="steady is 'slow'; it must be one of running mean 0.3"):
        segment(source, None, model, on_frame=never, progress=False, steady="slow")
    with pytest.raises(ValueError, match="two images of the source are called 1"):
        FrameFiles(tmp_path / "a", "labels", ["0", "1", "1"])
    with pytest.raises(CannotWriteError, match="labels is .*cannot be written"):
        FrameFiles(source / "a", "labels")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "in.avi"]


@pytest.mark.parametrize("how", ["interrupt", "error"])
def test_ctrl_c_completes_the_folders_and_an_error_removes_them(
    tmp_path: Path, model: SegmentationModel, how: str
) -> None:
    def stop(index: int, *_: object) -> None:
        if index == 5:
            raise KeyboardInterrupt if how == "interrupt" else RuntimeError("no more")

    source = film(tmp_path / "in.avi", pictures(12))
    (tmp_path / "l").mkdir()
    arguments = {"labels": tmp_path / "l", "probs": tmp_path / "p", "on_frame": stop, "progress": False}
    if how == "error":
        with pytest.raises(RuntimeError, match="no more"):
            segment(source, tmp_path / "x.avi", model, **arguments)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in.avi", "l"]
        assert not list((tmp_path / "l").iterdir())
        return
    result = segment(source, tmp_path / "x.avi", model, **arguments)
    assert result["interrupted"] and len(result["written"]) == 3
    assert len(list((tmp_path / "l").glob("*.png"))) == len(list((tmp_path / "p").iterdir())) == 5
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


# ------------------------------------------------------------------------------------------------ strip, filter, window


def flipping(share: float):
    """A network that answers class 0, and every second time class 1 in a share of the rows."""
    calls = iter(range(10**6))

    def finish(scores: object, size: tuple[int, int]) -> np.ndarray:
        labels = np.zeros(size[::-1], np.uint8)
        labels[: round(share * size[1]) * (next(calls) % 2)] = 1
        return labels

    return Network("pytorch", lambda frame: frame, lambda prepared: prepared, finish)


def one_stream(monkeypatch: pytest.MonkeyPatch, networks: list[Network]) -> None:
    """These networks count their calls: a frame at a time, please."""
    opened = cycle(networks)
    monkeypatch.setattr(pipeline, "STREAMS", 1)
    monkeypatch.setattr(pipeline, "open_streams", lambda *_: [next(opened)])


def test_the_strip_stands_under_the_picture_and_its_number_is_told(
    tmp_path: Path, model: SegmentationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_stream(monkeypatch, [flipping(0.25)])
    source = film(tmp_path / "in.avi", [pictures(1)[0]] * 6)
    result = segment(source, tmp_path / "x.avi", model, strip=True, progress=False)
    assert result["flicker"] == pytest.approx(0.25) and len(result["flicker_series"]) == 6
    assert "flicker 25.00%" in summary(result)
    assert read_frames(tmp_path / "x.avi", 9).shape == (6, 64 + strip_height(96), 96, 3)
    alone = segment(source, None, model, strip=True, progress=False)
    assert alone["flicker"] == pytest.approx(0.25)  # nothing has to be drawn
    assert segment(source, None, model, progress=False)["flicker"] is None


def test_side_by_side_compares_flicker(
    tmp_path: Path, model: SegmentationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_stream(monkeypatch, [flipping(0.25), flipping(0.5)])
    source = film(tmp_path / "in.avi", [pictures(1)[0]] * 4)
    result = side_by_side(source, tmp_path / "x.avi", {"a": model, "b": model}, strip=True, progress=False)
    assert result["flicker"] == pytest.approx({"a": 0.25, "b": 0.5})
    assert read_frames(tmp_path / "x.avi", 9).shape == (4, 64 + strip_height(288, 2), 288, 3)
    assert "a 25.00%, b 50.00%" in summary(result)


def test_a_filter_stands_between_network_and_label_map(
    tmp_path: Path, model: SegmentationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = torch.randn(4, 1, 19, 16, 24, generator=torch.Generator().manual_seed(0))
    given = iter(logits)  # the first one goes to the warm-up, which the filter must not remember
    finish = partial(runtimes._finish, 4)
    network = Network("pytorch", lambda frame: frame, lambda prepared: next(given), finish)
    one_stream(monkeypatch, [network])
    source, seen = folder_of(tmp_path / "in", pictures(3)), []
    keep = lambda i, frame, got: seen.append(got[0])  # noqa: E731
    segment(source, None, model, steady="running mean 0.5", probs=tmp_path / "p", on_frame=keep, progress=False)
    first, second, _ = logits[1:].softmax(2)
    for t, probs in enumerate((first, (first + second) / 2)):
        assert (seen[t] == upsample_argmax(probs.log(), (96, 64))[0]).all()
        stored = np.load(tmp_path / "p" / f"00{t}.npz")["probs"]
        assert np.abs(stored / 255 - probs[0].numpy()).max() < 0.003


# ------------------------------------------------------------------------------------------------ several at once


def counted(delays: dict[int, float], fails_at: int = -1) -> Network:
    """Answers a frame with its own number (its first byte) everywhere, some of them late."""

    def run(frame: np.ndarray) -> np.ndarray:
        number = int(frame[0, 0, 0])
        if number == fails_at:
            raise RuntimeError("no answer")
        time.sleep(delays.get(number, 0))
        return frame

    return Network(
        "pytorch", lambda frame: frame, run, lambda frame, size: np.full(size[::-1], frame[0, 0, 0] % 19, np.uint8)
    )


@pytest.mark.parametrize("streams", [1, 2, 4])
def test_frames_come_out_in_order_however_late_an_answer_is(
    tmp_path: Path, model: SegmentationModel, monkeypatch: pytest.MonkeyPatch, streams: int
) -> None:
    asked = []

    def opened(model: object, runtime: str, size: tuple[int, int], wanted: int, *_: object) -> list[Network]:
        asked.append(wanted)
        return [counted({0: 0.05, 3: 0.08, 4: 0.03}) for _ in range(wanted)]

    monkeypatch.setattr(pipeline, "usable_cores", lambda: streams)
    monkeypatch.setattr(pipeline, "open_streams", opened)
    source = folder_of(tmp_path / "in", [np.full((64, 96, 3), i, np.uint8) for i in range(9)])
    seen, before = [], torch.get_num_threads()
    result = segment(source, None, model, on_frame=lambda i, _, maps: seen.append((i, maps[0][0, 0])), progress=False)
    assert seen == [(i, i) for i in range(9)] and result["frames"] == 9 and asked == [streams]
    assert torch.get_num_threads() == before
    assert result["at_once"] == streams and (f"{streams} at once" in summary(result)) == (streams > 1)


def test_an_error_in_one_of_several_streams_is_told(
    tmp_path: Path, model: SegmentationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "usable_cores", lambda: 2)
    monkeypatch.setattr(pipeline, "open_streams", lambda *_: [counted({}, 5), counted({}, 5)])
    source = folder_of(tmp_path / "in", [np.full((64, 96, 3), i, np.uint8) for i in range(9)])
    with pytest.raises(RuntimeError, match="no answer"):
        segment(source, tmp_path / "x.avi", model, progress=False)
    assert not list(tmp_path.glob("*.avi"))


@pytest.mark.parametrize(
    "runtime", ["pytorch", *(pytest.param(name, marks=pytest.mark.slow) for name in runtimes.FILE_RUNTIMES)]
)
def test_several_streams_answer_as_one_does(
    tmp_path: Path, model: SegmentationModel, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    if reason := runtimes.unavailable(runtime, "fp32"):
        pytest.skip(reason)
    source, found = folder_of(tmp_path / "in", pictures(6)), []
    for streams in (1, 3):
        monkeypatch.setattr(pipeline, "STREAMS", streams)
        monkeypatch.setattr(pipeline, "usable_cores", lambda: 3)
        maps: list[np.ndarray] = []
        segment(
            source,
            None,
            model,
            runtime=runtime,
            on_frame=lambda _i, _f, got, maps=maps: maps.append(got[0]),
            progress=False,
        )
        found.append(np.stack(maps))
    assert (found[0] == found[1]).mean() > 0.999  # another number of threads rounds otherwise


def test_a_filter_and_a_live_source_have_one_stream(model: SegmentationModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "usable_cores", lambda: 8)
    monkeypatch.setattr(pipeline, "open_streams", lambda _m, _r, _s, streams, *_: [counted({})] * streams)
    first = pictures(1)[0]
    count = lambda live, steady=None: len(pipeline.open_runners([model], "pytorch", first, live, None, steady))  # noqa: E731
    assert (count(False), count(True), count(False, "running mean 0.5")) == (pipeline.STREAMS, 1, 1)


class _Screen:
    """OpenCV's windows, written down; the key comes at a given picture."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, key: int, at: int, visible: float = 1.0) -> None:
        self.shown: list[np.ndarray] = []
        self.closed = False
        for name, fake in (
            ("namedWindow", lambda *_: None),
            ("resizeWindow", lambda *_: None),
            ("imshow", lambda _, picture: self.shown.append(picture)),
            ("pollKey", lambda: key if len(self.shown) >= at else -1),
            ("getWindowProperty", lambda *_: visible if len(self.shown) >= at else 1.0),
            ("destroyWindow", lambda _: setattr(self, "closed", True)),
        ):
            monkeypatch.setattr(cv2, name, fake)
        monkeypatch.setattr(render, "require_window", lambda: None)


@pytest.mark.parametrize(("key", "visible"), [(ord("q"), 1.0), (27, 1.0), (-1, 0.0)])
def test_a_window_shows_it_and_q_ends_as_ctrl_c_does(
    tmp_path: Path, model: SegmentationModel, monkeypatch: pytest.MonkeyPatch, key: int, visible: float
) -> None:
    screen = _Screen(monkeypatch, key, 3, visible)
    source = folder_of(tmp_path / "in", pictures(1) * 200)
    result = segment(source, tmp_path / "x.avi", model, overlay=0, show=True, progress=False)
    assert result["interrupted"] and 3 <= result["frames"] < 200 and screen.closed
    assert len(read_frames(tmp_path / "x.avi", 999)) == result["frames"]
    assert (screen.shown[0][..., ::-1] == pictures(1)[0]).all()


def test_no_window_no_work(tmp_path: Path, model: SegmentationModel, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = subprocess.CompletedProcess([], 134, "", "qt.qpa.xcb: could not connect to display")
    monkeypatch.setattr(outputs.subprocess, "run", lambda *_, **__: tried)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":77")
    never = lambda *_: pytest.fail("work was done")  # noqa: E731
    monkeypatch.setattr(render, "open_source", never)
    with pytest.raises(RuntimeError, match="display ':77' does not answer; write a file instead"):
        segment("x.mp4", None, model, show=True)
    monkeypatch.delenv("DISPLAY")
    with pytest.raises(RuntimeError, match="there is no display here"):
        side_by_side("x.mp4", None, {"a": model}, show=True)
    tried.stderr = "error: (-2:Unspecified error) The function is not implemented. Rebuild the library"
    with pytest.raises(RuntimeError, match="install opencv-python, not -headless"):
        segment("x.mp4", None, model, show=True)


def test_rates_of_the_stages_and_of_the_whole(tmp_path: Path, model: SegmentationModel) -> None:
    source = film(tmp_path / "in.avi", pictures(6))
    rates = pipeline_rates(source, model, frames=5, repeats=1)
    stages = {"decode", "network", "encode"}
    assert (
        set(rates) == {"frames", *stages, "possible", "pipeline", "share", "share_of_possible"} and rates["frames"] == 5
    )
    assert all(rate > 0 for rate in rates.values())
    slower = min(rates["decode"], rates["network"])
    assert rates["share"] == pytest.approx(rates["pipeline"] / slower)
    assert rates["share_of_possible"] == pytest.approx(rates["pipeline"] / min(slower, rates["possible"]))


@pytest.mark.slow
def test_ctrl_c_in_the_terminal(tmp_path: Path, model: SegmentationModel) -> None:
    save_weights(model, tmp_path / "w.safetensors")
    source = folder_of(tmp_path / "in", pictures(1) * 3000)
    out = tmp_path / "out" / "x.mp4"
    command = [sys.executable, "-m", "tcseg", "segment", source, "--out", out, "--weights", tmp_path / "w.safetensors"]
    log = tmp_path / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(list(map(str, command)), stderr=errors, stdout=subprocess.DEVNULL)
    deadline = time.time() + 120
    while time.time() < deadline and not re.search(r" \d\d+/3000", log.read_text()):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130, log.read_text()
    assert "interrupted: the first" in log.read_text()
    assert 0 < len(read_frames(only_file(out.parent), 9999)) < 3000


# ------------------------------------------------------------------------------------------------ recording


def test_what_is_recorded_can_be_looked_at_again(tmp_path: Path) -> None:
    frames = [np.full((32, 64, 3), 40 * t, np.uint8) for t in range(4)]
    path = encoding.record(iter(frames), tmp_path / "new" / "clip.avi", 10)
    assert open_source(path).count == 4 and open_source(path).fps == pytest.approx(10)
    assert np.abs(read_frames(path, 4).astype(int) - np.stack(frames)).max() <= 4
    assert os.listdir(path.parent) == ["clip.avi"]


def test_a_recording_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken():
        yield np.zeros((32, 64, 3), np.uint8)
        raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged"):
        encoding.record(broken(), tmp_path / "clip.avi", 10)
    with pytest.raises(ValueError, match="no frames for clip.avi"):
        encoding.record([], tmp_path / "clip.avi", 10)
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_int8_is_calibrated_on_frames_of_the_size_that_the_network_sees(
    tmp_path: Path, model: SegmentationModel
) -> None:
    pytest.importorskip("onnxruntime")
    source, asked = folder_of(tmp_path / "in", pictures(3)), []

    def calibrate(size: tuple[int, int]) -> np.ndarray:
        asked.append(size)
        return read_frames(source, 3)

    given = {"runtime": "onnxruntime", "precision": "int8", "progress": False}
    result = segment(source, None, model, labels=tmp_path / "labels", calibrate=calibrate, **given)
    assert result["frames"] == 3 and asked == [(96, 64)] and len(list((tmp_path / "labels").glob("*.png"))) == 3
    for more, text in (
        ({}, "int8 takes its ranges from frames"),
        (
            {"runtime": "pytorch", "calibrate": calibrate},
            "pytorch does not run int8 networks; onnxruntime and openvino do",
        ),
        ({"precision": "fp16"}, "a way to store a file"),
        ({"precision": "int4"}, "precision is 'int4'"),
    ):
        with pytest.raises(ValueError, match=text):
            segment(source, None, model, **(given | more))
