"""Results of `tcseg evaluate` as a table, a record and text, with the number of frames behind each score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tcseg.atomic_files import write_json, write_table
from tcseg.data.clips import CAMVID_BLOCK
from tcseg.evaluation.label_map_counts import WINDOWS, Counted, Task
from tcseg.evaluation.label_map_layouts import Matched
from tcseg.evaluation.label_map_values import MapContents, encoding_in_name
from tcseg.evaluation.split_scores import OVERLAPS, SHARES, Blocks, per_block, score, summarise, summed
from tcseg.labels import IGNORE
from tcseg.metrics import intervals
from tcseg.metrics.segmentation import Overlap, Share

VISIBLE_IN_VIDEO = 0.6  # at least this share of the pixels of a video frame is visible in the next one

SEGMENTATION = ("miou", "miou_category", "miou_boundary")
INSTANCES = ("iiou", "iiou_category")
FLICKER = tuple(name for name in SHARES if name not in WINDOWS)
TC = ("tc", "tc_gap5", "tc_unmasked", "etc_compat")
TC_LABELLED = ("tc_ceiling", "tc_boundary", "tc_interior")


def tabulate(
    matched: Matched,
    total: Counted,
    task: Task,
    contents: Mapping[tuple[str, Path], MapContents],
    problems: list[str],
    labelled: bool,
    layout: str,
    unit: str,
) -> tuple[pd.DataFrame, dict]:
    """The result table and the record from the counts; see `label_map_files.evaluate_files`."""
    clips = matched.clips
    record = summarise(total.blocks) if total.blocks else summarise({"none": {}})
    whole = total.pairs["all"] == total.pairs["labelled"] and total.pairs["all"] > 0
    record["metrics"]["tc_ceiling"] = {
        flow: score("tc", summed(total.tops, f"tc_{flow}")) if whole and total.tops else None for flow in task.flows
    }
    record["metrics"]["changed"] = {
        flow: score("changed", changed_of(summed(total.blocks, f"tc_{flow}")))
        if _has(total.blocks, f"tc_{flow}")
        else None
        for flow in task.flows
    }
    record["classes"] = list(task.classes.label_set.classes)
    void = {what: _void(task, contents, what) for what in ("predictions", "labels")}
    label_files = sum(len(clip.labels) for clip in clips)
    record["data"] = {
        "layout": layout,
        "classes": task.classes.label_set.name,
        "clips": len(clips),
        "clip_cities": [clip.city for clip in clips if clip.city],
        "frames": sum(len(clip.frames) for clip in clips),
        "labelled_frames": label_files,
        "pairs": total.pairs["all"],
        "labelled_pairs": total.pairs["labelled"],
        "unit": "block" if task.alone else unit,
        "predictions": _reading_facts(task, "predictions") | {"void": void["predictions"]},
        "labels": _reading_facts(task, "labels") | {"void": void["labels"]} if label_files else None,
        "notes": list(matched.notes),
        "seen": {flow: _visible_share(total.blocks, flow) for flow in task.flows},
    }
    record["missing"] = problems
    cities = {clip.name: clip.city or clip.name for clip in clips} if unit == "city" and not task.alone else None
    table = _table(record, total, void, labelled, cities)
    record["coverage"] = _coverage(table)
    record["tc_classes"] = {flow: _class_shares(total.blocks, flow) for flow in task.flows}
    return table, record


def _void(task: Task, contents: Mapping[tuple[str, Path], MapContents], what: str) -> float | None:
    """Share of void pixels in the maps."""
    counts = np.zeros(2)
    for (kind, path), content in contents.items():
        if kind == what:
            reading = task.readings[what, encoding_in_name(path)]
            values = content.counts[reading.channel]
            counts += values[reading.to_train_ids() == IGNORE].sum(), values.sum()
    return round(float(counts[0] / counts[1]), 6) if counts[1] else None


def _reading_facts(task: Task, what: str) -> dict:
    """How the maps of a kind were read, and why."""
    some = [reading for (kind, _), reading in task.readings.items() if kind == what]
    return {
        "values": ", ".join(dict.fromkeys(one.values for one in some)),
        "channel": ", ".join(dict.fromkeys(one.channel for one in some)),
        "because": ", ".join(dict.fromkeys(one.because for one in some)),
        "merged": any(one.merged for one in some),
    }


def _has(blocks: Blocks, name: str) -> bool:
    return any(name in counts for counts in blocks.values())


def _visible_share(blocks: Blocks, flow: str) -> float | None:
    """Share of the pixels inside the next frame that are visible there."""
    if not _has(blocks, f"tc_{flow}"):
        return None
    visible, every = (float(summed(blocks, f"{name}_{flow}").labelled.sum()) for name in ("tc", "tc_unmasked"))
    return round(visible / every, 4) if every else None


def _class_shares(blocks: Blocks, flow: str) -> dict[int, float]:
    """Class -> its share of the pixels in TC."""
    if not _has(blocks, f"tc_{flow}"):
        return {}
    counts = summed(blocks, f"tc_{flow}")
    present = np.flatnonzero(~np.isnan(counts.iou()))
    return {int(k): float(counts.labelled[k] / max(counts.labelled.sum(), 1)) for k in present}


# ------------------------------------------------------------------------------------------------ the table


def changed_of(counts: Overlap) -> Share:
    """Share of visible pixels whose class changes along the flow, from the counts of TC."""
    visible = float(counts.labelled.sum())
    return Share(visible - float(counts.intersection.sum()), visible)


def _row_names(flows: Sequence[str]) -> list[tuple[str, str]]:
    """Metrics and flows in the order of the table; the metric that is easiest to interpret comes first."""
    of_flow = [(name, flow) for flow in flows for name in ("changed", *TC[:1], "tc_ceiling", *TC[1:], *TC_LABELLED[1:])]
    first = [(name, flow) for name, flow in of_flow if name == "changed"]
    rest = [(name, flow) for name, flow in of_flow if name != "changed"]
    return [*first, *((name, "") for name in (*OVERLAPS, *FLICKER, *WINDOWS)), *rest]


def _table(
    record: dict,
    total: Counted,
    void: Mapping[str, float | None],
    labelled: bool,
    cities: Mapping[str, str] | None,
) -> pd.DataFrame:
    """Each metric with its interval over clips (or cities) and its coverage, or the reason why it cannot be computed."""
    rows = []
    for name, flow in _row_names(list(record["metrics"]["changed"])):
        source = "tc" if name == "changed" else name
        key = f"{source}_{flow}" if flow else name
        row = {"metric": name, "flow": flow, "frames": total.frames.get(key, 0), "units": 0}
        row["void"] = void["predictions"] if name in ("changed", *TC) else void["labels"]
        if name == "tc_ceiling":
            row |= _ceiling_row(record["metrics"]["tc_ceiling"][flow], total, flow)
        elif _has(total.blocks, key):
            row |= _number(name, key, total.blocks, cities)
        if row.get("value") is None or np.isnan(row["value"]):
            row |= {"value": None, "void": None, "why": _why(name, record["data"], labelled)}
        rows.append(row)
    columns = ["metric", "flow", "value", "ci_low", "ci_high", "frames", "units", "void", "why"]
    return pd.DataFrame(rows).reindex(columns=columns)


def _number(name: str, key: str, blocks: Blocks, cities: Mapping[str, str] | None) -> dict:
    """A metric's value, its interval, and the number of units with counted pixels."""
    some = {block: counts for block, counts in blocks.items() if key in counts}
    if name == "changed":
        some = {block: {key: changed_of(counts[key])} for block, counts in some.items()}
    value = score("flicker" if name == "changed" else name, summed(some, key))
    counts = per_block(some, key)
    if cities is not None:
        counts = intervals.by_cluster(counts, [cities[block] for block in some])
    entry = {"value": value, "units": intervals.counted_units(counts)}
    if name != "etc_compat":  # it is not a ratio of summed counts
        _, entry["ci_low"], entry["ci_high"] = intervals.clip_interval(counts)
    return entry


