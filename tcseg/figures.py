"""Every figure of the report: arrays and tables in, a matplotlib Figure out.

Pure functions: nothing is read, shown or saved here (`Study.figure` does that), and pyplot's global state is untouched.
Where a table says NaN the figure leaves a gap; where there is nothing at all it says so in words. Shares are 0..1 in
tables and percent on axes. Colours of Okabe and Ito (2008): colour-blind readers can tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from itertools import cycle
from typing import TYPE_CHECKING, ParamSpec

import cv2
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from tcseg.labels import IGNORE, LabelSet, colorize

if TYPE_CHECKING:
    from ipywidgets import VBox

P = ParamSpec("P")

CYCLE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442")
BLUE, ORANGE, GREEN, PINK, RED, SKY, YELLOW = CYCLE
GRAY, PALE = "#666666", "#bbbbbb"
RECIPE_COLORS = {
    "teacher": "#000000",
    "student": GRAY,
    "student+tl": SKY,
    "kd": ORANGE,
    "kd+tl": RED,
    "trajectory": PINK,
    "consistent": BLUE,
}
STYLE = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": matplotlib.cycler(color=CYCLE),
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "figure.facecolor": "white",
    "figure.dpi": 110,
    "savefig.dpi": 150,
}
METRIC_NAMES = {
    "miou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "tc_exact": "TC exact",
    "tc_dis": "TC DIS",
    "flicker": "flicker",
    "harmful_flicker": "harmful flicker",
}
ON_A_PHONE = 0.85
LOWER_IS_BETTER = ("flicker", "harmful_flicker")


def _styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Give a figure the house style without touching the caller's rcParams; ticks are made while the style holds."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()
        return figure

    return inside


def _axes(width: float = 6.4, height: float = 3.6, rows: int = 1, columns: int = 1) -> tuple[Figure, np.ndarray]:
    """A figure outside pyplot and its axes (rows, columns); inches, shrunk so that 10 pt stays readable on a phone."""
    figure = Figure(figsize=(ON_A_PHONE * width, ON_A_PHONE * height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _say_empty(ax: Axes, what: str = "nothing was measured here") -> None:
    ax.text(0.5, 0.5, what, transform=ax.transAxes, ha="center", va="center", color=GRAY)


def _color(name: str, index: int) -> str:
    return RECIPE_COLORS.get(name, CYCLE[index % len(CYCLE)])


# --- pictures ---


def overlay(frame: np.ndarray, labels: np.ndarray, label_set: LabelSet, opacity: float = 0.6) -> np.ndarray:
    """Paint labels over a frame; unlabelled pixels show the darkened frame.

    Args:
        frame: uint8 (H,W,3) RGB.
        labels: uint8 (H,W) trainIds, 255 = unlabelled.
        label_set: whose colours.
        opacity: of the labels, 0..1.

    Returns:
        uint8 (H,W,3).
    """
    mixed = (1 - opacity) * frame.astype(np.float32) + opacity * colorize(labels, label_set)
    return np.where((labels == IGNORE)[..., None], frame * 0.4, mixed).astype(np.uint8)


def highlight(frame: np.ndarray, mask: np.ndarray, color: tuple[int, int, int] = (213, 94, 0)) -> np.ndarray:
    """Light up pixels (H,W) bool of a frame uint8 (H,W,3): the rest is turned to a pale gray."""
    gray = 160 + 0.35 * frame.astype(np.float32).mean(-1, keepdims=True).repeat(3, -1)
    return np.where(mask[..., None], np.array(color, np.float32), gray).clip(0, 255).astype(np.uint8)


def flow_colors(flow: np.ndarray, maximum: float | None = None) -> np.ndarray:
    """Flow (2,H,W) in pixels as colour: hue is its direction, strength its length; `maximum` px is full colour."""
    length, angle = cv2.cartToPolar(np.float32(flow[0]), np.float32(flow[1]), angleInDegrees=True)
    top = float(maximum or np.quantile(length, 0.98)) or 1.0
    hsv = np.stack((angle, np.clip(length / top, 0, 1), np.ones_like(length)), -1)
    return (cv2.cvtColor(hsv.astype(np.float32), cv2.COLOR_HSV2RGB) * 255).astype(np.uint8)


@_styled
def image_grid(images: Mapping[str, np.ndarray], columns: int = 2, width: float = 6.8) -> Figure:
    """Pictures side by side, each with its title.

    Args:
        images: title -> uint8 (H,W,3), or (H,W) bool shown black (False) and white.
        columns: how many in a row.
        width: of the figure in inches.
    """
    rows = -(-max(1, len(images)) // columns)
    ratio = max((image.shape[0] / image.shape[1] for image in images.values()), default=0.5)
    figure, axes = _axes(width, rows * (width / columns * ratio + 0.3), rows, columns)
    for ax in axes.flat:
        ax.axis("off")
    for ax, (title, image) in zip(axes.flat, images.items(), strict=False):
        ax.imshow(image, cmap="gray", interpolation="nearest", aspect="auto" if image.shape[0] < 8 else "equal")
        ax.set_title(title)
    if not images:
        _say_empty(axes[0, 0])
    return figure


def answers(
    frame: np.ndarray, labels: np.ndarray, guesses: Mapping[str, np.ndarray], label_set: LabelSet, width: float = 6.8
) -> Figure:
    """A frame and its truth, then for each model its answer and the labelled pixels that it gets wrong.

    Args:
        frame: uint8 (H,W,3).
        labels: uint8 (H,W) trainIds, 255 = unlabelled.
        guesses: model -> uint8 (H,W) trainIds.
        label_set: whose colours.
        width: of the figure in inches.
    """
    images = {"frame": frame, "true labels": overlay(frame, labels, label_set, 0.8)}
    for name, guess in guesses.items():
        images[name] = colorize(guess, label_set)
        images[f"{name}: wrong"] = highlight(frame, (labels != IGNORE) & (guess != labels))
    return image_grid(images, columns=2, width=width)


@_styled
def scalar_maps(maps: Mapping[str, np.ndarray], unit: str, columns: int = 2, maximum: float | None = None) -> Figure:
    """Maps of one quantity on one colour scale: title -> float (H,W) in `unit`; NaN stays white."""
    rows = -(-max(1, len(maps)) // columns)
    ratio = max((values.shape[0] / values.shape[1] for values in maps.values()), default=0.5)
    figure, axes = _axes(6.8, rows * (6.2 / columns * ratio + 0.35), rows, columns)
    finite = [values[np.isfinite(values)] for values in maps.values()]
    pooled = np.concatenate(finite) if finite else np.zeros(0)
    top = maximum or (float(np.quantile(pooled, 0.99)) if pooled.size else 1.0) or 1.0
    for ax in axes.flat:
        ax.axis("off")
    for ax, (title, values) in zip(axes.flat, maps.items(), strict=False):
        shown = ax.imshow(values, cmap="magma", vmin=0, vmax=top, interpolation="nearest")
        ax.set_title(title)
    if maps:
        figure.colorbar(shown, ax=list(axes.flat), label=unit, shrink=0.9, pad=0.02)
    else:
        _say_empty(axes[0, 0])
    return figure


@_styled
def flow_picture(frame: np.ndarray, flow: np.ndarray, visible: np.ndarray, step: int | None = None) -> Figure:
    """What flow and visibility say about a frame: arrows on the frame, the flow in colour with its key, hidden pixels.

    Args:
        frame: uint8 (H,W,3).
        flow: (2,H,W) pixels, to the next frame.
        visible: (H,W) bool.
        step: pixels between arrows; None = a twentieth of the width.
    """
    height, width = frame.shape[:2]
    step = step or max(4, width // 20)
    flow = np.asarray(flow, np.float32)
    figure, axes = _axes(6.8, 2 * (3.4 * height / width + 0.35), 2, 2)
    for ax in axes.flat:
        ax.axis("off")
    y, x = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    axes[0, 0].imshow(frame)
    true_length = {"angles": "xy", "scale_units": "xy", "scale": 1}
    axes[0, 0].quiver(x, y, flow[0, y, x], flow[1, y, x], color=YELLOW, width=0.005, **true_length)
    axes[0, 0].set_title("where each pixel goes (true length)")
    top = float(np.quantile(np.hypot(*flow), 0.98)) or 1.0
    axes[0, 1].imshow(flow_colors(flow, top))
    axes[0, 1].set_title(f"flow as colour, full at {top:.1f} px")
    axes[1, 0].imshow(highlight(frame, ~visible))
    axes[1, 0].set_title(f"hidden or gone in the next frame: {100 * (1 - visible.mean()):.1f} %")
    disc = np.linspace(-1, 1, 65, dtype=np.float32)
    key = flow_colors(np.stack(np.meshgrid(disc, disc)), 1.0)
    key[np.hypot(*np.meshgrid(disc, disc)) > 1] = 255
    axes[1, 1].imshow(key, extent=(-top, top, top, -top))
    axes[1, 1].set_title("colour key: direction of motion")
    return figure


@_styled
def class_palette(label_set: LabelSet) -> Figure:
    """The colour of each class and its trainId: the legend of every label map."""
    columns = 4
    rows = -(-label_set.num_classes // columns)
    figure, axes = _axes(6.8, 0.34 * rows + 0.2)
    ax = axes[0, 0]
    for index, name in enumerate(label_set.classes):
        column, row = divmod(index, rows)
        ax.add_patch(matplotlib.patches.Rectangle((column, -row), 0.14, 0.7, color=label_set.colors[index] / 255))
        ax.text(column + 0.18, 0.35 - row, f"{index} {name}", va="center")
    ax.set(xlim=(0, columns), ylim=(-rows + 0.8, 0.9))
    ax.axis("off")
    return figure


@_styled
def time_slices(slices: Mapping[str, np.ndarray], label_set: LabelSet) -> Figure:
    """One column of pixels followed through time: title -> labels (H,T). A steady object draws a smooth band.

    Each pixel is painted in its class's colour; speckles along time are flicker.
    """
    figure, axes = _axes(6.8, 3.4, 1, max(1, len(slices)))
    for ax, (title, labels) in zip(axes.flat, slices.items(), strict=False):
        ax.imshow(colorize(labels, label_set), aspect="auto", interpolation="nearest")
        ax.set(title=title, xlabel="time (frames)")
        ax.grid(False)
    axes[0, 0].set(ylabel="row of the picture (px)", xlabel="time (frames)")
    if not slices:
        _say_empty(axes[0, 0])
    return figure


# --- general charts ---


@_styled
def lines(series: Mapping[str, Sequence[float]], xlabel: str, ylabel: str, logy: bool = False) -> Figure:
    """Curves over their index; a `pd.Series` brings its own x. NaN leaves a gap."""
    figure, axes = _axes(6.4, 3.2)
    ax = axes[0, 0]
    for index, (name, values) in enumerate(series.items()):
        values = values if isinstance(values, pd.Series) else pd.Series(np.asarray(values, float))
        ax.plot(values.index, values.to_numpy(float), label=name, color=_color(name, index), linewidth=1.6)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if logy and any(np.nanmax(np.asarray(values, float), initial=0) > 0 for values in series.values()):
        ax.set_yscale("log")
    if not any(np.isfinite(np.asarray(values, float)).any() for values in series.values()):
        _say_empty(ax)
    elif len(series) > 1:
        ax.legend()
    return figure


@_styled
def bars(values: pd.DataFrame, xlabel: str, reference: float | None = None, reference_name: str = "") -> Figure:
    """Horizontal bars: index = name, column `value`, and `low`, `high` where an interval is known.

    Args:
        values: one row a bar, drawn from top to bottom; NaN values are named "not measured".
        xlabel: quantity and unit.
        reference: a dashed line, e.g. a ceiling.
        reference_name: what the line is.
    """
    figure, axes = _axes(6.4, 0.42 * max(2, len(values)) + 0.9)
    ax = axes[0, 0]
    numbers = values["value"].to_numpy(float) if len(values) else np.zeros(0)
    interval = values.reindex(columns=["low", "high"]).to_numpy(float)
    for y, (name, number) in enumerate(zip(values.index, numbers, strict=True)):
        ax.barh(y, np.nan_to_num(number), height=0.7, color=_color(str(name), y))
        text = f" {number:.3g}" if np.isfinite(number) else " not measured"
        ax.text(np.nan_to_num(number) if not np.isfinite(number) or number > 0 else 0, y, text, va="center")
        if np.isfinite(interval[y]).all():
            ax.plot(interval[y], [y, y], color="black", linewidth=1.2)
    ax.set(xlabel=xlabel, yticks=range(len(values)), yticklabels=[str(name) for name in values.index])
    ax.invert_yaxis()
    ax.margins(x=0.14)
    ax.grid(False, axis="y")
    if reference is not None and np.isfinite(reference):
        ax.axvline(reference, color=RED, linestyle="--", label=reference_name)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))
    if not np.isfinite(numbers).any():
        ax.set_xlim(0, 1)
    if not len(values):
        _say_empty(ax)
    return figure


# --- classes ---


def _class_axis(ax: Axes, names: Sequence[str]) -> None:
    ax.set(yticks=range(len(names)), yticklabels=list(names))
    ax.set_ylim(len(names) - 0.4, -0.6)


@_styled
def class_shares(shares: pd.DataFrame) -> Figure:
    """How many pixels each class has: index = class, one column a source, values 0..1, on a logarithmic axis."""
    figure, axes = _axes(6.4, 0.25 * max(4, len(shares)) + 1.0)
    ax = axes[0, 0]
    for index, source in enumerate(shares.columns):
        percent = 100 * shares[source].to_numpy(float)
        shown = np.where(percent > 0, percent, np.nan)
        ax.plot(shown, range(len(shares)), "osD^"[index % 4], color=CYCLE[index], label=source)
    _class_axis(ax, shares.index)
    ax.set_xlabel("share of the labelled pixels (%, logarithmic)")
    if np.nansum(shares.to_numpy(float)) > 0:
        ax.set_xscale("log")
        ax.legend(loc="lower right")
    else:
        _say_empty(ax)
    return figure


@_styled
def class_iou(table: pd.DataFrame) -> Figure:
    """IoU per class of one or more models: index = class, one column a model, values 0..1; a line joins the models."""
    figure, axes = _axes(6.4, 0.27 * max(4, len(table)) + 1.0)
    ax = axes[0, 0]
    percent = 100 * table.to_numpy(float)
    for y, row in enumerate(percent):
        seen = row[np.isfinite(row)]
        if seen.size:
            ax.plot([seen.min(), seen.max()], [y, y], color="#bbbbbb", linewidth=2, zorder=1)
        else:
            ax.text(1, y, "in neither map", va="center", color=GRAY)
    for index, model in enumerate(table.columns):
        ax.scatter(percent[:, index], range(len(table)), color=_color(model, index), label=model, zorder=2, s=30)
    _class_axis(ax, table.index)
    ax.set(xlabel="IoU (%)", xlim=(-2, 102))
    if table.shape[1]:
        ax.legend(loc="lower right")
    return figure


@_styled
def class_gains(gains: pd.Series, xlabel: str) -> Figure:
    """What a change did to each class: index = class, values in points of IoU (-100..100), sorted, NaN last."""
    ordered = gains.astype(float).sort_values(ascending=False)
    figure, axes = _axes(6.4, 0.25 * max(4, len(ordered)) + 1.0)
    ax = axes[0, 0]
    values = ordered.to_numpy()
    ax.barh(range(len(values)), np.nan_to_num(values), color=np.where(np.nan_to_num(values) >= 0, BLUE, RED).tolist())
    _class_axis(ax, [f"{name} (absent)" if np.isnan(value) else name for name, value in ordered.items()])
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_xlabel(xlabel)
    return figure


@_styled
def soft_targets(probs: pd.DataFrame) -> Figure:
    """One pixel's probabilities at several temperatures: index = class, one column a temperature; the six likeliest."""
    figure, axes = _axes(6.8, 2.6, 1, max(1, probs.shape[1]))
    shown = probs.loc[probs.max(axis=1).sort_values(ascending=False).index[:6]]
    for index, temperature in enumerate(shown.columns):
        ax = axes[0, index]
        ax.barh(range(len(shown)), 100 * shown[temperature], color=CYCLE[index])
        ax.set(title=str(temperature), xlim=(0, 100), xlabel="probability (%)", ylim=(len(shown) - 0.4, -0.6))
        ax.set(yticks=range(len(shown)), yticklabels=list(shown.index) if index == 0 else [""] * len(shown))
    return figure


