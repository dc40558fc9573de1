"""A folder of one's own: what is read, what is refused, and in which words."""

import time

import cv2
import numpy as np
import pytest
from trees import own_tree, write

from tcseg.data import palettes
from tcseg.data.own import layout, lookup, open_folder
from tcseg.data.own.check import check
from tcseg.errors import TcsegError
from tcseg.labels import CAMVID, MOST_CLASSES


@pytest.fixture
def tree(tmp_path):
    return own_tree(tmp_path / "mine")


def test_a_folder_is_read(tree):
    found = open_folder(tree)
    assert found.label_set.classes == ("road", "car", "rest") and found.label_set.name == "mine" and found.size == (64, 32)
    assert found.split == {"train": ("c0", "c1", "c2", "c3"), "val": ("c4",)}
    assert {name: (clip.length, list(clip.labels)) for name, clip in found.clips.items()} == {f"c{i}": (7, [3]) for i in range(5)}
    report = check(tree)
    assert report.problems == [] and report.decoded == 5 * 8
    assert report.counts[:2] == ["train: 4 clips, 28 frames, 4 labels", "val: 1 clip, 7 frames, 1 label"]
    assert "road" in report.counts[2] and "%" in report.counts[2]


def test_split_yaml_decides(tree):
    (tree / "split.yaml").write_text("train: [c4, c1]\nval: [c0]\n")
    assert open_folder(tree).split == {"train": ("c4", "c1"), "val": ("c0",)}
    assert "2 clips in no split: c2, c3" in check(tree).notes


def rename(tree, old, new):
    (tree / old).rename(tree / new)


