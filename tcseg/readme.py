"""The generated parts of README.md, from the committed tables: headline, results, cost, course, and how to make a table again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from tcseg import summary, timings
from tcseg.effects import BASELINES
from tcseg.recipes import ABLATION_SWEEPS, VARIATIONS
from tcseg.students import CHOSEN
from tcseg.study import PROFILES


def cost_table(folder: Path) -> str:
    """What a cold study of the embedded data took: minutes by profile, runs, disk, machine."""
    times = summary.read_table(folder, "notebooks")
    path = folder / "provenance.json"
    noted = json.loads(path.read_text()) if path.exists() else {}
    stamps = noted.get("files", {}).get("tables/notebooks.csv", {})
    lines = []
    for profile, rows in times.groupby("profile", sort=False) if len(times) else ():
        machine = stamps.get(f"procity-{profile}", {}).get("machine", {})
        megabytes = noted.get("disk_mb", {}).get(f"procity-{profile}")
        disk = "–" if megabytes is None else f"{megabytes:.0f}"
        where = f"{machine.get('cpu', '–')}, {machine.get('cores', '–')} cores"
        seconds = timings.whole(rows.set_index("notebook")["seconds"], summary.titles())
        minutes = "– (made in several sittings)" if seconds is None else f"{seconds / 60:.0f}"
        trained = rows["runs_trained"].sum() if seconds is not None else _runs(folder, profile)
        lines.append(f"| `{profile}` | {minutes} | {trained} | {disk} | {machine.get('gpu') or where} |")
    head = ["| profile | notebooks, minutes | networks trained | results and cache, MB | measured on |"]
    return "\n".join([*head, "|---|--:|--:|--:|---|", *lines]) if lines else ""


def _runs(folder: Path, profile: str) -> int:
    """Networks in the embedded data's ablation at a profile."""
    table = summary.own_rows(summary.read_table(folder, "ablation"), {"dataset": "procity", "profile": profile})
    return table["run_id"].nunique() if "run_id" in table else 0


def readme_sections(folder: Path) -> dict[str, str]:
    """The generated parts of the README: results, effects, cost, course and latency, of all committed studies but smoke.

    Args:
        folder: figures/.

    Returns:
        Section name -> Markdown.
    """
    table, effects = summary.read_table(folder, "ablation"), summary.read_table(folder, "effects")
    studies = table[["dataset", "profile"]].drop_duplicates().itertuples(index=False) if len(table) else ()
    results, differences = [], []
    for dataset, profile in studies:
        if profile == "smoke":
            continue
        title = f"{summary.DATA_NAMES.get(dataset, dataset)}, profile `{profile}`, split val:"
        results.append(f"{title}\n\n{summary.result_table(folder, dataset, profile)}")
        if found := summary.effects_table(summary.own_rows(effects, {"dataset": dataset, "profile": profile})):
            differences.append(f"{title}\n\n{found}")
    return {
        "headline": headline(folder),
        "results": "\n\n".join(results),
        "effects": "\n\n".join(differences),
        "cost": cost_table(folder),
        "course": summary.course_map(folder, summary.titles()).replace("](", "](notebooks/"),
        "latency": summary.latency_table(folder),
        "again": again_table(folder),
    }


# ------------------------------------------------------------------------------------------------ to make it again


def again_table(folder: Path) -> str:
    """What to run to make each committed table again, how long that takes, and what should come out.

    Minutes of a study are those of its notebooks, of a sweep the training of its runs on one core each, of a measurement its own.

    Args:
        folder: figures/.
    """
    path = folder / "provenance.json"
    files = json.loads(path.read_text())["files"] if path.exists() else {}
    lines = ["| table | command | minutes | what should come out |", "|---|---|--:|---|"]
    for names, command, minutes, expected in (*_studies(folder), *_sweeps(folder), *_measurements(folder, files)):
        shown = ", ".join(f"`{name}`" for name in names)
        lines.append(f"| {shown} | `{command}` | {'–' if minutes is None else f'{minutes:.0f}'} | {expected} |")
    return "\n".join(lines)


