"""The class tables against torchvision and the official Cityscapes scripts."""

import numpy as np
import pytest

from tcseg import labels


def test_rows_equal_torchvision_oracle():
    from torchvision.datasets import Cityscapes

    for row, theirs in zip(labels.CITYSCAPES_ROWS, Cityscapes.classes, strict=True):
        assert (row.name, row.id, row.category) == (theirs.name, theirs.id, theirs.category)
        assert (row.has_instances, row.ignore_in_eval) == (theirs.has_instances, theirs.ignore_in_eval)
        assert row.color == theirs.color
        assert row.train_id == theirs.train_id


def test_rows_equal_official_scripts():
    official = pytest.importorskip("cityscapesscripts.helpers.labels")
    for row, theirs in zip(labels.CITYSCAPES_ROWS, official.labels, strict=True):
        assert (row.name, row.id, row.train_id % 256) == (theirs.name, theirs.id, theirs.trainId % 256)


def test_ids_and_train_ids_are_inverse():
    train_ids = np.array([*range(19), 255], np.uint8)
    assert (labels.ids_to_train_ids(labels.train_ids_to_ids(train_ids)) == train_ids).all()


@pytest.mark.parametrize(("function", "value"), [(labels.ids_to_train_ids, 34), (labels.train_ids_to_ids, 19)])
def test_unknown_label_is_named(function, value):
    with pytest.raises(ValueError, match=rf"\[{value}\].*outside the Cityscapes table"):
        function(np.full((2, 2), value, np.uint8))


def test_other_dtype_is_refused():
    with pytest.raises(ValueError, match="int64; they must be uint8"):
        labels.ids_to_train_ids(np.zeros((2, 2), np.int64))


def test_colorize_paints_ignored_black():
    painted = labels.colorize(np.array([[0, 255]], np.uint8), labels.CITYSCAPES)
    assert painted.tolist() == [[[128, 64, 128], [0, 0, 0]]]


def test_label_set_names_the_known():
    assert labels.label_set("procity") is labels.CITYSCAPES
    with pytest.raises(ValueError, match="'kitti'; it must be one of procity, camvid, cityscapes"):
        labels.label_set("kitti")
