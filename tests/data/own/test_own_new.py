"""Beginning a data set of one's own: from a film, and from the exports of annotation tools."""

import json
import zipfile

import cv2
import numpy as np
import pytest
from trees import cityscapes_tree, write

from tcseg.data.own import open_folder
from tcseg.data.own.check import check
from tcseg.data.own.clips import read_own_labels
from tcseg.data.own.convert import convert
from tcseg.data.own.create import from_films, read_every, write_classes
from tcseg.errors import TcsegError
from tcseg.labels import CITYSCAPES


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "drive.mp4"
    out = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 64))
    for t in range(40):
        out.write(np.full((64, 64, 3), 5 * t, np.uint8))
    out.release()
    return path


def test_a_film_is_laid_out_and_labelled(film, tmp_path):
    root = tmp_path / "mine"
    written = from_films(root, [film], "1s", 2, "road,car,rest")
    assert written == {f"drive_{n:06d}": 5 for n in (5, 15, 25, 35)}
    assert sorted(path.name for path in (root / "frames/drive_000015").iterdir()) == [f"{n:06d}.jpg" for n in range(13, 18)]
    shown = cv2.imread(str(root / "to_label/drive_000015/000015.jpg"))
    assert abs(shown.mean() - 75) < 3
    assert [one for one in check(root).problems if "no label" not in one] == []
    for path in (root / "to_label").glob("*/*.jpg"):
        write(root / "labels" / path.parent.name / f"{path.stem}.png", np.tile(np.arange(64, dtype=np.uint8) % 3, (64, 1)))
    found = open_folder(root)
    assert found.split == {"train": ("drive_000005", "drive_000015", "drive_000025"), "val": ("drive_000035",)}
    assert found.label_set.classes == ("road", "car", "rest") and check(root).problems == []
    with pytest.raises(TcsegError, match="exists and is not empty"):
        from_films(root, [film], "1s", 2, "road,car,rest")


def test_the_ends_of_a_film_have_fewer_frames(film, tmp_path):
    assert from_films(tmp_path / "mine", [film], "30f", 20, "cityscapes") == {"drive_000015": 36}
    assert open_classes(tmp_path / "mine").label_set.classes == CITYSCAPES.classes


def open_classes(root):
    from tcseg.data.class_tables import class_table

    return class_table(str(root / "classes.yaml"))


@pytest.mark.parametrize("name", ["road", "yes", "12", "a: b", "a, b", "strasse ü", "null"])
def test_any_name_of_a_class_survives(name, tmp_path):
    from tcseg.data.own.convert import _table

    write_classes(tmp_path, _table([name, "rest"], [None, (1, 2, 3)]))
    assert open_classes(tmp_path).label_set.classes == (name, "rest")


@pytest.mark.parametrize(("text", "step"), [("1s", 25), ("0.5s", 12), (" 2 s", 50), ("3f", 3)])
def test_every(text, step):
    assert read_every(text, 25) == step


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("1", 2, "a"), "every is '1'; it must be a time"),
        (("0s", 2, "a"), "every is '0s'"),
        (("1s", 2, "a,A"), "classes is 'a,A'; each name"),
        (("1s", 2, "none.yaml"), "must be cityscapes, camvid, or the path"),
    ],
)
def test_bad_options_leave_nothing(film, tmp_path, options, told):
    with pytest.raises(TcsegError, match=told):
        from_films(tmp_path / "mine", [film], *options)
    with pytest.raises(TcsegError, match="there is no film"):
        from_films(tmp_path / "mine", [tmp_path / "other.mp4"], "1s", 2, "a,b")
    assert not (tmp_path / "mine").exists()


# ------------------------------------------------------------------------------------------------ exports


def coco_file(folder):
    """Ten pictures 40x30 with a square car, and a person in front of it."""
    square = [[10, 5, 30, 5, 30, 20, 10, 20]]
    images, annotations = [], []
    for i in range(10):
        write(folder / "pictures" / f"im{i}.png", np.full((30, 40, 3), i, np.uint8))
        images.append({"id": i, "file_name": f"im{i}.png", "height": 30, "width": 40})
        annotations += [
            {"id": 2 * i, "image_id": i, "category_id": 7, "segmentation": [[12, 8, 16, 8, 16, 18, 12, 18]], "area": 40},
            {"id": 2 * i + 1, "image_id": i, "category_id": 3, "segmentation": square, "area": 300},
        ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "car"}, {"id": 7, "name": "person"}]}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder / "instances.json"


