"""What the values of label maps mean: said, decided by all of them, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tcseg.data.class_tables import CAMVID_TABLE, CITYSCAPES_TABLE, class_table
from tcseg.errors import TcsegError
from tcseg.evaluation.label_map_files import read_as
from tcseg.evaluation.label_map_values import Reading, inspect_map, write_meta
from tcseg.labels import CITYSCAPES, IGNORE, cityscapes_to_camvid, ids_to_train_ids, train_ids_to_ids

rng = np.random.default_rng(0)
TRAIN_IDS = rng.choice([*range(19), IGNORE], (24, 32)).astype(np.uint8)


def put(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), values if values.ndim == 2 else values[..., ::-1])
    return path


def read(folder: Path, layout="cityscapes", classes=None, train_ids=None, labels: Path | None = None, what="predictions"):
    """Decide and read all maps of a folder: the reading, and the maps stacked."""
    looks = {("predictions", path): inspect_map(path) for path in sorted(folder.rglob("*.png"))}
    if labels:
        looks |= {("labels", path): inspect_map(path) for path in sorted(labels.rglob("*.png"))}
    readings, _ = read_as(looks, folder, layout, classes, train_ids)
    some = {(kind, said): reading for (kind, said), reading in readings.items() if kind == what}
    (reading,) = some.values()
    return reading, np.stack([reading.read(path) for kind, path in looks if kind == what])


# ------------------------------------------------------------------------------------------------ tables


def test_the_tables_are_those_of_labels():
    every = np.arange(34, dtype=np.uint8)
    assert np.array_equal(CITYSCAPES_TABLE.lookup("ids")[every], ids_to_train_ids(every))
    assert CITYSCAPES_TABLE.known("ids") == "0..33, 255" and CITYSCAPES_TABLE.known("trainIds") == "0..18, 255"
    assert CAMVID_TABLE.known("ids") == "0..11, 255" and CAMVID_TABLE.encodings == ("ids",)


def test_a_table_of_one_s_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("classes:\n  - {name: road, id: 7, color: [1, 2, 3]}\n  - sky\n  - {name: car, id: 9}\nignore: [0]\n")
    table = class_table(str(path))
    assert table.label_set.classes == ("road", "sky", "car") and table.ids == (7, 1, 9)
    assert table.label_set.colors[0].tolist() == [1, 2, 3] and len({tuple(c) for c in table.label_set.colors}) == 3
    assert table.lookup("ids")[[0, 7, 1, 9, 255]].tolist() == [IGNORE, 0, 1, 2, IGNORE]
    path.write_text(json.dumps(["road", "sky"]))
    assert class_table(str(path)).encodings == ("ids",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[", "cannot be parsed as YAML or JSON"),
        ("names: [a]", "no list named classes"),
        ("classes: []", "no list named classes"),
        ("classes: [a, a]", "two classes have the name 'a'"),
        ("classes: [{name: a, id: 1}, {name: b, id: 1}]", "two classes have the id 1"),
        ("classes: [{name: a, id: 300}]", "the id of class 'a' is 300; it must be a whole number"),
        ("classes: [{name: a, id: true}]", "the id of class 'a' is True"),
        ("classes: [{name: a, color: red}]", r"the color of class 'a' is 'red'; it must be \[red, green, blue\]"),
        ("classes: [{nam: a}]", "unknown key 'nam'; the valid keys are name"),
        ("classes: [7]", "the name of class 0 is 7; it must be text"),
        ("classes: [a]\nignore: [0]", "0 is both the id of a class and in ignore"),
        ("classes: [{name: a, id: 255}]", "the id 255, but 254 and 255 are reserved"),
    ],
)
def test_a_bad_table_is_one_line(tmp_path, text, told):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(TcsegError, match=told) as error:
        class_table(str(tmp_path / "c.yaml"))
    assert "c.yaml" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(TcsegError, match="must be cityscapes, camvid, or the path of an existing file"):
        class_table("kitti")


# ------------------------------------------------------------------------------------------------ deciding


@pytest.mark.parametrize("values", ["ids", "trainIds"])
def test_a_street_is_read_right_where_nothing_says_what_it_holds(tmp_path, values):
    put(tmp_path / "a.png", train_ids_to_ids(TRAIN_IDS) if values == "ids" else TRAIN_IDS)
    reading, maps = read(tmp_path)
    assert reading.values == values and np.array_equal(maps[0], TRAIN_IDS)


def test_train_ids_of_few_classes_are_told_by_what_would_be_void(tmp_path):
    few = rng.choice([0, 1, 2, 8, 10, 13], (24, 32)).astype(np.uint8)
    put(tmp_path / "a.png", few)
    reading, maps = read(tmp_path)
    assert reading.values == "trainIds" and np.array_equal(maps[0], few) and "would be void" in reading.because


def test_road_alone_is_train_ids(tmp_path):
    put(tmp_path / "a.png", np.zeros((4, 8), np.uint8))
    assert read(tmp_path)[0].values == "trainIds"


@pytest.mark.parametrize("used", [(8,), (7, 11), (0, 0, 0, 7, 8), (0, 8, 11, 13)])
def test_what_may_be_both_is_refused(tmp_path, used):
    put(tmp_path / "a.png", rng.choice(used, (24, 32)).astype(np.uint8))
    with pytest.raises(TcsegError, match="pass --ids or --train-ids"):
        read(tmp_path)
    assert read(tmp_path, train_ids=True)[0].values == "trainIds"
    assert read(tmp_path, train_ids=False)[0].values == "ids"


def test_all_maps_decide_together(tmp_path):
    """One map alone may be ambiguous."""
    put(tmp_path / "a.png", np.full((4, 8), 8, np.uint8))
    put(tmp_path / "b.png", np.full((4, 8), 26, np.uint8))
    reading, maps = read(tmp_path)
    assert reading.values == "ids" and maps[:, 0, 0].tolist() == [1, 13]


@given(st.lists(st.sampled_from([*range(34), 255]), min_size=1, max_size=12))
def test_no_decision_changes_what_the_only_fitting_reading_gives(values):
    from tcseg.evaluation.label_map_values import MapContents, decide

    counts = np.bincount(values, minlength=256)
    looks = {Path("x.png"): MapContents((1, len(values)), {"grey": counts}, {})}
    fitting = [
        one for one in ("ids", "trainIds") if all(v in np.flatnonzero(CITYSCAPES_TABLE.lookup(one) != 254) for v in values)
    ]
    try:
        assert decide(looks, CITYSCAPES_TABLE, "predictions").values in fitting
    except TcsegError:
        assert len(fitting) == 2


def test_a_file_that_says_what_it_is_decides(tmp_path):
    ambiguous = np.full((4, 8), 8, np.uint8)
    put(tmp_path / "a" / "x.png", ambiguous)
    write_meta(tmp_path, CITYSCAPES.classes, "cityscapes")
    assert read(tmp_path)[1][0, 0, 0] == 8
    with pytest.raises(TcsegError, match="--ids contradicts the predictions' meta.json, which says that they hold trainIds"):
        read(tmp_path, train_ids=False)
    put(tmp_path / "n" / "x_gtFine_labelIds.png", ambiguous)
    assert read(tmp_path / "n")[1][0, 0, 0] == 1
    put(tmp_path / "t" / "x_gtFine_labelTrainIds.png", ambiguous)
    assert read(tmp_path / "t")[1][0, 0, 0] == 8


def test_maps_of_two_kinds_below_one_folder(tmp_path):
    for name, classes in (("a", CITYSCAPES.classes), ("b", ("x", "y"))):
        put(tmp_path / name / "x.png", np.zeros((4, 8), np.uint8))
        write_meta(tmp_path / name, classes, "mine")
    with pytest.raises(TcsegError, match="have different encodings according to their meta.json"):
        read(tmp_path)


@pytest.mark.parametrize("classes", ["road", 7, {"road": 1}, [None], ["road", 1.5], [["road"]], [{}]])
def test_names_in_a_meta_json_are_names(classes, tmp_path):
    put(tmp_path / "x.png", TRAIN_IDS)
    (tmp_path / "meta.json").write_text(json.dumps({"values": "ids", "classes": classes}))
    with pytest.raises(TcsegError, match="classes in .*meta.json is .*; it must be a list of names"):
        read(tmp_path)


def test_a_meta_json_that_cannot_be(tmp_path):
    put(tmp_path / "x.png", TRAIN_IDS)
    for content, told in (("{", "cannot be read"), ('{"values": "rgb"}', "is 'rgb'; it must be ids or trainIds")):
        (tmp_path / "meta.json").write_text(content)
        with pytest.raises(TcsegError, match=told):
            read(tmp_path)
    (tmp_path / "meta.json").write_text('{"camera": 1}')  # of another program
    assert read(tmp_path)[0].values == "trainIds"


def test_labels_are_decided_by_themselves(tmp_path):
    put(tmp_path / "p" / "x.png", TRAIN_IDS)
    put(tmp_path / "l" / "x.png", train_ids_to_ids(TRAIN_IDS))
    for flag in (None, True):
        reading, maps = read(tmp_path / "p", "folder", "cityscapes", flag, tmp_path / "l", what="labels")
        assert reading.values == "ids" and np.array_equal(maps[0], TRAIN_IDS)


def test_camvid_in_a_folder_is_not_taken_for_cityscapes(tmp_path):
    put(tmp_path / "x.png", rng.choice(12, (24, 32)).astype(np.uint8))
    with pytest.raises(TcsegError, match="pass --classes camvid"):
        read(tmp_path, "folder")
    _, maps = read(tmp_path, "folder", "camvid")
    assert maps.max() == IGNORE and sorted(np.unique(maps))[-2] == 10
    assert np.array_equal(maps, read(tmp_path, "camvid")[1])


def test_nineteen_classes_are_merged_where_camvid_s_are_wanted(tmp_path):
    put(tmp_path / "x.png", TRAIN_IDS)
    reading, maps = read(tmp_path, "camvid")
    assert reading.merged and np.array_equal(maps[0], cityscapes_to_camvid(TRAIN_IDS))
    put(tmp_path / "m" / "x.png", np.full((4, 8), 8, np.uint8))  # nothing but the file says so
    write_meta(tmp_path / "m", CITYSCAPES.classes, "cityscapes")
    assert read(tmp_path / "m", "camvid")[1][0, 0, 0] == 5
    write_meta(tmp_path / "m", ("cat", "dog"), "pets")
    with pytest.raises(TcsegError, match="pass --classes FILE with the id of each class"):
        read(tmp_path / "m", "folder")
    with pytest.raises(TcsegError, match="meta.json lists 2 classes"):
        read(tmp_path / "m", "camvid")


@pytest.mark.parametrize(("value", "told"), [(77, r"contains \[77\]"), (34, r"contains \[34\]")])
def test_values_of_no_table_are_named_with_the_file(tmp_path, value, told):
    put(tmp_path / "good.png", TRAIN_IDS)
    odd = train_ids_to_ids(TRAIN_IDS)
    odd[0, 0] = value
    put(tmp_path / "odd.png", odd)
    put(tmp_path / "third.png", train_ids_to_ids(TRAIN_IDS))
    with pytest.raises(TcsegError, match=told) as error:
        read(tmp_path)
    assert "odd.png" in str(error.value)


# ------------------------------------------------------------------------------------------------ forms of files


def test_a_palette_s_index_is_the_class(tmp_path):
    image = Image.new("P", TRAIN_IDS.shape[::-1])
    image.putdata(np.where(TRAIN_IDS == IGNORE, 0, TRAIN_IDS).ravel().tolist())
    image.putpalette(CITYSCAPES.colors.ravel().tolist())
    image.save(tmp_path / "x.png")
    assert np.array_equal(read(tmp_path)[1][0], np.where(TRAIN_IDS == IGNORE, 0, TRAIN_IDS))


def test_panoptic_maps_by_their_channel(tmp_path):
    ids = train_ids_to_ids(TRAIN_IDS).astype(np.int64)
    number = np.where(ids >= 24, ids * 1000 + 7, ids)
    cityscapes = np.stack([number % 256, number // 256 % 256, number // 65536], -1).astype(np.uint8)
    put(tmp_path / "c" / "x_gtFine_panoptic.png", cityscapes)
    put(tmp_path / "n" / "x.png", cityscapes)  # the values tell, too
    for folder in ("c", "n"):
        reading, maps = read(tmp_path / folder)
        assert reading.channel == "panoptic" and np.array_equal(maps[0], TRAIN_IDS)
    step = np.stack([TRAIN_IDS, *rng.integers(0, 200, (2, 24, 32), dtype=np.uint8)], -1)  # KITTI-STEP
    put(tmp_path / "k" / "x.png", step)
    reading, maps = read(tmp_path / "k")
    assert (reading.channel, reading.values) == ("red", "trainIds") and np.array_equal(maps[0], TRAIN_IDS)


def test_instances_of_16_bits_and_grey_in_three_channels(tmp_path):
    ids = train_ids_to_ids(TRAIN_IDS)
    put(tmp_path / "i" / "x.png", np.where(ids >= 24, ids.astype(np.uint16) * 1000 + 3, ids).astype(np.uint16))
    put(tmp_path / "g" / "x.png", np.repeat(ids[..., None], 3, 2))
    put(tmp_path / "d" / "x.png", ids.astype(np.uint16))
    for folder in "igd":
        assert np.array_equal(read(tmp_path / folder)[1][0], TRAIN_IDS), folder


def test_colours_are_refused(tmp_path):
    put(tmp_path / "x.png", CITYSCAPES.colors[np.where(TRAIN_IDS == IGNORE, 0, TRAIN_IDS)])
    with pytest.raises(TcsegError, match="x.png holds colours instead of classes; save the class"):
        read(tmp_path)


def test_a_map_of_another_form_than_the_others(tmp_path):
    put(tmp_path / "a.png", TRAIN_IDS)
    put(tmp_path / "b.png", rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))
    with pytest.raises(TcsegError, match="b.png holds colours"):
        read(tmp_path)
    with pytest.raises(TcsegError, match="b.png holds colours, but the other maps are read from their grey channel"):
        Reading(CITYSCAPES_TABLE, "ids").read(tmp_path / "b.png")
