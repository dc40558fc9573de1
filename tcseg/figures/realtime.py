"""Real time: milliseconds per model, runtime and size."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .style import CYCLE, RED, canvas, say_empty, styled

SCOPES = ("network", "network+argmax", "end_to_end")


@styled
def latency(table: pd.DataFrame, budget_ms: float = 1000 / 30) -> Figure:
    """Latency per model, runtime and size: a dot at p50, a line to p90, a tick at p99; a colour a scope, logarithmic.

    Args:
        table: rows of `latency.csv`.
        budget_ms: the dashed line; 1000/30 is one frame of a 30 fps video.
    """
    kinds = table[["model", "runtime", "precision", "width", "height"]].astype(str)
    named = table.assign(name=kinds["model"] + " · " + kinds["runtime"] + "\n" + kinds["width"] + "x" + kinds["height"])
    names = list(dict.fromkeys(named["name"]))
    figure, axes = canvas(6.8, 0.55 * max(2, len(names)) + 1.4)
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
        say_empty(ax)
    return figure
