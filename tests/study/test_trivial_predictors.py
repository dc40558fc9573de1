"""Controls win what they are known to win, and the dose of a known mistake can be read off."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from toys import toy_clips

from tcseg.evaluation import split_scores
from tcseg.labels import IGNORE
from tcseg.metrics.segmentation import Overlap
from tcseg.models import registry
from tcseg.study import figures, trivial_predictors


@pytest.fixture
def clips():
    clips = toy_clips(3, 9)
    clips.annotated[:] = True
    return clips


@pytest.fixture(scope="module")
def model():
    return registry.build("student", 19).eval()


def metrics_of(predictor, clips):
    return split_scores.evaluate_predictor(predictor, clips)["metrics"]


def test_a_constant_map_wins_what_never_looks_at_the_truth(clips):
    found = metrics_of(trivial_predictors.constant_map(clips, 0), clips)
    assert found["tc"]["exact"] == found["tc_gap5"]["exact"] == found["vc8"] == 1 and found["flicker"] == 0
    assert found["etc_compat"]["exact"] == pytest.approx(1 / 19, abs=1e-6)  # absent classes count zero there
    assert found["miou"] < 0.5 and found["vc8_right"] < 0.8 and found["steady_and_right"] < 0.8


def test_pushing_moves_labels_with_the_flow():
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    flow = np.zeros((2, 3, 4), np.float32)
    flow[0] = 1
    assert trivial_predictors.push(ids, flow).tolist() == [[0, 0, 1, 2], [4, 4, 5, 6], [8, 8, 9, 10]]


def test_what_is_carried_along_the_flow_is_consistent_with_it(clips, model):
    maps = trivial_predictors.carried(model, clips)(1)
    assert (maps[0] == split_scores.predict(model, clips.frames[1, :1])[0]).all()
    assert metrics_of(trivial_predictors.carried(model, clips), clips)["tc"]["exact"] > 0.99


def test_smoothing_takes_the_majority_in_space_and_time():
    maps = np.zeros((20, 40, 40), np.uint8)
    maps[:, :, 20:] = 3
    maps[:, 20, 20:] = 7  # a line that every box outvotes
    maps[10] = 5  # a frame that its neighbours outvote
    found = trivial_predictors.smoothed(lambda index: maps, 19)(0)
    assert set(np.unique(found)) == {0, 3} and (found[:, :, :15] == 0).all() and (found[:, :, 25:] == 3).all()


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.3])
def test_flips_are_a_known_dose(clips, rate):
    found = metrics_of(trivial_predictors.flipped(clips, rate), clips)
    assert found["pixel_accuracy"] == pytest.approx(1 - rate, abs=0.01)
    assert found["flicker"] == pytest.approx(2 * rate * (1 - rate) + rate**2 * 17 / 18, abs=0.01)
    assert found["harmful_flicker"] == pytest.approx(rate, abs=0.01)
    assert found["vc8_right"] == found["steady_and_right"] or abs(found["vc8_right"] - (1 - rate) ** 8) < 0.02


def test_flips_leave_void_alone_and_repeat(clips):
    clips.labels[:, :, :4] = IGNORE
    predictor = trivial_predictors.flipped(clips, 0.5)
    assert (predictor(0)[:, :4] == IGNORE).all() and (predictor(0)[:, 4:] < 19).all()
    assert (predictor(0) == predictor(0)).all() and (predictor(0)[0] != predictor(1)[0]).any()
    with pytest.raises(ValueError, match="rate is 1.5; it must be a share"):
        trivial_predictors.flipped(clips, 1.5)


def test_the_table_has_a_row_a_predictor_flow_and_metric(clips, model):
    table = trivial_predictors.scores(trivial_predictors.controls(clips, model, 0), clips)
    assert table.columns.tolist() == trivial_predictors.COLUMNS and set(table["dataset"]) == {"procity"}
    assert not table.duplicated(["predictor", "flow", "metric"]).any()
    assert table["value"].dropna().between(0, 1).all()
    truth = table[table["predictor"] == "true labels"].set_index("metric")["value"]
    assert (
        truth["miou"] == truth["tc"] == truth["vc8_right"] == truth["steady_and_right"] == 1 and truth["flicker"] == 0
    )
    inside = table.dropna(subset=["ci_low"])
    assert (inside["ci_low"] <= inside["value"] + 1e-9).all() and len(inside)


def test_values_are_those_of_a_record(clips):
    predictor = trivial_predictors.flipped(clips, 0.1)
    table = trivial_predictors.scores({"flips": predictor}, clips).set_index(["metric", "flow"])["value"]
    found = metrics_of(predictor, clips)
    for name in ("miou", "pixel_accuracy", "harmful_flicker", "vc8"):
        assert table[name, np.nan] == pytest.approx(found[name], abs=1e-6)
    for name in split_scores.TC_VARIANTS:
        assert table[name, "exact"] == pytest.approx(found[name]["exact"], abs=1e-6)


def test_a_clip_without_labels_changes_no_interval(clips):
    blocks = split_scores.count_predictor(trivial_predictors.flipped(clips, 0.1), clips)
    nothing = dict.fromkeys(["unlabelled"], {"etc_compat_exact": Overlap.zero(19)})
    rows, more = (pd.DataFrame(trivial_predictors._metric_rows(some)) for some in (blocks, blocks | nothing))
    pd.testing.assert_frame_equal(more, rows, rtol=1e-6)
    assert (rows["ci_low"].notna() == rows["value"].notna()).all()


def test_without_dense_labels_no_control_knows_the_truth(model):
    clips = toy_clips(2, 3)
    assert not [name for name in trivial_predictors.controls(clips, model, 0) if name.startswith("true labels")]


def test_ablation_rows_keep_one_dose_and_leave_unknown_flow_empty(clips, model):
    table = trivial_predictors.scores(trivial_predictors.controls(clips, model, 0), clips)
    rows = trivial_predictors.as_ablation_rows(table, ("exact", "dis"), {"exact": 0.9})
    assert len(rows) == 2 * rows["control"].nunique()
    assert [name for name in rows["control"].unique() if "flipped" in name] == ["true labels, 5 % flipped"]
    by = rows.set_index(["control", "flow"])
    assert by.loc[("constant map", "exact"), "tc"] == 1 and pd.isna(by.loc[("constant map", "dis"), "tc"])
    assert by.loc[("constant map", "exact"), "tc_ceiling"] == 0.9


# ------------------------------------------------------------------------------------------------ the noise sweep


def test_a_perfect_model_keeps_its_score_only_with_a_right_warp(clips):
    clips.labels[:] = np.where(clips.labels == 1, 13, 0)  # road and car, far apart as ids
    table = trivial_predictors.perfect_scores(clips, sigmas=(0, 0.1, 1), pairs=4)
    tc = table.set_index(["scene", "mask", "way", "sigma"])["tc"].sort_index()
    assert len(tc) == 2 * 2 * 4 * 3
    still = tc["still", "all pixels"]
    assert (still[:, 0] == 1).all()  # at rest and without noise every way is right
    assert still["nearest", 0.1] > 0.99 > 0.95 > still["ids, bilinear, cut (ETC's script)", 0.1]
    assert still["nearest", 1] < still["nearest", 0.1]
    assert tc["moving", "visible pixels", "nearest", 0] == 1  # whole pixels: nothing is lost


def test_noise_has_the_size_that_is_asked_for():
    noise = trivial_predictors.smooth_noise((160, 320), 0.5, np.random.default_rng(0))
    assert noise.shape == (2, 160, 320) and noise.dtype == np.float32 and noise.std() == pytest.approx(0.5, rel=1e-3)
    assert trivial_predictors.smooth_noise((40, 80), 0, np.random.default_rng(0)).any() == 0
    assert np.abs(np.diff(noise, axis=2)).max() < 0.2  # smooth


# ------------------------------------------------------------------------------------------------ figures


def test_the_figures_show_every_predictor_and_mark_winning_controls(clips, model):
    table = trivial_predictors.scores(trivial_predictors.controls(clips, model, 0), clips)
    figure = figures.metrics_controls(table, "exact")
    (axes,) = figure.axes
    names = [text.get_text().replace("-\n", "-").replace("\n", " ") for text in axes.get_xticklabels()]
    assert names == list(dict.fromkeys(table["predictor"]))
    rows = [text.get_text() for text in axes.get_yticklabels()]
    tc = next(place for place, row in enumerate(rows) if row.startswith("TC"))
    won = [cell for cell in axes.patches if round(cell.get_y() + 0.45) == tc and cell.get_facecolor() == to_rgba(figures.RED)]
    assert len(won) == 1, "a control wins TC"
    told = {text.get_text() for text in axes.texts if text.get_position() == (round(won[0].get_x() + 0.48), tc)}
    assert told == {"100.0"}


def test_the_noise_figure_has_a_panel_a_scene_that_was_measured(clips):
    table = trivial_predictors.perfect_scores(clips, sigmas=(0, 1), pairs=2)
    assert len(figures.tc_vs_flow_noise(table).axes) == 3
    assert len(figures.tc_vs_flow_noise(table[table["scene"] == "still"]).axes) == 1
    empty = figures.tc_vs_flow_noise(table[:0])
    assert "not measured" in empty.axes[0].texts[0].get_text()
    assert figures.metrics_controls(pd.DataFrame(columns=trivial_predictors.COLUMNS), None).axes


def test_the_dose_figure_has_a_curve_a_metric_or_says_what_is_missing():
    dose = pd.DataFrame({"miou": [1.0, 0.5], "flicker": [0.0, 0.1]}, index=[0.0, 0.1])
    curves = figures.dose_response(dose).axes[0].lines
    assert [line.get_label() for line in curves] == ["mIoU", "flicker"]
    assert curves[0].get_xdata().tolist() == [0, 10] and curves[0].get_ydata().tolist() == [100, 50]
    assert "labels on every frame" in figures.dose_response(dose[:0]).axes[0].texts[0].get_text()
