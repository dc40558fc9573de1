"""Colours (Okabe and Ito 2008) and style of all figures, and a function for empty ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

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
TEXT_COLORS = {
    "student+tl": "#1f6f9f",
    "kd": "#8a5c00",
    "kd+tl": "#b34700",
    "trajectory": "#9c4a78",
    "consistent": BLUE,
}
"""The recipes' colours, dark enough for words on white (WCAG AA)."""
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


def few_ticks(axis: Axis) -> None:
    """Label 1, 2, 3 and 5 of each power of ten: more of them run into each other."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def mark_empty(ax: Axes, what: str = "not measured") -> None:
    """Write in the middle of an empty chart why it is empty."""
    ax.text(0.5, 0.5, what, transform=ax.transAxes, ha="center", va="center", color=GRAY)


PLACES = [(7, 0), (-7, 0), (0, 9), (0, -9), (7, 9), (7, -9), (-7, 9), (-7, -9), (7, 19), (7, -19), (-7, 19), (-7, -19)]
"""Where the name of a point may stand: points to the right and above, the first that is free."""


def name_points(
    ax: Axes,
    points: Mapping[str, tuple[float, float]],
    colors: Mapping[str, str] | None = None,
    crossed: bool = False,
) -> None:
    """Write names beside points of a chart whose limits are set, so that no name covers another name or point.

    Args:
        ax: The chart.
        points: Name -> (x, y), in the units of the axes.
        colors: Name -> colour of its text; dark grey by default.
        crossed: Lines of intervals run through the points: names stand above and below them.
    """
    figure, taken = ax.figure, []
    places = [place for place in PLACES if all(place)] if crossed else PLACES
    figure.draw_without_rendering()
    marks = [ax.transData.transform(point) for point in points.values()]
    taken += [Bbox.from_extents(x - 4, y - 4, x + 4, y + 4) for x, y in marks]
    for (name, point), own in zip(points.items(), list(taken), strict=True):
        for x, y in places:
            sides = {
                "ha": "left" if x > 0 else "right" if x < 0 else "center",
                "va": "center" if abs(y) < 9 or x else "bottom" if y > 0 else "top",
            }
            text = ax.annotate(name, point, (x, y), textcoords="offset points", fontsize=8.5, **sides)
            text.set_color((colors or {}).get(name, "#333333"))
            box = text.get_window_extent()
            inside = ax.bbox.x0 - 2 <= box.x0 and box.x1 <= ax.bbox.x1 + 2
            if inside and not any(box.overlaps(other) for other in taken if other is not own):
                break
            if (x, y) != places[-1]:
                text.remove()
        taken.append(box)


def color_of(name: str, index: int) -> str:
    """A recipe's own colour, or the next of the cycle for any other name."""
    return RECIPE_COLORS.get(name, CYCLE[index % len(CYCLE)])
