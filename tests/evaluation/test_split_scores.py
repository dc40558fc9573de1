"""Evaluation: true labels, controls, what a data set cannot say, blocks of a single clip."""

import numpy as np
import pytest
import torch
from toys import toy_clips

from tcseg.evaluation import split_scores
from tcseg.metrics import intervals
from tcseg.models import registry


def dense(clips):
    clips.annotated[:] = True
    return clips


@pytest.fixture
def clips():
    return dense(toy_clips(4, 5))


def truth(clips):
    return lambda i: clips.labels[i]


def test_true_labels_are_perfect_and_set_the_ceiling(clips):
    result = split_scores.evaluate_predictor(truth(clips), clips)
    metrics = result["metrics"]
    assert metrics["miou"] == metrics["pixel_accuracy"] == 1
    assert metrics["flicker"] == metrics["harmful_flicker"] == 0
    assert metrics["tc"] == split_scores.ceiling(clips) == {"exact": 1.0}  # whole pixels: nothing is lost by nearest


def test_counts_per_clip_give_the_metrics_back(clips):
    rng = np.random.default_rng(0)
    noisy = [np.where(rng.random(y.shape) < 0.2, 1 - y, y).astype(np.uint8) for y in clips.labels]
    result = split_scores.evaluate_predictor(lambda i: noisy[i], clips)
    for name, value in (("miou", result["metrics"]["miou"]), ("tc_exact", result["metrics"]["tc"]["exact"])):
        assert intervals.clip_interval(result["per_clip"][name]).value == pytest.approx(value, abs=1e-5)
    assert intervals.clip_interval(result["per_clip"]["flicker"]).value == pytest.approx(
        result["metrics"]["flicker"], abs=1e-5
    )
    assert result["metrics"]["flicker"] == pytest.approx(2 * 0.2 * 0.8, abs=0.02)  # one of two independent flips
    assert result["metrics"]["harmful_flicker"] == pytest.approx(0.2, abs=0.02)
    assert result["per_clip"]["names"] == clips.names


def test_constant_map_is_steady_and_wrong(clips):
    constant = split_scores.evaluate_predictor(lambda i: np.zeros_like(clips.labels[i]), clips)["metrics"]
    assert constant["tc"]["exact"] == 1 and constant["flicker"] == 0 and constant["miou"] < 0.5


def test_what_cityscapes_cannot_say_is_none():
    clips = toy_clips(3, 5)
    clips.flows = {"dis": clips.flows["exact"]}
    result = split_scores.evaluate_predictor(truth(clips), clips)
    assert result["metrics"]["flicker"] is None and result["metrics"]["harmful_flicker"] is None
    assert split_scores.ceiling(clips) == {"dis": None} and split_scores.ceilings(clips)["tc_gap5"] == {"dis": None}
    assert "flicker" not in result["per_clip"] and result["metrics"]["tc"]["dis"] == 1


def test_one_clip_is_cut_into_blocks():
    clips = dense(toy_clips(1, 40))
    result = split_scores.evaluate_predictor(truth(clips), clips)
    assert result["per_clip"]["names"] == ["c0+000", "c0+017", "c0+034"]
    assert all(len(v) == 3 for v in result["per_clip"]["miou"].values())


def test_wrong_predictions_are_refused(clips):
    with pytest.raises(ValueError, match=r"predictions of clip c0: .* int64 .* must be uint8 \(5, 32, 64\)"):
        split_scores.evaluate_predictor(lambda i: clips.labels[i].astype(np.int64), clips)
    with pytest.raises(
        ValueError, match=r"clip c0: label maps are uint8 \(4, 32, 64\); they must be uint8 \(5, 32, 64\)"
    ):
        split_scores.evaluate_predictor(lambda i: clips.labels[i][1:], clips)
    with pytest.raises(
        ValueError, match=r"clip c0: label maps contain \[26\]; they must hold trainIds below 19 or 255"
    ):
        split_scores.evaluate_predictor(lambda i: np.full_like(clips.labels[i], 26), clips)


def test_a_flow_of_another_size_is_refused(clips):
    flow, visible = clips.flows["exact"]
    clips.flows = {"exact": (flow[..., :-1], visible)}
    with pytest.raises(ValueError, match=r"clip c0: flow is \(2, 32, 63\) but the label map \(32, 64\)"):
        split_scores.evaluate_predictor(truth(clips), clips)


def test_a_clip_of_one_frame_has_accuracy_and_nothing_else():
    clips = dense(toy_clips(2, 1))
    metrics = split_scores.evaluate_predictor(truth(clips), clips)["metrics"]
    assert metrics["miou"] == 1 and metrics["tc"] == {} and metrics["flicker"] is None and metrics["vc8"] is None


def test_frames_without_labels_say_nothing_about_accuracy():
    clips = toy_clips(2, 3)
    clips.annotated[:] = False
    metrics = split_scores.evaluate_predictor(truth(clips), clips)["metrics"]
    assert metrics["miou"] is None and metrics["pixel_accuracy"] is None and metrics["flicker"] is None
    assert metrics["tc"] == {"exact": 1.0} and metrics["tc_boundary"] == {}


