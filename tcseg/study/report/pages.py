"""The generated parts of the report's pages of results and of how to make them again, as Markdown made from tables and records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from tcseg.labels import label_set
from tcseg.study.paths import FIGURES
from tcseg.study.recipes import ABLATION_SWEEPS, NETWORK_LENGTHS, PRIMARY, variations
from tcseg.study.report import effect_sentences, readme, reproduction, summary

NOTHING = "*Not run yet.*"
SWEEP_TITLES = {
    "pareto": "Weight of the temporal loss",
    "schedule": "Length of training",
    "label_budget": "Share of labelled snippets",
    "distillation": "Distillation methods",
    "temporal_forms": "Forms of the temporal loss",
    "flow_sources": "Flow to train on",
    "other_students": "Another student",
}


def fragments(folder: Path) -> dict[str, str]:
    """Name -> Markdown of what `index.md`, `results.md` and `reproducibility.md` include.

    Args:
        folder: A study's folder; what it does not hold is taken from figures/.
    """
    given = summary.parameters_of(folder)
    own = {key: given.get(key, usual) for key, usual in (("dataset", "procity"), ("profile", "laptop"))}
    effects, changes = _rows(folder, "effects", own), _rows(folder, "sweep_effects", own)
    return {
        "moving": moving(folder),
        "headline": readme.headline(FIGURES) or NOTHING,
        "effects": "\n\n".join(
            filter(
                None,
                (
                    effect_sentences.effects_table(effects),
                    effect_sentences.both_longer(effects),
                    effect_sentences.last_doubling(changes),
                ),
            )
        )
        or NOTHING,
        "camvid": real_street(),
        "comparisons": comparisons(effects),
        "sweeps": "\n\n".join(sweep(_rows(folder, name, own), name, changes) for name in ABLATION_SWEEPS),
        "per_class": per_class(folder, own),
        "filters": filters(_rows(folder, "steadiness", {})),
        "networks": networks(_rows(folder, "students", {})),
        "latency": summary.latency_table(FIGURES),
        "precision": precision(_rows(folder, "precision", {})),
        "again": reproduction.again_table(FIGURES),
        "reproduced": reproduction.verdict(_rows(folder, "reproduced", own)) or NOTHING,
        "files": made_by(FIGURES / "provenance.json"),
        "runs": runs(folder, own),
        "downloads": downloads(folder),
    }


def real_street() -> str:
    """The primary comparison on CamVid, and what its variations change, from the committed rows."""
    wanted = {"dataset": "camvid", "profile": "laptop"}
    if _rows(FIGURES, "ablation", wanted).empty:
        return NOTHING
    effects, changes = (
        effect_sentences.effects_table(_rows(FIGURES, "effects", wanted)),
        _rows(FIGURES, "sweep_effects", wanted),
    )
    varied = changes[changes["comparison"] != "consistent_vs_student"] if len(changes) else changes
    parts = [summary.result_table(FIGURES, **wanted), effects, *([comparisons(varied)] if len(varied) else [])]
    return "\n\n".join(parts)


def moving(folder: Path) -> str:
    """The moving picture of the home page; empty where chapter 5 has not drawn it."""
    if not (folder / "figures" / "flicker.gif").exists():
        return ""
    words = (
        "Moving picture: a drive, and lit up the pixels whose class changes, for the plain and the consistent student"
    )
    return f"![{words}](_files/flicker.gif)\n\n*Frame, student, consistent student: one network, trained in two ways.*"


def _rows(folder: Path, name: str, own: Mapping[str, str]) -> pd.DataFrame:
    """A study's table, else the committed one: the rows of a data set and profile."""
    found = summary.read_table(folder, name)
    return summary.own_rows(found if len(found) else summary.read_table(FIGURES, name), own)


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]], words: int = 1) -> str:
    """A Markdown table.

    Args:
        head: Headings.
        rows: Cells; a float as it is, None or nan as a dash.
        words: So many columns on the left are text, the others are numbers, set to the right.
    """
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * words + "--:|" * (len(head) - words)]
    for row in rows:
        lines.append(f"| {' | '.join('–' if pd.isna(cell) else str(cell) for cell in row)} |")
    return "\n".join(lines)


