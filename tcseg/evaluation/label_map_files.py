"""Evaluate label maps on disk with the metrics of the study (`tcseg evaluate`).

Clips are counted one at a time, in as many processes as there are cores, and only counts are kept: memory does not grow with the
number of clips. Which files belong together: `label_map_layouts`. What their values mean: `label_map_values`. Beside each number
stands over what it is: frames (or pairs of frames) and units in which something was counted, and the share of void
(`label_map_tables`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from tcseg import flow as optical_flow
from tcseg.data.images import read_header
from tcseg.errors import InputError, read_options, require_one_of
from tcseg.evaluation.class_tables import CAMVID_TABLE, CITYSCAPES_TABLE, ClassTable, class_table
from tcseg.evaluation.label_map_counts import (
    Counted,
    Task,
    count_files,
    default_workers,
    instances_beside,
    over_clips,
    require_size,
)
from tcseg.evaluation.label_map_layouts import MapClip, Pacing, find_clips
from tcseg.evaluation.label_map_tables import tabulate
from tcseg.evaluation.label_map_values import (
    MapContents,
    Reading,
    classes_of,
    decide,
    encoding_in_name,
    inspect_map,
    read_meta,
)
from tcseg.labels import IGNORE

FLOWS = ("exact", "dis", "farneback", "raft")
UNITS = ("clip", "city")
CAMVID_LIKE = 11  # values up to this are CamVid's as well as Cityscapes' trainIds


# ------------------------------------------------------------------------------------------------ what the maps hold


def inspect_clip(clip: MapClip) -> dict[tuple[str, Path], MapContents]:
    """Decode all label maps of a clip, count their values, and hold their sizes against each other and the frames'.

    Raises:
        InputError: a file is damaged, no label map, or of another size; it is named.
    """
    contents = {("predictions", path): inspect_map(path) for path in clip.predictions}
    first = contents["predictions", clip.predictions[0]].shape
    require_size(clip.predictions[0], first, clip.frames[0], read_header(clip.frames[0]).size[::-1])
    for t, path in enumerate(clip.predictions):
        require_size(path, contents["predictions", path].shape, clip.predictions[0], first)
        if t in clip.labels:
            contents["labels", clip.labels[t]] = inspect_map(clip.labels[t])
            shape = contents["labels", clip.labels[t]].shape
            if shape != first:
                raise InputError(
                    f"{clip.labels[t]} is {shape[1]}x{shape[0]}, but its frame and prediction are {first[1]}x{first[0]}; all "
                    "three must have one size (labels are resized to the nearest pixel, never between)"
                )
    return contents


def read_as(
    contents: Mapping[tuple[str, Path], MapContents], predictions: Path, layout: str, classes: str | None, train_ids: bool | None
) -> tuple[dict[tuple[str, str | None], Reading], ClassTable]:
    """Decide what predictions and labels hold: by what the user says, what they say themselves, then by all values.

    Returns:
        ("predictions" or "labels", what the name says) -> reading; and the classes that are evaluated.

    Raises:
        InputError: nothing decides, or two things decide differently; the message names the option.
    """
    of = {
        what: {path: content for (kind, path), content in contents.items() if kind == what} for what in ("predictions", "labels")
    }
    meta = read_meta(of["predictions"], predictions)
    target = class_table(classes) if classes else CAMVID_TABLE if layout == "camvid" else None
    own, merged = classes_of(meta, target)
    if target is None:
        target = own or (CITYSCAPES_TABLE if layout == "cityscapes" else _not_camvid(of["labels"] or of["predictions"]))
    own = own or target
    if meta is None and target == CAMVID_TABLE and of["predictions"] and _are_cityscapes(of["predictions"]):
        own, merged = CITYSCAPES_TABLE, True
    flag = None if train_ids is None else ("trainIds" if train_ids else "ids")
    if flag and meta and meta["values"] != flag and len(own.encodings) > 1:
        raise InputError(
            f"--{flag.lower()} is against the predictions' meta.json, which says {meta['values']}; take one away"
        )
    readings = {}
    for what, paths in of.items():
        for stated in dict.fromkeys(map(encoding_in_name, paths)):
            some = {path: content for path, content in paths.items() if encoding_in_name(path) == stated}
            table, join = (own, merged) if what == "predictions" else (target, False)
            readings[what, stated] = _decide(some, table, what, stated, meta, flag, join)
    return readings, target


def _decide(some, table, what, stated, meta, flag, merged) -> Reading:
    """One kind of maps: its meta.json, then the user's word, then its names, then its values."""
    if what == "predictions" and meta:
        return decide(some, table, what, meta["values"], "as meta.json beside them says", merged)
    if stated and not (what == "predictions" and flag):
        return decide(some, table, what, stated, "as their names say", merged)
    if flag:
        other = {"ids": "trainIds", "trainIds": "ids"}[flag]
        if what == "labels" and not _fits(some, table, flag) and _fits(some, table, other):
            return decide(some, table, what)  # the flag is about predictions
        return decide(some, table, what, flag, "as the option says", merged)
    return decide(some, table, what, merged=merged)


