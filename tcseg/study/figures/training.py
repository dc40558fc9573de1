"""Figures of the training: curves and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from .style import CYCLE, canvas, color_of, mark_empty, styled


@styled
def training_curves(logs: Mapping[str, pd.DataFrame], columns: Sequence[str] = ("loss",)) -> Figure:
    """Training logs: name -> table with `step` and `columns`; a panel a column, pale as logged and bold smoothed."""
    figure, axes = canvas(6.8, 2.6 * max(1, len(columns)), max(1, len(columns)), 1)
    for ax, column in zip(axes[:, 0], columns, strict=False):
        positive = False
        for index, (name, log) in enumerate(logs.items()):
            if column not in log or log[column].dropna().empty:
                continue
            rows = log.dropna(subset=[column])
            smooth = rows[column].ewm(span=max(2, len(rows) // 20)).mean()
            ax.plot(rows["step"], rows[column], color=color_of(name, index), alpha=0.25, linewidth=0.8)
            ax.plot(rows["step"], smooth, color=color_of(name, index), label=name, linewidth=1.8)
            positive |= bool((rows[column] > 0).all())
        ax.set(xlabel="step", ylabel=column.replace("_", " "))
        if not ax.lines:
            mark_empty(ax, "not logged by these runs")
            continue
        if positive:
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter(LogFormatter())
            ax.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
        ax.legend()
    return figure


@styled
def soft_targets(probs: pd.DataFrame) -> Figure:
    """One pixel's probabilities at several temperatures: index = class, one column a temperature; the six likeliest."""
    figure, axes = canvas(6.8, 2.6, 1, max(1, probs.shape[1]))
    plotted = probs.loc[probs.max(axis=1).sort_values(ascending=False).index[:6]]
    for index, temperature in enumerate(plotted.columns):
        ax = axes[0, index]
        ax.barh(range(len(plotted)), 100 * plotted[temperature], color=CYCLE[index])
        ax.set(title=str(temperature), xlim=(0, 100), xlabel="probability (%)", ylim=(len(plotted) - 0.4, -0.6))
        ax.set(yticks=range(len(plotted)), yticklabels=list(plotted.index) if index == 0 else [""] * len(plotted))
    return figure
