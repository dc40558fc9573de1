"""`tcseg measure adapt` and `street`: what is learned from, what is scored, and that an interrupted one goes on."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from tcseg.adaptation.run import COLUMNS
from tcseg.errors import CannotRunError, NotFoundError
from tcseg.models import registry
from tcseg.study.measurements.real import adapt, adapt_long, street, unseen_camera
from tcseg.study.paths import FIGURES
from tcseg.video.encoding import record
from tcseg.video.reading.decoding import open_source


def moving(count: int, seed: int) -> list[np.ndarray]:
    """Frames of a coarse pattern that moves."""
    wide = cv2.resize(np.random.default_rng(seed).integers(0, 256, (6, 12, 3), np.uint8), (160, 64), interpolation=cv2.INTER_CUBIC)
    return [np.ascontiguousarray(wide[:48, i : i + 64]) for i in range(count)]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CamVid, Cityscapes, films and maps in small, in their layouts; nothing in them is real."""
    root = tmp_path / "data"

    def write(path: Path, picture: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture)

    def maps(dataset: str, place: str, names: list[str]) -> None:
        for i, name in enumerate(names):
            labels = np.full((48, 64), 2, np.uint8)
            labels[24 + i % 8 :] = 0
            write(root / "teacher_maps" / dataset / "labels" / place / name, labels)
            write(root / "teacher_maps" / dataset / "confidence" / place / name, np.full((48, 64), 224, np.uint8))

    for split, count in (("train", 60), ("val", 60)):
        names = [f"0001_{i:03}.png" for i in range(count)]
        for name, frame in zip(names, moving(count, len(split)), strict=True):
            write(root / "camvid" / split / name, frame)
            write(root / "camvid" / f"{split}annot" / name, np.full((48, 64), 3, np.uint8))
        maps("camvid", split, names)
    clip = [f"aachen_000000_{i:06}_leftImg8bit.png" for i in range(24)]
    for name, frame in zip(clip, moving(24, 7), strict=True):
        write(root / "cityscapes" / "leftImg8bit_sequence" / "train" / "aachen" / name, frame)
    maps("cityscapes_sample", "train/aachen", clip)
    (root / "videos").mkdir()
    record(moving(24, 8), root / "videos" / "highway_a.mp4", 25)
    maps("videos", "highway_a", [f"{i:06}.png" for i in range(24)])
    monkeypatch.setenv("TCSEG_DATA", str(root))
    return root


def test_what_is_scored_is_not_learned_from(data: Path, tmp_path: Path) -> None:
    protocol = adapt._protocol(tmp_path / "out")
    seen, scored = ({path.name for path in protocol[name].iterdir()} for name in ("video", "score"))
    assert len(seen) == 36 and len(scored) == 24 and not seen & scored and max(seen) < min(scored)
    assert adapt._protocol(tmp_path / "out") == protocol, "a second time the links are there"
    shutil.rmtree(data / "teacher_maps")
    with pytest.raises(FileNotFoundError, match="data/teacher_maps/camvid are needed"):
        adapt._protocol(tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="data/teacher_maps are needed"):
        street._protocol(tmp_path / "out")


@pytest.mark.slow
def test_a_row_for_each_seed_and_stage(data: Path, tmp_path: Path) -> None:
    *_, table = adapt.measure(tmp_path, quick=True)
    assert table["seed"].tolist() == [0] * 3 + [1] * 3 and tuple(table.columns) == COLUMNS
    assert (table["frames"] == 24).all() and table["miou"].between(0, 1).all() and table["flicker"].between(0, 1).all()
    after = table[table["stage"] == "after"]["agreement"]
    assert after.nunique() == 2, "seeds differ"
    classes = pd.read_csv(tmp_path / "tables" / "adapt_classes.csv")
    assert set(classes["stage"]) == {"before", "after", "teacher"} and set(classes["class"]) >= {"road"}
    shutil.rmtree(data / "teacher_maps" / "camvid" / "labels" / "val")  # a finished seed is not trained again
    (data / "teacher_maps" / "camvid").mkdir(exist_ok=True)
    *_, again = adapt.measure(tmp_path, quick=True)
    pd.testing.assert_frame_equal(again.reset_index(drop=True), table.reset_index(drop=True))


