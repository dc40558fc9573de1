"""The students that ship, scored on real frames: what is scored, how, and that the committed numbers are of the committed files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from tcseg.labels import CAMVID, CITYSCAPES, cityscapes_to_camvid, ids_to_train_ids
from tcseg.models import registry
from tcseg.study.measurements.real import zero_shot
from tcseg.study.paths import FIGURES
from tcseg.video import render

NAMES = {*registry.shipped_names(), zero_shot.TEACHER}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CamVid and Cityscapes in small, in their layouts; nothing in them is real."""
    rng, root = np.random.default_rng(0), tmp_path / "data"

    def write(path: Path, picture: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture)

    def blocks(values: int, shape: tuple[int, ...]) -> np.ndarray:
        return cv2.resize(rng.integers(0, values, (3, 4, *shape), np.uint8), (64, 48), interpolation=cv2.INTER_NEAREST)

    for i in range(3):
        write(root / "camvid" / "val" / f"0001_{i}.png", blocks(256, (3,)))
        write(root / "camvid" / "valannot" / f"0001_{i}.png", blocks(12, ()))
        name = f"aachen/aachen_00000{i}_000019"
        write(root / "cityscapes" / "leftImg8bit" / "train" / f"{name}_leftImg8bit.png", blocks(256, (3,)))
        write(root / "cityscapes" / "gtFine" / "train" / f"{name}_gtFine_labelIds.png", blocks(34, ()))
    write(root / "cityscapes" / "gtFine" / "train" / "aachen" / "aachen_000009_000019_gtFine_labelIds.png", blocks(34, ()))
    monkeypatch.setenv("TCSEG_DATA", str(root))
    return root


def expected(maps: list[np.ndarray], labels: list[np.ndarray], count: int) -> tuple[list[float], float]:
    """IoU by class (nan where the class is neither in labels nor in answers) and the accuracy, set by set."""
    answer, truth = np.stack(maps), np.stack(labels)
    answer = np.where(truth == 255, 255, answer)
    pairs = [((answer == k) & (truth == k), (answer == k) | (truth == k)) for k in range(count)]
    ious = [float(both.sum() / either.sum()) if either.any() else np.nan for both, either in pairs]
    return ious, float((answer == truth)[truth != 255].mean())


@pytest.mark.slow
def test_scores_are_those_of_what_segment_answers(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zero_shot, "NAMES", ("student",))
    table = zero_shot.measure(tmp_path / "out").set_index("dataset")
    classes = pd.read_csv(tmp_path / "out" / "tables" / "zero_shot_classes.csv").set_index(["dataset", "class"])
    sources = {"camvid": data / "camvid" / "val", "cityscapes": data / "cityscapes" / "leftImg8bit" / "train" / "aachen"}
    labels = {
        "camvid": [cv2.imread(str(path), -1) for path in sorted((data / "camvid" / "valannot").iterdir())],
        "cityscapes": [
            cv2.imread(str(data / "cityscapes" / "gtFine" / "train" / "aachen" / f"{path.name[:20]}_gtFine_labelIds.png"), -1)
            for path in sorted(sources["cityscapes"].iterdir())
        ],
    }
    labels["camvid"] = [np.where(one == 11, 255, one) for one in labels["camvid"]]
    labels["cityscapes"] = [ids_to_train_ids(one) for one in labels["cityscapes"]]
    for dataset, source in sources.items():
        maps: list[np.ndarray] = []
        render.segment(source, None, registry.shipped("student"), on_frame=lambda i, f, m, to=maps: to.append(m[0]), progress=False)
        merged = [cityscapes_to_camvid(one) for one in maps] if dataset == "camvid" else maps
        names = (CAMVID if dataset == "camvid" else CITYSCAPES).classes
        ious, accuracy = expected(merged, labels[dataset], len(names))
        row = table.loc[dataset]
        assert (row["frames"], row["classes"], row["network"]) == (3, len(names), "student")
        assert (row["width"], row["height"], row["seen_width"], row["seen_height"]) == (64, 48, 224, 160)
        assert row["miou"] == pytest.approx(np.nanmean(ious), abs=1e-5)
        assert row["pixel_accuracy"] == pytest.approx(accuracy, abs=1e-5)
        assert row["miou_native"] != row["miou"]
        assert classes.loc[dataset]["iou"].to_numpy() == pytest.approx(ious, abs=1e-5, nan_ok=True)
        assert classes.loc[dataset]["share"].sum() == pytest.approx(1, abs=1e-4)
        wrong = classes.loc[dataset].dropna(subset=["taken_for"])
        assert len(wrong) and (wrong["taken_for"] != wrong.index).all() and (wrong["taken_for_share"] > 0).all()