def test_void_everywhere_is_none_not_zero():
    clips = dense(toy_clips(2, 3))
    clips.labels[:] = 255
    metrics = split_scores.evaluate_predictor(lambda i: np.zeros_like(clips.labels[i]), clips)["metrics"]
    assert metrics["miou"] is None and metrics["tc"] == {"exact": None} and metrics["harmful_flicker"] is None


def noisy(clips, share=0.2):
    rng = np.random.default_rng(0)
    return [np.where(rng.random(y.shape) < share, 1 - y, y).astype(np.uint8) for y in clips.labels]


def test_every_variant_is_there_and_in_its_place():
    clips = dense(toy_clips(3, 20))
    guesses = noisy(clips)
    result = split_scores.evaluate_predictor(lambda i: guesses[i], clips)
    metrics = result["metrics"]
    assert set(metrics["tc"]) == {"exact"} and all(metrics[variant]["exact"] < 1 for variant in split_scores.TC_VARIANTS)
    shares = {name: metrics[name] for name in split_scores.SHARES}
    assert all(0 <= value <= 1 for value in shares.values())
    assert metrics["healed"] == pytest.approx(0.8, abs=0.03)
    assert metrics["wandering"] == 0  # two classes: there is no third to go to
    assert metrics["steady_and_right"] == pytest.approx(0.8**8, abs=0.02)
    assert metrics["vc16"] < metrics["vc8"] < 1 and metrics["vc8_right"] == pytest.approx(0.8**8, abs=0.02)
    assert metrics["miou_boundary"] == pytest.approx(metrics["miou"], abs=0.05)  # the noise does not care for borders
    assert metrics["accuracy_interior"] == pytest.approx(0.8, abs=0.01)
    assert metrics["miou_category"] == 1 and metrics["iiou"] is None  # road for sidewalk: both are flat
    assert set(result["per_clip"]) == {"names", "miou", "tc_exact", "tc_gap5_exact", "flicker", "harmful_flicker"}


def test_counts_do_not_depend_on_who_counts_them(clips):
    guesses = noisy(clips)
    whole = split_scores.count_predictor(lambda i: guesses[i], clips)
    parts = {}
    for i in reversed(range(len(clips))):  # as workers would, in any order
        flows = {"exact": lambda t, gap, i=i: (np.float32(clips.flow[i, t]), clips.visible[i, t])}
        args = guesses[i], clips.labels[i], clips.annotated[i], flows, clips.label_set, "exact"
        parts |= split_scores.count_clip(*args, blocks=[clips.names[i]] * 5)
    assert split_scores.summarise({name: parts[name] for name in whole}) == split_scores.summarise(whole)
    assert list(split_scores.count_clip(*args)) == ["clip"]


def test_instances_bring_iiou(clips):
    labels = np.where(clips.labels[0] == 1, 13, 0).astype(np.uint8)
    instances = {2: np.where(labels[2] == 13, 26_001, 7)}
    args = labels, labels, clips.annotated[0], {}, clips.label_set, None
    metrics = split_scores.summarise(split_scores.count_clip(*args, instances=instances))["metrics"]
    assert metrics["iiou"] == metrics["iiou_category"] == 1
    assert split_scores.summarise(split_scores.count_clip(*args))["metrics"]["iiou"] is None


def test_blocks_without_a_metric_count_nothing():
    clips = toy_clips(3, 5)  # one annotated frame a clip
    clips.annotated[1] = False
    result = split_scores.evaluate_predictor(truth(clips), clips)
    rows = {name: len(next(iter(counts.values()))) for name, counts in result["per_clip"].items() if name != "names"}
    assert set(rows.values()) == {3} and result["per_clip"]["miou"]["labelled"][1] == [0] * 19


def test_tc_is_also_told_as_a_share_of_its_ceiling(clips):
    tops = split_scores.ceilings(clips)
    assert set(tops) == set(split_scores.TC_VARIANTS) and tops["tc"] == split_scores.ceiling(clips)
    found = split_scores.with_ceilings({"tc": {"exact": 0.6, "dis": None}}, {"tc": {"exact": 0.8, "dis": 0.5}})
    assert found["tc_of_ceiling"] == {"exact": 0.75, "dis": None} and found["tc_ceiling"] == {"exact": 0.8, "dis": 0.5}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("tc_dis", ("tc", "dis")), ("tc_gap5_dis", ("tc_gap5", "dis")), ("etc_compat_raft", ("etc_compat", "raft"))],
)
def test_a_metric_s_name_holds_variant_and_flow(name, expected):
    assert split_scores.split_flow(name) == expected and split_scores.split_flow("miou") is None


def test_predict_upsamples_then_takes_the_best(clips):
    model = registry.build("student", 19).eval()
    maps = split_scores.predict(model, clips.frames[0], batch=2)
    with torch.no_grad():
        logits = model(torch.from_numpy(clips.frames[0]))
    expected = torch.nn.functional.interpolate(logits, (32, 64), mode="bilinear", align_corners=False).argmax(1)
    assert maps.dtype == np.uint8 and (maps == expected.numpy()).mean() > 0.999
    assert split_scores.evaluate(model, clips)["metrics"]["miou"] >= 0
