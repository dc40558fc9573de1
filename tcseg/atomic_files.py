"""Write records, tables and figures atomically: to a temporary file that is then renamed, so that no partial file is read."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tcseg.errors import CannotWriteError, InputError, TcsegError, explain_unwritable

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
def explained(path: Path, fix: str = "free some space, or give another folder") -> Iterator[None]:
    """Explain why a file cannot be written: the disk is full, the folder read-only, a quota used up.

    Raises:
        CannotWriteError: instead of an OSError, and of safetensors' error, which is none.
    """
    try:
        yield
    except TcsegError:
        raise
    except OSError as error:
        raise explain_unwritable(path, error, fix) from error
    except Exception as error:
        if type(error).__name__ != "SafetensorError":  # by its name: nobody waits for an import for this
            raise
        raise CannotWriteError(f"{path} cannot be written ({str(error).splitlines()[0]}): {fix}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of a file, which is renamed to the file on success and removed on failure.

    Raises:
        CannotWriteError: as `explained`.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = beside(path)
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write a JSON file."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=1, default=str) + "\n")


def read_object(path: Path, fix: str, **types: type) -> dict:
    """Read a JSON file that holds an object.

    Args:
        path: the file.
        fix: what to do if it is damaged, such as "remove it".
        types: keys that it must have, and the types of their values.

    Raises:
        InputError: it is not JSON, not an object, or lacks one of the keys.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({str(error).splitlines()[0]}); {fix}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} is damaged (it holds no object); {fix}")
    for key, kind in types.items():
        if not isinstance(value.get(key), kind):
            raise InputError(f"{path} is damaged ({key} is {str(value.get(key))[:40]!r}); {fix}")
    return value


def read_table(path: Path, fix: str = "restore or remove it") -> pd.DataFrame:
    """Read a CSV file.

    Raises:
        InputError: it is no table, or damaged.
    """
    import pandas as pd  # here: who writes a film or weights waits for no tables

    try:
        return pd.read_csv(path)
    except (ValueError, OverflowError, pd.errors.ParserError) as error:  # no text, no rows, rows of different lengths
        raise InputError(f"{path} is damaged ({str(error).strip().splitlines()[0]}); {fix}") from None


def write_table(path: Path, table: pd.DataFrame) -> Path:
    """Write a CSV file, without the index; returns its path."""
    with replacing(path) as partial:
        table.to_csv(partial, index=False)
    return path


def append_rows(path: Path, table: pd.DataFrame) -> Path:
    """Add rows to a CSV file, or begin it; those of other processes that do so at the same time are kept."""
    import pandas as pd  # here: who writes a film or weights waits for no tables

    with exclusive_lock(path.with_name(f".{path.name}.lock")):
        old = [read_table(path)] if path.exists() else []
        if old and not set(table.columns) & set(old[0].columns):
            raise InputError(f"{path} has none of the columns {', '.join(table.columns)}; restore it, or give another file")
        return write_table(path, pd.concat([*old, table]))


def write_figure(path: Path, figure: Figure, alt: str, lines: bool = False) -> Path:
    """Write a PNG file, an SVG file too if `lines`, and the alt text as JSON; closes the figure and returns the PNG's path.

    Equal figures give identical files: matplotlib's ids are derived from the name, and no date is stored.
    """
    import matplotlib.pyplot as plt  # here: who writes a film or weights waits for no plotting library

    kinds = {".png": {"dpi": 150}} | ({".svg": {"metadata": {"Date": None}}} if lines else {})
    for suffix, options in kinds.items():
        with replacing(path.with_suffix(suffix)) as partial, plt.rc_context({"svg.hashsalt": path.stem}):
            figure.savefig(partial, format=suffix[1:], bbox_inches="tight", **options)
    plt.close(figure)
    write_json(path.with_suffix(".json"), {"alt": alt})
    return path