def test_which_frames_are_scored(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    camvid, cityscapes = zero_shot.labelled_sets()
    assert (camvid.dataset, camvid.split, len(camvid.files)) == ("camvid", "val", 3)
    assert (cityscapes.split, len(cityscapes.files)) == ("train", 3), "a label without its frame is none"
    assert [len(found.files) for found in zero_shot.labelled_sets(2)] == [2, 2]
    for tree in ("gtFine", "leftImg8bit"):
        (data / "cityscapes" / tree / "train").rename(data / "cityscapes" / tree / "val")
    assert zero_shot.labelled_sets()[1].split == "val"
    monkeypatch.setattr(zero_shot, "find_dataset", lambda name: None)
    with pytest.raises(FileNotFoundError, match="neither CamVid nor Cityscapes is on this machine"):
        zero_shot.labelled_sets()


def test_the_committed_scores_are_of_the_files_that_ship() -> None:
    table = pd.read_csv(FIGURES / "tables" / "zero_shot.csv")
    assert set(table["dataset"]) == {"camvid", "cityscapes"}
    for dataset, rows in table.groupby("dataset"):
        assert set(rows["network"]) == NAMES, dataset
        for row in rows[rows["network"] != zero_shot.TEACHER].itertuples():
            folder = registry.WEIGHTS / "street" if row.network in registry.STREET else registry.WEIGHTS
            file = (folder / f"{row.network}.safetensors").read_bytes()
            assert row.sha256 == hashlib.sha256(file).hexdigest() == registry.weights_hash(row.network), (
                f"{row.network} has other weights since: tcseg measure zero_shot, then make reference"
            )
            assert (row.run_id if isinstance(row.run_id, str) else "") == registry.shipped_notes(row.network).get("run_id", "")


def test_the_teacher_is_scored_by_its_stored_maps(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zero_shot, "NAMES", ())
    assert zero_shot.measure(tmp_path / "out").empty, "no maps, no teacher"
    for path in (data / "cityscapes" / "gtFine" / "train" / "aachen").glob("*_labelIds.png"):
        folder = data / "teacher_maps" / "cityscapes_sample" / "labels" / "train"
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / path.name.replace("gtFine_labelIds", "leftImg8bit")
        cv2.imwrite(str(target), ids_to_train_ids(cv2.imread(str(path), -1)))  # a teacher that is always right
    (row,) = zero_shot.measure(tmp_path / "out").to_dict("records")
    assert (row["network"], row["dataset"], row["frames"]) == ("teacher", "cityscapes", 3)
    assert row["miou"] == row["pixel_accuracy"] == 1
    assert "labels" in row["learned_from"] and pd.isna(row["seen_width"])


def test_the_card_shows_them() -> None:
    card = (FIGURES.parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    table = pd.read_csv(FIGURES / "tables" / "zero_shot.csv")
    section = card.split("## On a real street")[1].split("\n## ")[0]
    for row in table.itertuples():
        seen = "–" if row.network == zero_shot.TEACHER else f"{row.seen_width:.0f}x{row.seen_height:.0f}"
        cells = f"| `{row.network}` | {row.learned_from} | {seen} | {100 * row.miou:.1f} | {100 * row.pixel_accuracy:.1f} |"
        assert section.count(cells) == 1, cells
        assert row.network == zero_shot.TEACHER or f"`{row.network}` {row.sha256[:12]}" in section
    assert "have never seen a real road" in section
    fast = card.split("## The fast one")[1].split("\n## ")[0]
    assert all(f"{100 * value:.1f} % on " in fast for value in table[table["network"] == registry.FAST]["miou"])
