"""Tables of a study and of figures/, number formats, and tables as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import nbformat
import pandas as pd

from tcseg.study.paths import FIGURES

DASH = "–"
"""What stands for a number that was not measured."""
DATA_NAMES = {"procity": "procity (embedded, procedural)", "camvid": "CamVid", "cityscapes": "Cityscapes"}


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """A table of a study, or of a folder of tables; an empty one where it is not there."""
    for path in (folder / "tables" / f"{name}.csv", folder / f"{name}.csv"):
        if path.exists():
            with suppress(pd.errors.EmptyDataError):  # no run of the study belongs in it
                return pd.read_csv(path)
    return pd.DataFrame()


def parameters_of(folder: Path) -> dict[str, str]:
    """The parameters that the notebooks of a study were run with (dataset, profile, runs); empty where none was run."""
    for path in sorted((folder / "notebooks").glob("*.ipynb")):
        found = nbformat.read(path, as_version=4).metadata.get("papermill", {}).get("parameters", {})
        if found:
            return {name: str(value) for name, value in found.items()}
    return {}


class Tables:
    """The tables in a study's folder, and the `committed` ones where it has none: rows of one data set and profile."""

    def __init__(self, folder: Path, dataset: str = "procity", profile: str = "laptop", committed: Path = FIGURES):
        self.folder, self.committed, self.own = folder, committed, {"dataset": dataset, "profile": profile}

    def __call__(self, name: str) -> pd.DataFrame:
        """The rows of the data set and profile, as far as the table has such columns; an empty table where there is none."""
        found = read_table(self.folder, name)
        found = found if len(found) else read_table(self.committed, name)
        for column, value in self.own.items():
            found = found[found[column] == value] if column in found else found
        return found

    def records(self, name: str = "ablation") -> list[dict]:
        """Records of the runs that a table names, from the study's store or the committed ones."""
        table = self(name)
        runs = dict.fromkeys(table["run_id"].dropna()) if "run_id" in table else ()
        places = [(self.folder / "runs" / run / "record.json", self.committed / "runs" / f"{run}.json") for run in runs]
        found = [next((path for path in pair if path.exists()), None) for pair in places]
        return [read_json(path) for path in found if path]


def read_json(path: Path) -> dict:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def provenance(folder: Path) -> dict[str, dict]:
    """figures/provenance.json: which command made each committed file, when and where; and the megabytes of each study."""
    path = folder / "provenance.json"
    return read_json(path) if path.exists() else {"files": {}, "disk_mb": {}}


# ------------------------------------------------------------------------------------------------ numbers as text


def percent(value: float | None, digits: int = 1) -> str:
    """A share in percent, without the sign of percent; a dash where nothing was measured."""
    return DASH if pd.isna(value) else f"{100 * value:z.{digits}f}".replace("-", "−")


def interval(value: float, low: float | None = None, high: float | None = None) -> str:
    """A difference in percent, with its sign and its interval; a dash where nothing was measured."""
    if pd.isna(value):
        return DASH
    spread = "" if pd.isna(low) else f" ({100 * low:+z.1f} to {100 * high:+z.1f})"
    return f"{100 * value:+z.1f}{spread}".replace("-", "−")


def amount(row: Mapping, unit: str) -> str:
    """The size of a difference in percent and its interval, "2.6 points (0.5 to 4.6)": a verb says in which direction."""
    sign = -100 if row["difference"] < 0 else 100
    low, high = sorted((sign * row["ci_low"], sign * row["ci_high"]))
    spread = "" if pd.isna(low) else f" ({low:.1f} to {high:.1f})"
    return f"{sign * row['difference']:.1f} {unit}{spread}".replace("-", "−")


def change(row: Mapping) -> str:
    """`interval` of a row of effects.csv."""
    return interval(row["difference"], row["ci_low"], row["ci_high"])


def seed_count(seeds: int) -> str:
    """How many seeds, in words for a table."""
    return "one seed" if seeds == 1 else f"{seeds} seeds"


def spread(values: pd.Series) -> str:
    """The mean of one value a seed, in percent, with the lowest and the highest seed; a dash where nothing was measured."""
    values = values.dropna()
    ends = f" ({percent(values.min())}–{percent(values.max())})" if len(values) > 1 else ""
    return percent(values.mean()) + ends


def minutes(seconds: float | None, digits: int = 0) -> str:
    """Seconds as minutes; a dash where nothing was timed."""
    if pd.isna(seconds):
        return DASH
    return "< 1" if digits == 0 and seconds < 30 else f"{seconds / 60:.{digits}f}"


def markdown(table: pd.DataFrame, text: int = 1) -> str:
    """A table of strings and whole numbers as Markdown; `text` columns on the left are text, the others are set to the right."""
    sides = ["left"] * text + ["right"] * (table.shape[1] - text)
    cells = table.astype(object).where(table.notna(), DASH)
    return cells.to_markdown(index=False, disable_numparse=True, colalign=sides)


def columns(table: pd.DataFrame, shown: Mapping[str, str], text: int = 1) -> str:
    """Columns of a table as Markdown, each under a heading and in a format.

    Args:
        table: Numbers as they were measured.
        shown: Heading -> "column", or "column:format": a format of Python such as ".1f"; "%" or "%2" for percent with so many
            digits (1 by default); "`" for a name in backticks. What was not measured is a dash.
        text: As in `markdown`.
    """
    cells = {}
    for head, wanted in shown.items():
        name, _, how = wanted.partition(":")
        cells[head] = [DASH if pd.isna(value) else _cell(value, how) for value in table[name]]
    return markdown(pd.DataFrame(cells), text)


def _cell(value: object, how: str) -> str:
    if how.startswith("%"):
        return percent(value, int(how[1:] or 1))
    return f"`{value}`" if how == "`" else f"{value:{how}}"
