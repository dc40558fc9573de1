"""Figures of the ablation: accuracy against consistency, differences with intervals, cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .style import (
    BLUE,
    GRAY,
    GREEN,
    ORANGE,
    PALE,
    PINK,
    RECIPE_COLORS,
    RED,
    TEXT_COLORS,
    canvas,
    color_of,
    mark_empty,
    name_points,
    styled,
)

METRIC_NAMES = {
    "miou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "tc_exact": "TC exact",
    "tc_dis": "TC DIS",
    "flicker": "flicker",
    "harmful_flicker": "harmful flicker",
}
EFFECT_NAMES = METRIC_NAMES | {
    "tc": "TC",
    "tc_gap_closed": "TC, gap to the ceiling",
    "flicker_relative": "flicker",
    "harmful_flicker_relative": "harmful flicker",
}
FOREST = ("miou", "tc", "flicker_relative", "harmful_flicker_relative")
"""Metrics of the forest plot, where a study has them."""
COST_PARTS = {"network_ms": "network", "losses_ms": "losses", "augment_ms": "augmentation", "optimizer_ms": "optimiser"}
LOWER_IS_BETTER = ("flicker", "harmful_flicker", "flicker_relative", "harmful_flicker_relative")


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


@styled
def design(cells: Mapping[str, tuple[str, str]], primary: Sequence[str]) -> Figure:
    """Two choices crossed: a square a recipe, an arrow for the comparison that was named first.

    Args:
        cells: Recipe -> (its column, its row).
        primary: The two recipes that are compared, the baseline first.
    """
    columns, rows = (list(dict.fromkeys(place[axis] for place in cells.values())) for axis in (0, 1))
    figure, grid = canvas(6.4, 2.6)
    axes = grid[0, 0]
    at = {name: (columns.index(column), rows.index(row)) for name, (column, row) in cells.items()}
    for name, (x, y) in at.items():
        color = RECIPE_COLORS.get(name, GRAY) if name in primary else PALE
        axes.add_patch(Rectangle((x - 0.42, y - 0.32), 0.84, 0.64, facecolor=color, edgecolor="none"))
        axes.text(x, y, name, ha="center", va="center", color="white" if name in primary else "black")
    (x0, y0), (x1, y1) = (at[name] for name in primary)
    axes.annotate("", (x1 - 0.3, y1 - 0.34), (x0 + 0.3, y0 + 0.34), arrowprops={"arrowstyle": "->", "lw": 1.6})
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5), frame_on=False)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    return figure


@styled
def ablation_heatmap(table: pd.DataFrame) -> Figure:
    """The ablation as a picture: a row a recipe, a column a metric, mean (and spread of seeds) in percent.

    Colour says by how much a cell beats (purple) or misses (orange) the student, on the scale of its column.
    """
    import seaborn as sns

    summary = recipe_means(table)
    figure, axes = canvas(6.8, 0.5 * max(2, len(summary)) + 1.3)
    ax = axes[0, 0]
    names = [name for name in METRIC_NAMES if len(summary) and summary[(name, "mean")].notna().any()]
    if not names:
        ax.set(xlabel="metric", ylabel="recipe")
        return figure
    mean = 100 * summary.xs("mean", axis=1, level=1)[names]
    spread = 100 * summary.xs("std", axis=1, level=1)[names]
    change = mean - (mean.loc["student"] if "student" in mean.index else mean.mean())
    change = change * [-1 if name in LOWER_IS_BETTER else 1 for name in names]
    change = change / change.abs().max().replace(0, 1)
    text = mean.map("{:.1f}".format).where(mean.notna(), "")
    text = text + spread.map("\n±{:.1f}".format).where(spread.notna() & mean.notna(), "")
    sns.heatmap(
        change, ax=ax, annot=text, fmt="", cmap="PuOr", vmin=-1.6, vmax=1.6, cbar=False, linewidths=2,
        annot_kws={"size": 9}, xticklabels=[METRIC_NAMES[name].replace(" ", "\n", 1) for name in names],
    )  # fmt: skip
    ax.set(xlabel="percent; purple = better than student, orange = worse", ylabel="")
    ax.tick_params(length=0, rotation=0)
    return figure


@styled
def accuracy_consistency(points: pd.DataFrame, ceiling: float = float("nan"), flow: str = "exact") -> Figure:
    """Accuracy (mIoU) against consistency (TC), a named point a recipe or control; below, the recipes alone with their intervals.

    Args:
        points: index = name; columns miou, tc and, where known, miou_low, miou_high, tc_low, tc_high; 0..1.
        ceiling: TC of the true labels.
        flow: the flow that TC was measured with.
    """
    columns = ["miou", "tc", *(name for name in points if name not in ("miou", "tc"))]
    percent = (100 * points.reindex(columns=columns).astype(float)).dropna(subset=["tc", "miou"])
    recipes = [name for name in percent.index if name in RECIPE_COLORS]
    zoomed = len(recipes) > 1 and len(recipes) < len(percent)
    figure, axes = canvas(6.8, 8.0 if zoomed else 4.4, 1 + zoomed, 1)
    _named_points(axes[0, 0], percent, () if zoomed else recipes)
    if np.isfinite(ceiling):
        axes[0, 0].axvline(100 * ceiling, color=RED, linestyle="--", linewidth=1)
        axes[0, 0].text(
            100 * ceiling,
            0.02,
            "ceiling ",
            color=RED,
            ha="right",
            transform=axes[0, 0].get_xaxis_transform(),
            fontsize=9,
        )
    if zoomed:
        _named_points(axes[1, 0], percent.loc[recipes], recipes)
        axes[1, 0].set_title("the recipes alone, with their intervals", fontsize=9)
    for ax in axes.flat:
        ax.set(xlabel=f"temporal consistency, {flow} flow (%)", ylabel="mIoU (%)")
    return figure


def _named_points(ax: Axes, percent: pd.DataFrame, with_intervals: Sequence[str]) -> None:
    for index, (name, row) in enumerate(percent.iterrows()):
        recipe = name in RECIPE_COLORS
        color = color_of(name, index) if recipe else GRAY
        bars_of = {
            axis: [[max(0.0, row[key] - row[f"{key}_low"])], [max(0.0, row[f"{key}_high"] - row[key])]]
            for axis, key in (("xerr", "tc"), ("yerr", "miou"))
            if name in with_intervals
            and np.isfinite(row.get(f"{key}_low", np.nan))
            and np.isfinite(row.get(f"{key}_high", np.nan))
        }
        fill_of = color if recipe else "white"
        ax.errorbar(
            row["tc"],
            row["miou"],
            **bars_of,
            fmt="o" if recipe else "s",
            color=color,
            mfc=fill_of,
            elinewidth=1,
            capsize=2,
        )
    ax.margins(x=0.12, y=0.12)
    if percent.empty:
        mark_empty(ax)
    else:
        colors = {name: TEXT_COLORS.get(name, GRAY) for name in percent.index}
        name_points(
            ax, {name: (row["tc"], row["miou"]) for name, row in percent.iterrows()}, colors, bool(with_intervals)
        )


@styled
def effects_forest(effects: pd.DataFrame) -> Figure:
    """Differences with their intervals, a panel a metric: points, or percent of the base's for a relative one.

    Filled = the interval is clear of zero; open = it is not, or there is none. The grey bar reaches as far as the minimal
    detectable difference: what lies inside it, this study would probably not have found.

    Args:
        effects: columns comparison, metric, difference, ci_low, ci_high and, where known, mdd; shares.
    """
    metrics = list(dict.fromkeys(effects["metric"]))
    kinds = list(dict.fromkeys(effects["comparison"]))
    rows = max(1, -(-len(metrics) // 2))
    figure, axes = canvas(7.6, rows * (0.34 * max(2, len(kinds)) + 0.9) + 0.4, rows, 2)
    for ax in axes.flat[max(1, len(metrics)) :]:
        ax.set_axis_off()
    for index, (ax, metric) in enumerate(zip(axes.flat, metrics, strict=False)):
        _forest_panel(ax, effects[effects["metric"] == metric], kinds)
        arrow = "left" if metric in LOWER_IS_BETTER else "right"
        unit = "% of the base's" if metric.endswith(("_relative", "_closed")) else "points"
        ax.set(title=f"{EFFECT_NAMES.get(metric, metric)} (better: {arrow})", xlabel=f"difference ({unit})")
        ax.set_yticks(
            range(len(kinds)), [kind.replace("_", " ") if index % 2 == 0 else "" for kind in kinds], fontsize=8.5
        )
        ax.set_ylim(len(kinds) - 0.5, -0.5)
    if metrics:
        told = "filled: the interval excludes zero; open: it does not\ngrey: differences that this study would probably have missed"
        figure.supxlabel(told, fontsize=9)
    else:
        axes[0, 0].set(xlabel="difference (points)", ylabel="comparison")
    return figure


def _forest_panel(ax: Axes, rows: pd.DataFrame, kinds: list[str]) -> None:
    ends = 100 * rows.reindex(columns=["ci_low", "ci_high", "difference", "mdd"]).astype(float)
    reach = np.nanmax(np.append(ends["mdd"], 0.0))
    low, high = np.nanmin([ends.min().min(), -reach]), np.nanmax([ends.max().max(), reach])
    ax.set_xlim(low - 0.06 * (high - low) - 0.01, high + 0.06 * (high - low) + 0.01)
    for _, row in rows.iterrows():
        y, middle = kinds.index(row["comparison"]), 100 * row["difference"]
        low, high = 100 * row["ci_low"], 100 * row["ci_high"]
        if np.isfinite(row.get("mdd", np.nan)):
            ax.barh(y, 200 * row["mdd"], left=-100 * row["mdd"], height=0.6, color=PALE, alpha=0.5, zorder=0.5)
        ax.plot([low, high], [y, y], color=BLUE, linewidth=2)
        ax.plot(middle, y, "o", color=BLUE, markerfacecolor=BLUE if low > 0 or high < 0 else "white")
    ax.axvline(0, color="black", linewidth=0.8)


@styled
def cost(parts: pd.DataFrame) -> Figure:
    """What a training step of each recipe costs, and nothing at inference: columns recipe and `COST_PARTS` of `cost.csv`."""
    figure, axes = canvas(6.4, 0.36 * max(2, len(parts)) + 1.4)
    ax, offset = axes[0, 0], np.zeros(len(parts))
    for (column, name), color in zip(COST_PARTS.items(), (BLUE, ORANGE, PINK, GREEN), strict=True):
        ax.barh(parts["recipe"], parts[column], left=offset, color=color, label=name)
        offset += parts[column].to_numpy(float)
    if len(parts):
        figure.legend(loc="outside lower center", ncols=3)
        ax.invert_yaxis()
    ax.set(xlabel="milliseconds per step, idle machine")
    return figure
