"""The chapters of the course: titles, questions and durations."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pandas as pd

from tcseg.study.notebooks import timings
from tcseg.study.paths import FIGURES, NOTEBOOKS
from tcseg.study.recipes import PROFILES

from .tables import markdown, minutes, provenance, read_table

CHAPTERS = FIGURES.parent / "notebooks"


def syllabus(folder: Path) -> str:
    """The chapters as a Markdown table: the question that each answers, the tables and figures it makes, and its minutes."""
    times, rows = _times(folder), []
    for name, (opening, *rest) in _sources().items():
        question = re.search(r"\*\*The question\.\*\* (.+?)(?:\n\n|$)", opening, re.DOTALL)
        asked = question[1].replace("\n", " ") if question else ""
        row = {"chapter": _title(opening), "the question": asked, "it makes": _made(name, "\n".join(rest))}
        rows.append(row | {f"{profile}, min": minutes(seconds.get(name), 1) for profile, seconds in times.items()})
    return markdown(pd.DataFrame(rows), text=3)


def _made(name: str, code: str) -> str:
    """How many tables and figures: those that a notebook must leave, and those that its code names."""
    declared = [Path(file) for file in NOTEBOOKS.get(name, ())]
    tables = {file.stem for file in declared if file.suffix == ".csv"}
    figures = {file.stem for file in declared} - tables
    tables |= set(re.findall(r'\.write_table\(\s*"(\w+)"', code))
    figures |= set(re.findall(r'\bstudy\.figure\(\s*"(\w+)"', code)) | set(re.findall(r'"(\w+)\.gif"', code))
    counts = {"table": len(tables), "figure": len(figures)}
    return ", ".join(f"{count} {what}{'s' * (count > 1)}" for what, count in counts.items() if count)


def costs(folder: Path) -> dict[str, dict]:
    """What a cold study of the embedded data took, by profile, from figures/.

    `seconds` (None where it was made in several sittings), those of each `chapter`, `disk_mb` (or None), and `machine`.
    """
    times, noted = read_table(folder, "notebooks"), provenance(folder)
    stamps = noted["files"].get("tables/notebooks.csv", {})
    found = {}
    for profile, rows in times.groupby("profile", sort=False) if len(times) else ():
        machine = stamps.get(f"procity-{profile}", {}).get("machine", {})
        chapter = rows.set_index("notebook")["seconds"]
        found[profile] = {
            "seconds": timings.whole(chapter, titles()),
            "chapter": dict(chapter),
            "disk_mb": noted["disk_mb"].get(f"procity-{profile}"),
            "machine": machine.get("gpu") or f"{machine.get('cpu', '–')}, {machine.get('cores', '–')} cores",
        }
    return found


def _times(folder: Path) -> dict[str, pd.Series]:
    """Profile -> seconds by notebook, of the profiles that were timed: in this study, else in the committed one."""
    return timings.by_profile([FIGURES / "tables", folder / "tables"], list(PROFILES))


def titles() -> dict[str, str]:
    """Notebook -> its title, from the first heading of each."""
    return {name: _title(sources[0]) for name, sources in _sources().items()}


def _title(opening: str) -> str:
    return opening.splitlines()[0].lstrip("# ")


def _sources() -> dict[str, list[str]]:
    """Notebook -> the sources of its cells."""
    paths = sorted(CHAPTERS.glob("[0-9]*.ipynb"))
    return {path.stem: [cell.source for cell in nbformat.read(path, as_version=4).cells] for path in paths}