BROKEN = {
    "an id outside": (
        lambda t: write(t / "labels/c0/0003.png", np.full((32, 64), 5, np.uint8)),
        r"labels/c0/0003.png contains the id 5, outside .*classes.yaml \(0..1, 7..9, 255\); add a class",
    ),
    "two colours alike": (
        lambda t: (t / "classes.yaml").write_text(
            "classes: [{name: road, color: [1, 2, 3]}, {name: car, color: [1, 2, 3]}, {name: rest, id: 7}]\nignore: [8, 9]"
        ),
        "'road' and 'car' have the same color",
    ),
    "labels without frames": (
        lambda t: write(t / "labels/c9/0003.png", np.zeros((32, 64), np.uint8)),
        "labels/c9: labels without frames",
    ),
    "a label without its frame": (
        lambda t: rename(t, "labels/c0/0003.png", "labels/c0/0093.png"),
        "labels/c0/0093.png: the label has no frame",
    ),
    "frames of several sizes": (
        lambda t: write(t / "frames/c1/0004.png", np.zeros((16, 64, 3), np.uint8)),
        "frames/c1/0004.png is 64x16, but 0000.png of the same clip is 64x32",
    ),
    "a label of another size": (
        lambda t: write(t / "labels/c1/0003.png", np.zeros((16, 64), np.uint8)),
        "labels/c1/0003.png: the label is 64x16, but its frame is 64x32",
    ),
    "an empty split": (
        lambda t: (t / "split.yaml").write_text("train: [c0]\nval: []\n"),
        "split.yaml: val is empty; list at least one clip",
    ),
    "no train": (lambda t: (t / "split.yaml").write_text("val: [c0]\n"), "split.yaml: train is empty"),
    "a clip in both": (
        lambda t: (t / "split.yaml").write_text("train: [c0, c1]\nval: [c1]\n"),
        "the clip 'c1' is in train and in val",
    ),
    "a clip twice": (lambda t: (t / "split.yaml").write_text("train: [c0, c0]\nval: [c1]\n"), "train names 'c0' twice"),
    "an unknown clip": (lambda t: (t / "split.yaml").write_text("train: [c0]\nval: [c7]\n"), "val names 'c7', and there is no"),
    "an unknown key": (lambda t: (t / "split.yaml").write_text("test: [c0]\n"), "unknown key 'test'"),
    "no list": (lambda t: (t / "split.yaml").write_text("train: c0\nval: [c1]\n"), "train is 'c0'; it must be a list"),
    "no yaml": (lambda t: (t / "split.yaml").write_text("[train"), "split.yaml cannot be parsed"),
    "only a text": (lambda t: (t / "split.yaml").write_text("train"), "split.yaml holds str"),
    "clips that differ in case": (
        lambda t: write(t / "frames/C1/0000.png", np.zeros((32, 64, 3), np.uint8)),
        "C1 and c1 differ only in case",
    ),
    "labels that differ in case": (lambda t: rename(t, "labels/c1", "labels/C1"), "frames/c1 and labels/C1 differ only in case"),
    "frames that differ in case": (
        lambda t: [write(t / f"frames/c1/{name}.png", np.zeros((32, 64, 3), np.uint8)) for name in ("a", "A")],
        "A and a differ only in case",
    ),
    "no classes": (lambda t: (t / "classes.yaml").unlink(), "has no classes.yaml; write one"),
    "classes that differ in case": (
        lambda t: (t / "classes.yaml").write_text("classes: [road, Road]"),
        "two classes have the name 'road'",
    ),
    "one clip": (
        lambda t: [rename(t, f"labels/c{i}", f"../left{i}") for i in range(1, 5)],
        "only the clip 'c0' has labels, and the split is by clip",
    ),
    "no label": (lambda t: [rename(t, f"labels/c{i}", f"../left{i}") for i in range(5)], "labels has no label of any frame"),
    "a clip without frames": (lambda t: (t / "frames/c8").mkdir(), "c8 has no frames"),
    "loose frames": (lambda t: rename(t, "frames/c0/0000.png", "frames/0000.png"), "0000.png lies in no clip"),
    "a JPEG label": (lambda t: write(t / "labels/c0/0001.jpg", np.zeros((32, 64), np.uint8)), "0001.jpg is no PNG"),
    "a damaged frame": (
        lambda t: (t / "frames/c0/0000.png").write_bytes((t / "frames/c0/0000.png").read_bytes()[:200]),
        "0000.png",
    ),
    "colours": (
        lambda t: write(t / "labels/c0/0003.png", np.zeros((32, 64, 3), np.uint8)),
        "labels/c0/0003.png holds colours",
    ),
    "all ignored": (
        lambda t: write(t / "labels/c0/0003.png", np.full((32, 64), 9, np.uint8)),
        "0003.png: every pixel of the label is ignored",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_problem_is_one_line(tree, name):
    harm, told = BROKEN[name]
    harm(tree)
    problems = check(tree).problems
    assert len(problems) == 1 and "\n" not in problems[0], problems
    with pytest.raises(AssertionError if name == "-" else TcsegError, match=told):
        raise TcsegError(problems[0])


def test_opening_says_the_first_problem_and_how_many_more(tree):
    (tree / "classes.yaml").unlink()
    (tree / "frames/c8").mkdir()
    with pytest.raises(TcsegError, match=r"has no classes.yaml.* \(1 more problem: tcseg data check .*mine\)"):
        open_folder(tree)


def test_known_classes_stay_known(tmp_path):
    tree = own_tree(tmp_path / "mine")
    (tree / "classes.yaml").write_text("classes: [" + ", ".join(CAMVID.classes) + "]")
    assert open_folder(tree).label_set is CAMVID


def test_names_and_folders_of_data_sets(tree, monkeypatch):
    assert lookup.is_folder(str(tree)) and not lookup.is_folder("camvid") and not lookup.is_folder("kitti")
    assert lookup.name_of(str(tree)) == "mine" and lookup.name_of("procity") == "procity"
    assert lookup.name_of("/data/camvid") == "own-camvid" and lookup.name_of("/data/my streets!") == "my-streets"
    monkeypatch.chdir(tree.parent)
    assert lookup.absolute("mine") == str(tree) and lookup.label_set_of("./mine").classes == ("road", "car", "rest")
    assert lookup.label_set_of("mine").num_classes == 3  # by the name alone, from elsewhere
    with pytest.raises(TcsegError, match="there is no such folder; `tcseg data new"):
        lookup.require_dataset("./yours")
    with pytest.raises(TcsegError, match="one of procity, camvid, cityscapes, or a folder"):
        lookup.require_dataset("kitti")


def test_a_changed_folder_is_read_again(tree):
    assert lookup.own_folder(str(tree)) is lookup.own_folder(str(tree))
    before = lookup.own_folder(str(tree))
    write(tree / "labels/c0/0004.png", np.zeros((32, 64), np.uint8))
    assert len(before.clips["c0"].labels) == 1 and len(lookup.own_folder(str(tree)).clips["c0"].labels) == 2


@pytest.mark.parametrize("count", [2, 60, MOST_CLASSES])
def test_colours_that_nobody_gave_can_be_told_apart(count):
    colors = palettes.fill([(90, 90, 90), *[None] * (count - 1)])
    lab = palettes.as_lab([*colors, (0, 0, 0)])
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[~np.eye(len(lab), dtype=bool)].min()
    assert colors[0] == (90, 90, 90) and apart > 12 and colors == palettes.fill([(90, 90, 90), *[None] * (count - 1)])


def test_a_thousand_clips_of_mixed_length_are_listed_in_seconds(tmp_path):
    ok, data = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))
    label = cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes()
    for clip in range(1000):
        for kind, content, count in (("frames", data.tobytes(), 1 + clip % 17), ("labels", label, 1)):
            folder = tmp_path / kind / f"clip{clip}"
            folder.mkdir(parents=True)
            for t in range(count):
                (folder / f"{t}.png").write_bytes(content)
    (tmp_path / "classes.yaml").write_text("classes: [a, b]")
    started = time.monotonic()
    found = open_folder(tmp_path)
    assert ok and len(found.clips) == 1000 and list(found.clips)[:3] == ["clip0", "clip1", "clip2"]
    assert len(found.split["val"]) == 200 and time.monotonic() - started < 20
    assert layout.PARTS == 5