def _fits(some: Mapping[Path, MapContents], table: ClassTable, values: str) -> bool:
    return values in table.encodings and all(Reading(table, values).fits(content) for content in some.values())


def _are_cityscapes(some: Mapping[Path, MapContents]) -> bool:
    """Whether values are none of CamVid's, and all of Cityscapes': a network of 19 classes is held against CamVid's labels."""
    as_camvid = all(Reading(CAMVID_TABLE, "ids").fits(content) for content in some.values())
    return not as_camvid and any(_fits(some, CITYSCAPES_TABLE, values) for values in CITYSCAPES_TABLE.encodings)


def _not_camvid(some: Mapping[Path, MapContents]) -> ClassTable:
    """Cityscapes, where values show that it is not CamVid."""
    used = {value for content in some.values() for counts in content.counts.values() for value in np.flatnonzero(counts)}
    if max(used - {IGNORE}, default=CAMVID_LIKE + 1) <= CAMVID_LIKE:
        raise InputError(
            f"no value is above {max(used - {IGNORE})}: these may be CamVid's 11 classes or Cityscapes' trainIds; say "
            "--classes camvid, --classes cityscapes, or --classes FILE"
        )
    return CITYSCAPES_TABLE


# ------------------------------------------------------------------------------------------------ the whole


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of `evaluate_files`.

    Attributes:
        flows: of `FLOWS`, the best first.
        train_ids: predictions (and labels whose names say nothing) hold trainIds, or ids; None = see `label_map_values`.
        classes: "cityscapes", "camvid" or a file (see `class_tables`); None = as the predictions' meta.json says, else as the
            layout does.
        pacing: which frames are neighbours.
        unit: of the intervals, one of `UNITS`. Clips of one city are not independent.
        strict: what is missing is an error.
        workers: processes; default `default_workers`.
        progress: show a bar.
    """

    flows: Sequence[str] = ("dis",)
    train_ids: bool | None = None
    classes: str | None = None
    pacing: Pacing | None = None
    unit: str = "clip"
    strict: bool = False
    workers: int | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        for name in self.flows:
            require_one_of("flow", name, FLOWS)
        require_one_of("unit", self.unit, UNITS)
        object.__setattr__(self, "flows", tuple(dict.fromkeys(self.flows)))


def evaluate_files(
    predictions: Path, frames: Path, labels: Path | None = None, layout: str = "cityscapes", **options: object
) -> tuple[pd.DataFrame, dict]:
    """Evaluate label maps on disk.

    Args:
        predictions, frames, labels: folders of label maps, of frames, and of true label maps; without labels, only consistency
            is measured.
        layout: how files are named: "cityscapes", "camvid" or "folder".
        options: fields of `EvaluationOptions`, such as `flows=("exact", "dis")`, `classes="camvid"`.

    Returns:
        A table (metric, flow, value, ci_low, ci_high, frames, units, void, why; shares 0..1), and a record as a run has:
        metrics, per_class, per_clip; and data, coverage, missing.

    Raises:
        NotFoundError, InputError: what is missing or wrong, by name.

    Example:
        >>> done = tcseg.segment_video(video, None, labels=folder / "maps", progress=False)
        >>> table, record = tcseg.evaluate_files(folder / "maps", frames=video, layout="folder", workers=1)
        >>> table["metric"][0], bool(0 <= table["value"][0] <= 1)  # without labels: steadiness alone
        ('changed', True)
    """
    chosen = read_options(EvaluationOptions, options)
    predictions, frames, labels = Path(predictions), Path(frames), labels and Path(labels)
    if "raft" in chosen.flows:  # whose weights may not be here
        optical_flow.estimate("raft", *np.zeros((2, 128, 128, 3), np.uint8))
    matched = find_clips(predictions, frames, labels, layout, "exact" in chosen.flows, chosen.pacing)
    if not labels and all(len(clip.frames) < 2 or clip.stills for clip in matched.clips):
        raise InputError(
            f"--frames {frames} holds no two frames in a row: without --labels there is nothing to measure"
            + "".join(f" ({note})" for note in matched.notes)
        )
    problems = [*matched.problems, *_missing_instances(matched.clips)]
    _refuse(problems if chosen.strict else [])
    total, task, contents = _read_and_count(matched.clips, predictions, layout, chosen, problems)
    return tabulate(matched, total, task, contents, problems, bool(labels), layout, chosen.unit)


def _read_and_count(
    clips: Sequence[MapClip], predictions: Path, layout: str, options: EvaluationOptions, problems: list[str]
) -> tuple[Counted, Task, dict[tuple[str, Path], MapContents]]:
    """All maps twice: what values they hold, then the counts; what is wrong with them is added to `problems`."""
    bar = partial(tqdm, total=len(clips), disable=not options.progress, dynamic_ncols=True)
    shape = read_header(clips[0].frames[0]).size[::-1]
    contents: dict[tuple[str, Path], MapContents] = {}
    total = Counted({}, {}, Counter(), Counter())
    with over_clips(options.workers or default_workers(clips, shape, options.flows)) as each:
        for some in bar(each(inspect_clip, clips), "looking at all maps"):
            contents |= some
        readings, table = read_as(contents, predictions, layout, options.classes, options.train_ids)
        task = Task(readings, table, options.flows, alone=len(clips) == 1)
        problems += _void_labels(contents, readings)
        _refuse(problems if options.strict else [])
        for one in bar(each(count_files, clips, [task] * len(clips)), "counting clips"):
            total += one
    return total, task, contents


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise InputError(f"--strict: {'; '.join(problems)}")


def _void_labels(
    contents: Mapping[tuple[str, Path], MapContents], readings: Mapping[tuple[str, str | None], Reading]
) -> list[str]:
    """Label maps that label nothing."""
    labels = {path: content for (what, path), content in contents.items() if what == "labels"}
    empty = []
    for path, content in labels.items():
        reading = readings["labels", encoding_in_name(path)]
        if reading.void(content.counts[reading.channel]) == 1:
            empty.append(path)
    return [f"{len(empty)} of {len(labels)} label maps are wholly void (first: {min(empty)})"] if empty else []


def _missing_instances(clips: Sequence[MapClip]) -> list[str]:
    """Where some labels have instanceIds beside them, all should."""
    labels = [path for clip in clips for path in clip.labels.values() if encoding_in_name(path) in ("ids", "trainIds")]
    without = [path for path in labels if instances_beside(path) is None]
    if not without or len(without) == len(labels):
        return []
    return [f"{len(without)} of {len(labels)} label maps have no instanceIds beside them (first: {without[0]})"]
