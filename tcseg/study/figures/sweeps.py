"""Figures of the sweeps of the ablation."""

from __future__ import annotations

from fractions import Fraction

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from .style import GRAY, PALE, RECIPE_COLORS, RED, canvas, color_of, mark_empty, styled

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

    Args:
        table: of `sweeps.table`, one base; a dot is the mean over seeds.
        others: index = name, columns miou and tc (0..1): other recipes, averages at inference, controls.
        by: the varied column; its value is written next to each dot.
        only: the value whose dot is ringed.
    """
    figure, axes = canvas(6.4, 4.0 + 0.14 * len(others))
    ax = axes[0, 0]
    plotted = others.dropna(subset=["miou", "tc"])
    for index, (name, row) in enumerate(plotted.iterrows()):
        color, fill = (color_of(name, index), "full") if name in RECIPE_COLORS else (GRAY, "none")
        style = {"color": color, "fillstyle": fill, "linestyle": "", "label": name}
        ax.plot(100 * row["tc"], 100 * row["miou"], "sXDPv^<>p"[index % 9], **style)
    if len(table) and table[by].nunique() > 1:
        means = 100 * table.groupby(by)[["tc", "miou"]].mean().sort_index()
        ax.plot(means["tc"], means["miou"], "o-", color="black", label="by weight of the loss")
        for value, row in means.iterrows():
            ax.annotate(f"{value:g}", (row["tc"], row["miou"]), (-6, -11), textcoords="offset points", ha="right")
        if only is not None:
            ax.plot(
                *means.loc[only, ["tc", "miou"]], "o", markersize=16, fillstyle="none", color=RED, markeredgewidth=2
            )
    elif plotted.empty:
        mark_empty(ax, NOT_YET)
    ax.set(xlabel="TC (%)", ylabel="mIoU (%)")
    if ax.lines:
        figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    return figure


@styled
def sweep_dots(table: pd.DataFrame) -> Figure:
    """One row per recipe, one dot per seed, a line at the mean; on top the unchanged recipe, whose mean crosses all rows."""
    names = list(dict.fromkeys(table["recipe"])) if len(table) else []
    names = names if len(names) > 1 else []  # the recipe alone varies nothing
    figure, axes = canvas(8.4, 1.2 + 0.34 * max(3, len(names)), 1, len(SCORES))
    for ax, (score, label) in zip(axes[0], SCORES.items(), strict=True):
        for place, name in enumerate(names):
            values = 100 * table.loc[table["recipe"] == name, score].astype(float).dropna()
            ax.plot(values, [place] * len(values), "o", markersize=4, color=color_of(name, 0), alpha=0.7)
            ax.plot([values.mean()] * 2, [place - 0.3, place + 0.3], color="black")
            if place == 0:
                ax.axvline(values.mean(), color=PALE, linestyle="--", zorder=0)
        ax.set_yticks(range(len(names)), names if ax is axes[0, 0] else [""] * len(names))
        ax.invert_yaxis()
        ax.set(xlabel=label)
        if not names:
            mark_empty(ax, NOT_YET)
    return figure
