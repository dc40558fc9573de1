"""One picture, JSON lines, and what `segment` does with chosen classes, excerpts and open networks."""

from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tcseg.errors import InputError
from tcseg.labels import CITYSCAPES
from tcseg.models.networks import SegmentationModel
from tcseg.models.registry import build
from tcseg.video.outputs import FrameLines, open_lines
from tcseg.video.painting import blend, painting
from tcseg.video.pipeline import SegmentedFrame
from tcseg.video.reading.decoding import open_source, read_frames
from tcseg.video.render import OpenNetworks, segment


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    torch.manual_seed(0)
    return build("student", 19, False).eval()


def picture(height: int = 64, width: int = 96) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def folder_of(path: Path, count: int) -> Path:
    path.mkdir()
    for i in range(count):
        cv2.imwrite(str(path / f"f{i}.png"), np.roll(picture(), 3 * i, 1)[..., ::-1])
    return path


def run(source: Path, out: Path | None, model: SegmentationModel, **options: object) -> tuple[dict, list]:
    """What `segment` returns, and the label maps."""
    maps = []
    told = segment(source, out, model, progress=False, on_frame=lambda i, f, m: maps.append(m[0]), **options)
    return told, maps


# ------------------------------------------------------------------------------------------------ one picture


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".PNG"])
def test_one_picture_in_one_picture_out(tmp_path: Path, model, suffix):
    Image.fromarray(picture()).save(tmp_path / "street_007.png")
    Image.fromarray(picture()).save(tmp_path / "street_008.png")  # no sequence is meant
    out = tmp_path / "out" / f"x{suffix}"
    told, maps = run(tmp_path / "street_007.png", out, model, labels=tmp_path / "maps")
    assert told["frames"] == 1 and told["message"] is None and told["written"] == [out, tmp_path / "maps"]
    wanted = blend(picture(), maps[0], CITYSCAPES)
    back = np.asarray(Image.open(out).convert("RGB")).astype(int)
    assert np.abs(back - wanted).mean() < (1e-9 if suffix.lower() == ".png" else 25)
    assert [one.name for one in out.parent.iterdir()] == [out.name]
    assert np.array_equal(cv2.imread(str(tmp_path / "maps" / "street_007.png"), cv2.IMREAD_UNCHANGED), maps[0])


def test_pictures_of_every_kind(tmp_path: Path, model):
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(picture()).save(tmp_path / "turned.jpg", exif=turned)
    Image.fromarray(picture()[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack((picture(), picture()[..., 0]))).save(tmp_path / "alpha.png")
    cv2.imwrite(str(tmp_path / "deep.png"), picture().astype(np.uint16) << 4)
    for name, size in {"turned.jpg": (96, 64), "grey.png": (64, 96), "alpha.png": (64, 96), "deep.png": (64, 96)}.items():
        _, maps = run(tmp_path / name, tmp_path / "o.png", model)
        assert [one.shape for one in maps] == [size]
        assert np.asarray(Image.open(tmp_path / "o.png")).shape[:2] == size, name


def test_a_picture_is_no_film_and_a_film_no_picture(tmp_path: Path, model):
    Image.fromarray(picture()).save(tmp_path / "x.png")
    with pytest.raises(InputError, match="the source is one picture; its suffix must be one of .png, .jpg"):
        run(tmp_path / "x.png", tmp_path / "y.mp4", model)
    with pytest.raises(InputError, match="its suffix must be one of .mp4"):
        run(folder_of(tmp_path / "clip", 2), tmp_path / "y.png", model)
    with pytest.raises(InputError, match="one picture: nothing can flicker"):
        run(tmp_path / "x.png", tmp_path / "y.png", model, strip=True)
    (tmp_path / "x.png").write_bytes((tmp_path / "x.png").read_bytes()[:99])
    with pytest.raises(InputError, match="cut off or damaged"):
        run(tmp_path / "x.png", tmp_path / "y.png", model)
    assert not (tmp_path / "y.png").exists() and read_frames(tmp_path / "clip" / "f0.png", 5).shape[0] == 1


# ------------------------------------------------------------------------------------------------ chosen classes, excerpts


def test_only_chosen_classes_are_painted_and_counted(model):
    labels = np.random.default_rng(1).choice(np.array([0, 8, 11, 13], np.uint8), (64, 96))
    outputs = painting(model, 0.6, True, chosen=(11, 13))
    painted, inside = outputs.render(picture(), [labels]), np.isin(labels, (11, 13))
    assert np.array_equal(painted[~inside], picture()[~inside])
    assert np.array_equal(painted[inside], blend(picture(), labels, CITYSCAPES)[inside])
    other = np.where(labels == 0, np.uint8(8), labels)  # nothing that is counted changes
    cars = np.where(labels == 0, np.uint8(13), labels)
    for answer in (labels, other, cars):
        outputs.write(SegmentedFrame(picture(), [answer], None))
    assert np.array(outputs.meter.series)[1:, 0] == pytest.approx([0, (labels == 0).mean()])


def test_label_maps_stay_whole_if_classes_are_chosen(tmp_path: Path, model):
    source = folder_of(tmp_path / "clip", 1) / "f0.png"
    _, (whole,) = run(source, None, model)
    absent = next(name for place, name in enumerate(CITYSCAPES.classes) if place not in whole)
    run(source, tmp_path / "x.png", model, classes=absent.upper(), labels=tmp_path / "maps")
    assert np.array_equal(cv2.imread(str(tmp_path / "maps" / "f0.png"), cv2.IMREAD_UNCHANGED), whole)
    assert np.array_equal(read_frames(tmp_path / "x.png", 1)[0], picture())  # nothing is painted


def test_an_excerpt_has_its_names_its_rate_and_true_times(tmp_path: Path, model):
    source, stream = folder_of(tmp_path / "clip", 12), io.StringIO()
    rate = open_source(source).fps
    options = {"start": 3 / rate, "end": 10 / rate, "stride": 3, "labels": tmp_path / "maps", "lines": stream}
    told, maps = run(source, tmp_path / "x.avi", model, **options)
    assert told["frames"] == told["expected"] == 3 and told["message"] is None
    assert sorted(one.name for one in (tmp_path / "maps").glob("*.png")) == ["f3.png", "f6.png", "f9.png"]
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["frame"] for line in lines] == [3, 6, 9]
    assert [line["time"] for line in lines] == pytest.approx([3 / rate, 6 / rate, 9 / rate], abs=1e-6)
    assert cv2.VideoCapture(str(tmp_path / "x.avi")).get(cv2.CAP_PROP_FPS) == pytest.approx(rate / 3, rel=1e-3)
    with pytest.raises(InputError, match="start is 99 s, but clip lasts"):
        run(source, tmp_path / "never" / "x.avi", model, start=99)
    assert not (tmp_path / "never").exists()


