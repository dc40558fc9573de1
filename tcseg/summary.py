"""What a study found, as Markdown made from its tables, for README and report: no number in prose is typed by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import nbformat
import pandas as pd

from tcseg import timings
from tcseg.benchmark import machine_facts
from tcseg.effects import BASELINES
from tcseg.runs import git_state, now, versions
from tcseg.students import CHOSEN
from tcseg.study import FIGURES, NOTEBOOKS, PROFILES

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
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


STEPS = dict(zip(BASELINES, ("as many steps", "twice the steps", "four times the steps"), strict=True))
CONVERGED = 0.005
"""mIoU that doubling the steps gains, below which a network has converged."""
RELATIVE = ("tc_gap_closed", "flicker_relative", "harmful_flicker_relative")
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
        if row.seeds == 1:  # what another seed would do is not known: an interval over clips alone, and no test
            both, seeds, p, smallest = f"{both} over clips alone", "–", "–", "–"
        lines.append(f"| {METRIC_NAMES[row.metric]} | {both} | {seeds} | {p} | {smallest} |")
    if not lines:
        return ""
    over = seed_count(rows["seeds"].iloc[0])
    head = f"| consistent − student | over seeds and clips, 95 % | over {over}, 95 % | p (Holm) | detectable |"
    return "\n".join([head, "|---|--:|--:|--:|--:|", *lines, *_against_longer(table)])


def _against_longer(table: pd.DataFrame) -> list[str]:
    """The same comparison against students that were trained for longer, a column each; nothing where none was."""
    found = {name: table[table["comparison"] == name].set_index("metric") for name in BASELINES}
    found = {name: rows for name, rows in found.items() if len(rows)}
    if len(found) < 2:
        return []
    names = [f"{STEPS[name]} ({seed_count(rows['seeds'].iloc[0])})" for name, rows in found.items()]
    lines = ["", f"| against a student of | {' | '.join(names)} |", "|---|" + "--:|" * len(names)]
    for metric, title in METRIC_NAMES.items():
        if all(metric in rows.index for rows in found.values()):
            cells = [interval(*rows.loc[metric, ["difference", "ci_low", "ci_high"]]) for rows in found.values()]
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def both_longer(effects: pd.DataFrame) -> str:
    """The primary comparison with both trained for as long as any pair was, in a sentence; empty where none was trained longer.

    Args:
        effects: effects.csv, rows of one data set and profile.
    """
    names = [name for name in ("consistent_4x_vs_student_4x", "consistent_2x_vs_student_2x") if len(effects)]
    name = next((name for name in names if name in set(effects["comparison"])), None)
    if name is None:
        return ""
    rows = effects[effects["comparison"] == name].set_index("metric")
    told = [
        f"{title} {interval(*rows.loc[metric, ['difference', 'ci_low', 'ci_high']])}{' %' * (metric in RELATIVE)}"
        for metric, title in (("miou", "mIoU"), ("tc", "TC"), ("flicker_relative", "flicker"))
        if metric in rows.index
    ]
    steps = STEPS[f"consistent_vs_student{name[-3:]}"]
    return f"Both trained for {steps}: {', '.join(told)} ({seed_count(rows['seeds'].iloc[0])})."


def last_doubling(changes: pd.DataFrame) -> str:
    """What the last doubling of the plain student's steps gained, in a sentence: how far it is from its end. Empty before any.

    Args:
        changes: sweep_effects.csv, rows of one data set and profile.
    """
    if changes.empty:
        return ""
    steps = changes["comparison"].str.extract(r"^student,steps=(\d+)x_vs_student(?:,steps=\d+x)?$")[0].astype(float)
    rows = changes[steps.eq(steps.max()) & (changes["metric"] == "miou")]
    if rows.empty:
        return ""
    row = rows.iloc[0]
    gain = interval(row["difference"], row["ci_low"], row["ci_high"])
    rule = "less" if row["difference"] < CONVERGED else "not less"
    return (
        f"The last doubling of the plain student's steps, to {steps.max():g} times as many, gains {gain} points of mIoU "
        f"({seed_count(row['seeds'])}): {rule} than the {100 * CONVERGED:g} by which this study calls a network converged."
    )


def seed_count(seeds: int) -> str:
    """How many seeds, in words for a table."""
    return "one seed" if seeds == 1 else f"{seeds} seeds"


def interval(value: float, low: float, high: float) -> str:
    """Percent with sign and interval; a dash where nothing was measured."""
    if pd.isna(value):
        return "–"
    spread = "" if pd.isna(low) else f" ({100 * low:+.1f} to {100 * high:+.1f})"
    return f"{100 * value:+.1f}{spread}".replace("-", "−")


SHOWN = {"miou": "mIoU, points", "tc": "TC, points", "flicker_relative": "flicker, %"}


def in_words(comparison: str) -> str:
    """The name of a comparison to be read: what both sides have before a colon, then what differs.

    "kd,steps=2x_vs_student,steps=2x" is "steps=2x: kd − student", "kd,method=cwd_vs_kd" is "kd: method=cwd".
    """
    name, _, base = comparison.partition("_vs_")
    if "=" not in comparison:
        return f"{name} − {base}".replace("_", " ")
    ours, theirs = name.split(","), base.split(",")
    shared = [word for word in ours if word in theirs]
    own, other = (", ".join(word for word in side if word not in shared) for side in (ours, theirs))
    return f"{', '.join(shared)}{': ' * bool(shared)}{own or 'as it is'}{' − ' + other if other else ''}"


def intervals(effects: pd.DataFrame, shown: Mapping[str, str] = SHOWN) -> pd.DataFrame:
    """Differences in words: a row a comparison, its seeds, and a column a metric, "+1.2 (−0.3 to +2.7)".

    A star stands behind what is clear of zero after correction for the number of differences (`p_holm` below 0.05).

    Args:
        effects: as `effects.effects` makes them, of one data set and profile.
        shown: metric -> heading; "–" where a comparison has no such metric.
    """
    if effects.empty:
        return pd.DataFrame(columns=["seeds", *shown.values()]).rename_axis("comparison")
    columns = ["difference", "ci_low", "ci_high", "p_holm"]
    words = [interval(*row) + " *" * (p < 0.05) for *row, p in effects[columns].itertuples(index=False)]
    by_metric = effects.assign(words=words).pivot(index="comparison", columns="metric", values="words")
    seeds = effects.groupby("comparison", sort=False)["seeds"].first()
    table = seeds.to_frame().join(
        by_metric.reindex(columns=list(shown)).astype(object).fillna("–").rename(columns=shown)
    )
    return table.rename(index=in_words)


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