Line = tuple[Sequence[str], str, float | None, str]  # tables, command, minutes, what to expect


def _studies(folder: Path) -> Iterator[Line]:
    """The six recipes of each committed study."""
    effects, times = summary.read_table(folder, "effects"), timings.by_profile([folder / "tables"], list(PROFILES))
    primary = effects[effects["comparison"] == next(iter(BASELINES))] if len(effects) else effects
    for (dataset, profile), rows in primary.groupby(["dataset", "profile"], sort=False) if len(primary) else ():
        found = rows.set_index("metric")
        told = [
            f"{name} {summary.interval(*found.loc[metric, ['difference', 'ci_low', 'ci_high']])}"
            for metric, name in (("flicker_relative", "flicker, %:"), ("miou", "mIoU, points:"))
            if metric in found.index
        ]
        seconds = timings.whole(times[profile], summary.titles()) if profile in times else None
        minutes = seconds / 60 if seconds is not None and dataset == "procity" else None
        which = f"DATASET={dataset} PROFILE={profile}"
        sweep = f"tcseg sweep --dataset {dataset} --profile {profile}; make rows {which}"
        command = f"make study {which}" if dataset == "procity" else sweep
        yield ("ablation.csv", "effects.csv"), command, minutes, f"consistent − student, {'; '.join(told)}"


def _sweeps(folder: Path) -> Iterator[Line]:
    for name in ABLATION_SWEEPS:
        table = summary.read_table(folder, name)
        varied = table[table["recipe"].isin(VARIATIONS)] if len(table) else table
        if varied.empty:
            continue
        best = table.groupby("recipe")["miou"].mean().idxmax()
        steady = table.groupby("recipe")["flicker"].mean().idxmin()
        told = f"highest mIoU {_seeds(table, best, 'miou')}; least flicker {_seeds(table, steady, 'flicker')}"
        yield (f"{name}.csv",), f"tcseg sweep --only {name}; make rows", varied["train_seconds"].sum() / 60, told


def _seeds(table: pd.DataFrame, recipe: str, metric: str) -> str:
    """A recipe's mean in percent, with its lowest and highest seed."""
    values = 100 * table.loc[table["recipe"] == recipe, metric]
    spread = f" ({values.min():.1f} to {values.max():.1f})" if len(values) > 1 else " (one seed)"
    return f"{values.mean():.1f} %{spread}, `{recipe}`"


def _measurements(folder: Path, files: Mapping[str, Mapping[str, Mapping]]) -> Iterator[Line]:
    for name, tell in EXPECTED.items():
        table, stamp = summary.read_table(folder, name), files.get(f"tables/{name}.csv", {}).get(f"measure {name}", {})
        if len(table):
            minutes = stamp["seconds"] / 60 if "seconds" in stamp else None
            yield (f"{name}.csv",), f"tcseg measure {name}", minutes, tell(table)


def _row(table: pd.DataFrame, **wanted: object) -> pd.Series:
    """The first row with these values."""
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table.iloc[0]


def _tell_city(table: pd.DataFrame) -> str:
    value = table.set_index("name")["value"].astype(float)
    drawn = f"{value['cpu_ms_per_frame_256x128']:.0f} ms of one core to draw a frame of 256x128"
    return f"{drawn}; TC of the true labels {100 * value['tc_ceiling_256x128']:.1f} %"


def _tell_transfer(table: pd.DataFrame) -> str:
    row = _row(table, training="procity, then camvid")
    gain = summary.interval(*(row[f"gain_at_equal_camvid_steps{end}"] for end in ("", "_low", "_high")))
    return f"procity first, then CamVid: mIoU {gain} points at equal steps on CamVid ({row['seeds']} seeds)"


def _tell_coverage(table: pd.DataFrame) -> str:
    rows = table[(table["metric"] == "miou") & (table["method"] == table["method"].iloc[-1])]
    least, most = 100 * rows["coverage"].min(), 100 * rows["coverage"].max()
    return f"{rows['method'].iloc[0]}: 95 % intervals hold the truth in {least:.0f} to {most:.0f} % of cases"


