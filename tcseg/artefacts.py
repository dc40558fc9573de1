"""What a study leaves behind: records, tables and figures, written aside and renamed, so that nobody reads half a file."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure


def write_json(path: Path, value: object) -> None:
    """Write a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    aside.write_text(json.dumps(value, indent=1, default=str) + "\n")
    aside.replace(path)


def write_table(path: Path, table: pd.DataFrame) -> Path:
    """Write a CSV file, without the index; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    table.to_csv(aside, index=False)
    aside.replace(path)
    return path


def write_figure(path: Path, figure: Figure, alt: str, lines: bool = False) -> Path:
    """Write a PNG file, if it is all lines an SVG file too, and its alt text as JSON; closes the figure, returns the PNG's path.

    The same figure drawn again is the same file: matplotlib's ids are made of the name, not of chance, and no date is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = {".png": {"dpi": 150}} | ({".svg": {"metadata": {"Date": None}}} if lines else {})
    for suffix, options in kinds.items():
        target = path.with_suffix(suffix)
        aside = target.with_name(target.name + ".part")
        with plt.rc_context({"svg.hashsalt": path.stem}):
            figure.savefig(aside, format=suffix[1:], bbox_inches="tight", **options)
        aside.replace(target)
    plt.close(figure)
    write_json(path.with_suffix(".json"), {"alt": alt})
    return path
