"""The legend: which classes it has, that it can be read, and that it leaves the road free."""

from __future__ import annotations

import numpy as np
import pytest

from tcseg.errors import InputError
from tcseg.labels import CITYSCAPES, IGNORE, own_classes
from tcseg.video.legend import KEPT, LEAST_WIDTH, MOST_ROOM, ROOM, Legend, find_classes, only

MANY = own_classes([f"class name {place}" for place in range(150)])
FEW = own_classes(["road", "car", "Straße"])
SIZES = [(256, 512), (540, 960), (1080, 1920), (640, 360), (128, 256)]


def stripes(places, height: int, width: int) -> np.ndarray:
    """A map with an equal part for each class."""
    return np.resize(np.repeat(np.array(places, np.uint8), -(-width // len(places)))[:width], (height, width))


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("label_set", [FEW, CITYSCAPES, MANY], ids=lambda one: str(one.num_classes))
def test_it_takes_little_room_at_the_top_and_shows_only_what_is_there_or_all(label_set, height, width):
    grey = np.full((height, width, 3), 128, np.uint8)
    there = list(range(0, label_set.num_classes, 2))
    legend = Legend(label_set)
    picture = legend.draw(grey.copy(), stripes(there, height, width))
    touched = (picture != 128).any(2)
    rows = np.flatnonzero(touched.any(1))
    assert len(rows) and rows[0] == 0 and rows[-1] < max(MOST_ROOM * height, 20) + 3
    shown = legend.shown(height, width)
    assert shown and shown == sorted(shown)
    assert shown == list(range(label_set.num_classes)) or set(shown) <= set(there)
    plate = picture[rows]
    for place in shown:  # the colour itself, without the picture behind it
        assert (plate == label_set.colors[place]).all(2).sum() >= 50, label_set.classes[place]


def test_all_classes_are_named_where_they_need_little_room():
    sky = stripes([10], 1080, 1920)
    legend = Legend(CITYSCAPES)
    legend.draw(np.zeros((1080, 1920, 3), np.uint8), sky)
    assert legend.shown(1080, 1920) == list(range(19))
    assert legend.shown(256, 512) == [10], "19 would take more than the room for all"
    assert ROOM < MOST_ROOM


def test_a_class_that_left_stays_for_a_while():
    legend, picture = Legend(MANY), np.zeros((256, 512, 3), np.uint8)
    legend.draw(picture, stripes([3, 140], 256, 512))
    for _ in range(KEPT - 1):
        legend.draw(picture, stripes([3], 256, 512))
    assert legend.shown(256, 512) == [3, 140]
    for _ in range(2):
        legend.draw(picture, stripes([3], 256, 512))
    assert legend.shown(256, 512) == [3]


def test_the_largest_classes_are_named_if_not_all_fit():
    legend, labels = Legend(MANY), stripes(range(100), 256, 512)
    labels[100:] = 149
    legend.draw(np.zeros((256, 512, 3), np.uint8), labels)
    assert 149 in legend.shown(256, 512) and 4 < len(legend.shown(256, 512)) < 30


def test_narrow_pictures_and_chosen_classes():
    small = np.zeros((64, LEAST_WIDTH - 1, 3), np.uint8)
    assert not Legend(CITYSCAPES).draw(small.copy(), small[..., 0]).any()
    legend = Legend(CITYSCAPES, (11, 13))
    legend.draw(np.zeros((256, 512, 3), np.uint8), np.zeros((256, 512), np.uint8))
    assert legend.shown(256, 512) == [11, 13]


def test_rows_above_are_left_free():
    legend, picture = Legend(FEW), np.zeros((256, 512, 3), np.uint8)
    legend.draw(picture, np.zeros((256, 512), np.uint8), top=30)
    assert not picture[:30].any() and picture[30:60].any()


# ------------------------------------------------------------------------------------------------ by name


@pytest.mark.parametrize(
    "names",
    ["car,person", "PERSON, Car", ["Car", "person"], ("car", "person", "car"), " person ,car"],
)
def test_classes_are_found_in_any_case(names):
    assert find_classes(names, CITYSCAPES) == (11, 13)


def test_names_of_two_words():
    assert find_classes("Traffic  Light,traffic_sign,traffic-light", CITYSCAPES) == (6, 7)
    assert find_classes("STRASSE", FEW) == (2,)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("carr", "did you mean car"),
        ("car,persn", "no class 'persn': did you mean person"),
        ("zebra", "the network has road, sidewalk"),
        ("", "names with commas"),
        ("car,,person", "names with commas"),
        ([], "names with commas"),
    ],
)
def test_wrong_names_are_refused_with_near_ones(names, told):
    with pytest.raises(InputError, match=told):
        find_classes(names, CITYSCAPES)


def test_only_the_chosen_stay():
    labels = np.array([[0, 13, 11, 255]], np.uint8)
    assert only(labels, (11, 13)).tolist() == [[IGNORE, 13, 11, IGNORE]]
    assert only(labels, None) is labels