@pytest.mark.slow
def test_students_for_real_streets_learn_from_all_that_is_there(data: Path, tmp_path: Path) -> None:
    *_, table = street.measure(tmp_path, quick=True)
    assert table["student"].tolist() == [name for name in street.SETTINGS for _ in range(3)]
    assert set(table["video"]) == {"highway_a+aachen+train"}
    assert not (tmp_path / "street").exists(), "what a quick measurement made is never shipped"
    (folder,) = (tmp_path / "parts").glob("street-*")
    for name in street.SETTINGS:
        network = registry.load_weights(folder / f"{name}.safetensors")
        assert network.arch == registry.shipped(street.SETTINGS[name]["arch"]).arch and network.trained_size == (128, 96)
        assert "non-commercial" in (folder / f"{name}.md").read_text()


def test_a_repeated_film_has_every_frame_at_its_own_time(data: Path, tmp_path: Path) -> None:
    count = adapt_long.repeat(data / "videos" / "highway_a.mp4", tmp_path / "long.mp4", seconds=3)
    opened = open_source(tmp_path / "long.mp4")
    frames = list(opened.frames())
    assert count == len(frames) == 96 and opened.fps == pytest.approx(25)
    for i in (24, 71):
        np.testing.assert_array_equal(frames[i], frames[i % 24])


@pytest.mark.slow
def test_the_cost_of_a_long_video_is_of_the_whole_command(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapt_long, "FILM", "highway_a")
    with pytest.raises(CannotRunError, match="exit status"):
        adapt_long.peak_memory([sys.executable, "-c", "raise SystemExit(3)"])
    row = adapt_long.measure(tmp_path, quick=True).iloc[0]
    assert row["frames"] == 384 and row["steps"] == 4 and row["peak_gb"] > 0.3
    assert row["minutes"] > row["training_minutes"] > 0


def test_a_quick_measurement_is_never_taken_for_a_whole_one(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []
    monkeypatch.setattr(adapt, "as_finished", lambda _, tasks: folders.append(tasks[0][1]) or iter(()))
    for quick in (True, False):
        list(adapt.measure(tmp_path, quick))
    assert folders[0] != folders[1]


def test_the_committed_seeds_are_all_there() -> None:
    table = pd.read_csv(FIGURES / "tables" / "adapt.csv")
    assert tuple(table.columns) == COLUMNS and sorted(table["seed"].unique()) == list(range(adapt.SEEDS))
    assert table.groupby("seed").stage.apply(list).map(lambda one: one == ["before", "after", "teacher"]).all()
    assert table[table["stage"] == "teacher"].miou.nunique() == 1, "the teacher is the same for every seed"


@pytest.mark.slow
def test_no_run_is_scored_on_what_it_learned_from(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = {run: options for run, options in unseen_camera.RUNS.items() if run[1] == "other light, mixed classes"}
    monkeypatch.setattr(unseen_camera, "RUNS", some)
    monkeypatch.setattr(unseen_camera, "as_finished", lambda work, tasks: ((key, work(*task)) for key, task in tasks.items()))
    with pytest.raises(NotFoundError, match="labelled frames of Cityscapes"):
        list(unseen_camera.measure(tmp_path, quick=True))
    labels = data / "cityscapes" / "gtFine" / "train" / "aachen" / "aachen_000000_000005_gtFine_labelIds.png"
    labels.parent.mkdir(parents=True)
    cv2.imwrite(str(labels), np.full((48, 64), 7, np.uint8))
    *_, table = unseen_camera.measure(tmp_path, quick=True)
    assert set(table["learned_from"]) == {"procity", "camvid"} and table["miou"].between(0, 1).all()
    assert not (table["learned_from"] == table["dataset"]).any()
    assert table.groupby(["learned_from", "seed"]).size().to_dict() == {("camvid", 0): 1, ("procity", -1): 2, ("procity", 0): 2}
