"""How to make each committed table again: the command, the minutes it took, what should come out; and whether it came out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from tcseg.models.students import CHOSEN
from tcseg.study.comparisons import BASELINES
from tcseg.study.notebooks import timings
from tcseg.study.paths import FIGURES
from tcseg.study.recipes import ABLATION_SWEEPS, VARIATIONS
from tcseg.study.report import effect_sentences, summary
from tcseg.study.study import PROFILES

Line = tuple[Sequence[str], str, float | None, str]
"""Tables, command, minutes, what to expect."""


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


def _studies(folder: Path) -> Iterator[Line]:
    """The six recipes of each committed study."""
    effects, times = summary.read_table(folder, "effects"), timings.by_profile([folder / "tables"], list(PROFILES))
    primary = effects[effects["comparison"] == next(iter(BASELINES))] if len(effects) else effects
    for dataset, profile in summary.studies(primary):
        rows = summary.own_rows(primary, {"dataset": dataset, "profile": profile})
        found = rows.set_index("metric")
        told = [
            f"{name} {effect_sentences.interval(*found.loc[metric, ['difference', 'ci_low', 'ci_high']])}"
            for metric, name in (("flicker_relative", "flicker, %:"), ("miou", "mIoU, points:"))
            if metric in found.index
        ]
        which = f"DATASET={dataset} PROFILE={profile}"
        if dataset == "procity":
            command = f"make study {which}"
            seconds = timings.whole(times[profile], summary.titles()) if profile in times else None
        else:
            command = f"tcseg sweep --dataset {dataset} --profile {profile}; make rows {which}"
            seconds = _trained(folder, dataset, profile)
        minutes = None if seconds is None else seconds / 60
        seeds = effect_sentences.seed_count(rows["seeds"].iloc[0])
        yield ("ablation.csv", "effects.csv"), command, minutes, f"consistent − student, {'; '.join(told)} ({seeds})"


def _trained(folder: Path, dataset: str, profile: str) -> float | None:
    """Seconds that the runs of an ablation took to train."""
    table = summary.own_rows(summary.read_table(folder, "ablation"), {"dataset": dataset, "profile": profile})
    runs = table.drop_duplicates("run_id") if "run_id" in table else table
    return runs["train_seconds"].sum() if len(runs) else None


def _sweeps(folder: Path) -> Iterator[Line]:
    for name in ABLATION_SWEEPS:
        table = summary.read_table(folder, name)
        for dataset, rows in table.groupby("dataset", sort=False) if len(table) else ():
            varied = rows[rows["recipe"].isin(VARIATIONS)]
            if varied.empty:
                continue
            best = rows.groupby("recipe")["miou"].mean().idxmax()
            told = f"highest mIoU {_seeds(rows, best, 'miou')}"
            if rows["flicker"].notna().any():  # Cityscapes has none
                steady = rows.groupby("recipe")["flicker"].mean().idxmin()
                told += f"; least flicker {_seeds(rows, steady, 'flicker')}"
            which = ("", "") if dataset == "procity" else (f" --dataset {dataset}", f" DATASET={dataset}")
            command = f"tcseg sweep --only {name}{which[0]}; make rows{which[1]}"
            yield (f"{name}.csv",), command, varied["train_seconds"].sum() / 60, told


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


def compare(folder: Path, committed: Path = FIGURES) -> pd.DataFrame:
    """What a study's networks score beside the committed ones of the same data, profile, recipe and seed.

    Args:
        folder: The study's. A record that was itself committed is not compared with itself; nor are frames of another size, or
            a recipe that has changed.
        committed: figures/.

    Returns:
        A row a network: whose it is, both machines and numbers of threads, both mIoUs, flickers and TCs (DIS flow), and whether
        all metrics are equal to the last digit. Empty where the two have no network in common.
    """
    known = {_identity(record): record for record in _records(committed / "runs", "*.json")}
    rows = []
    for record in _records(folder / "runs", "*/record.json"):
        theirs = known.get(_identity(record))
        asked = ("recipe", "data_key")
        if theirs is None or theirs["finished"] == record["finished"] or any(theirs[k] != record[k] for k in asked):
            continue
        row = dict(zip(("dataset", "profile", "recipe", "seed"), _identity(record), strict=True))
        for end, one in (("", record), ("_committed", theirs)):
            row |= {f"machine{end}": one["machine"]["cpu"], f"threads{end}": one["cost"].get("threads")}
            row |= {f"{name}{end}": one["metrics"][name] for name in ("miou", "flicker")}
            row[f"tc_dis{end}"] = one["metrics"]["tc"].get("dis")
        rows.append(row | {"equal": record["metrics"] == theirs["metrics"]})
    return pd.DataFrame(rows)


def _records(folder: Path, pattern: str) -> list[dict]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(pattern))]


def _identity(record: Mapping) -> tuple[str, str, str, int]:
    return record["dataset"], record["profile"], record["recipe_name"], record["seed"]


def verdict(table: pd.DataFrame) -> str:
    """A sentence a machine on `compare`'s table; empty where nothing was compared."""
    machines = table.groupby("machine", sort=False) if len(table) else ()
    return " ".join(_verdict(machine, rows) for machine, rows in machines)


