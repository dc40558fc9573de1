"""`tcseg evaluate`: the same numbers as the study's own evaluation, in every layout, and errors that name the file."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from command import run

from tcseg import procity
from tcseg.data import clips as data
from tcseg.data.clip_files import cityscapes_split, exact_flow
from tcseg.evaluation import label_map_counts, label_map_files, label_map_layouts, label_map_tables, split_scores
from tcseg.labels import CITYSCAPES, IGNORE, ids_to_train_ids, train_ids_to_ids
from tcseg.metrics import segmentation

SIZE = (128, 64)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("city") / "procity"
    return procity.generate(root, size=SIZE, train=0, val=2, test=0, neighbours=1, workers=1, progress=False)


@pytest.fixture(scope="module")
def clips(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> data.Clips:
    """The tree in memory, with its flow as precise as in the files."""
    clips = data.load_clips("procity", tree, "val", SIZE, tmp_path_factory.mktemp("cache"))
    flows = [exact_flow(snippet, SIZE, 0) for snippet in cityscapes_split(tree, "val", 1)[0]]
    return replace(clips, flows={"exact": tuple(map(np.stack, zip(*flows, strict=True))), "dis": clips.flows["dis"]})


@pytest.fixture(scope="module")
def answers(clips: data.Clips) -> np.ndarray:
    """True labels with every tenth row of pixels replaced at random, void as road."""
    rng = np.random.default_rng(0)
    noisy = np.where(rng.random(clips.labels.shape) < 0.1, rng.integers(0, 19, clips.labels.shape), clips.labels)
    return np.where(noisy == IGNORE, 0, noisy).astype(np.uint8)


@pytest.fixture
def written(tree: Path, clips: data.Clips, answers: np.ndarray, tmp_path: Path) -> Path:
    """The answers as files with ids."""
    folder = tmp_path / "mine"
    frames = sorted((tree / "leftImg8bit_sequence" / "val").rglob("*.png"))
    for path, answer in zip(frames, answers.reshape(-1, *SIZE[::-1]), strict=True):
        put(folder / path.parent.name / path.name.replace("leftImg8bit", "answer"), train_ids_to_ids(answer))
    return folder


def put(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


def folders(tree: Path) -> dict[str, Path]:
    return {"frames": tree / "leftImg8bit_sequence" / "val", "labels": tree / "gtFine" / "val"}


def test_numbers_are_those_of_the_studys_own_evaluation(tree, clips, answers, written, tmp_path):
    expected = split_scores.evaluate_predictor(lambda i: answers[i], clips)
    paths = {f"--{name}": path for name, path in folders(tree).items()}
    arguments = [text for pair in paths.items() for text in pair]
    flows = ("--flow", "exact", "--flow", "dis")
    output = run(
        "evaluate", "--predictions", written, *arguments, *flows, "--workers", 1, "--out", tmp_path / "out"
    ).output
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    for kind in ("tc", "tc_gap5", "tc_unmasked", "tc_boundary", "etc_compat"):
        assert found["metrics"][kind]["exact"] == expected["metrics"][kind]["exact"]
        assert found["metrics"][kind]["dis"] == pytest.approx(
            expected["metrics"][kind]["dis"], abs=2e-3
        )  # float16 there
    own = {name: value for name, value in expected["metrics"].items() if not isinstance(value, dict)}
    of_things = {name: found["metrics"][name] for name in ("iiou", "iiou_category")}  # a study keeps no instances
    assert {name: found["metrics"][name] for name in own} | of_things == own | of_things and own["flicker"] > 0.05
    for name, value in of_things.items():
        assert value == pytest.approx(instance_iou(tree, written, name), abs=1e-6)
    assert found["per_class"]["iou"] == expected["per_class"]["iou"]
    assert found["metrics"]["tc_ceiling"]["exact"] == pytest.approx(split_scores.ceiling(clips)["exact"], abs=1e-6)
    for name in ("miou", "tc_exact", "flicker"):
        assert found["per_clip"][name] == expected["per_clip"][name]
    table = pd.read_csv(tmp_path / "out" / "metrics.csv")
    miou = table[table["metric"] == "miou"].iloc[0]
    assert miou["value"] == pytest.approx(own["miou"], abs=1e-6) and miou["ci_low"] < miou["value"] < miou["ci_high"]
    assert "2 clips" in output and "60 frames" in output and "IoU: road" in output


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(tree, written):
    found = [label_map_files.evaluate_files(written, *folders(tree).values(), workers=workers) for workers in (1, 2)]
    pd.testing.assert_frame_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


def instance_iou(tree: Path, written: Path, name: str) -> float:
    """iIoU over all frames; `segmentation.instance_overlap` itself is held against the official one in test_segmentation.py."""
    members = {"iiou": segmentation.classes, "iiou_category": segmentation.categories}[name](CITYSCAPES)
    total = None
    for path in sorted((tree / "gtFine" / "val").rglob("*_instanceIds.png")):
        labels = path.with_name(path.name.replace("instanceIds", "labelIds"))
        answer = next(written.rglob(path.name.replace("gtFine_instanceIds", "answer")))
        ids, guess = (ids_to_train_ids(cv2.imread(str(file), cv2.IMREAD_UNCHANGED)) for file in (labels, answer))
        instances = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        one = segmentation.instance_overlap(segmentation.confusion_matrix(ids, guess, 19), guess, instances, members)
        total = one if total is None else total + one
    return total.miou()


def test_without_labels_there_is_consistency_only(tree, written):
    table, record = label_map_files.evaluate_files(written, folders(tree)["frames"], flows=["exact"], workers=1)
    measured = table[table["value"].notna()]
    assert list(measured["metric"]) == ["changed", "tc", "tc_gap5", "tc_unmasked", "etc_compat"]
    assert set(table[table["value"].isna()]["why"]) == {"no labels"}
    assert record["metrics"]["miou"] is None and record["metrics"]["tc_ceiling"] == {"exact": None}
    assert "a constant map has changed 0 and TC 100" in label_map_tables.as_text(table, record)


def test_one_labelled_frame_of_a_snippet_is_enough(tree, clips, answers, written, tmp_path):
    for path in (tree / "gtFine" / "val").rglob("*_000019_gtFine_labelIds.png"):
        (tmp_path / "gt").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "gt")
    _, record = label_map_files.evaluate_files(written, folders(tree)["frames"], tmp_path / "gt", flows=["exact"], workers=1)
    one = split_scores.evaluate_predictor(
        lambda i: answers[i], replace(clips, annotated=np.arange(30) == np.full((2, 1), 19))
    )
    assert record["metrics"]["miou"] == one["metrics"]["miou"] and record["metrics"]["flicker"] is None


def test_a_gap_in_the_numbers_begins_another_clip(tree, written, tmp_path):
    frames = Path(shutil.copytree(folders(tree)["frames"], tmp_path / "frames"))
    for folder in (frames, written):
        next(folder.rglob("*_000010_*.png")).unlink()
    found = label_map_layouts.find_clips(written, frames, None).clips
    assert sorted(len(clip.frames) for clip in found) == [10, 19, 30]
    assert all(a.name[:20] == b.name[:20] for clip in found for a, b in zip(clip.frames, clip.predictions, strict=True))


@pytest.fixture
def street(tmp_path: Path) -> dict[str, Path]:
    """40 frames of a square that moves by a pixel, as one folder; label maps with trainIds, one pixel wrong in the last frame."""
    for t in range(40):
        frame, truth = (
            np.random.default_rng(0).integers(0, 99, (32, 64, 3), dtype=np.uint8),
            np.zeros((32, 64), np.uint8),
        )
        frame[8:20, t % 40 : t % 40 + 12], truth[8:20, t % 40 : t % 40 + 12] = 220, 3
        answer = truth.copy()
        answer[0, 0] = 5 if t == 39 else 0
        for name, image in (("frames", frame), ("labels", truth), ("street", answer)):
            put(tmp_path / name / f"seq_{t:04d}.png", image)
    return {name: tmp_path / name for name in ("frames", "labels")} | {"predictions": tmp_path / "street"}


@pytest.mark.parametrize("layout", ["folder", "camvid"])
def test_one_clip_has_blocks_of_17_frames(street, layout):
    table, record = label_map_files.evaluate_files(**street, layout=layout, flows=["dis"], workers=1, classes="camvid")
    assert len(record["per_clip"]["names"]) == 3 and record["per_clip"]["names"][1].endswith("+017")
    assert record["metrics"]["pixel_accuracy"] == pytest.approx(1 - 1 / (40 * 32 * 64), abs=1e-6)
    assert "they apply to this clip only" in label_map_tables.as_text(table, record)
    assert record["metrics"]["tc"]["dis"] > 0.3 and record["metrics"]["miou"] == pytest.approx(2 / 3, abs=1e-3)


def test_frames_without_leading_zeros_are_in_the_order_of_their_numbers(street):
    for folder in street.values():
        for path in folder.glob("*.png"):
            path.rename(folder / f"frame{int(path.stem[-4:]) + 1}.png")
    (clip,) = label_map_layouts.find_clips(**street, layout="folder").clips
    assert [path.stem for path in clip.predictions] == [f"frame{t}" for t in range(1, 41)]


def test_memory_decides_how_many_processes(monkeypatch, street):
    clips = label_map_layouts.find_clips(**street, layout="folder").clips
    monkeypatch.setattr(label_map_counts, "usable_cores", lambda: 64)
    assert label_map_counts.default_workers(clips, (32, 64)) == 1  # one clip
    assert label_map_counts.default_workers(clips * 64, (32, 64)) == 5  # small maps: 0.6 GB each
    snippet = replace(clips[0], predictions=clips[0].predictions[:30])
    assert label_map_counts.default_workers([snippet] * 64, (1024, 2048)) == 2
    assert label_map_counts.default_workers([snippet] * 64, (1024, 2048), ["dis", "raft"]) == 1
    monkeypatch.setattr(label_map_counts, "usable_cores", lambda: 1)
    assert label_map_counts.default_workers(clips * 64, (32, 64)) == 1


def test_the_command_explains_itself(street, tmp_path):
    assert "Example: tcseg evaluate --predictions" in run("evaluate", "--help").output
    arguments = ("--predictions", street["predictions"], "--frames", street["frames"], "--layout", "folder")
    output = run("evaluate", *arguments, "--classes", "cityscapes", "--train-ids", "--out", tmp_path / "out").output
    assert "tc_unmasked" in output and "metrics.json" in output and (tmp_path / "out" / "metrics.csv").exists()
    assert run("evaluate", *arguments, "--layout", "kitti", code=2).stderr.count("'--layout': layout is 'kitti'") == 1


def break_a_file(name: str, folder: Path, first: Path) -> None:
    if name == "missing":
        first.unlink()
    elif name == "text":
        first.write_text("not an image")
    elif name == "size":
        put(first, np.zeros((16, 32), np.uint8))
    elif name == "colour":
        put(first, np.random.default_rng(0).integers(0, 255, (64, 128, 3), dtype=np.uint8))
    elif name == "depth":
        put(first, np.full((64, 128), 300, np.uint16))
    elif name == "ids":
        put(first, np.full((64, 128), 77, np.uint8))
    elif name == "twice":
        shutil.copy(first, first.with_name(first.name.replace("answer", "again")))
    elif name == "extra":
        shutil.copy(first, first.with_name(first.name.replace("_000000_answer", "_000099_answer")))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("missing", "1 of 60 frames have no prediction"),
        ("text", "cannot be read as a picture"),
        ("size", "is 32x16, but"),
        ("colour", "holds colours instead of classes"),
        ("depth", "holds values such as 300"),
        ("ids", "contains [77], which is not among cityscapes's ids"),
        ("twice", "belong to the same frame"),
        ("extra", "1 predictions belong to no frame"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_by_name(tree, written, name, text):
    first = sorted(written.rglob("*_000000_answer.png"))[0]
    break_a_file(name, written, first)
    with pytest.raises((ValueError, FileNotFoundError), match=first.name.split("_answer")[0][:-6]) as error:
        label_map_files.evaluate_files(written, folders(tree)["frames"], flows=["exact"], workers=1)
    assert text in str(error.value) and len(str(error.value).splitlines()) == 1


def test_wrong_requests_are_refused_before_work(tree, written, street, tmp_path):
    frames = folders(tree)["frames"]
    for changes, text in (
        ({"layout": "kitti"}, "layout is 'kitti'"),
        ({"flows": ["magic"]}, "flow is 'magic'"),
        ({"predictions": tmp_path / "absent"}, "absent, which is not a folder"),
        ({"layout": "camvid", "flows": ["exact"]}, "needs --layout cityscapes"),
        ({"labels": tmp_path / "frames"}, "contains no label maps with names of the Cityscapes layout"),
        ({"frames": tmp_path / "frames", "predictions": tmp_path / "frames"}, "contains no frames with names of the Cityscapes"),
        ({"train_ids": True, "flows": ["exact"]}, "the values fit ids: pass --ids"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=text):
            label_map_files.evaluate_files(**{"predictions": written, "frames": frames, "workers": 1} | changes)


def test_the_number_of_flow_files_must_be_right(tree, written, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy)
    sorted((copy / "flow" / "val").rglob("*_000003_flow_forward.png"))[0].unlink()
    with pytest.raises(FileNotFoundError, match=r"28 of 29 flow files \(first frame without: .*_000003_leftImg8bit.png\)"):
        label_map_files.evaluate_files(written, copy / "leftImg8bit_sequence" / "val", flows=["exact"])
    shutil.rmtree(copy / "flow")
    with pytest.raises(FileNotFoundError, match="has no exact flow; use --flow dis"):
        label_map_files.evaluate_files(written, copy / "leftImg8bit_sequence" / "val", flows=["exact"])
