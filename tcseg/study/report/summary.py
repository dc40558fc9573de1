"""What a study found, as Markdown made from its tables, for README and report: no number in prose is typed by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat
import pandas as pd

from tcseg.machine import machine_facts
from tcseg.models.students import CHOSEN
from tcseg.study.notebooks import timings
from tcseg.study.paths import FIGURES, NOTEBOOKS
from tcseg.study.runs import EVALUATED, EVALUATION_CODE, TRAINING_CODE, code_key, git_state, now, versions
from tcseg.study.study import PROFILES

CHAPTERS = FIGURES.parent / "notebooks"
DATA_NAMES = {"procity": "procity (embedded, procedural)", "camvid": "CamVid", "cityscapes": "Cityscapes"}
COLUMNS = {  # of the result table: heading -> column of ablation.csv, flow
    "mIoU %": ("miou", None),
    "TC %, exact flow": ("tc", "exact"),
    "TC %, DIS flow": ("tc", "dis"),
    "flicker %": ("flicker", None),
}


def parameters_of(folder: Path) -> dict[str, str]:
    """The parameters that the notebooks of a study were run with (dataset, profile, runs); empty where none was run."""
    for path in sorted((folder / "notebooks").glob("*.ipynb")):
        found = nbformat.read(path, as_version=4).metadata.get("papermill", {}).get("parameters", {})
        if found:
            return {name: str(value) for name, value in found.items()}
    return {}


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """A table of a study, or of a folder of tables; an empty one where it is not there."""
    for path in (folder / "tables" / f"{name}.csv", folder / f"{name}.csv"):
        if path.exists():
            return pd.read_csv(path)
    return pd.DataFrame()


def own_rows(table: pd.DataFrame, wanted: Mapping[str, str]) -> pd.DataFrame:
    """The rows of the wanted data set and profile, as far as the table has such columns."""
    for column in ("dataset", "profile"):
        if column in table and column in wanted:
            table = table[table[column] == wanted[column]]
    return table


def studies(table: pd.DataFrame) -> list[tuple[str, str]]:
    """(data set, profile) of a committed table's rows, the embedded data first."""
    found = table[["dataset", "profile"]].drop_duplicates().itertuples(index=False, name=None) if len(table) else ()
    return sorted(found, key=lambda study: list(DATA_NAMES).index(study[0]))


def _spread(values: pd.Series) -> str:
    """Mean of one value a seed, in percent, with the lowest and the highest seed; a dash where nothing was measured."""
    values = values.dropna() * 100
    if values.empty:
        return "–"
    spread = f"<br>({values.min():.1f}–{values.max():.1f})" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread}"


def _pick(rows: pd.DataFrame, column: str, flow: str | None) -> pd.Series:
    """One value a seed."""
    if column not in rows:
        return pd.Series(dtype=float)
    chosen = rows if flow is None else rows[rows["flow"] == flow]
    return chosen.groupby("seed")[column].first()


def result_table(folder: Path, dataset: str | None = None, profile: str | None = None) -> str:
    """The ablation as a Markdown table: a row a recipe, mean over its seeds (lowest to highest), and the ceiling of TC.

    Args:
        folder: A study's folder, or figures/.
        dataset: Rows of this data set; by default the one that the study's notebooks were run with.
        profile: Likewise.

    Returns:
        Markdown; a sentence where there is no ablation yet.
    """
    wanted = parameters_of(folder) | {k: v for k, v in (("dataset", dataset), ("profile", profile)) if v}
    table = own_rows(read_table(folder, "ablation"), wanted)
    if table.empty:
        return "No ablation has been run yet."
    measured = {h: c for h, c in COLUMNS.items() if not _pick(table, *c).dropna().empty}
    lines = [f"| recipe | seeds | {' | '.join(measured)} |", "|---|--:|" + "--:|" * len(measured)]
    for recipe, rows in table.groupby("recipe", sort=False):
        cells = [_spread(_pick(rows, *column)) for column in measured.values()]
        lines.append(f"| {recipe} | {rows['seed'].nunique()} | {' | '.join(cells)} |")
    ceilings = {h: _pick(table, "tc_ceiling", flow).dropna() for h, (c, flow) in measured.items() if c == "tc"}
    if ceilings and "true labels" not in set(table["recipe"]):
        cells = [f"{100 * ceilings[h].iloc[0]:.1f}" if len(ceilings.get(h, ())) else "–" for h in measured]
        lines.append(f"| *true labels: the ceiling of TC* | | {' | '.join(cells)} |")
    return "\n".join(lines)


