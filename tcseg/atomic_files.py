"""Write records, tables and figures atomically: to a temporary file first, then renamed, so that nobody reads half a file."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

try:
    import fcntl
except ImportError:  # Windows: nothing is held there
    fcntl = None


@contextmanager
def exclusive_lock(path: Path, wait: bool = True) -> Iterator[None]:
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


def beside(path: Path, suffix: str = "") -> Path:
    """A hidden name beside a file or folder for what is not complete yet, this writer's own: two runs never share one."""
    return path.with_name(f".{path.name[:80]}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part{suffix}")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A name beside a file, this writer's own, which becomes the file when all is written; nothing stays of what failed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = beside(path)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write a JSON file."""
    with _replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=1, default=str) + "\n")


def write_table(path: Path, table: pd.DataFrame) -> Path:
    """Write a CSV file, without the index; returns its path."""
    with _replacing(path) as partial:
        table.to_csv(partial, index=False)
    return path


def write_figure(path: Path, figure: Figure, alt: str, lines: bool = False) -> Path:
    """Write a PNG file, if it is all lines an SVG file too, and its alt text as JSON; closes the figure, returns the PNG's path.

    The same figure drawn again is the same file: matplotlib's ids are made of the name, not of chance, and no date is kept.
    """
    import matplotlib.pyplot as plt  # here: who writes a film or weights waits for no plotting library

    kinds = {".png": {"dpi": 150}} | ({".svg": {"metadata": {"Date": None}}} if lines else {})
    for suffix, options in kinds.items():
        with _replacing(path.with_suffix(suffix)) as partial, plt.rc_context({"svg.hashsalt": path.stem}):
            figure.savefig(partial, format=suffix[1:], bbox_inches="tight", **options)
    plt.close(figure)
    write_json(path.with_suffix(".json"), {"alt": alt})
    return path