def _percent(value: float, digits: int = 1) -> str | None:
    return None if pd.isna(value) else f"{100 * value:.{digits}f}"


def comparisons(effects: pd.DataFrame) -> str:
    """Every comparison of the ablation with its interval over seeds and clips."""
    if effects.empty:
        return NOTHING
    words = effect_sentences.intervals(effects)
    return markdown(["comparison", *words.columns], words.itertuples(name=None))


def sweep(table: pd.DataFrame, name: str, effects: pd.DataFrame) -> str:
    """One sweep: means over seeds, minutes of training, which of its recipes have not been run, and what they change."""
    title = f"### {SWEEP_TITLES[name]}\n\n"
    if table.empty:
        return title + NOTHING
    rows, lacking = [], [v.name for v in variations(name) if v.name not in set(table["recipe"])]
    left = f"\n\n*Not run yet:* {', '.join(f'`{one}`' for one in lacking)}." if lacking else ""
    for recipe, found in table.groupby("recipe", sort=False):
        scores = [_percent(found[name].mean()) for name in ("miou", "tc", "flicker")]
        rows.append([f"`{recipe}`", found["seed"].nunique(), *scores, f"{found['train_seconds'].mean() / 60:.1f}"])
    means = markdown(["recipe", "seeds", "mIoU %", "TC %", "flicker %", "minutes"], rows)
    own = effects[effects["sweep"] == name] if len(effects) else effects
    return "\n\n".join([title + means + left, *([comparisons(own)] if len(own) else [])])


def _records(folder: Path, own: Mapping[str, str]) -> list[dict]:
    """Records of the runs that the ablation names, from the study's store or the committed ones."""
    table = _rows(folder, "ablation", own)
    names = dict.fromkeys(table["run_id"].dropna()) if "run_id" in table else ()
    places = [(folder / "runs" / name / "record.json", FIGURES / "runs" / f"{name}.json") for name in names]
    found = [next((path for path in pair if path.exists()), None) for pair in places]
    return [json.loads(path.read_text(encoding="utf-8")) for path in found if path]


def per_class(folder: Path, own: Mapping[str, str]) -> str:
    """IoU of every class: the primary comparison's two recipes, means over seeds."""
    records = [record for record in _records(folder, own) if record["recipe_name"] in PRIMARY]
    if not records:
        return NOTHING
    classes = label_set(records[0]["dataset"]).classes
    means = {
        name: pd.DataFrame([r["per_class"]["iou"] for r in records if r["recipe_name"] == name], dtype=float).mean()
        for name in PRIMARY
    }
    rows = [
        [
            one,
            *(_percent(means[name].get(k)) for name in PRIMARY),
            _percent(means[PRIMARY[1]].get(k) - means[PRIMARY[0]].get(k)),
        ]
        for k, one in enumerate(classes)
        if all(k in means[name] for name in PRIMARY)
    ]
    return markdown(["class", *(f"{name}, IoU %" for name in PRIMARY), "difference"], rows)


def filters(table: pd.DataFrame) -> str:
    """Filters at inference beside the student that was trained to be steady."""
    if table.empty:
        return NOTHING
    rows = [
        [
            f"{row.recipe}, {row.filter}" if isinstance(row.filter, str) else row.recipe,
            *(_percent(value) for value in (row.miou, row.tc, row.flicker)),
            *(None if pd.isna(value) else f"{value:.1f}" for value in (row.added_ms, row.lag)),
        ]
        for row in table.itertuples()
    ]
    return markdown(["student, filter", "mIoU %", "TC %", "flicker %", "added ms", "lag, frames"], rows)


