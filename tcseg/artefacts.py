"""What a study leaves behind: records, tables and figures, written aside and renamed, so that nobody reads half a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

try:
    import fcntl
except ImportError:  # Windows: nothing is held there
    fcntl = None


@contextmanager
def alone(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold a file against other processes; the system frees it when the process ends, however it ends. The file stays, empty.

    Args:
        path: the file; it and its folder are made.
        wait: until whoever holds it is done.

    Raises:
        BlockingIOError: somebody holds it and `wait` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


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
