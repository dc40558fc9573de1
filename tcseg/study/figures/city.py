"""The contact sheet of the procedural city."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from .style import canvas, styled

WIDTH = 9.6  # inches


def _ratio(rows: Mapping[str, Mapping[str, np.ndarray]]) -> float:
    """Height of a picture as a share of its width."""
    shapes = [image.shape for pictures in rows.values() for image in pictures.values()]
    return shapes[0][0] / shapes[0][1] if shapes else 0.5


@styled
def contact_sheet(rows: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Pictures in rows and columns, without gaps: a name above each column and beside each row.

    Args:
        rows: row name -> column name -> uint8 (H,W,3); every row has the same columns.
    """
    names = list(next(iter(rows.values()), {}))
    across, down = max(1, len(names)), max(1, len(rows))
    figure, axes = canvas(WIDTH, 0.3 + 0.97 * WIDTH * _ratio(rows) * down / across, down, across)
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.0, hspace=0.0)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.spines[:].set_visible(False)
    for row, (title, pictures) in zip(axes, rows.items(), strict=False):
        row[0].set_ylabel(title, fontsize=8)
        for ax, name in zip(row, names, strict=True):
            ax.imshow(pictures[name], interpolation="antialiased")
    for ax, name in zip(axes[0], names, strict=False):
        ax.set_title(name)
    return figure