def test_coco_polygons(tmp_path):
    pytest.importorskip("pycocotools")
    source = coco_file(tmp_path)
    assert convert(tmp_path / "mine", "coco", source, tmp_path / "pictures") == f"10 labels in {tmp_path / 'mine'}"
    found = open_folder(tmp_path / "mine")
    assert found.label_set.classes == ("background", "car", "person") and check(found.root).problems == []
    assert {name: clip.length for name, clip in found.clips.items()} == {"stills_train": 8, "stills_val": 2}
    assert found.stills == {"stills_train", "stills_val"}
    ids = read_own_labels(found, found.root / "labels/stills_train/im0.png")
    assert (ids[0, 0], ids[10, 25], ids[10, 14]) == (0, 1, 2) and abs((ids == 1).sum() + (ids == 2).sum() - 300) < 40
    with pytest.raises(TcsegError, match="has no im0.png"):
        convert(tmp_path / "other", "coco", source, tmp_path / "mine" / "labels" / "stills_val")
    (tmp_path / "instances.json").write_text("{}")
    with pytest.raises(TcsegError, match="is no COCO file"):
        convert(tmp_path / "third", "coco", source, tmp_path / "pictures")


def test_coco_without_its_package_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pycocotools", None)
    monkeypatch.setitem(__import__("sys").modules, "pycocotools.coco", None)
    with pytest.raises(TcsegError, match=r"needs the package pycocotools; run: pip install tcseg\[data\]"):
        convert(tmp_path / "mine", "coco", coco_file(tmp_path), tmp_path / "pictures")


def cvat_zip(folder, labelmap="# label:color_rgb:parts:actions\nroad:128,64,128::\nbackground:0,0,0::\ncar:0,0,142::\n"):
    write(folder / "mask.png", np.zeros((8, 12, 3), np.uint8))
    mask = np.zeros((8, 12, 3), np.uint8)
    mask[4:], mask[:2, :3] = (128, 64, 128), (142, 0, 0)  # OpenCV writes blue first
    with zipfile.ZipFile(folder / "export.zip", "w") as archive:
        archive.writestr("labelmap.txt", labelmap)
        for i in range(6):
            archive.writestr(f"SegmentationClass/a{i // 3}/{i}.png", cv2.imencode(".png", mask)[1].tobytes())
            archive.writestr(f"JPEGImages/a{i // 3}/{i}.jpg", cv2.imencode(".jpg", mask)[1].tobytes())
    return folder / "export.zip"


def test_cvat_masks(tmp_path):
    convert(tmp_path / "mine", "cvat", cvat_zip(tmp_path))
    found = open_folder(tmp_path / "mine")
    assert found.label_set.classes == ("background", "road", "car") and found.label_set.colors[1].tolist() == [128, 64, 128]
    assert {name: list(clip.labels) for name, clip in found.clips.items()} == {"a0": [0, 1, 2], "a1": [0, 1, 2]}
    ids = read_own_labels(found, found.root / "labels/a0/0.png")
    assert (ids[4:] == 1).all() and (ids[:2, :3] == 2).all() and (ids[:4, 3:] == 0).all() and check(found.root).problems == []


@pytest.mark.parametrize(
    ("labelmap", "told"),
    [
        ("road:128,64,128::\n", r"has the color \(0, 0, 0\), which labelmap.txt does not have"),
        ("road:1,2,3::\ncar:1,2,3::\n", "two classes have one color"),
        ("road:128,64::\n", "has no color"),
    ],
)
def test_a_bad_labelmap_is_one_line(tmp_path, labelmap, told):
    with pytest.raises(TcsegError, match=told):
        convert(tmp_path / "mine", "cvat", cvat_zip(tmp_path, labelmap))


def test_cityscapes_files(tmp_path):
    source = cityscapes_tree(cityscapes_tree(tmp_path / "cs"), "val", city="lindau")
    convert(tmp_path / "mine", "cityscapes", source)
    found = open_folder(tmp_path / "mine")
    assert {name: clip.length for name, clip in found.clips.items()} == {
        "aachen_000000_000019": 5, "aachen_000001_000019": 5, "lindau_000000_000019": 30, "lindau_000001_000019": 30,
    }  # fmt: skip
    assert found.label_set is CITYSCAPES and check(found.root).problems == []
    ids = read_own_labels(found, found.root / "labels/aachen_000000_000019/000019.png")
    assert (ids[0, 0], ids[0, 1], ids[20, 0]) == (255, 10, 0)
    with pytest.raises(TcsegError, match="has no gtFine/train"):
        convert(tmp_path / "other", "cityscapes", tmp_path / "mine")
