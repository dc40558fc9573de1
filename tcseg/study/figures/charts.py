"""General charts: curves, bars, and bars by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .style import BLUE, CYCLE, GRAY, PALE, RED, canvas, color_of, styled


@styled
def lines(series: Mapping[str, Sequence[float]], xlabel: str, ylabel: str) -> Figure:
    """Curves over their index; a `pd.Series` brings its own x. NaN leaves a gap."""
    figure, axes = canvas(6.4, 3.2)
    ax = axes[0, 0]
    for index, (name, values) in enumerate(series.items()):
        values = values if isinstance(values, pd.Series) else pd.Series(np.asarray(values, float))
        ax.plot(values.index, values.to_numpy(float), label=name, color=color_of(name, index), linewidth=1.6)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if len(series) > 1:
        ax.legend()
    return figure


@styled
def bars(values: pd.DataFrame, xlabel: str) -> Figure:
    """Horizontal bars: index = name, column `value`, and `low`, `high` where an interval is known.

    Args:
        values: one row a bar, drawn from top to bottom; NaN values are named "not measured".
        xlabel: quantity and unit.
    """
    figure, axes = canvas(6.4, 0.42 * max(2, len(values)) + 0.9)
    ax = axes[0, 0]
    numbers = values["value"].to_numpy(float) if len(values) else np.zeros(0)
    interval = values.reindex(columns=["low", "high"]).to_numpy(float)
    largest = np.nanmax(np.abs(numbers)) if np.isfinite(numbers).any() else 1.0
    digits = 0 if largest >= 1000 else 1 if largest >= 10 else 2  # one precision in a chart
    for y, (name, number) in enumerate(zip(values.index, numbers, strict=True)):
        ax.barh(y, np.nan_to_num(number), height=0.7, color=color_of(str(name), y))
        text = f" {number:.{digits}f}" if np.isfinite(number) else " not measured"
        ax.text(np.nan_to_num(number) if not np.isfinite(number) or number > 0 else 0, y, text, va="center")
        if np.isfinite(interval[y]).all():
            ax.plot(interval[y], [y, y], color="black", linewidth=1.2)
    ax.set(xlabel=xlabel, yticks=range(len(values)), yticklabels=[str(name) for name in values.index])
    ax.invert_yaxis()
    ax.margins(x=0.14)
    ax.grid(False, axis="y")
    if not np.isfinite(numbers).any():
        ax.set_xlim(0, 1)
    return figure


def _class_axis(ax: Axes, names: Sequence[str]) -> None:
    ax.set(yticks=range(len(names)), yticklabels=list(names))
    ax.set_ylim(len(names) - 0.4, -0.6)


@styled
def class_shares(shares: pd.DataFrame, xlabel: str = "share of the labelled pixels (%, logarithmic)") -> Figure:
    """How much each class has of something: index = class, one column a source, values 0..1, on a logarithmic axis."""
    figure, axes = canvas(6.4, 0.25 * max(4, len(shares)) + 1.0)
    ax = axes[0, 0]
    for index, source in enumerate(shares.columns):
        percent = 100 * shares[source].to_numpy(float)
        positive = np.where(percent > 0, percent, np.nan)
        ax.plot(positive, range(len(shares)), "osD^"[index % 4], color=CYCLE[index], label=source)
    _class_axis(ax, shares.index)
    ax.set_xlabel(xlabel)
    if np.nansum(shares.to_numpy(float)) > 0:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.legend(loc="lower right")
    return figure


@styled
def class_iou(table: pd.DataFrame) -> Figure:
    """IoU per class of one or more models: index = class, one column a model, values 0..1; a line joins the models."""
    figure, axes = canvas(6.4, 0.27 * max(4, len(table)) + 1.0)
    ax = axes[0, 0]
    percent = 100 * table.to_numpy(float)
    for y, row in enumerate(percent):
        finite = row[np.isfinite(row)]
        if finite.size:
            ax.plot([finite.min(), finite.max()], [y, y], color=PALE, linewidth=2, zorder=1)
        else:
            ax.text(1, y, "in neither map", va="center", color=GRAY)
    for index, model in enumerate(table.columns):
        ax.scatter(percent[:, index], range(len(table)), color=color_of(model, index), label=model, zorder=2, s=30)
    _class_axis(ax, table.index)
    ax.set(xlabel="IoU (%)", xlim=(-2, 102))
    if table.shape[1]:
        ax.legend(loc="lower right")
    return figure


@styled
def class_gains(gains: pd.DataFrame | pd.Series, xlabel: str) -> Figure:
    """What a change did to each class: one dot for each seed, and a line at their mean.

    Classes are sorted by the mean; those without one come last.

    Args:
        gains: index = class; a column a seed, in points of IoU (-100..100).
        xlabel: quantity and unit.
    """
    table = gains.to_frame() if isinstance(gains, pd.Series) else gains
    table = table.astype(float)
    ordered = table.loc[table.mean(axis=1).sort_values(ascending=False).index]
    figure, axes = canvas(6.4, 0.25 * max(4, len(ordered)) + 1.2)
    ax, means = axes[0, 0], ordered.mean(axis=1).to_numpy()
    for column in ordered:
        ax.plot(ordered[column], range(len(ordered)), "o", color=PALE, markeredgecolor=GRAY, markersize=4, zorder=2)
    for sign, color in ((1, BLUE), (-1, RED)):
        rows = np.flatnonzero(np.nan_to_num(means) * sign > 0)
        ax.barh(rows, means[rows], color=color, height=0.6, zorder=1)
    _class_axis(
        ax, [f"{name} (absent)" if np.isnan(mean) else name for name, mean in zip(ordered.index, means, strict=True)]
    )
    ax.axvline(0, color="black", linewidth=0.8)
    count = table.shape[1]
    ax.set_xlabel(
        xlabel + (f"\nbar: mean of {count} seeds; dots: the seeds" if count > 1 else "\none seed: another may differ")
    )
    return figure