def _ceiling_row(value: float | None, total: Counted, flow: str) -> dict:
    counted = total.frames.get(f"tc_{flow}", 0) if value is not None else 0
    return {"value": value, "frames": counted, "units": len(total.tops) if value is not None else 0}


def _why(name: str, data: Mapping, labelled: bool) -> str:
    """Why a metric cannot be computed from the data."""
    if name in INSTANCES and labelled:
        return (
            "the labels have no instanceIds files" if data["classes"] == "cityscapes" else "these classes have no instances"
        )
    if name == "miou_category" and labelled and data["classes"] != "cityscapes":
        return "these classes have no categories"
    if name in (*SEGMENTATION, *INSTANCES, *FLICKER, *WINDOWS) and not data["labelled_frames"]:
        return "no labels"
    if name in SEGMENTATION:
        return "all labels are void"
    if not data["pairs"]:
        return "the frames are stills" if any("stills" in note for note in data["notes"]) else "there are no neighbouring frames"
    if name in (*TC_LABELLED, *FLICKER, *WINDOWS) and not data["labelled_frames"]:
        return "no labels"
    if name == "tc_ceiling":
        return f"{data['labelled_pairs']} of {data['pairs']} pairs have labels on both frames"
    if name in WINDOWS and data["labelled_pairs"]:
        return f"no {name.removeprefix('vc').removesuffix('_right')} consecutive frames have labels"
    if data["labels"] and data["labels"]["void"] == 1:
        return "all labels are void"
    if name in (*TC_LABELLED, *FLICKER, *WINDOWS) and not data["labelled_pairs"]:
        return "no neighbouring frames both have labels"
    return (
        "no clip is long enough"
        if name == "tc_gap5"
        else "no pixel of a class is visible in both frames"
    )


def _coverage(table: pd.DataFrame) -> dict[str, dict]:
    """Metric (and flow) -> its frames, units, void and why from the table."""
    entry = {}
    for row in table.to_dict("records"):
        key = "_".join(filter(None, (row["metric"], row["flow"])))
        entry[key] = {name: None if pd.isna(row[name]) else row[name] for name in ("frames", "units", "void", "why")}
    return entry