def networks(table: pd.DataFrame) -> str:
    """Candidates and peers: score against the clock, and after how many steps."""
    if table.empty:
        return NOTHING
    trained = table.reindex(columns=[f"miou_{times:g}x" for times in NETWORK_LENGTHS]).notna().any()
    lengths = [name.removeprefix("miou_") for name in trained.index[trained]]
    rows = [
        [
            f"`{row['model']}`" + (" (peer)" if row["peer"] else ""),
            row["best"],
            f"{row['best_ms']:.1f}",
            *(_percent(row[f"miou_{length}"]) for length in lengths),
            *(_percent(row[score]) for score in ("tc_2x", "flicker_2x")),
            f"{row['gflop']:.2f}",
            f"{row['params_m']:.2f}",
        ]
        for _, row in table.sort_values("best_ms").iterrows()
    ]
    scores = [*(f"mIoU % {length}" for length in lengths), "TC % 2x", "flicker % 2x"]
    return markdown(["network", "fastest in", "ms", *scores, "GFLOP", "10⁶ parameters"], rows, words=2)


def precision(table: pd.DataFrame) -> str:
    """What fewer bits cost."""
    if table.empty:
        return NOTHING
    rows = [
        [
            f"`{row.model}`",
            f"{row.runtime} {row.precision}",
            *(_percent(value, 2) for value in (row.miou, row.miou_lost, row.flicker, row.flicker_more, row.agreement)),
            "yes" if row.offered else "no",
        ]
        for row in table.itertuples()
    ]
    head = ["network", "runs in", "mIoU %", "lost", "flicker %", "more, %", "equal labels %", "offered"]
    return markdown(head, rows, words=2)


# ------------------------------------------------------------------------------------------------ made how, and when


def command_of(study: str) -> str:
    """The command that makes what `provenance.json` ascribes to a study or measurement."""
    if study.startswith("measure "):
        return f"tcseg {study}"
    dataset, profile = study.split("-", 1)
    whole = dataset == "procity" and profile != "bench"  # of the others the sweeps alone were trained
    made = "study reference" if whole else "sweeps rows"
    return f"make {made} DATASET={dataset} PROFILE={profile}"


def made_by(provenance: Path) -> str:
    """Every committed table and figure: by which command, when, from which commit, on what machine."""
    if not provenance.exists():
        return NOTHING
    rows = []
    for name, makers in json.loads(provenance.read_text(encoding="utf-8"))["files"].items():
        if name.startswith("runs/") or name.endswith((".json", ".svg")):
            continue
        for study, stamp in makers.items():
            machine = stamp["machine"]
            where = machine.get("gpu") or f"{machine.get('cpu')}, {machine.get('cores')} cores"
            rows.append([f"`{name}`", f"`{command_of(study)}`", stamp["date"][:10], stamp["git"]["sha"][:9], where])
    return markdown(["file in figures/", "made by", "on", "at commit", "machine"], rows, words=5)


def runs(folder: Path, own: Mapping[str, str]) -> str:
    """Every run of the ablation: seed, minutes, machine, date."""
    rows = []
    for record in _records(folder, own):
        machine, cost = record["machine"], record["cost"]
        where = machine.get("gpu") or f"{machine.get('cpu')}, {cost.get('threads', '–')} threads"
        minutes = f"{cost['train_seconds'] / 60:.1f}"
        rows.append([f"`{record['run_id']}`", record["recipe"]["steps"], minutes, where, record["finished"][:10]])
    return markdown(["run", "steps", "minutes", "machine", "on"], rows) if rows else NOTHING


def downloads(folder: Path) -> str:
    """Links to tables (CSV) and figures (PNG, SVG) of the study, which `report` lays beside the pages."""
    tables = sorted(path.name for path in (folder / "tables").glob("*.csv"))
    stems = sorted({path.stem for path in (folder / "figures").glob("*.png")})
    rows = []
    for stem in stems:
        kinds = [kind for kind in ("png", "svg") if (folder / "figures" / f"{stem}.{kind}").exists()]
        rows.append(
            [stem.replace("_", " "), ", ".join(f"{{download}}`{kind} <_files/{stem}.{kind}>`" for kind in kinds)]
        )
    lists = ", ".join(f"{{download}}`{name} <_files/{name}>`" for name in tables) or NOTHING
    return f"**Tables.** {lists}\n\n" + (markdown(["figure", "files"], rows, words=2) if rows else NOTHING)
