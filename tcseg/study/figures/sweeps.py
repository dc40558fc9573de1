"""Figures of the sweeps of the ablation."""

from __future__ import annotations

from fractions import Fraction
from textwrap import fill

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from scipy.stats import t as student_t

from .style import GRAY, PALE, RECIPE_COLORS, RED, TEXT_COLORS, canvas, color_of, mark_empty, name_points, styled

NOT_YET = "not run yet: tcseg sweep"
SCORES = {"miou": "mIoU (%)", "tc": "TC (%)", "flicker": "flicker (%)"}


def _seeds(rows: pd.DataFrame, by: str, score: str) -> pd.DataFrame:
    """Mean, lowest and highest seed of a score in percent, by the varied value in order."""
    # Cityscapes has no flicker: None.
    measured = rows.assign(**{score: rows[score].astype(float)}).dropna(subset=[score])
    return 100 * measured.groupby(by)[score].agg(["mean", "min", "max"]).sort_index()


def _line(ax: Axes, rows: pd.DataFrame, by: str, score: str, name: str, color: str) -> None:
    statistics = _seeds(rows, by, score)
    ax.plot(statistics.index, statistics["mean"], marker="o", markersize=4, color=color, label=name)
    ax.fill_between(statistics.index, statistics["min"], statistics["max"], color=color, alpha=0.15, linewidth=0)


@styled
def sweep_lines(table: pd.DataFrame, by: str, xlabel: str, ticks: dict[float, str] | None = None) -> Figure:
    """Scores against a varied number, a line a recipe: mean over seeds, and a band from the lowest seed to the highest.

    Args:
        table: of `sweeps.table`.
        by: the varied column, numbers; the axis is logarithmic.
        xlabel: its axis.
        ticks: value -> label; by default the values themselves, shares as fractions.
    """
    figure, axes = canvas(8.4, 3.2, 1, len(SCORES))
    for ax, (score, label) in zip(axes[0], SCORES.items(), strict=True):
        plotted = table[table["base"] != "teacher"] if len(table) else table
        plotted = plotted if plotted[by].nunique() > 1 else plotted[:0]  # one value varies nothing
        for index, (name, rows) in enumerate(plotted.groupby("base", sort=False) if len(plotted) else ()):
            _line(ax, rows, by, score, name, color_of(name, index))
        if len(plotted):
            values = sorted(set(plotted[by]))
            ax.set_xscale("log")
            ax.set_xticks(values, [(ticks or {}).get(value, _short(value)) for value in values])
            ax.xaxis.set_minor_locator(NullLocator())
        else:
            mark_empty(ax, NOT_YET)
        ax.set(xlabel=xlabel, title=label)
    if axes[0, 0].lines:
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _short(value: float) -> str:
    """0.0625 as 1/16: labels of neighbouring shares would touch."""
    return str(Fraction(value).limit_denominator(64)) if value < 1 else f"{value:g}"


