"""Metrics against independent implementations, and on cases whose answer is known."""

import numpy as np
import pytest

from tcseg import metrics
from tcseg.labels import IGNORE, train_ids_to_ids

RNG = np.random.default_rng(0)


def maps(classes=19, shape=(64, 96), ignored=0.1, wrong=0.3):
    labels = RNG.integers(0, classes, shape).astype(np.uint8)
    predictions = np.where(RNG.random(shape) < wrong, RNG.integers(0, classes, shape), labels).astype(np.uint8)
    labels[RNG.random(shape) < ignored] = IGNORE
    return labels, predictions


def test_miou_equals_torchmetrics_oracle():
    import torch
    from torchmetrics.classification import MulticlassJaccardIndex

    labels, predictions = maps()
    oracle = MulticlassJaccardIndex(19, average="macro", ignore_index=IGNORE)
    expected = oracle(torch.from_numpy(predictions).long(), torch.from_numpy(labels).long()).item()
    assert metrics.overlap(labels, predictions, 19).miou() == pytest.approx(expected, abs=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # the official script is old
def test_miou_equals_official_evaluator():
    official = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    labels, predictions = maps()
    # An absent class, and predictions of an ignored class on labelled pixels: misses for the official script, and for us.
    labels[labels == 7], predictions[predictions == 7] = 3, 3
    predictions[:4] = IGNORE
    confusion = official.generateMatrix(official.args)
    truth, guess = train_ids_to_ids(labels), train_ids_to_ids(predictions)
    np.add.at(confusion, (truth.ravel(), guess.ravel()), 1)
    ours = metrics.overlap(labels, predictions, 19)
    ids = train_ids_to_ids(np.arange(19, dtype=np.uint8))
    theirs = [official.getIouScoreForLabel(int(i), confusion, official.args) for i in ids]
    np.testing.assert_allclose(ours.iou(), theirs, atol=1e-9)
    assert np.isnan(theirs[7])
    assert ours.miou() == pytest.approx(np.nanmean(theirs), abs=1e-9)


def test_counts_add_up():
    parts = [maps() for _ in range(3)]
    summed = sum((metrics.overlap(*part, 19) for part in parts[1:]), start=metrics.overlap(*parts[0], 19))
    whole = metrics.overlap(np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]), 19)
    assert (summed.iou() == whole.iou()).all()


def test_permuted_classes_have_the_same_mean():
    labels, predictions = maps(ignored=0)
    order = RNG.permutation(19).astype(np.uint8)
    a, b = metrics.overlap(labels, predictions, 19), metrics.overlap(order[labels], order[predictions], 19)
    assert a.miou() == pytest.approx(b.miou())


def test_nothing_labelled_is_nan_not_zero():
    nothing = np.full((4, 4), IGNORE, np.uint8)
    assert np.isnan(metrics.overlap(nothing, np.zeros((4, 4), np.uint8), 19).miou())


def test_bad_maps_are_refused():
    labels, predictions = maps()
    with pytest.raises(ValueError, match="resize the logits"):
        metrics.overlap(labels, predictions[:8], 19)
    with pytest.raises(ValueError, match="labels contain 18; with 11 classes"):
        metrics.overlap(np.full((2, 2), 18, np.uint8), np.zeros((2, 2), np.uint8), 11)
    with pytest.raises(ValueError, match="flow is"):
        metrics.warp_map(labels, np.zeros((2, 4, 4), np.float32))


def test_tc_of_equal_maps_under_identity_flow_is_one():
    labels, _ = maps(ignored=0)
    still = np.zeros((2, 64, 96), np.float32)
    counts = metrics.temporal_overlap(labels, metrics.warp_map(labels, still), np.ones((64, 96), bool), 19)
    assert counts.miou() == 1 and counts.labelled.sum() == labels.size


def test_tc_of_a_known_shift_drops_what_leaves_the_frame():
    labels, _ = maps(ignored=0)
    moved = np.roll(labels, 3, axis=1)
    flow = np.zeros((2, 64, 96), np.float32)
    flow[0] = 3
    warped = metrics.warp_map(moved, flow)
    assert (warped[:, -3:] == IGNORE).all()
    counts = metrics.temporal_overlap(labels, warped, np.ones((64, 96), bool), 19)
    assert counts.miou() == 1 and counts.labelled.sum() == 64 * 93


def test_constant_map_wins_tc():
    constant = np.zeros((64, 96), np.uint8)
    counts = metrics.temporal_overlap(constant, constant, np.ones((64, 96), bool), 19)
    assert counts.miou() == 1  # present classes only: why TC never stands without mIoU


def test_warp_map_equals_the_tensor_warp():
    import torch

    from tcseg.flow import warp_labels

    labels, _ = maps()
    flow = RNG.normal(0, 4, (2, 64, 96)).astype(np.float32)
    ours = metrics.warp_map(labels, flow)
    theirs = warp_labels(torch.from_numpy(labels)[None], torch.from_numpy(flow)[None])[0].numpy()
    # The tensor version drops targets outside the outermost pixel *centres*, half a pixel earlier.
    both = (ours != IGNORE) & (theirs != IGNORE)
    assert (ours[both] == theirs[both]).mean() > 0.999
    assert both.mean() > 0.75


def test_flicker_counts_by_hand():
    truth = np.array([[0, 0, 0, 1, IGNORE, 1]], np.uint8)
    later = np.array([[0, 0, 0, 1, 1, 0]], np.uint8)  # the last pixel's truth changes: not a trajectory of one label
    a = np.array([[0, 0, 1, 1, 1, 1]], np.uint8)
    b = np.array([[0, 1, 0, 1, 0, 0]], np.uint8)
    counts = metrics.flicker(a, b, truth, later, np.ones((1, 6), bool))
    assert counts == metrics.Flicker(pixels=4, changed=2, right=3, spoiled=1)
