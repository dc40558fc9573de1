"""Colours (Okabe and Ito 2008) and style of all figures, and a function for empty ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

P = ParamSpec("P")

CYCLE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442")
BLUE, ORANGE, GREEN, PINK, RED, SKY, YELLOW = CYCLE
GRAY, PALE = "#666666", "#bbbbbb"
RECIPE_COLORS = {
    "teacher": "#000000",
    "student": GRAY,
    "student+tl": SKY,
    "kd": ORANGE,
    "kd+tl": RED,
    "trajectory": PINK,
    "consistent": BLUE,
}
STYLE = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": matplotlib.cycler(color=CYCLE),
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "figure.facecolor": "white",
    "figure.dpi": 110,
    "savefig.dpi": 150,
}
ON_A_PHONE = 0.85


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Give a figure the style of this project without touching the caller's rcParams; ticks are made while the style holds.

    A figure without any data says so.
    """

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            figure = draw(*args, **kwargs)
            if not any(ax.texts or np.isfinite(ax.dataLim.get_points()).all() for ax in figure.axes):
                mark_empty(figure.axes[0])
            figure.draw_without_rendering()
        return figure

    return inside


def canvas(width: float = 6.4, height: float = 3.6, rows: int = 1, columns: int = 1) -> tuple[Figure, np.ndarray]:
    """A figure outside pyplot and its axes (rows, columns); inches, shrunk so that 10 pt stays readable on a phone."""
    figure = Figure(figsize=(ON_A_PHONE * width, ON_A_PHONE * height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def mark_empty(ax: Axes, what: str = "not measured") -> None:
    """Write in the middle of an empty chart why it is empty."""
    ax.text(0.5, 0.5, what, transform=ax.transAxes, ha="center", va="center", color=GRAY)


def color_of(name: str, index: int) -> str:
    """A recipe's own colour, or the next of the cycle for any other name."""
    return RECIPE_COLORS.get(name, CYCLE[index % len(CYCLE)])