# ------------------------------------------------------------------------------------------------ JSON lines


def test_lines_say_what_the_maps_and_the_strip_say(tmp_path: Path, model):
    target = tmp_path / "deep" / "x.jsonl"
    told, maps = run(folder_of(tmp_path / "clip", 4), None, model, lines=target, strip=True)
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert told["lines"] == str(target) and [one.name for one in target.parent.iterdir()] == ["x.jsonl"]
    for index, (line, labels) in enumerate(zip(lines, maps, strict=True)):
        assert set(line) == {"source", "frame", "time", "classes", "flicker", "ms"}
        assert line["frame"] == index and line["ms"] > 0 and tuple(line["classes"]) == CITYSCAPES.classes
        assert sum(line["classes"].values()) == pytest.approx(1, abs=1e-12)
        assert line["classes"] == {name: (labels == place).mean() for place, name in enumerate(CITYSCAPES.classes)}
    assert lines[0]["flicker"] is None
    assert [line["flicker"] for line in lines[1:]] == pytest.approx(told["flicker_series"][1:], abs=1e-6)


def test_shares_of_chosen_classes_and_the_rest_sum_to_one():
    stream = io.StringIO()
    labels = np.repeat(np.array([0, 11, 13, 13], np.uint8), 25)[None]
    FrameLines(stream, CITYSCAPES, "x", (11, 13)).write((7, 0.28), labels, float("nan"), float("nan"))
    line = json.loads(stream.getvalue())
    assert line == {
        "source": "x", "frame": 7, "time": 0.28, "classes": {"person": 0.25, "car": 0.5}, "other": 0.25,
        "flicker": None, "ms": None,
    }  # fmt: skip


class Closed(io.StringIO):
    """A pipe whose reader goes after so many lines."""

    def __init__(self, lines: int) -> None:
        super().__init__()
        self.left = lines

    def flush(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise BrokenPipeError


def test_a_closed_pipe_ends_the_work_only_if_nothing_else_is_written(tmp_path: Path, model):
    source = folder_of(tmp_path / "clip", 5)
    with pytest.raises(BrokenPipeError):
        run(source, None, model, lines=Closed(2))
    told, _ = run(source, tmp_path / "x.avi", model, lines=Closed(2))
    assert told["frames"] == 5 and len(read_frames(tmp_path / "x.avi", 9)) == 5


def test_lines_of_a_run_that_failed_are_not_left(tmp_path: Path):
    with pytest.raises(InputError), open_lines(tmp_path / "x.json") as stream:
        stream.write("half")
        raise InputError("no")
    with pytest.raises(InputError, match="which is a folder"), open_lines(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------ open networks


def test_networks_are_opened_once_for_one_size_and_filters_begin_anew(tmp_path: Path, model):
    networks = OpenNetworks()
    a, b = folder_of(tmp_path / "a", 3), folder_of(tmp_path / "b", 3)
    Image.fromarray(picture(32, 64)).save(tmp_path / "small.png")
    together = [run(one, None, model, networks=networks, steady="median of three")[1] for one in (a, b)]
    assert networks.opened == 1 and np.array_equal(together[0], together[1])
    assert np.array_equal(together[1], run(b, None, model, steady="median of three")[1])
    run(tmp_path / "small.png", None, model, networks=networks, steady="median of three")
    assert networks.opened == 2