# ------------------------------------------------------------------------------------------------ text


def write(out: Path, table: pd.DataFrame, record: dict) -> None:
    """Write metrics.csv and metrics.json atomically."""
    write_table(out / "metrics.csv", table)
    write_json(out / "metrics.json", record)


def as_text(table: pd.DataFrame, record: dict) -> str:
    """The report for a terminal: input, table in percent, IoU by class, how to interpret the numbers, and missing files."""
    data = record["data"]
    parts = [_header(record), _numbers(table)]
    if "iou" in record["per_class"]:
        pairs = zip(record["classes"], record["per_class"]["iou"], strict=True)
        parts.append("IoU: " + ", ".join(f"{name} {'-' if iou is None else f'{100 * iou:.1f}'}" for name, iou in pairs))
    parts += [*_tc_classes(record), _cautions(record), _units(table, data)]
    if record["missing"]:
        parts.append(
            "MISSING FILES (an error with --strict):\n" + "\n".join(f"  {problem}" for problem in record["missing"])
        )
    return "\n\n".join(filter(None, parts))


def _header(record: dict) -> str:
    data = record["data"]
    lines = [f"classes:     {data['classes']} ({len(record['classes'])})"]
    for what in ("predictions", "labels"):
        if (reading := data[what]) is not None:
            count = data["frames"] if what == "predictions" else f"{data['labelled_frames']} of {data['frames']}"
            channel = {"grey": "", "red": ", red channel", "panoptic": ", instance ids / 1000"}.get(reading["channel"], "")
            merged = ", merged from Cityscapes' 19 classes" if reading["merged"] else ""
            void = "-" if reading["void"] is None else f"{reading['void']:.1%}"
            lines.append(
                f"{what + ':':<12} {reading['values']}{channel}{merged} ({reading['because']}); {count} frames, {void} void"
            )
    return "\n".join([*lines, *(f"neighbours:  {note}" for note in data["notes"])])


def _numbers(table: pd.DataFrame) -> str:
    percent = table[table["value"].notna()].drop(columns="why")
    percent = percent.assign(**{name: 100 * percent[name].astype(float) for name in ("value", "ci_low", "ci_high", "void")})
    text = percent.to_string(index=False, float_format=lambda value: f"{value:.2f}", na_rep="-")
    absent = table[table["value"].isna()]
    reasons = [f"  {why}: {_names(rows)}" for why, rows in absent.groupby("why", sort=False)]
    return text + ("\n\nnot measured:\n" + "\n".join(reasons) if reasons else "")


def _names(rows: pd.DataFrame) -> str:
    return ", ".join(dict.fromkeys(rows["metric"]))


def _tc_classes(record: dict) -> list[str]:
    """Sentences about the classes in TC and their shares of the pixels."""
    sentences = []
    for flow, shares in record["tc_classes"].items():
        if shares:
            ordered = sorted(shares.items(), key=lambda item: -item[1])
            names = ", ".join(f"{record['classes'][k]} {_percent(share)}" for k, share in ordered)
            sentences.append(
                f"TC ({flow}) is the unweighted mean over {len(shares)} classes; their shares of the pixels are: {names}"
            )
    return sentences


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "<0.1%"


def _cautions(record: dict) -> str:
    """Notes about how to interpret the numbers."""
    lines = []
    if any(record["tc_classes"].values()):
        lines.append(
            "`changed` is the share of visible pixels whose class changes along the flow. It includes true changes, "
            "flow errors and "
            "flicker. In TC, rare classes have the same weight as road, so TC may rank two networks differently."
        )
    if not record["data"]["labelled_frames"]:
        lines.append(
            "Without labels, these numbers do not measure accuracy: a constant map has changed 0 and TC 100. "
            "Compare only networks whose accuracy you know."
        )
    for flow, visible in record["data"]["seen"].items():
        if visible is not None and visible < VISIBLE_IN_VIDEO:
            lines.append(
                f"Only {visible:.0%} of the pixels are visible in the next frame ({flow}). If the frames are stills, "
                "pass --stills; "
                "if the scene changes, put each scene into its own folder."
            )
    return "\n".join(lines)


def _units(table: pd.DataFrame, data: Mapping) -> str:
    """A sentence about the units of the intervals."""
    most = int(table["units"].max())
    if data["unit"] == "block":
        about = f"blocks of {CAMVID_BLOCK} frames of one clip, so they apply to this clip only"
    elif data["unit"] == "city":
        about = "cities"
    else:
        about = f"clips; {data['clips']} clips, {data['frames']} frames"
    if most < 2:
        return f"Values are in percent. There are no intervals because there is only one unit. {data['frames']} frames."
    text = f"Values are in percent, with 95 % intervals over the units with counted pixels: {about}."
    of_few = intervals.scope(data["clip_cities"]) if data["unit"] == "clip" else ""
    other = "For other cities, pass --unit city." if len(set(data["clip_cities"])) > 1 else ""
    return " ".join(filter(None, (text, of_few, other if of_few else "")))
