"""Figures of the training: curves and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .style import CYCLE, canvas, color_of, few_ticks, mark_empty, styled

QUANTITIES = {
    "loss": "loss",
    "ce": "cross-entropy",
    "kd": "distillation loss",
    "temporal": "temporal loss",
    "lr": "learning rate",
}


@styled
def training_curves(logs: Mapping[str, pd.DataFrame], columns: Sequence[str] = ("loss",)) -> Figure:
    """Training logs: name -> table with `step` and `columns`; a panel a column, losses pale as logged and bold smoothed."""
    figure, axes = canvas(6.8, 2.6 * max(1, len(columns)), max(1, len(columns)), 1)
    for ax, column in zip(axes[:, 0], columns, strict=False):
        positive = False
        for index, (name, log) in enumerate(logs.items()):
            if column not in log or log[column].dropna().empty:
                continue
            rows = log.dropna(subset=[column])
            noisy = column != "lr"
            smooth = rows[column].ewm(span=max(2, len(rows) // 20)).mean() if noisy else rows[column]
            if noisy:
                ax.plot(rows["step"], rows[column], color=color_of(name, index), alpha=0.25, linewidth=0.8)
            ax.plot(rows["step"], smooth, color=color_of(name, index), label=name, linewidth=1.8)
            positive |= noisy and bool((rows[column] > 0).all())
        ax.set(xlabel="step", ylabel=QUANTITIES.get(column, column.replace("_", " ")))
        if not ax.lines:
            mark_empty(ax, "not logged by these runs")
            continue
        if positive:
            ax.set_yscale("log")
            few_ticks(ax.yaxis)
        ax.legend()
    return figure


@styled
def soft_targets(probs: pd.DataFrame) -> Figure:
    """One pixel's probabilities at several temperatures: index = class, one column a temperature; the six likeliest."""
    plotted = probs.loc[probs.max(axis=1).sort_values(ascending=False).index[:6]]
    figure, axes = canvas(6.8, 3.0)
    ax, count = axes[0, 0], max(1, plotted.shape[1])
    for index, temperature in enumerate(plotted.columns):
        places = np.arange(len(plotted)) + 0.8 * (index - (count - 1) / 2) / count
        ax.bar(places, 100 * plotted[temperature], width=0.8 / count, color=CYCLE[index], label=str(temperature))
    ax.set_xticks(range(len(plotted)), [str(name).replace(" ", "\n") for name in plotted.index])
    ax.set(ylabel="probability (%)", xlabel="class")
    ax.grid(False, axis="x")
    if len(plotted.columns):
        ax.legend()
    return figure
