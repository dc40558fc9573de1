"""Video in, video out: what comes out can be played, and whatever goes wrong leaves no half-written file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tcseg import video, videofiles
from tcseg.models import build, save_weights
from tcseg.networks import SegmentationModel
from tcseg.postprocess import upsample_argmax
from tcseg.video import blend, segment, side_by_side
from tcseg.videofiles import Source, open_source, read_frames


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
    assert np.abs(back[4].astype(int) - painted).mean() < 12  # lossy


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".gif"])
def test_odd_sides_are_padded_and_every_format_plays(tmp_path: Path, model: SegmentationModel, suffix: str) -> None:
    shapes = []
    source = folder_of(tmp_path / "in", pictures(4, 101, 67))
    out = tmp_path / f"x{suffix}"
    segment(source, out, model, progress=False, on_frame=lambda i, frame, maps: shapes.append(maps[0].shape))
    assert shapes == [(67, 101)] * 4
    assert read_frames(out, 9).shape == (4, 67, 101, 3) if suffix == ".gif" else (4, 68, 102, 3)


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
    mixed = folder_of(tmp_path / "mixed", pictures(2))
    cv2.imwrite(str(mixed / "9.png"), np.zeros((32, 32, 3), np.uint8))
    broken = folder_of(tmp_path / "broken", pictures(2))
    (broken / "001.png").write_bytes((broken / "000.png").read_bytes()[:60])
    for name, error, text in (
        ("absent.mp4", FileNotFoundError, "absent.mp4 does not exist"),
        ("nothing", FileNotFoundError, "has no images"),
        ("empty.mp4", ValueError, "it is empty"),
        ("text.mp4", ValueError, "cannot be read as a video"),
        ("mixed", ValueError, "9.png is 32x32, the images before it are 96x64"),
        ("broken", ValueError, "001.png cannot be read as an image"),
    ):
        with pytest.raises(error, match=text):
            segment(tmp_path / name, out, model, progress=False)
        assert not out.parent.exists() or not list(out.parent.iterdir()), name


def test_a_video_without_frames(tmp_path: Path, model: SegmentationModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "open_source", lambda source: Source("x.mp4", 10, 0, False, lambda: iter(())))
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


def test_wrong_targets_fail_before_any_work(tmp_path: Path, model: SegmentationModel) -> None:
    source = film(tmp_path / "in.avi", pictures(2))
    blocked = tmp_path / "a_file"
    blocked.touch()
    never = lambda *_: pytest.fail("work was done")  # noqa: E731
    for out, error, text in (
        (tmp_path / "x.mkv", ValueError, "suffix must be one of"),
        (blocked / "x.mp4", PermissionError, "cannot be written"),
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
    assert result["interrupted"] and "interrupted" in result["message"]
    assert len(read_frames(only_file(tmp_path / "out"), 99)) == 5


@pytest.mark.parametrize("where", ["on_frame", "encode", "disk"])
def test_an_error_leaves_nothing_and_keeps_the_old_file(
    tmp_path: Path, model: SegmentationModel, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no more")

    if where == "encode":
        monkeypatch.setattr(videofiles.Sink, "write", fail)
    if where == "disk":  # a full disk: OpenCV says nothing, the file is short
        monkeypatch.setattr(cv2, "VideoWriter", _Forgetful)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.mp4").write_text("of yesterday")
    source = folder_of(tmp_path / "in", pictures(12))
    with pytest.raises(RuntimeError, match="disk full" if where == "disk" else "no more"):
        on_frame = fail if where == "on_frame" else None
        segment(source, tmp_path / "out" / "x.mp4", model, on_frame=on_frame, progress=False)
    assert only_file(tmp_path / "out").read_text() == "of yesterday"


class _Forgetful:
    """A video writer that writes nothing, as OpenCV's does on a full disk."""

    fourcc = staticmethod(cv2.VideoWriter.fourcc)

    def __init__(self, *_: object) -> None: ...

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def write(self, _: np.ndarray) -> None: ...

    def release(self) -> None: ...


def test_a_live_source_drops_old_frames_and_a_file_never(
    tmp_path: Path, model: SegmentationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stream():
        for frame in pictures(25):
            time.sleep(0.004)
            yield frame

    for live in (True, False):
        monkeypatch.setattr(video, "open_source", lambda _, live=live: Source("0", 30, None, live, stream))
        result = segment("0", None, model, on_frame=lambda *_: time.sleep(0.02), progress=False)
        assert result["frames"] + result["dropped"] == 25
        assert (result["dropped"] > 0) == live


def test_sources(tmp_path: Path) -> None:
    source = open_source(film(tmp_path / "in.avi", pictures(7)))
    assert (source.fps, source.count, source.live) == (10.0, 7, False)
    assert len(read_frames(tmp_path / "in.avi", 3)) == 3
    folder = open_source(folder_of(tmp_path / "in", pictures(3)))
    assert (folder.fps, folder.count) == (17.0, 3)
    with pytest.raises(RuntimeError, match="camera 77 does not open"):
        open_source("77")


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