def values(folder: Path) -> dict[str, str]:
    """Named numbers for the prose of the pages, such as `student_miou`: percent, mean over seeds."""
    found = dict(parameters_of(folder))
    table = own_rows(read_table(folder, "ablation"), found)
    for recipe, rows in table.groupby("recipe") if len(table) else ():
        for column, flow in COLUMNS.values():
            seeds = _pick(rows, column, flow).dropna()
            if len(seeds):
                name = "_".join(filter(None, (recipe.replace("+", "_"), column, flow)))
                found[name] = f"{100 * seeds.mean():.1f}"
    return found


def banner(folder: Path) -> str:
    """A box that says which data and profile made the pages; at smoke, that the numbers mean nothing."""
    given = parameters_of(folder)
    if not given:
        return ""
    data = DATA_NAMES.get(given.get("dataset", ""), given.get("dataset", ""))
    profile = given.get("profile", "")
    lines = [f"These pages show **{data}** at profile **{profile}**."]
    if given.get("runs") == "reference":
        lines.append("The results are the committed reference rows; nothing was trained to make these pages.")
    if profile == "smoke":
        lines.append(
            "A smoke run trains for a few steps to see that everything works: **its numbers have no meaning.**"
        )
    kind = "warning" if profile == "smoke" else "note"
    return "\n".join([f":::{{{kind}}}", *lines, ":::"])


def course_map(folder: Path, titles: Mapping[str, str]) -> str:
    """The chapters as a Markdown table, with the time that each took where it was measured.

    Args:
        folder: The study's folder; times of other profiles come from figures/.
        titles: Notebook -> title, in order.

    Returns:
        Markdown.
    """
    times = _times(folder)
    if not times:
        return "\n".join(["| chapter |", "|---|", *(f"| [{title}]({name}.ipynb) |" for name, title in titles.items())])
    lines = [f"| chapter | {' | '.join(f'{p}, min' for p in times)} |", "|---|" + "--:|" * len(times)]
    for name, title in titles.items():
        cells = [_minutes(seconds.get(name)) for seconds in times.values()]
        lines.append(f"| [{title}]({name}.ipynb) | {' | '.join(cells)} |")
    totals = [_minutes(timings.whole(seconds, titles)) for seconds in times.values()]
    return "\n".join([*lines, f"| all | {' | '.join(totals)} |"])


def syllabus(folder: Path) -> str:
    """The chapters as a Markdown table: the question that each answers, what it leaves, and the time that it took.

    Args:
        folder: as in `course_map`.

    Returns:
        Markdown.
    """
    times = _times(folder)
    heads = ["chapter", "the question", "it leaves", *(f"{profile}, min" for profile in times)]
    lines = [f"| {' | '.join(heads)} |", "|---|---|---|" + "--:|" * len(times)]
    for name, (opening, *rest) in _sources().items():
        question = re.search(r"\*\*The question\.\*\* (.+?)(?:\n\n|$)", opening, re.DOTALL)
        cells = [_title(opening), question[1].replace("\n", " ") if question else "", _leaves(name, "\n".join(rest))]
        cells += [_minutes(seconds.get(name)) for seconds in times.values()]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _leaves(name: str, code: str) -> str:
    """So many tables and figures, in words: those that a notebook must leave, and those that its code names."""
    declared = [Path(file) for file in NOTEBOOKS.get(name, ())]
    tables = {file.stem for file in declared if file.suffix == ".csv"}
    figures = {file.stem for file in declared} - tables
    tables |= set(re.findall(r'\.write_table\(\s*"(\w+)"', code))
    figures |= set(re.findall(r'\bstudy\.figure\(\s*"(\w+)"', code)) | set(re.findall(r'"(\w+)\.gif"', code))
    counts = {"table": len(tables), "figure": len(figures)}
    return ", ".join(f"{count} {what}{'s' * (count > 1)}" for what, count in counts.items() if count)


def _times(folder: Path) -> dict[str, pd.Series]:
    """Profile -> seconds by notebook, of the profiles that were timed: in this study, else in the committed one."""
    return timings.by_profile([FIGURES / "tables", folder / "tables"], list(PROFILES))


def _minutes(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds / 60:.1f}"


def provenance(folder: Path) -> str:
    """Where the results come from, as a Markdown table: date, commit, machine, versions; of the run that was finished last."""
    given = parameters_of(folder)
    committed = FIGURES / "provenance.json"
    stamp = {"date": now(), "git": git_state(), "versions": versions(), "machine": machine_facts()}
    ablation = read_table(folder, "ablation")
    named = ablation["run_id"].dropna() if "run_id" in ablation else []
    records = [
        json.loads(path.read_text()) for run in named if (path := folder / "runs" / run / "record.json").exists()
    ]
    if records:
        last = max(records, key=lambda record: record["finished"])
        stamp = {"date": last["finished"]} | {key: last[key] for key in ("git", "versions", "machine")}
    if given.get("runs") == "reference" and committed.exists():
        files = json.loads(committed.read_text())["files"]
        study = f"{given.get('dataset')}-{given.get('profile')}"
        stamp = files.get("tables/ablation.csv", {}).get(study, stamp)
    git, machine = stamp["git"], stamp["machine"]
    rows = {
        "results of": stamp["date"],
        "commit": git["sha"][:12] + (" with local changes" if git["dirty"] else ""),
        **{f"machine: {name}": value for name, value in machine.items() if value is not None},
        **{f"version: {name}": value for name, value in stamp["versions"].items()},
    }
    table = "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])
    if given.get("runs") == "reference":
        records = [json.loads(path.read_text()) for path in sorted((FIGURES / "runs").glob("*.json"))]
    return "\n\n".join(filter(None, (table, codes(records))))


def codes(records: Sequence[dict]) -> str:
    """By which code runs were trained and scored, as a Markdown table and a line; empty where no record says it."""
    found: dict[tuple[str, str], list[str]] = {}
    for record in records:
        if "evaluation_code" in record:
            key = record.get("training_code", "not noted"), record["evaluation_code"]
            found.setdefault(key, []).append(record["finished"])
    if not found:
        return ""
    lines = ["| trained by code | scored by code | runs | from | to | what differs in scoring |", "|---|---|--:|---|---|---|"]
    for (training, evaluation), dates in sorted(found.items(), key=lambda item: min(item[1])):
        differs = EVALUATED.get(evaluation, "")
        cells = f"`{training}`", f"`{evaluation}`", len(dates), min(dates)[:10], max(dates)[:10], differs or "not noted"
        lines.append(f"| {' | '.join(map(str, cells))} |")
    today = code_key(TRAINING_CODE), code_key(EVALUATION_CODE)
    scored = len({evaluation for _, evaluation in found})
    told = f"{scored} code{'s' if scored > 1 else ''} of evaluation"
    told += f"; today trains `{today[0]}` and scores `{today[1]}`"
    others = sum(len(dates) for (_, evaluation), dates in found.items() if evaluation != today[1])
    told += f"; {others} of {len(records)} runs were not scored again by that" if others else ""
    return "\n".join([*lines, "", f"{told}."])


def latency_table(folder: Path) -> str:
    """Each network's fastest runtime and precision, end to end, of one run (`tcseg measure speeds`), as a Markdown table."""
    table = read_table(folder, "speeds")
    if table.empty:
        return "No latency has been measured yet."
    roles = {arch: role for role, arch in CHOSEN.items()}
    lines = ["| network | runs fastest in | p50 ms | frames/s | GFLOP |", "|---|---|--:|--:|--:|"]
    for row in table.sort_values("best_ms").itertuples():
        name = f"`{roles.get(row.arch, row.arch)}`" + (" (peer)" if row.peer else "")
        name += "" if getattr(row, "trained", True) else " °"
        lines.append(f"| {name} | {row.best} | {row.best_ms:.1f} | {1000 / row.best_ms:.0f} | {row.gflop:.2f} |")
    first = table.iloc[0]
    facts = f"{first['width']}x{first['height']}, {first['machine']}, {first['threads']} threads, batch 1."
    if "trained" in table and not table["trained"].all():
        facts += " °: timed as it is built, not trained; the label map of a trained one has other borders."
    return "\n".join([*lines, "", facts])


def titles() -> dict[str, str]:
    """Notebook -> its title, from the first heading of each."""
    return {name: _title(sources[0]) for name, sources in _sources().items()}


def _title(opening: str) -> str:
    return opening.splitlines()[0].lstrip("# ")


def _sources() -> dict[str, list[str]]:
    """Notebook -> the sources of its cells."""
    paths = sorted(CHAPTERS.glob("[0-9]*.ipynb"))
    return {path.stem: [cell.source for cell in nbformat.read(path, as_version=4).cells] for path in paths}
