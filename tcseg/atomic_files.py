"""Write records, tables and figures atomically: to a temporary file that is then renamed, so that no partial file is read."""

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
except ImportError:  # Windows; there is no locking
    fcntl = None


@contextmanager
def exclusive_lock(path: Path, wait: bool = True) -> Iterator[None]:
    """Lock a file against other processes. The system releases the lock when the process ends; the empty file remains.

    Args:
        path: the file; it and its folder are created.
        wait: wait until another process releases it.

    Raises:
        BlockingIOError: another process holds the lock and `wait` is false.
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
    """A temporary path in the folder of a file, which is renamed to the file on success and removed on failure."""
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


def append_rows(path: Path, table: pd.DataFrame) -> Path:
    """Add rows to a CSV file, or begin it; those of other processes that do so at the same time are kept."""
    import pandas as pd  # here: who writes a film or weights waits for no tables

    with exclusive_lock(path.with_name(f".{path.name}.lock")):
        old = [pd.read_csv(path)] if path.exists() else []
        return write_table(path, pd.concat([*old, table]))


def write_figure(path: Path, figure: Figure, alt: str, lines: bool = False) -> Path:
    """Write a PNG file, an SVG file too if `lines`, and the alt text as JSON; closes the figure and returns the PNG's path.

    Equal figures give identical files: matplotlib's ids are derived from the name, and no date is stored.
    """
    import matplotlib.pyplot as plt  # here: who writes a film or weights waits for no plotting library

    kinds = {".png": {"dpi": 150}} | ({".svg": {"metadata": {"Date": None}}} if lines else {})
    for suffix, options in kinds.items():
        with _replacing(path.with_suffix(suffix)) as partial, plt.rc_context({"svg.hashsalt": path.stem}):
            figure.savefig(partial, format=suffix[1:], bbox_inches="tight", **options)
    plt.close(figure)
    write_json(path.with_suffix(".json"), {"alt": alt})
    return path
