"""Figures about the metrics: a perfect model under noisy flow, and the scores of trivial predictors."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .ablation import LOWER_IS_BETTER
from .style import BLUE, CYCLE, RED, canvas, mark_empty, styled

TITLES = {
    "miou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "miou_boundary": "mIoU at borders",
    "tc": "TC",
    "tc_boundary": "TC at borders",
    "tc_gap5": "TC, gap 5",
    "etc_compat": "ETC's script",
    "vc8": "VC8",
    "vc8_right": "VC8, right class",
    "flicker": "flicker",
    "harmful_flicker": "harmful flicker",
    "steady_and_right": "steady and right",
}


@styled
def tc_vs_flow_noise(table: pd.DataFrame) -> Figure:
    """TC of a perfect model against the error of the flow, a line a way to warp: a panel a scene and mask.

    Args:
        table: of `trivial_predictors.perfect_scores`: scene, mask, way, sigma, tc.
    """
    panels = [
        (scene, mask)
        for scene, mask in (("still", "all pixels"), ("moving", "all pixels"), ("moving", "visible pixels"))
        if ((table["scene"] == scene) & (table["mask"] == mask)).any()
    ]
    figure, axes = canvas(6.8, 3.8, 1, max(1, len(panels)))
    ways = list(dict.fromkeys(table["way"]))
    for ax, (scene, mask) in zip(axes.flat, panels, strict=False):
        rows = table[(table["scene"] == scene) & (table["mask"] == mask)]
        for index, way in enumerate(ways):
            own = rows[rows["way"] == way].sort_values("sigma")
            line_style = {
                "color": CYCLE[index],
                "marker": "osD^"[index % 4],
                "linestyle": ("-", ":", "-", "-")[index % 4],
            }
            ax.plot(own["sigma"], 100 * own["tc"], label=way, markersize=4, **line_style)
        ax.set(title=f"{scene} scene,\n{mask}", xlabel="error of the flow (px)", ylim=(None, 101))
        ax.sharey(axes[0, 0])
    axes[0, 0].set_ylabel("TC of a perfect model (%)")
    if panels:
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9)
    return figure


@styled
def metrics_controls(table: pd.DataFrame, flow: str | None, networks: Sequence[str] = ()) -> Figure:
    """What networks and controls score, as a table: a row a metric, a column a predictor. Who wins it besides the truth?

    The best one's cell is blue, or red if it is a control; what knows the truth is grey.

    Args:
        table: of `trivial_predictors.scores`: predictor, flow, metric, value (0..1).
        flow: the flow whose TC is shown.
        networks: which predictors are networks; names that begin with "true labels" know the answer; the rest are controls.
    """
    rows = table[table["flow"].isna() | (table["flow"] == flow)]
    metrics = [name for name in TITLES if (rows["metric"] == name).any()]
    names = list(dict.fromkeys(rows["predictor"]))
    figure, axes = canvas(8.0, 0.34 * max(2, len(metrics)) + 1.3)
    ax = axes[0, 0]
    ax.grid(False)
    ax.set(xlim=(-0.5, max(1, len(names)) - 0.5), ylim=(max(1, len(metrics)) - 0.5, -0.5))
    for y, metric in enumerate(metrics):
        _cells(ax, y, rows[rows["metric"] == metric].set_index("predictor")["value"], metric, names, networks)
    ax.set_xticks(range(len(names)), [fill(name, 10) for name in names], fontsize=8)
    lower = [f"{TITLES[name]} {LOWER if name in LOWER_IS_BETTER else HIGHER}" for name in metrics]
    ax.set_yticks(range(len(metrics)), lower)
    ax.tick_params(length=0)
    ax.xaxis.tick_top()
    ax.spines[:].set_visible(False)
    ax.set_xlabel("percent; blue: best besides the truth; red: a control wins")
    if not metrics:
        mark_empty(ax)
    return figure


LOWER, HIGHER = "(low)", "(high)"


def _cells(ax: Axes, y: int, values: pd.Series, metric: str, names: list[str], networks: Sequence[str]) -> None:
    """One row of the table: text in each cell, colour behind the best."""
    truth = [name for name in names if name.startswith("true labels")]
    rivals = values.drop(truth, errors="ignore").dropna()
    best = (rivals.idxmin() if metric in LOWER_IS_BETTER else rivals.idxmax()) if len(rivals) else None
    for x, name in enumerate(names):
        value = values.get(name, np.nan)
        won = name == best
        ground = (BLUE if name in networks else RED) if won else "#e8e8e8" if name in truth else "white"
        ax.add_patch(Rectangle((x - 0.48, y - 0.45), 0.96, 0.9, facecolor=ground, edgecolor="none"))
        text = f"{100 * value:.1f}" if np.isfinite(value) else "–"
        ax.text(
            x,
            y,
            text,
            ha="center",
            va="center",
            fontsize=9,
            color="white" if won else "black",
            weight="bold" if won else None,
        )


@styled
def dose_response(table: pd.DataFrame) -> Figure:
    """How each metric answers to a known dose of mistakes: index = share of pixels flipped, a column a metric; all 0..1."""
    figure, axes = canvas(6.8, 4.2)
    ax = axes[0, 0]
    for index, name in enumerate(table.columns):
        line_style = {
            "linestyle": "--" if name in LOWER_IS_BETTER else "-",
            "marker": "osD^"[index % 4],
            "markersize": 4,
        }
        ax.plot(
            100 * table.index, 100 * table[name], label=TITLES.get(name, name), color=CYCLE[index % 7], **line_style
        )
    ax.set(xlabel="pixels flipped at random (%)", ylabel="score (%)")
    if table.empty:
        mark_empty(ax, "needs labels on every frame")
    else:
        figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure
