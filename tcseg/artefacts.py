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


def write_figure(path: Path, figure: Figure, alt: str) -> Path:
    """Write a PNG file, and its alt text as JSON beside it; closes the figure, returns the PNG's path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    figure.savefig(aside, format="png", dpi=150, bbox_inches="tight")
    aside.replace(path)
    plt.close(figure)
    write_json(path.with_suffix(".json"), {"alt": alt})
    return path
