"""Figures about the metrics: a perfect model under noisy flow, and the scores of trivial predictors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .ablation import LOWER_IS_BETTER
from .style import BLUE, CYCLE, GRAY, GREEN, RED, canvas, mark_empty, styled

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
            line_style = {"color": CYCLE[index], "marker": "osD^"[index % 4], "linestyle": ("-", ":", "-", "-")[index % 4]}
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
    """What networks and controls score, a panel a metric: who wins it besides the truth?

    Args:
        table: of `trivial_predictors.scores`: predictor, flow, metric, value, ci_low, ci_high; 0..1.
        flow: the flow whose TC is shown.
        networks: which predictors are networks; names that begin with "true labels" know the answer; the rest are controls.
    """
    rows = table[table["flow"].isna() | (table["flow"] == flow)]
    metrics = [name for name in TITLES if (rows["metric"] == name).any()]
    names = list(dict.fromkeys(rows["predictor"]))
    height = -(-max(1, len(metrics)) // 2)
    figure, axes = canvas(6.8, height * (0.2 * max(4, len(names)) + 0.75), height, 2)
    for ax in axes.flat[max(1, len(metrics)) :]:
        ax.set_axis_off()
    for index, (ax, metric) in enumerate(zip(axes.flat, metrics, strict=False)):
        _winner_panel(ax, rows[rows["metric"] == metric].set_index("predictor"), metric, names, networks)
        ax.set_yticks(range(len(names)), names if index % 2 == 0 else [""] * len(names), fontsize=8)
    if metrics:
        figure.supxlabel("percent; star: best except the ground truth, red if it is a control", fontsize=9)
    return figure


def _winner_panel(ax: Axes, rows: pd.DataFrame, metric: str, names: list[str], networks: Sequence[str]) -> None:
    lower = metric in LOWER_IS_BETTER
    rivals = rows.loc[[name for name in rows.index if not name.startswith("true labels")], "value"].dropna()
    winner = (rivals.idxmin() if lower else rivals.idxmax()) if len(rivals) else None
    for y, name in enumerate(names):
        if name not in rows.index or not np.isfinite(value := 100 * rows.loc[name, "value"]):
            continue
        color = BLUE if name in networks else GREEN if name.startswith("true labels") else GRAY
        if name == winner and name not in networks:
            color = RED
        low, high = 100 * rows.loc[name, "ci_low"], 100 * rows.loc[name, "ci_high"]
        ax.plot([low, high], [y, y], color=color, linewidth=1.2)
        ax.plot(value, y, "*" if name == winner else "o", color=color, markersize=9 if name == winner else 4)
    arrow = "left" if lower else "right"
    ax.set(title=f"{TITLES[metric]} (better: {arrow})", xlim=(-3, 103), ylim=(len(names) - 0.5, -0.5))
    ax.title.set_fontsize(9)
    ax.tick_params(axis="x", labelsize=8)


@styled
def dose_response(table: pd.DataFrame) -> Figure:
    """How each metric answers to a known dose of mistakes: index = share of pixels flipped, a column a metric; all 0..1."""
    figure, axes = canvas(6.8, 4.2)
    ax = axes[0, 0]
    for index, name in enumerate(table.columns):
        line_style = {"linestyle": "--" if name in LOWER_IS_BETTER else "-", "marker": "osD^"[index % 4], "markersize": 4}
        ax.plot(100 * table.index, 100 * table[name], label=TITLES.get(name, name), color=CYCLE[index % 7], **line_style)
    ax.set(xlabel="pixels flipped at random (%)", ylabel="score (%)")
    if table.empty:
        mark_empty(ax, "needs labels on every frame")
    else:
        figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure
