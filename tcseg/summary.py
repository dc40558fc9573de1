"""What README and report say in figures, as Markdown made from the tables: no number in prose is typed by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import nbformat
import pandas as pd

from tcseg.benchmark import machine_facts
from tcseg.effects import BASELINES
from tcseg.runs import git_state, now, versions
from tcseg.students import CHOSEN
from tcseg.study import FIGURES, NOTEBOOKS, PROFILES

DATA_NAMES = {"procity": "procity (embedded, procedural)", "camvid": "CamVid", "cityscapes": "Cityscapes"}
COLUMNS = {  # of the result table: heading -> column of ablation.csv, flow
    "mIoU %": ("miou", None),
    "TC %, exact flow": ("tc", "exact"),
    "TC %, DIS flow": ("tc", "dis"),
    "flicker %": ("flicker", None),
    "pixel accuracy %": ("pixel_accuracy", None),
}


def parameters_of(folder: Path) -> dict[str, str]:
    """The parameters that the notebooks of a study were run with (dataset, profile, runs); empty where none was run."""
    for path in sorted((folder / "notebooks").glob("*.ipynb")):
        found = nbformat.read(path, as_version=4).metadata.get("papermill", {}).get("parameters", {})
        if found:
            return {name: str(value) for name, value in found.items()}
    return {}


def _table(folder: Path, name: str) -> pd.DataFrame:
    """A table of a study, or of a folder of tables; an empty one where it is not there."""
    for path in (folder / "tables" / f"{name}.csv", folder / f"{name}.csv"):
        if path.exists():
            return pd.read_csv(path)
    return pd.DataFrame()


def _own_rows(table: pd.DataFrame, wanted: Mapping[str, str]) -> pd.DataFrame:
    for column in ("dataset", "profile"):
        if column in table and column in wanted:
            table = table[table[column] == wanted[column]]
    return table


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
    table = _own_rows(_table(folder, "ablation"), wanted)
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
    table = _own_rows(_table(folder, "ablation"), found)
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
    totals = [_minutes(_whole(seconds, titles)) for seconds in times.values()]
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
    tables = [table for table in (_table(FIGURES, "notebooks"), _table(folder, "notebooks")) if len(table)]
    if not tables:
        return {}
    times = pd.concat(tables).drop_duplicates(["profile", "notebook"], keep="last").set_index(["profile", "notebook"])
    known = times.index.get_level_values("profile")
    return {profile: times["seconds"].loc[profile] for profile in PROFILES if profile in known}


def _whole(seconds: pd.Series, titles: Mapping[str, str]) -> float | None:
    """The sum over all notebooks; None where the time of one is not known, as when its runs were made in other sittings."""
    return seconds.sum() if set(titles) <= set(seconds.index) else None


def _minutes(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds / 60:.1f}"


def provenance(folder: Path) -> str:
    """Where the results come from, as a Markdown table: date, commit, machine, versions."""
    given = parameters_of(folder)
    committed = FIGURES / "provenance.json"
    stamp = {"date": now(), "git": git_state(), "versions": versions(), "machine": machine_facts()}
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
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


# ------------------------------------------------------------------------------------------------ README

STEPS = dict(zip(BASELINES, ("as many steps", "twice the steps", "four times the steps"), strict=True))
METRIC_NAMES = {
    "miou": "mIoU, points",
    "tc": "TC, points",
    "tc_gap_closed": "TC, % of the way to the ceiling",
    "flicker_relative": "flicker, %",
    "harmful_flicker_relative": "harmful flicker, %",
}


def effects_table(table: pd.DataFrame) -> str:
    """The primary comparison as Markdown: differences with their intervals, corrected p, and what could be seen at all.

    A second table follows where there are students that were trained for longer: the claim is the weakest of its columns.

    Args:
        table: effects.csv, rows of one data set and profile.

    Returns:
        Markdown; empty where the comparison is not in the table.
    """
    if "p_holm" not in table:
        return ""
    rows = table[(table["comparison"] == "consistent_vs_student") & table["metric"].isin(METRIC_NAMES)]
    lines = []
    for row in rows.itertuples():
        both = interval(row.difference, row.ci_low, row.ci_high)
        seeds = interval(row.seed_difference, row.seed_low, row.seed_high)
        p = "–" if pd.isna(row.p_holm) else f"{row.p_holm:.3f}" if row.p_holm >= 0.001 else "< 0.001"
        smallest = "–" if pd.isna(row.mdd) else f"{100 * row.mdd:.1f}"
        lines.append(f"| {METRIC_NAMES[row.metric]} | {both} | {seeds} ({row.seeds} seeds) | {p} | {smallest} |")
    head = ["| consistent − student | over seeds and clips, 95 % | over seeds, 95 % | p (Holm) | detectable |"]
    return "\n".join([*head, "|---|--:|--:|--:|--:|", *lines, *_against_longer(table)]) if lines else ""


def _against_longer(table: pd.DataFrame) -> list[str]:
    """The same comparison against students that were trained for longer, a column each; nothing where none was."""
    found = {name: table[table["comparison"] == name].set_index("metric") for name in BASELINES}
    found = {name: rows for name, rows in found.items() if len(rows)}
    if len(found) < 2:
        return []
    names = [f"{STEPS[name]} ({rows['seeds'].iloc[0]} seeds)" for name, rows in found.items()]
    lines = ["", f"| against a student of | {' | '.join(names)} |", "|---|" + "--:|" * len(names)]
    for metric, title in METRIC_NAMES.items():
        if all(metric in rows.index for rows in found.values()):
            cells = [interval(*rows.loc[metric, ["difference", "ci_low", "ci_high"]]) for rows in found.values()]
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def interval(value: float, low: float, high: float) -> str:
    """Percent with sign and interval; a dash where nothing was measured."""
    if pd.isna(value):
        return "–"
    spread = "" if pd.isna(low) else f" ({100 * low:+.1f} to {100 * high:+.1f})"
    return f"{100 * value:+.1f}{spread}".replace("-", "−")


def cost_table(folder: Path) -> str:
    """What a cold study of the embedded data took: minutes by profile, runs, disk, machine."""
    times = _table(folder, "notebooks")
    path = folder / "provenance.json"
    noted = json.loads(path.read_text()) if path.exists() else {}
    stamps = noted.get("files", {}).get("tables/notebooks.csv", {})
    lines = []
    for profile, rows in times.groupby("profile", sort=False) if len(times) else ():
        machine = stamps.get(f"procity-{profile}", {}).get("machine", {})
        megabytes = noted.get("disk_mb", {}).get(f"procity-{profile}")
        disk = "–" if megabytes is None else f"{megabytes:.0f}"
        where = f"{machine.get('cpu', '–')}, {machine.get('cores', '–')} cores"
        seconds = _whole(rows.set_index("notebook")["seconds"], _titles())
        minutes = "– (made in several sittings)" if seconds is None else f"{seconds / 60:.0f}"
        trained = rows["runs_trained"].sum() if seconds is not None else _runs(folder, profile)
        lines.append(f"| `{profile}` | {minutes} | {trained} | {disk} | {machine.get('gpu') or where} |")
    head = ["| profile | notebooks, minutes | networks trained | results and cache, MB | measured on |"]
    return "\n".join([*head, "|---|--:|--:|--:|---|", *lines]) if lines else ""


def _runs(folder: Path, profile: str) -> int:
    """Networks in the embedded data's ablation at a profile."""
    table = _own_rows(_table(folder, "ablation"), {"dataset": "procity", "profile": profile})
    return table["run_id"].nunique() if "run_id" in table else 0