def _verdict(machine: str, table: pd.DataFrame) -> str:
    equal = f"{table['equal'].sum()} of {len(table)} networks trained on {machine} score as the committed ones, to the last digit"
    if table["equal"].all():
        return f"{equal}."
    others = table[~table["equal"]]
    differ = (others["miou"] - others["miou_committed"]).abs()
    far = others.loc[differ.idxmax()]
    threads = f"{far['threads']} threads, committed {far['threads_committed']} of {far['machine_committed']}"
    which = f"{far['recipe']} seed {far['seed']}; {threads}"
    return f"{equal}; the largest difference is {100 * differ.max():.1f} points of mIoU ({which})."


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
    gain = effect_sentences.interval(*(row[f"gain_at_equal_camvid_steps{end}"] for end in ("", "_low", "_high")))
    return (
        f"procity first, then CamVid: mIoU {gain} points at equal steps on CamVid ({effect_sentences.seed_count(row['seeds'])})"
    )


FROM = 24  # clips: as procity's val has at laptop


def _tell_coverage(table: pd.DataFrame) -> str:
    rows = table[table["units"] == "clips"]
    ours = rows[rows["method"] == rows["method"].iloc[-1]]  # the study's own, after all that it was held against
    held = 100 * ours.groupby("metric", sort=False)["coverage"].agg(["min", "max"])
    told = [
        f"{effect_sentences.METRIC_NAMES.get(name, name).split(',')[0]} {least:.0f} to {most:.0f} %"
        for name, least, most in held.itertuples()
    ]
    clips = f"{ours['clusters'].min()} to {ours['clusters'].max()} clips"
    few = ours[ours["clusters"] >= FROM]["coverage"].min()
    return (
        f"95 % intervals over {clips} hold the truth, of a network or a difference: {', '.join(told)} of cases "
        f"(from {FROM} clips on at least {100 * few:.0f} %)"
    )


def _tell_cost(table: pd.DataFrame) -> str:
    step = table[table["threads"] == table["threads"].min()].set_index("recipe")["step_ms"]
    return f"a step of `consistent` takes {step['consistent'] / step['student']:.1f} times one of `student`"


def _tell_latency(table: pd.DataFrame) -> str:
    rows = table[(table["scope"] == "end_to_end") & (table["n"] > 0) & (table["width"] == 1024)]
    best = rows.groupby("model")["p50_ms"].min().sort_values()
    return ", ".join(f"`{name}` {ms:.1f} ms" for name, ms in best.head(3).items()) + ", end to end at 1024x512"


def _tell_gpu(table: pd.DataFrame) -> str:
    rows = table[(table["scope"] == "end_to_end") & (table["precision"] == "fp16") & (table["n"] > 0)]
    rows = rows[rows["width"] == rows["width"].max()].sort_values("p50_ms")
    best, first = rows.groupby("model", sort=False)["p50_ms"].min(), rows.iloc[0]
    told = ", ".join(f"`{name}` {ms:.2f} ms" for name, ms in best.head(3).items())
    return f"{told}, end to end at {first['width']}x{first['height']} in fp16 ({first['machine']})"


def _tell_speeds(table: pd.DataFrame) -> str:
    row = _row(table, arch=CHOSEN["student-cpu"])
    return f"`student-cpu` {row['best_ms']:.1f} ms at {row['width']}x{row['height']} ({row['best']})"


def _tell_layouts(table: pd.DataFrame) -> str:
    own = table[table["model"] == "student-cpu"]
    told = [f"{one.runtime} {one.precision} {effect_sentences.interval(one.gain, None, None)} %" for one in own.itertuples()]
    return f"`student-cpu` with its channels last is faster than in planes by: {', '.join(told)}"


def _tell_half_resolution(table: pd.DataFrame) -> str:
    row = table[table["seen"] < table["width"]].sort_values("p50_ms").iloc[0]
    time = f"{row['width']}x{row['height']} seen at half of it: {row['p50_ms']:.1f} ms, p99 {row['p99_ms']:.1f}"
    changed = effect_sentences.interval(*(row[f"thin_{end}"] for end in ("changed", "low", "high")))
    seeds = effect_sentences.seed_count(row["seeds"])
    return f"{time}; IoU of thin things {changed} points against the whole ({seeds}), which learns from tiles with less context"


def _tell_pipeline(table: pd.DataFrame) -> str:
    row = table[table["width"] == table["width"].max()].sort_values("pipeline").iloc[-1]
    rate = f"`{row['model']}`, {row['width']}x{row['height']}: {row['pipeline']:.0f} frames a second from file to file"
    slower = f"{100 * row['share']:.0f} % of the slower of decoding and network"
    return f"{rate} ({row['runtime']}), {slower}, {100 * row['share_of_possible']:.0f} % of what {row['threads']} cores allow"


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
    small = table[table["precision"] == "int8"].groupby("model", sort=False)[["miou_lost", "flicker_more"]].max()
    told = [
        f"`{name}`: mIoU {effect_sentences.interval(-row['miou_lost'], None, None)} points, "
        f"flicker {effect_sentences.interval(row['flicker_more'], None, None)} %"
        for name, row in small.iterrows()
    ]
    return "in int8, the worse of both runtimes: " + "; ".join(told)


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
    "gpu": _tell_gpu,
    "speeds": _tell_speeds,
    "layouts": _tell_layouts,
    "half_resolution": _tell_half_resolution,
    "pipeline": _tell_pipeline,
}
"""Measurement -> what its table should say, in a line."""