@_styled
def confusion(matrix: np.ndarray, label_set: LabelSet) -> Figure:
    """Where a class's pixels go: counts (K, K or K+1) label x prediction, as percent of the label's row."""
    counts = np.asarray(matrix, float)[:, : label_set.num_classes]
    with np.errstate(invalid="ignore", divide="ignore"):
        percent = 100 * counts / counts.sum(1, keepdims=True)
    import seaborn as sns

    figure, axes = _axes(6.4, 5.6)
    ax = axes[0, 0]
    names = list(label_set.classes)
    sns.heatmap(
        percent, ax=ax, cmap="cividis", vmin=0, vmax=100, square=True, xticklabels=names, yticklabels=names,
        cbar_kws={"label": "of the class's pixels (%)", "shrink": 0.8},
    )  # fmt: skip
    ax.set(xlabel="prediction", ylabel="label")
    ax.tick_params(axis="both", labelsize=8, length=0)
    return figure


# --- training and the ablation ---


@_styled
def training_curves(logs: Mapping[str, pd.DataFrame], columns: Sequence[str] = ("loss",)) -> Figure:
    """Training logs: name -> table with `step` and `columns`; a panel a column, pale as logged and bold smoothed."""
    figure, axes = _axes(6.8, 2.6 * max(1, len(columns)), max(1, len(columns)), 1)
    for ax, column in zip(axes[:, 0], columns, strict=False):
        positive = False
        for index, (name, log) in enumerate(logs.items()):
            if column not in log or log[column].dropna().empty:
                continue
            rows = log.dropna(subset=[column])
            smooth = rows[column].ewm(span=max(2, len(rows) // 20)).mean()
            ax.plot(rows["step"], rows[column], color=_color(name, index), alpha=0.25, linewidth=0.8)
            ax.plot(rows["step"], smooth, color=_color(name, index), label=name, linewidth=1.8)
            positive |= bool((rows[column] > 0).all())
        ax.set(xlabel="step", ylabel=column.replace("_", " "))
        if not ax.lines:
            _say_empty(ax, "not logged by these runs")
            continue
        if positive:
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter(LogFormatter())
            ax.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
        ax.legend()
    return figure


def score_table(metrics: Mapping[str, Mapping]) -> pd.DataFrame:
    """Metrics of run records as a table to read: name -> `record["metrics"]`; percent, NaN where there is no answer."""
    rows = {}
    for name, values in metrics.items():
        flat = {**values, **{f"tc_{flow}": tc for flow, tc in values.get("tc", {}).items()}}
        rows[name] = {f"{title} (%)": flat.get(key) for key, title in METRIC_NAMES.items()}
    return (100 * pd.DataFrame.from_dict(rows, orient="index").astype(float)).round(2)


def recipe_means(table: pd.DataFrame) -> pd.DataFrame:
    """The ablation's tidy rows (one a run and flow) as one row a recipe.

    Args:
        table: columns of `ablation.csv`.

    Returns:
        Index = recipe in order of appearance; columns (metric, "mean" | "std" | "count") over seeds, values 0..1.
    """
    runs = table.drop_duplicates(["recipe", "seed"]).set_index(["recipe", "seed"])
    wide = runs[["miou", "pixel_accuracy", "flicker", "harmful_flicker"]].copy()
    for flow in ("exact", "dis"):
        rows = table[table["flow"] == flow].drop_duplicates(["recipe", "seed"])
        wide[f"tc_{flow}"] = rows.set_index(["recipe", "seed"])["tc"]
    grouped = wide[list(METRIC_NAMES)].astype(float).groupby(level="recipe", sort=False)
    return grouped.agg(["mean", "std", "count"])


@_styled
def ablation_heatmap(table: pd.DataFrame, baseline: str = "student") -> Figure:
    """The ablation as a picture: a row a recipe, a column a metric, mean (and spread of seeds) in percent.

    Colour says by how much a cell beats (purple) or misses (orange) the baseline, on the scale of its column.
    """
    import seaborn as sns

    summary = recipe_means(table)
    figure, axes = _axes(6.8, 0.5 * max(2, len(summary)) + 1.3)
    ax = axes[0, 0]
    names = [name for name in METRIC_NAMES if len(summary) and summary[(name, "mean")].notna().any()]
    if not names:
        ax.set(xlabel="metric", ylabel="recipe")
        _say_empty(ax)
        return figure
    mean = 100 * summary.xs("mean", axis=1, level=1)[names]
    spread = 100 * summary.xs("std", axis=1, level=1)[names]
    change = mean - (mean.loc[baseline] if baseline in mean.index else mean.mean())
    change = change * [-1 if name in LOWER_IS_BETTER else 1 for name in names]
    change = change / change.abs().max().replace(0, 1)
    text = mean.map("{:.1f}".format).where(mean.notna(), "")
    text = text + spread.map("\n±{:.1f}".format).where(spread.notna() & mean.notna(), "")
    sns.heatmap(
        change, ax=ax, annot=text, fmt="", cmap="PuOr", vmin=-1.6, vmax=1.6, cbar=False, linewidths=2,
        annot_kws={"size": 9}, xticklabels=[METRIC_NAMES[name].replace(" ", "\n", 1) for name in names],
    )  # fmt: skip
    ax.set(xlabel=f"percent; purple = better than {baseline}, orange = worse", ylabel="")
    ax.tick_params(length=0, rotation=0)
    return figure


@_styled
def accuracy_consistency(points: pd.DataFrame, ceiling: float = float("nan"), flow: str = "exact") -> Figure:
    """Accuracy (mIoU) against consistency (TC), a point a recipe or control: never the one without the other.

    Args:
        points: index = name; columns miou, tc and, where known, miou_low, miou_high, tc_low, tc_high; 0..1.
        ceiling: TC of the true labels.
        flow: the flow that TC was measured with.
    """
    figure, axes = _axes(6.4, 5.6)
    ax, controls = axes[0, 0], cycle("xv+^*D")
    for index, (name, row) in enumerate((100 * points.astype(float)).iterrows()):
        control = name not in RECIPE_COLORS
        bars_of = {
            axis: [[max(0.0, row[key] - row[f"{key}_low"])], [max(0.0, row[f"{key}_high"] - row[key])]]
            for axis, key in (("xerr", "tc"), ("yerr", "miou"))
            if np.isfinite(row.get(f"{key}_low", np.nan)) and np.isfinite(row.get(f"{key}_high", np.nan))
        }
        look = {"fmt": next(controls), "color": GRAY} if control else {"fmt": "o", "color": _color(name, index)}
        ax.errorbar(row["tc"], row["miou"], **bars_of, **look, elinewidth=1, capsize=2, label=name)
    if np.isfinite(ceiling):
        ax.axvline(100 * ceiling, color=RED, linestyle="--", linewidth=1, label="ceiling: true labels")
    ax.set(xlabel=f"temporal consistency, {flow} flow (%)", ylabel="mIoU (%)")
    if len(points):
        figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    else:
        _say_empty(ax)
    return figure


@_styled
def effects_forest(effects: pd.DataFrame) -> Figure:
    """Differences with their intervals, in points: columns comparison, metric, difference, ci_low, ci_high (0..1).

    Filled = the interval is clear of zero; open = it is not, or there is none.
    """
    metrics = list(dict.fromkeys(effects["metric"]))
    kinds = list(dict.fromkeys(effects["comparison"]))
    rows = max(1, -(-len(metrics) // 2))
    figure, axes = _axes(6.8, rows * (0.3 * max(2, len(kinds)) + 0.9), rows, 2)
    for ax in axes.flat[max(1, len(metrics)) :]:
        ax.set_axis_off()
    for index, (ax, metric) in enumerate(zip(axes.flat, metrics, strict=False)):
        _forest_panel(ax, effects[effects["metric"] == metric], kinds)
        arrow = "left" if metric in LOWER_IS_BETTER else "right"
        ax.set(title=f"{METRIC_NAMES.get(metric, metric)} (better: {arrow})", xlabel="difference (points)")
        ax.set_yticks(range(len(kinds)), [kind.replace("_", " ") if index % 2 == 0 else "" for kind in kinds])
        ax.set_ylim(len(kinds) - 0.5, -0.5)
    if not metrics:
        axes[0, 0].set(xlabel="difference (points)", ylabel="comparison")
        _say_empty(axes[0, 0])
    return figure


def _forest_panel(ax: Axes, rows: pd.DataFrame, kinds: list[str]) -> None:
    for _, row in rows.iterrows():
        y, middle = kinds.index(row["comparison"]), 100 * row["difference"]
        low, high = 100 * row["ci_low"], 100 * row["ci_high"]
        ax.plot([low, high], [y, y], color=BLUE, linewidth=2)
        ax.plot(middle, y, "o", color=BLUE, markerfacecolor=BLUE if low > 0 or high < 0 else "white")
    ax.axvline(0, color="black", linewidth=0.8)


@_styled
def cost(table: pd.DataFrame) -> Figure:
    """What a recipe costs to train, and nothing at inference: columns recipe, seed, train_seconds of `ablation.csv`."""
    import seaborn as sns

    runs = table.drop_duplicates(["recipe", "seed"]).dropna(subset=["train_seconds"])
    figure, axes = _axes(6.4, 0.36 * max(2, runs["recipe"].nunique()) + 1.0)
    ax = axes[0, 0]
    if len(runs):
        runs = runs.assign(minutes=runs["train_seconds"].astype(float) / 60)
        sns.stripplot(data=runs, x="minutes", y="recipe", ax=ax, color=BLUE, size=7, jitter=False, alpha=0.7)
    else:
        _say_empty(ax)
    ax.set(xlabel="training time of one run (minutes)", ylabel="recipe")
    ax.set_xlim(left=0)
    return figure


# --- real time ---

SCOPES = ("network", "network+argmax", "end_to_end")


@_styled
def latency(table: pd.DataFrame, budget_ms: float = 1000 / 30) -> Figure:
    """Latency per model, runtime and size: a dot at p50, a line to p90, a tick at p99; a colour a scope, logarithmic.

    Args:
        table: rows of `latency.csv`.
        budget_ms: the dashed line; 1000/30 is one frame of a 30 fps video.
    """
    kinds = table[["model", "runtime", "precision", "width", "height"]].astype(str)
    named = table.assign(name=kinds["model"] + " · " + kinds["runtime"] + "\n" + kinds["width"] + "x" + kinds["height"])
    names = list(dict.fromkeys(named["name"]))
    figure, axes = _axes(6.8, 0.55 * max(2, len(names)) + 1.4)
    ax = axes[0, 0]
    for index, scope in enumerate(SCOPES):
        rows = named[(named["scope"] == scope) & named["p50_ms"].notna()]
        y = np.array([names.index(name) for name in rows["name"]], float) + 0.24 * (index - 1)
        ax.hlines(y, rows["p50_ms"], rows["p90_ms"], color=CYCLE[index], linewidth=2)
        ax.plot(rows["p50_ms"], y, "o", color=CYCLE[index], label=scope)
        ax.plot(rows["p99_ms"], y, "|", color=CYCLE[index], markersize=9, markeredgewidth=2)
    ax.axvline(budget_ms, color=RED, linestyle="--", label=f"{1000 / budget_ms:.0f} frames a second")
    ax.set(xlabel="milliseconds a frame, logarithmic (dot p50, line to p90, tick p99)", xscale="log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(max(1, len(names)) - 0.4, -0.6)
    ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2)
    if not names:
        _say_empty(ax)
    return figure


def browse(pictures: Sequence[np.ndarray], label: str = "frame") -> VBox:
    """The interactive twin of a picture: a slider through pictures, each uint8 (H,W,3).

    A rendered page has no kernel to answer the slider, so show a static figure before this one.
    """
    from ipywidgets import Image, IntSlider, VBox

    slider = IntSlider(0, 0, max(0, len(pictures) - 1), description=label)
    picture = Image(value=_png(pictures[0]), format="png", layout={"max_width": "100%", "width": "720px"})
    slider.observe(lambda change: setattr(picture, "value", _png(pictures[change["new"]])), names="value")
    return VBox([slider, picture])


def _png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()
