"""Metrics for others' loops: torchmetrics' protocol, the study's numbers."""

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from tcseg.errors import InputError
from tcseg.metrics.segmentation import overlap
from tcseg.metrics.streaming import FlickerRate, MeanIoU, TemporalConsistency
from tcseg.metrics.temporal import count_pair

K, SHAPE = 4, (5, 12, 16)


def maps(seed, shape=SHAPE, ignore=0.0):
    rng = np.random.default_rng(seed)
    found = rng.integers(0, K, shape).astype(np.uint8)
    found[rng.random(shape) < ignore] = 255
    return found


def flows(seed):
    return np.random.default_rng(seed).normal(0, 2, (SHAPE[0], 2, *SHAPE[1:])).astype(np.float32)


def given():
    """Maps a and b, flow, labels a and b, visibility of five pairs."""
    return (
        maps(0),
        maps(1),
        flows(2),
        maps(3, ignore=0.1),
        maps(4, ignore=0.1),
        np.random.default_rng(5).random(SHAPE) < 0.8,
    )


def test_mean_iou_is_torchmetrics_oracle():
    theirs = MulticlassJaccardIndex(K, average="macro", ignore_index=255)
    ours, predicted, labels = MeanIoU(K), maps(0), maps(1, ignore=0.2)
    for one, truth in zip(predicted, labels, strict=True):
        theirs.update(torch.from_numpy(one).long(), torch.from_numpy(truth).long())
        ours.update(one, truth)
    assert ours.compute()["miou"] == pytest.approx(theirs.compute().item(), abs=1e-6)


@pytest.mark.parametrize(
    "kind", [np.asarray, torch.from_numpy, lambda x: x.astype(np.int64) if x.dtype != np.float32 else x]
)
def test_batches_pairs_arrays_and_tensors_give_one_number(kind):
    a, b, flow, labels_a, labels_b, visible = given()
    once = (MeanIoU(K), TemporalConsistency(K), FlickerRate(K))
    singly = (MeanIoU(K), TemporalConsistency(K), FlickerRate(K))
    arguments = ((a, labels_a), (a, b, flow, visible), (a, b, flow, labels_a, labels_b, visible))
    for metric, args in zip(once, arguments, strict=True):
        metric.update(*map(kind, args))
    for i in range(len(a)):
        for metric, args in zip(singly, arguments, strict=True):
            metric.update(*(arg[i] for arg in args))
    for one, two in zip(once, singly, strict=True):
        assert one.compute() == two.compute() and not any(map(np.isnan, one.compute().values()))
    np.testing.assert_array_equal(once[0].iou(), overlap(labels_a, a, K).iou())


def test_they_are_the_study_s_numbers():
    a, b, flow, labels_a, labels_b, visible = given()
    tc, flicker = TemporalConsistency(K), FlickerRate(K)
    tc.update(a, b, flow, visible)
    flicker.update(a, b, flow, labels_a, labels_b, visible)
    counts = [count_pair(*pair, K, None) for pair in zip(a, b, flow, visible, strict=True)]
    assert tc.compute()["tc"] == sum((c.overlaps()["tc"] for c in counts[1:]), start=counts[0].overlaps()["tc"]).miou()
    band = np.zeros(SHAPE[1:], bool)
    shares = [
        count_pair(*pair, K, (*labels, band)).flicker.shares()
        for *pair, labels in zip(a, b, flow, visible, zip(labels_a, labels_b, strict=True), strict=True)
    ]
    for name, value in flicker.compute().items():
        assert value == sum((share[name] for share in shares[1:]), start=shares[0][name]).value()


def test_reset_forgets_and_nothing_counted_is_nan():
    a, b, flow, labels_a, labels_b, _ = given()
    for metric, args in (
        (MeanIoU(K), (a, labels_a)),
        (TemporalConsistency(K), (a, b, flow)),
        (FlickerRate(K), (a, b, flow, labels_a, labels_b)),
    ):
        assert all(map(np.isnan, metric.compute().values()))
        metric.update(*args)
        first = metric.compute()
        metric.update(*args)
        assert metric.compute() == pytest.approx(first), "the same again changes no share"
        metric.reset()
        assert all(map(np.isnan, metric.compute().values()))


def test_what_is_hidden_or_void_does_not_count():
    a, b, flow, labels_a, labels_b, visible = given()
    tc, flicker = TemporalConsistency(K), FlickerRate(K)
    tc.update(a, b, flow, np.zeros(SHAPE, bool))
    flicker.update(a, b, flow, np.full(SHAPE, 255), labels_b)
    flicker.update(a, b, flow, labels_a, labels_b, np.zeros(SHAPE, bool))
    assert np.isnan(tc.compute()["tc"]) and np.isnan(flicker.compute()["flicker"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MeanIoU(0), "num_classes is 0"),
        (lambda: MeanIoU(300), "num_classes is 300"),
        (lambda: MeanIoU(K).update(np.zeros((2, 2)), np.zeros((2, 2), int)), "predictions has type float64; it must hold integer"),
        (lambda: MeanIoU(K).update(np.zeros((2, 2), int), np.full((2, 2), 300)), "labels has values 300..300"),
        (lambda: MeanIoU(K).update(np.zeros((2, 2), int), np.full((2, 2), -1)), "labels has values -1..-1"),
        (lambda: MeanIoU(K).update(np.zeros((2, 3), int), np.zeros((3, 2), int)), r"labels are \(3, 2\) but predictions \(2, 3\)"),
        (lambda: TemporalConsistency(K).update(maps(0), maps(0)[:3], flows(0)), r"map_b has shape \(3, 12, 16\)"),
        (lambda: TemporalConsistency(K).update(maps(0), maps(0), flows(0)[:, :1]), r"flow_ab has shape \(5, 1, 12, 16\)"),
        (lambda: TemporalConsistency(K).update(maps(0)[None], maps(0), flows(0)), r"map_a has shape \(1, 5, 12, 16\)"),
        (lambda: FlickerRate(K).update(maps(0), maps(0), flows(0), maps(0)[:2], maps(0)), r"labels_a has shape \(2, 12, 16\)"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(InputError, match=message):
        call()
