"""Every figure on small made-up input: it is a Figure, its axes are named, and gaps in a table do not break it."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from tcseg.labels import CAMVID, CITYSCAPES, IGNORE
from tcseg.study import figures

NAN = float("nan")
H, W = 32, 64


@pytest.fixture
def frame() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)


@pytest.fixture
def labels() -> np.ndarray:
    labels = np.random.default_rng(1).integers(0, 19, (H, W), dtype=np.uint8)
    labels[:4] = IGNORE
    return labels


def ablation() -> pd.DataFrame:
    """Two recipes with two seeds and two flows, and a control without seed, cost and exact flow."""
    rows = [
        {
            "recipe": recipe, "seed": seed, "flow": flow, "miou": 0.4 + 0.01 * seed, "pixel_accuracy": 0.8, "tc": 0.7,
            "tc_ceiling": 0.9, "flicker": 0.03, "harmful_flicker": NAN, "train_seconds": 90.0 + seed,
        }
        for recipe in ("student", "consistent") for seed in (0, 1) for flow in ("exact", "dis")
    ]  # fmt: skip
    rows.append(rows[0] | {"recipe": "control", "seed": NAN, "flow": "dis", "train_seconds": NAN, "flicker": NAN})
    return pd.DataFrame(rows)


def effects(**change: object) -> pd.DataFrame:
    row = {"comparison": "consistent_vs_student", "metric": "miou", "difference": 0.02, "ci_low": 0.01, "ci_high": 0.03}
    return pd.DataFrame([row, row | {"metric": "flicker"}, row | {"metric": "tc_dis"} | change])


def latency() -> pd.DataFrame:
    row = {"model": "student", "runtime": "onnxruntime", "precision": "fp32", "width": 256, "height": 128}
    row |= {"p50_ms": 2.0, "p90_ms": 3.0, "p99_ms": 5.0, "fps": 500.0}
    return pd.DataFrame([row | {"scope": scope} for scope in figures.SCOPES])


def flow_table() -> pd.DataFrame:
    """Two estimators and the truth at two widths; one that was not measured."""
    rows = [
        {"estimator": name, "width": width, "epe_visible": error, "label_agreement": 0.9, "ms": ms}
        for name, error, ms in (("dis", 0.5, 4.0), ("zero", 3.0, 0.1), ("raft", NAN, NAN), ("exact", 0.0, NAN))
        for width in (256, 512)
    ]
    return pd.DataFrame(rows)


def named(figure: Figure) -> Figure:
    """A figure whose visible charts all say what their axes are, and that can be written."""
    assert isinstance(figure, Figure)
    charts = [ax for ax in figure.axes if ax.axison and ax.get_label() != "<colorbar>"]
    assert all(ax.get_xlabel() or ax.get_title() for ax in charts)
    figure.canvas.draw()
    return figure


def names(figure: Figure) -> list[str]:
    return [tick.get_text() for tick in figure.axes[0].get_yticklabels()]


def test_overlay_and_highlight(frame: np.ndarray, labels: np.ndarray) -> None:
    painted = figures.overlay(frame, labels, CITYSCAPES, opacity=1.0)
    assert painted.dtype == np.uint8 and (painted[10, 10] == CITYSCAPES.colors[labels[10, 10]]).all()
    assert (painted[0, 0] == (frame[0, 0] * 0.4).astype(np.uint8)).all()
    lit = figures.highlight(frame, labels == IGNORE)
    assert (lit[0, 0] == (213, 94, 0)).all() and np.ptp(lit[10, 10]) == 0


def test_flow_colors_of_rest_is_white_and_direction_is_hue() -> None:
    assert (figures.flow_colors(np.zeros((2, 4, 4))) == 255).all()
    right, left = figures.flow_colors(np.stack((np.array([[3.0, -3.0]]), np.zeros((1, 2)))), maximum=3)[0].astype(int)
    assert abs(right - (255, 0, 0)).max() <= 2 and abs(left - (0, 255, 255)).max() <= 2


def test_pictures(frame: np.ndarray, labels: np.ndarray) -> None:
    grid = named(figures.image_grid({"frame": frame, "mask": labels == IGNORE, "third": frame}))
    assert [ax.get_title() for ax in grid.axes] == ["frame", "mask", "third", ""]
    error = labels.astype(float)
    error[0] = NAN
    assert named(figures.scalar_maps({"a": error, "b": error}, "grey levels")).axes[-1].get_ylabel() == "grey levels"
    named(figures.flow_picture(frame, np.ones((2, H, W), np.float16), labels != IGNORE))
    named(figures.flow_picture(frame, np.zeros((2, H, W)), np.ones((H, W), bool)))
    named(figures.time_slices({"student": labels, "truth": labels}, CITYSCAPES))
    for label_set in (CITYSCAPES, CAMVID):
        assert len(named(figures.class_palette(label_set)).axes[0].texts) == label_set.num_classes


def test_answers_show_each_model_and_its_errors(frame: np.ndarray, labels: np.ndarray) -> None:
    figure = named(figures.predictions(frame, labels, {"teacher": labels}, CITYSCAPES))
    assert [ax.get_title() for ax in figure.axes] == ["frame", "true labels", "teacher", "teacher: wrong"]


def test_score_table_leaves_gaps() -> None:
    table = figures.score_table({"kd": {"miou": 0.5, "pixel_accuracy": 0.9, "flicker": None, "tc": {"dis": 0.25}}})
    assert table.loc["kd", "mIoU (%)"] == 50 and table.loc["kd", "TC DIS (%)"] == 25
    assert table.loc["kd", ["flicker (%)", "TC exact (%)", "harmful flicker (%)"]].isna().all()


def test_charts_keep_gaps() -> None:
    figure = named(figures.lines({"on": [1, NAN, 3], "off": pd.Series([1, 2], index=[10, 20])}, "frame", "grey level"))
    assert len(figure.axes[0].lines) == 2
    table = pd.DataFrame({"value": [0.4, NAN], "low": [0.3, NAN], "high": [0.5, NAN]}, index=["exact", "dis"])
    figure = named(figures.bars(table, "TC (%)"))
    assert "not measured" in figure.axes[0].texts[1].get_text()


def test_class_figures() -> None:
    table = pd.DataFrame({"teacher": [0.5, NAN, 0.2], "student": [0.4, NAN, NAN]}, index=["road", "train", "bus"])
    assert names(named(figures.class_iou(table))) == ["road", "train", "bus"]
    assert names(named(figures.class_gains(table["student"] - table["teacher"], "gain (points)")))[0] == "road"
    assert named(figures.class_shares(table)).axes[0].get_xscale() == "log"
    probabilities = pd.DataFrame({"T = 1": [0.9, 0.1], "T = 4": [0.6, 0.4]}, index=["road", "bus"])
    (side_by_side,) = named(figures.soft_targets(probabilities)).axes
    assert [text.get_text() for text in side_by_side.get_legend().get_texts()] == ["T = 1", "T = 4"]


def test_training_curves_with_missing_columns() -> None:
    log = pd.DataFrame({"step": range(40), "loss": np.linspace(3, 1, 40), "kd": [NAN] * 40})
    figure = named(figures.training_curves({"student": log, "kd": log}, ("loss", "kd", "tl")))
    assert len(figure.axes) == 3 and figure.axes[0].get_yscale() == "log" and not figure.axes[1].lines


def test_recipe_means_average_over_seeds_once() -> None:
    means = figures.recipe_means(ablation())
    assert list(means.index[:2]) == ["student", "consistent"]
    assert means.loc["student", ("miou", "mean")] == pytest.approx(0.405)
    assert means.loc["student", ("miou", "count")] == 2
    assert np.isnan(means.loc["student", ("harmful_flicker", "mean")])


def test_ablation_figures() -> None:
    named(figures.ablation_heatmap(ablation()))
    named(figures.ablation_heatmap(ablation().query("recipe == 'consistent' and seed == 0")))
    parts = pd.DataFrame(
        {
            "recipe": ["student", "kd"],
            "network_ms": [50.0, 70],
            "losses_ms": [5.0, 9],
            "augment_ms": [4.0, 6],
            "optimizer_ms": [2.0, 2],
        }
    )
    drawn = named(figures.cost(parts)).axes[0]
    assert max(bar.get_x() + bar.get_width() for bar in drawn.patches) == 87
    points = pd.DataFrame({"miou": [0.4, 0.1], "tc": [0.7, 1.0], "tc_low": [0.6, NAN], "tc_high": [0.8, NAN]})
    points.index = ["student", "constant map"]
    (one,) = named(figures.accuracy_consistency(points, ceiling=0.9)).axes
    assert set(texts(one)) == {"student", "constant map", "ceiling "}
    both = pd.concat([points, points.iloc[:1].rename({"student": "kd"})])
    everything, recipes = named(figures.accuracy_consistency(both, ceiling=0.9)).axes
    assert set(texts(recipes)) == {"student", "kd"} < set(texts(everything)), "the recipes are drawn enlarged"


def test_forest_fills_only_what_is_clear_of_zero() -> None:
    figure = named(figures.effects_forest(effects(ci_low=NAN, ci_high=NAN)))
    markers = [ax.lines[1].get_markerfacecolor() for ax in figure.axes[:3]]
    assert markers == [figures.BLUE, figures.BLUE, "white"]
    assert "better: left" in figure.axes[1].get_title()


def test_latency_names_scopes_once() -> None:
    ax = named(figures.latency(latency())).axes[0]
    assert texts(ax) == ["30 frames a second"] and names(ax.figure) == ["student · onnxruntime fp32"]
    gap = latency()
    gap.loc[0, ["p50_ms", "p90_ms", "p99_ms"]] = NAN
    named(figures.latency(gap))


def test_flow_quality_leaves_out_what_was_not_measured() -> None:
    figure = named(figures.flow_quality(flow_table()))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["dis", "zero", "exact"]
    assert [ax.get_yscale() for ax in figure.axes] == ["log", "linear", "log"]
    assert list(figure.axes[1].lines[0].get_ydata()) == [90, 90]


def test_tc_by_flow_draws_the_ceiling_once() -> None:
    rows = [
        {"predictor": name, "estimator": flow, "tc": tc, "share": tc / 0.9}
        for name, tc in (("true labels", 0.9), ("student", 0.7)) for flow in ("exact", "dis")
    ]  # fmt: skip
    left, right = named(figures.tc_by_flow(pd.DataFrame(rows))).axes
    assert len(left.lines) == 2 and len(right.lines) == 1
    assert list(right.lines[0].get_xdata()) == pytest.approx([100 * 0.7 / 0.9] * 2)
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["exact", "dis"]


def test_networks_are_drawn_after_as_many_steps_with_their_best_beyond() -> None:
    names = [f"{score}_{times}x" for score in ("miou", "tc", "flicker") for times in (1, 2, 4)]
    table = pd.DataFrame({"model": ["a", "b", "c"], "peer": [False, True, False], "best_ms": [3.0, 9.0, 5.0]})
    table = table.assign(**dict.fromkeys(names, 0.3), miou=[0.4, 0.3, np.nan], tc=0.7, flicker=0.1)
    table.loc[2, names] = np.nan
    accuracy = figures.speed_and_quality(table).axes[0]
    drawn = [line for line in accuracy.lines if line.get_marker() in ("o", "s")]
    assert [(line.get_marker(), line.get_fillstyle(), line.get_ydata()[0]) for line in drawn] == [
        ("o", "full", 30.0),
        ("o", "none", 40.0),
        ("s", "full", 30.0),
    ]


def test_empty_input_says_so() -> None:
    empty = {
        "image_grid": figures.image_grid({}),
        "scalar_maps": figures.scalar_maps({}, "px"),
        "time_slices": figures.time_slices({}, CITYSCAPES),
        "lines": figures.lines({}, "x", "y"),
        "bars": figures.bars(pd.DataFrame({"value": []}), "x"),
        "class_iou": figures.class_iou(pd.DataFrame()),
        "class_gains": figures.class_gains(pd.Series(dtype=float), "x"),
        "class_shares": figures.class_shares(pd.DataFrame()),
        "training_curves": figures.training_curves({}),
        "ablation_heatmap": figures.ablation_heatmap(ablation()[:0]),
        "accuracy_consistency": figures.accuracy_consistency(pd.DataFrame()),
        "effects_forest": figures.effects_forest(effects()[:0]),
        "cost": figures.cost(pd.DataFrame(columns=["recipe", "network_ms", "losses_ms", "augment_ms", "optimizer_ms"])),
        "latency": figures.latency(latency()[:0]),
        "flow_quality": figures.flow_quality(flow_table()[:0]),
        "tc_by_flow": figures.tc_by_flow(pd.DataFrame(columns=["predictor", "estimator", "tc", "share"])),
    }
    for name, figure in empty.items():
        told = {text for ax in named(figure).axes for text in texts(ax)}
        assert told in ({"not measured"}, {"not logged by these runs"}), name
    assert not texts(figures.lines({"a": [1, NAN]}, "x", "y").axes[0])
    assert texts(figures.lines({"a": [NAN, NAN]}, "x", "y").axes[0]) == ["not measured"]


def test_names_of_points_cover_neither_each_other_nor_a_point() -> None:
    points = pd.DataFrame(
        {"miou": np.linspace(0.4, 0.402, 6), "tc": np.linspace(0.7, 0.71, 6)}, index=list(figures.RECIPE_COLORS)[:6]
    )
    figure = figures.accuracy_consistency(points)
    figure.draw_without_rendering()
    (ax,) = figure.axes
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 6
    assert not any(a.overlaps(b) for index, a in enumerate(boxes) for b in boxes[:index])


def test_the_piece_to_show_is_bright_and_moves() -> None:
    frames = np.full((4, 5, 3, 8, 8), 20, np.uint8)
    frames[1:3] = 200
    flow = np.zeros((4, 4, 2, 8, 8))
    flow[0], flow[2], flow[1] = 9, 3, 1
    assert figures.showpiece(frames, flow) == 2, "not the dark one, though it moves most"
    assert figures.showpiece(frames, None) in (1, 2)


def test_a_metric_that_a_control_wins_is_red() -> None:
    rows = [
        ("student", "miou", 0.4),
        ("constant", "miou", 0.1),
        ("true labels", "miou", 1.0),
        ("student", "tc", 0.7),
        ("constant", "tc", 1.0),
    ]
    table = pd.DataFrame(rows, columns=["predictor", "metric", "value"]).assign(flow=None)
    ax = named(figures.metrics_controls(table, None, ["student"])).axes[0]
    cells = {
        (patch.get_x(), patch.get_y()): matplotlib.colors.to_hex(patch.get_facecolor()).upper() for patch in ax.patches
    }
    assert list(cells.values()) == [figures.BLUE, "#FFFFFF", "#E8E8E8", "#FFFFFF", figures.RED, "#E8E8E8"]


def test_style_does_not_leak() -> None:
    before = {name: matplotlib.rcParams[name] for name in figures.STYLE}
    figures.lines({"a": [1, 2]}, "x", "y")
    assert {name: matplotlib.rcParams[name] for name in figures.STYLE} == before


# ------------------------------------------------------------------------------------------------ sweeps


def swept(values=(1.0, 2.0), flicker=0.05):
    """A sweep over two recipes, two seeds each."""
    rows = [
        {
            "recipe": f"{base},x={x:g}",
            "base": base,
            "x": x,
            "seed": seed,
            "miou": 0.3 + 0.01 * seed,
            "tc": 0.7,
            "flicker": flicker,
        }
        for base in ("student", "consistent")
        for x in values
        for seed in (0, 1)
    ]
    return pd.DataFrame(rows, columns=["recipe", "base", "x", "seed", "miou", "tc", "flicker"])


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_sweeps_draw_a_line_a_recipe_and_a_row_a_variation():
    lines = figures.sweep_lines(swept(), "x", "x").axes[0]
    assert [len(line.get_xdata()) for line in lines.lines] == [2, 2] and not texts(lines)
    assert lines.lines[0].get_ydata() == pytest.approx([30.5, 30.5])
    dots = figures.sweep_dots(swept()).axes[0]
    assert [label.get_text() for label in dots.get_yticklabels()] == [
        f"{name}, x\xa0{x}" for name in ("student", "consistent") for x in (1, 2)
    ]
    one = figures.sweep_dots(swept().query("base == 'student'").replace("student,x=1", "student")).axes[0]
    assert [label.get_text() for label in one.get_yticklabels()] == ["student", "x\xa02"], (
        "what all rows share is not repeated"
    )
    others = pd.DataFrame({"miou": [0.4, None], "tc": [0.6, 0.5]}, index=["kd", "unmeasured"])
    curve = figures.pareto(swept(), others, by="x").axes[0]
    assert texts(curve) == ["kd", "1", "2"] and len(curve.lines) == 2
    ringed = figures.pareto(swept(), others, by="x", only=swept()["x"].iloc[0])
    assert len(ringed.axes[0].lines) == len(curve.lines) + 1
    shown = figures.as_picture(ringed)
    assert shown.dtype == np.uint8 and shown.shape[2] == 3 and 0 < shown.mean() < 255


def test_a_sweep_of_one_value_says_that_it_was_not_run():
    for table in (swept(values=(1.0,)), swept(values=())):
        assert texts(figures.sweep_lines(table, "x", "x").axes[0]) == ["not run yet: tcseg sweep"]
    assert texts(figures.sweep_dots(swept(values=())).axes[0]) == ["not run yet: tcseg sweep"]
    assert texts(figures.pareto(swept(values=()), pd.DataFrame(columns=["miou", "tc"]), by="x").axes[0])


def test_sweeps_of_data_without_flicker_are_drawn():
    for figure in (figures.sweep_lines(swept(flicker=None), "x", "x"), figures.sweep_dots(swept(flicker=None))):
        assert len(figure.axes) == 3
