"""Evaluation: true labels, controls, what a data set cannot say, blocks of a single clip."""

import numpy as np
import pytest
import torch
from test_training import toy_clips

from tcseg import evaluation, models, stats


def dense(clips):
    clips.annotated[:] = True
    return clips


@pytest.fixture
def clips():
    return dense(toy_clips(4, 5))


def truth(clips):
    return lambda i: clips.labels[i]


def test_true_labels_are_perfect_and_set_the_ceiling(clips):
    result = evaluation.evaluate_predictor(truth(clips), clips)
    metrics = result["metrics"]
    assert metrics["miou"] == metrics["pixel_accuracy"] == 1
    assert metrics["flicker"] == metrics["harmful_flicker"] == 0
    assert metrics["tc"] == evaluation.ceiling(clips) == {"exact": 1.0}  # whole pixels: nothing is lost by nearest


def test_counts_per_clip_give_the_metrics_back(clips):
    rng = np.random.default_rng(0)
    noisy = [np.where(rng.random(y.shape) < 0.2, 1 - y, y).astype(np.uint8) for y in clips.labels]
    result = evaluation.evaluate_predictor(lambda i: noisy[i], clips)
    for name, value in (("miou", result["metrics"]["miou"]), ("tc_exact", result["metrics"]["tc"]["exact"])):
        assert stats.bootstrap_interval(result["per_clip"][name]).value == pytest.approx(value, abs=1e-5)
    assert stats.bootstrap_interval(result["per_clip"]["flicker"]).value == pytest.approx(
        result["metrics"]["flicker"], abs=1e-5
    )
    assert result["metrics"]["flicker"] == pytest.approx(2 * 0.2 * 0.8, abs=0.02)  # one of two independent flips
    assert result["metrics"]["harmful_flicker"] == pytest.approx(0.2, abs=0.02)
    assert result["per_clip"]["names"] == clips.names


def test_constant_map_is_steady_and_wrong(clips):
    constant = evaluation.evaluate_predictor(lambda i: np.zeros_like(clips.labels[i]), clips)["metrics"]
    assert constant["tc"]["exact"] == 1 and constant["flicker"] == 0 and constant["miou"] < 0.5


def test_what_cityscapes_cannot_say_is_none():
    clips = toy_clips(3, 5)
    clips.flows = {"dis": clips.flows["exact"]}
    result = evaluation.evaluate_predictor(truth(clips), clips)
    assert result["metrics"]["flicker"] is None and result["metrics"]["harmful_flicker"] is None
    assert evaluation.ceiling(clips) == {"dis": None}
    assert "flicker" not in result["per_clip"] and result["metrics"]["tc"]["dis"] == 1


def test_one_clip_is_cut_into_blocks():
    clips = dense(toy_clips(1, 40))
    result = evaluation.evaluate_predictor(truth(clips), clips)
    assert result["per_clip"]["names"] == ["c0+000", "c0+017", "c0+034"]
    assert all(len(v) == 3 for v in result["per_clip"]["miou"].values())


def test_wrong_predictions_are_refused(clips):
    with pytest.raises(ValueError, match=r"predictions of clip c0 are int64 .* must be uint8 \(5, 32, 64\)"):
        evaluation.evaluate_predictor(lambda i: clips.labels[i].astype(np.int64), clips)


def test_predict_upsamples_then_takes_the_best(clips):
    model = models.build("student", 19).eval()
    maps = evaluation.predict(model, clips.frames[0], batch=2)
    with torch.no_grad():
        logits = model(torch.from_numpy(clips.frames[0]))
    expected = torch.nn.functional.interpolate(logits, (32, 64), mode="bilinear", align_corners=False).argmax(1)
    assert maps.dtype == np.uint8 and (maps == expected.numpy()).mean() > 0.999
    assert evaluation.evaluate(model, clips)["metrics"]["miou"] >= 0