def _tell_cost(table: pd.DataFrame) -> str:
    step = table.set_index("recipe")["step_ms"]
    return f"a step of `consistent` takes {step['consistent'] / step['student']:.1f} times one of `student`"


def _tell_latency(table: pd.DataFrame) -> str:
    rows = table[(table["scope"] == "end_to_end") & (table["n"] > 0) & (table["width"] == 1024)]
    best = rows.groupby("model")["p50_ms"].min().sort_values()
    return ", ".join(f"`{name}` {ms:.1f} ms" for name, ms in best.head(3).items()) + ", end to end at 1024x512"


def _tell_speeds(table: pd.DataFrame) -> str:
    row = _row(table, arch=CHOSEN["student-cpu"])
    return f"`student-cpu` {row['best_ms']:.1f} ms at {row['width']}x{row['height']} ({row['best']})"


def _tell_steadiness(table: pd.DataFrame) -> str:
    own = _row(table, recipe="consistent")
    best = table[table["filter"].notna() & (table["recipe"] == "student")].sort_values("flicker").iloc[0]
    flicker = f"flicker {100 * own['flicker']:.1f} % without a filter"
    return (
        f"`consistent`: {flicker}; the steadiest filter of `student`, {best['filter']}: {100 * best['flicker']:.1f} %"
    )


def _tell_flow(table: pd.DataFrame) -> str:
    row = _row(table[table["width"] == table["width"].max()], estimator="dis")
    return f"DIS at {row['width']}x{row['height']}: end-point error {row['epe_visible']:.2f} pixels where visible"


def _tell_precision(table: pd.DataFrame) -> str:
    small = table[table["precision"] == "int8"].groupby("model", sort=False).first()
    told = [
        f"`{name}`: mIoU {summary.interval(-row['miou_lost'], None, None)} points, "
        f"flicker {summary.interval(row['flicker_more'], None, None)} %"
        for name, row in small.iterrows()
    ]
    return "in int8, " + "; ".join(told)


def _tell_metrics(table: pd.DataFrame) -> str:
    row = _row(table, part="mIoU + TC + flicker")
    return f"{row['ms']:.1f} ms for all metrics of a frame of {row['width']}x{row['height']}"


EXPECTED: dict[str, Callable[[pd.DataFrame], str]] = {
    "procity": _tell_city,
    "transfer": _tell_transfer,
    "coverage": _tell_coverage,
    "flow": _tell_flow,
    "cost": _tell_cost,
    "metrics": _tell_metrics,
    "steadiness": _tell_steadiness,
    "precision": _tell_precision,
    "latency": _tell_latency,
    "speeds": _tell_speeds,
}
"""Measurement -> what its table should say, in a line."""


def headline(folder: Path, dataset: str = "procity", profile: str = "laptop") -> str:
    """Three numbers with what they are worth: steadiness at equal steps, the same against the longest-trained student, and time."""
    effects = summary.own_rows(summary.read_table(folder, "effects"), {"dataset": dataset, "profile": profile})
    lines = []
    for name in dict.fromkeys(("consistent_vs_student", _longest(effects))):
        found = effects[effects["comparison"] == name].set_index("metric") if name else effects[:0]
        if not {"flicker_relative", "miou"} <= set(found.index):
            continue
        flicker, miou = (
            summary.interval(*found.loc[metric, ["difference", "ci_low", "ci_high"]])
            for metric in ("flicker_relative", "miou")
        )
        against = f"against the same network trained for {summary.STEPS[name]}"
        sure = f"{int(found['seeds'].iloc[0])} paired seeds, 95 % over seeds and clips"
        lines.append(f"- **Flicker {flicker} %**, mIoU {miou} points, {against}; {sure}.")
    return "\n".join([*lines, *_fastest(summary.read_table(folder, "speeds"))])


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
