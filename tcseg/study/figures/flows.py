"""Figures of the flow estimators: error, time, and the resulting TC."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from .style import CYCLE, GRAY, canvas, color_of, mark_empty, styled

QUALITY = (
    ("epe_visible", 1.0, "error (px)", "log"),
    ("label_agreement", 100.0, "labels that agree (%)", "linear"),
    ("ms", 1.0, "ms per pair", "log"),
)


@styled
def flow_quality(table: pd.DataFrame) -> Figure:
    """Estimators against the exact flow, by width: error, agreement of labels, time; one line an estimator.

    Args:
        table: rows of `flow.csv`: estimator, width, epe_visible (px), label_agreement (0..1), ms; those without any are left out.
    """
    measured = table.groupby("estimator")["epe_visible"].transform("count") > 0 if len(table) else []
    table = table[measured] if len(table) else table
    figure, axes = canvas(7.6, 3.9, 1, len(QUALITY))
    for ax, (column, factor, title, scale) in zip(axes[0], QUALITY, strict=True):
        for index, (name, rows) in enumerate(table.groupby("estimator", sort=False)):
            rows = rows.sort_values("width")
            ax.plot(
                rows["width"].astype(str), factor * rows[column].where(rows[column] > 0), **_line_style(name, index)
            )
        ax.set(xlabel="width (px)", title=title)
        if (table[column] > 0).any():
            ax.set_yscale(scale)
            if scale == "log":
                ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                ax.yaxis.set_minor_formatter(NullFormatter())
            ax.yaxis.set_major_formatter("{x:g}")
        else:
            mark_empty(ax, "not measured")
    if len(table):
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=9)
    return figure


def _line_style(name: str, index: int) -> dict:
    line_style = {"color": "black", "linestyle": "--"} if name == "exact" else {"color": CYCLE[index % len(CYCLE)]}
    return {"marker": "o", "markersize": 4, "label": name, **line_style}


@styled
def tc_by_flow(table: pd.DataFrame, ceiling: str = "true labels") -> Figure:
    """The same answers scored with different flows: TC and its ceiling, and TC as a share of the ceiling.

    Args:
        table: rows of `flow_tc.csv`: predictor, estimator, tc, share (0..1).
        ceiling: the predictor that is the ceiling, drawn as a bar.
    """
    flows = list(dict.fromkeys(table["estimator"]))
    figure, axes = canvas(6.8, 0.36 * max(3, len(flows)) + 1.4, 1, 2)
    for ax, column, title in ((axes[0, 0], "tc", "TC (%)"), (axes[0, 1], "share", "share of the ceiling (%)")):
        for index, (name, rows) in enumerate(table.groupby("predictor", sort=False)):
            _scores(ax, rows, column, flows, name, name == ceiling, color_of(name.removeprefix("student-"), index))
        ax.set(xlabel=title, ylim=(max(1, len(flows)) - 0.5, -0.5))
        ax.set_yticks(range(len(flows)), flows if ax is axes[0, 0] else [""] * len(flows))
    if len(table):
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _scores(ax: Axes, rows: pd.DataFrame, column: str, flows: list[str], name: str, top: bool, color: str) -> None:
    if top and column == "share":
        return  # 100 % by definition
    y = [flows.index(flow) for flow in rows["estimator"]]
    x = 100 * rows[column].to_numpy(float)
    if top:
        ax.plot(x, y, "|", color=GRAY, markersize=14, markeredgewidth=3, label=f"{name}: the ceiling")
    else:
        ax.plot(x, np.asarray(y, float), "o", color=color, label=name)