@styled
def pareto(table: pd.DataFrame, others: pd.DataFrame, by: str = "temporal", only: float | None = None) -> Figure:
    """Accuracy (mIoU) against TC along a varied weight, compared with methods that do without it.

    Recipes have their colour and name. Filters and controls are hollow; those have a name that none beats in both. A recipe that is
    one of the weights is not drawn twice.

    Args:
        table: of `sweeps.table`, one base; a dot is the mean over seeds.
        others: index = name, columns miou and tc (0..1): other recipes, averages at inference, controls.
        by: the varied column; its value is written next to each dot.
        only: the value whose dot is ringed.
    """
    figure, axes = canvas(6.8, 5.0)
    ax, named, colors = axes[0, 0], {}, {}
    plotted = others.dropna(subset=["miou", "tc"]).drop(
        list(table["base"].unique()) if "base" in table else [], errors="ignore"
    )
    for index, (name, row) in enumerate((100 * plotted[["tc", "miou"]]).iterrows()):
        recipe = name in RECIPE_COLORS
        color = color_of(name, index) if recipe else GRAY
        ax.plot(
            *row,
            "o" if recipe else "s",
            color=color,
            fillstyle="full" if recipe else "none",
            markersize=6 if recipe else 5,
        )
        if recipe or not ((plotted["tc"] > row["tc"] / 100) & (plotted["miou"] > row["miou"] / 100)).any():
            named[name], colors[name] = tuple(row), TEXT_COLORS.get(name, GRAY if not recipe else color)
    if len(table) and table[by].nunique() > 1:
        means = 100 * table.groupby(by)[["tc", "miou"]].mean().sort_index()
        ax.plot(means["tc"], means["miou"], "o-", color="black")
        named |= {f"{value:g}": tuple(row) for value, row in means.iterrows()}
        ax.set_title("black: weights of the loss; hollow: filters and controls", fontsize=9)
        if only is not None:
            ax.plot(
                *means.loc[only, ["tc", "miou"]], "o", markersize=16, fillstyle="none", color=RED, markeredgewidth=2
            )
    elif plotted.empty:
        mark_empty(ax, NOT_YET)
    ax.set(xlabel="TC (%)", ylabel="mIoU (%)")
    ax.margins(x=0.12, y=0.1)
    name_points(ax, named, colors)
    return figure


@styled
def sweep_dots(table: pd.DataFrame) -> Figure:
    """One row per recipe: a dot per seed, their mean with its 95 % interval over seeds; on top the unchanged recipe."""
    names = list(dict.fromkeys(table["recipe"])) if len(table) else []
    names = names if len(names) > 1 else []  # the recipe alone varies nothing
    figure, axes = canvas(8.4, 1.3 + 0.4 * max(3, len(names)), 1, len(SCORES))
    for ax, (score, label) in zip(axes[0], SCORES.items(), strict=True):
        for place, name in enumerate(names):
            values = 100 * table.loc[table["recipe"] == name, score].astype(float).dropna()
            color = color_of(name, 0)
            ax.plot(values, [place + 0.22] * len(values), "o", markersize=3, color=color, alpha=0.5)
            if len(values) > 1:
                half = student_t.ppf(0.975, len(values) - 1) * values.std() / len(values) ** 0.5
                ax.plot([values.mean() - half, values.mean() + half], [place - 0.1] * 2, color=color, linewidth=2)
            if len(values):
                ax.plot(values.mean(), place - 0.1, "D", color=color, markersize=5)
            if place == 0:
                ax.axvline(values.mean(), color=PALE, linestyle="--", zorder=0)
        ax.set_yticks(range(len(names)), _in_words(names) if ax is axes[0, 0] else [""] * len(names), fontsize=8.5)
        ax.invert_yaxis()
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.set(xlabel=label)
        if not names:
            mark_empty(ax, NOT_YET)
    if names:
        figure.supxlabel("diamond and line: mean and its 95 % interval over seeds; dots: seeds", fontsize=9)
    return figure


WORDS = {"temporal": "weight", "form": "", "method": "", "flow": "", "labelled_share": "labels", "arch": ""}


def _in_words(names: list[str]) -> list[str]:
    """Names of variations to be read: "kd+tl,form=l2,temporal=12" beside "kd+tl" is "l2, weight 12"."""
    from tcseg.models.students import CHOSEN  # here: torch is slow to import, and no other figure needs it

    roles = {arch: role for role, arch in CHOSEN.items()}
    shared = {name.split(",")[0] for name in names}
    told = []
    for name in names:
        base, *changes = name.split(",")
        pairs = (change.partition("=") for change in changes)
        named = ((WORDS.get(key, key), roles.get(value, value)) for key, _, value in pairs)
        parts = [word if value == "True" else f"{word}\u00a0{value}".strip() for word, value in named]
        told.append(fill(", ".join([*([] if parts and len(shared) == 1 else [base]), *parts]).replace("_", " "), 24))
    return told