def latency_table(folder: Path) -> str:
    """Each network's fastest runtime and precision, end to end, of one run (`tcseg measure speeds`), as a Markdown table."""
    table = _table(folder, "speeds")
    if table.empty:
        return "No latency has been measured yet."
    roles = {arch: role for role, arch in CHOSEN.items()}
    lines = ["| network | runs fastest in | p50 ms | frames/s | GFLOP |", "|---|---|--:|--:|--:|"]
    for row in table.sort_values("best_ms").itertuples():
        name = f"`{roles.get(row.arch, row.arch)}`" + (" (peer)" if row.peer else "")
        lines.append(f"| {name} | {row.best} | {row.best_ms:.1f} | {1000 / row.best_ms:.0f} | {row.gflop:.2f} |")
    first = table.iloc[0]
    return "\n".join(
        [*lines, "", f"{first['width']}x{first['height']}, {first['machine']}, {first['threads']} threads, batch 1."]
    )


def _titles() -> dict[str, str]:
    """Notebook -> its title, from the first heading of each."""
    return {name: _title(sources[0]) for name, sources in _sources().items()}


def _title(opening: str) -> str:
    return opening.splitlines()[0].lstrip("# ")


def _sources() -> dict[str, list[str]]:
    """Notebook -> the sources of its cells."""
    paths = sorted((FIGURES.parent / "notebooks").glob("[0-9]*.ipynb"))
    return {path.stem: [cell.source for cell in nbformat.read(path, as_version=4).cells] for path in paths}


