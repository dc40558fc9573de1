"""Durations of notebooks and their sections, from papermill's metadata in the executed files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from tcseg.atomic_files import read_table, write_table

if TYPE_CHECKING:
    from nbformat import NotebookNode

OPENING = "opening"  # what comes before the first heading of a chapter


def _read_notebook(path: Path) -> NotebookNode:
    import nbformat  # two seconds, which a notebook's kernel need not wait for

    return nbformat.read(path, as_version=4)


def seconds(executed: Path) -> float:
    """How long an executed notebook took."""
    return float(_read_notebook(executed).metadata.get("papermill", {}).get("duration") or 0.0)


def sections(executed: Path) -> dict[str, float]:
    """Heading ("2.4 Train, or load") -> seconds of the cells below it, of an executed notebook, in order.

    Headings without code are left out; what comes before the first one is called `OPENING`.
    """
    by_heading, heading = {}, OPENING
    for cell in _read_notebook(executed).cells:
        if cell.cell_type == "markdown":
            titles = [line.removeprefix("## ") for line in cell.source.splitlines() if line.startswith("## ")]
            heading = titles[-1] if titles else heading
        elif cell.cell_type == "code":
            took = cell.metadata.get("papermill", {}).get("duration") or 0.0
            by_heading[heading] = by_heading.get(heading, 0.0) + float(took)
    return by_heading


def write(tables: Path, executed: Path, order: Sequence[str], profile: str, trained: int, loaded: int) -> None:
    """Bring notebooks.csv and sections.csv up to date for a notebook that has just been executed.

    Rows of a run that trained are not replaced by those of one that only loaded: the times are those of a cold study.

    Args:
        tables: Folder of the study's tables.
        executed: The executed notebook.
        order: Names of all notebooks, in the order of the rows.
        profile: What it was run with.
        trained, loaded: How many networks it trained, and how many it loaded.
    """
    name = executed.stem
    known = _read(tables, "notebooks")
    before = known[known["notebook"] == name] if len(known) else known
    if trained == 0 and len(before) and before["runs_trained"].iloc[0] > 0:
        return
    whole = {"profile": profile, "notebook": name, "seconds": round(seconds(executed), 1)}
    rows = [whole | {"runs_trained": trained, "runs_loaded": loaded}]
    parts = [
        {"profile": profile, "notebook": name, "section": heading, "seconds": round(took, 1)}
        for heading, took in sections(executed).items()
    ]
    for table, new in (("notebooks", rows), ("sections", parts)):
        old = _read(tables, table)
        kept = old[old["notebook"] != name] if len(old) else old
        merged = pd.concat([kept, pd.DataFrame(new)], ignore_index=True)
        place = {one: position for position, one in enumerate(order)}
        merged = merged.sort_values("notebook", key=lambda names: names.map(place), kind="stable")
        write_table(tables / f"{table}.csv", merged)


def _read(folder: Path, name: str) -> pd.DataFrame:
    path = folder / f"{name}.csv"
    return read_table(path) if path.exists() else pd.DataFrame()


def by_profile(folders: Sequence[Path], profiles: Sequence[str]) -> dict[str, pd.Series]:
    """Profile -> seconds by notebook, of the profiles that were timed.

    Args:
        folders: Of tables; rows of a later one replace those of an earlier one.
        profiles: In the order that is wanted.
    """
    tables = [table for table in (_read(folder, "notebooks") for folder in folders) if len(table)]
    if not tables:
        return {}
    times = pd.concat(tables).drop_duplicates(["profile", "notebook"], keep="last").set_index(["profile", "notebook"])
    known = times.index.get_level_values("profile")
    return {profile: times["seconds"].loc[profile] for profile in profiles if profile in known}


def of_sections(folders: Sequence[Path], profiles: Sequence[str], notebook: str) -> pd.DataFrame:
    """Seconds of a notebook's sections: a row a section, a column a profile that was timed; empty where none was.

    Args:
        folders, profiles: As in `by_profile`.
        notebook: Its name.
    """
    columns: dict[str, pd.Series] = {}
    for folder in folders:
        table = _read(folder, "sections")
        for profile in profiles:
            rows = table[(table["profile"] == profile) & (table["notebook"] == notebook)] if len(table) else table
            if len(rows):
                columns[profile] = rows.set_index("section")["seconds"]
    return pd.DataFrame({profile: columns[profile] for profile in profiles if profile in columns})


def as_markdown(table: pd.DataFrame) -> str:
    """`of_sections` as a folded Markdown table with its sums; empty where nothing was timed."""
    if table.empty:
        return ""
    sums = ", ".join(f"{readable(total)} at <code>{profile}</code>" for profile, total in table.sum().items())
    cells = table.map(readable, na_action="ignore").astype(object).fillna("–").rename(columns=lambda name: f"`{name}`")
    sides = ["left", *["right"] * table.shape[1]]
    shown = cells.rename_axis("section").reset_index().to_markdown(index=False, disable_numparse=True, colalign=sides)
    head = f"<details><summary>Measured time: {sums}; by section</summary>"
    return "\n".join([head, "", shown, "", "</details>"])


def readable(seconds: float) -> str:
    """Seconds below two minutes, else minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def whole(seconds: pd.Series, names: Mapping[str, str] | Sequence[str]) -> float | None:
    """The sum over all notebooks; None where the time of one is not known, as when its runs were made in other sittings."""
    return seconds.sum() if set(names) <= set(seconds.index) else None
