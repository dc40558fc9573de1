"""What tcseg does with damaged files: each is refused in one line that names it, or read where the damage does not matter."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from tcseg.study.measurements.faults.bad_inputs import KINDS
from tcseg.study.measurements.faults.trials import (
    DIED,
    EXECUTED,
    HUNG,
    REFUSED,
    RIGHT,
    TRACEBACK,
    WRONG,
    Reader,
    try_kind,
)

FILES, FEW_FILES = 25, 3  # of each kind
COLUMNS = ["case", "tried", "right", "refused", "lost", "hung", "traceback"]


def measure(out: Path, quick: bool = False) -> Iterator[pd.DataFrame]:
    """Damage files of every kind, and read them.

    Args:
        out: not used: there is one table only.
        quick: few files of each kind.

    Yields:
        The table so far: `COLUMNS`. Right are files that are refused in one line with their name, or read as if whole. Lost are
        those that are read wrongly. A traceback counts also where it is told in one line, as errors are that nobody foresaw.
    """
    rows: list[dict] = []
    with tempfile.TemporaryDirectory(prefix="tcseg-") as name, Reader(Path(name) / "reader") as reader:
        for kind in KINDS:
            found = [outcome.what for _, outcome in try_kind(reader, kind, Path(name) / kind.name, FEW_FILES if quick else FILES)]
            rows.append(row(f"damaged: {kind.name}", found))
            yield pd.DataFrame(rows, columns=COLUMNS)


def row(case: str, found: Sequence[str]) -> dict:
    """A row of the table for what came of each trial."""

    def of(*words: str) -> int:
        return sum(what in words for what in found)

    return {
        "case": case,
        "tried": len(found),
        "right": of(*RIGHT),
        "refused": of(REFUSED),
        "lost": of(WRONG),
        "hung": of(HUNG),
        "traceback": of(TRACEBACK, DIED, EXECUTED),
    }