def readme_sections(folder: Path) -> dict[str, str]:
    """The generated parts of the README: results, effects, cost, course and latency, of all committed studies but smoke.

    Args:
        folder: figures/.

    Returns:
        Section name -> Markdown.
    """
    table, effects = _table(folder, "ablation"), _table(folder, "effects")
    studies = table[["dataset", "profile"]].drop_duplicates().itertuples(index=False) if len(table) else ()
    results, differences = [], []
    for dataset, profile in studies:
        if profile == "smoke":
            continue
        title = f"{DATA_NAMES.get(dataset, dataset)}, profile `{profile}`, split val:"
        results.append(f"{title}\n\n{result_table(folder, dataset, profile)}")
        if found := effects_table(_own_rows(effects, {"dataset": dataset, "profile": profile})):
            differences.append(f"{title}\n\n{found}")
    return {
        "headline": headline(folder),
        "results": "\n\n".join(results),
        "effects": "\n\n".join(differences),
        "cost": cost_table(folder),
        "course": course_map(folder, _titles()).replace("](", "](notebooks/"),
        "latency": latency_table(folder),
    }


def headline(folder: Path, dataset: str = "procity", profile: str = "laptop") -> str:
    """Three numbers with what they are worth: steadiness at equal steps, the same against the longest-trained student, and time."""
    effects = _own_rows(_table(folder, "effects"), {"dataset": dataset, "profile": profile})
    lines = []
    for name in dict.fromkeys(("consistent_vs_student", _longest(effects))):
        found = effects[effects["comparison"] == name].set_index("metric") if name else effects[:0]
        if not {"flicker_relative", "miou"} <= set(found.index):
            continue
        flicker, miou = (
            interval(*found.loc[metric, ["difference", "ci_low", "ci_high"]]) for metric in ("flicker_relative", "miou")
        )
        against = f"against the same network trained for {STEPS[name]}"
        sure = f"{int(found['seeds'].iloc[0])} paired seeds, 95 % over seeds and clips"
        lines.append(f"- **Flicker {flicker} %**, mIoU {miou} points, {against}; {sure}.")
    return "\n".join([*lines, *_fastest(_table(folder, "speeds"))])


def _longest(effects: pd.DataFrame) -> str:
    """The comparison with the student that was trained for longest; empty where there is none."""
    there = set(effects["comparison"]) if len(effects) else set()
    return next((name for name in reversed(BASELINES) if name in there), "")


def _fastest(speeds: pd.DataFrame, role: str = "student-cpu") -> list[str]:
    """A line on a chosen student beside its peers, each in its fastest runtime and precision."""
    best = speeds.set_index("arch") if len(speeds) else speeds
    if CHOSEN[role] not in best.index:
        return []
    own = best.loc[CHOSEN[role]]
    peers = [
        f"{best.loc[arch, 'best_ms'] / own['best_ms']:.1f} times the rate of {title}"
        for arch, title in (
            ("lraspp-mv3-large", "LR-ASPP"),
            ("ddrnet-23-slim", "DDRNet-23-slim"),
            ("fast-scnn", "Fast-SCNN"),
        )
        if arch in best.index
    ]
    speed = f"**{own['best_ms']:.1f} ms a frame** of {own['width']}x{own['height']}, uint8 in and label map out"
    where = f"on {own['threads']} cores of {own['machine']} (`{role}`, {own['best']})"
    return [
        f"- {speed}, {where}: {', '.join(peers)}, each in its own fastest runtime and precision. Chapter 6 has scores."
    ]


def fill_readme(text: str, sections: Mapping[str, str]) -> str:
    """Put the sections between their markers, `<!-- NAME: ... -->` and `<!-- end of NAME -->`; the rest stays."""
    for name, section in sections.items():
        pattern = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        body = f"\n{section}\n\n" if section else ""
        text = pattern.sub(lambda found, body=body: found[1] + body + found[2], text)
    return text
