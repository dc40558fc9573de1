"""Anyone's label maps on disk -> the study's metrics: `tcseg evaluate`.

Clips are counted one at a time, in as many processes as there are cores, and only counts are kept: memory does not grow with the
number of clips. Which files belong together: `label_map_layouts`. What their values mean: `label_map_values`. Beside each number
stands over what it is: frames (or pairs of frames) and units in which something was counted, and the share of void
(`label_map_tables`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from tcseg import flow as optical_flow
from tcseg.data.images import read_header
from tcseg.errors import InputError
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
from tcseg.evaluation.label_map_values import Look, Reading, classes_of, decide, look_at, read_meta, said_by_name
from tcseg.labels import IGNORE

FLOWS = ("exact", "dis", "farneback", "raft")
UNITS = ("clip", "city")
CAMVID_LIKE = 11  # values up to this are CamVid's as well as Cityscapes' trainIds


# ------------------------------------------------------------------------------------------------ what the maps hold


def look_at_clip(clip: MapClip) -> dict[tuple[str, Path], Look]:
    """Decode all label maps of a clip, count their values, and hold their sizes against each other and the frames'.

    Raises:
        InputError: a file is damaged, no label map, or of another size; it is named.
    """
    found = {("predictions", path): look_at(path) for path in clip.predictions}
    first = found["predictions", clip.predictions[0]].shape
    require_size(clip.predictions[0], first, clip.frames[0], read_header(clip.frames[0]).size[::-1])
    for t, path in enumerate(clip.predictions):
        require_size(path, found["predictions", path].shape, clip.predictions[0], first)
        if t in clip.labels:
            found["labels", clip.labels[t]] = look_at(clip.labels[t])
            shape = found["labels", clip.labels[t]].shape
            if shape != first:
                raise InputError(
                    f"{clip.labels[t]} is {shape[1]}x{shape[0]}, but its frame and prediction are {first[1]}x{first[0]}; all "
                    "three must have one size (labels are resized to the nearest pixel, never between)"
                )
    return found


def read_as(
    looks: Mapping[tuple[str, Path], Look], predictions: Path, layout: str, classes: str | None, train_ids: bool | None
) -> tuple[dict[tuple[str, str | None], Reading], ClassTable]:
    """Decide what predictions and labels hold: by what the user says, what they say themselves, then by all values.

    Returns:
        ("predictions" or "labels", what the name says) -> reading; and the classes that are evaluated.

    Raises:
        InputError: nothing decides, or two things decide differently; the message names the option.
    """
    of = {
        what: {path: look for (kind, path), look in looks.items() if kind == what} for what in ("predictions", "labels")
    }
    meta = read_meta(of["predictions"], predictions)
    wanted = class_table(classes) if classes else CAMVID_TABLE if layout == "camvid" else None
    own, merged = classes_of(meta, wanted)
    if wanted is None:
        wanted = own or (CITYSCAPES_TABLE if layout == "cityscapes" else _not_camvid(of["labels"] or of["predictions"]))
    own = own or wanted
    if meta is None and wanted == CAMVID_TABLE and of["predictions"] and _are_cityscapes(of["predictions"]):
        own, merged = CITYSCAPES_TABLE, True
    flag = None if train_ids is None else ("trainIds" if train_ids else "ids")
    if flag and meta and meta["values"] != flag and len(own.encodings) > 1:
        raise InputError(
            f"--{flag.lower()} is against the predictions' meta.json, which says {meta['values']}; take one away"
        )
    readings = {}
    for what, paths in of.items():
        for said in dict.fromkeys(map(said_by_name, paths)):
            some = {path: look for path, look in paths.items() if said_by_name(path) == said}
            table, join = (own, merged) if what == "predictions" else (wanted, False)
            readings[what, said] = _decide(some, table, what, said, meta, flag, join)
    return readings, wanted


def _decide(some, table, what, said, meta, flag, merged) -> Reading:
    """One kind of maps: its meta.json, then the user's word, then its names, then its values."""
    if what == "predictions" and meta:
        return decide(some, table, what, meta["values"], "as meta.json beside them says", merged)
    if said and not (what == "predictions" and flag):
        return decide(some, table, what, said, "as their names say", merged)
    if flag:
        other = {"ids": "trainIds", "trainIds": "ids"}[flag]
        if what == "labels" and not _fits(some, table, flag) and _fits(some, table, other):
            return decide(some, table, what)  # the flag is about predictions
        return decide(some, table, what, flag, "as the option says", merged)
    return decide(some, table, what, merged=merged)


def _fits(some: Mapping[Path, Look], table: ClassTable, values: str) -> bool:
    return values in table.encodings and all(Reading(table, values).fits(look) for look in some.values())


def _are_cityscapes(some: Mapping[Path, Look]) -> bool:
    """Whether values are none of CamVid's, and all of Cityscapes': a network of 19 classes is held against CamVid's labels."""
    as_camvid = all(Reading(CAMVID_TABLE, "ids").fits(look) for look in some.values())
    return not as_camvid and any(_fits(some, CITYSCAPES_TABLE, values) for values in CITYSCAPES_TABLE.encodings)


def _not_camvid(some: Mapping[Path, Look]) -> ClassTable:
    """Cityscapes, where values show that it is not CamVid."""
    used = {value for look in some.values() for counts in look.counts.values() for value in np.flatnonzero(counts)}
    if max(used - {IGNORE}, default=CAMVID_LIKE + 1) <= CAMVID_LIKE:
        raise InputError(
            f"no value is above {max(used - {IGNORE})}: these may be CamVid's 11 classes or Cityscapes' trainIds; say "
            "--classes camvid, --classes cityscapes, or --classes FILE"
        )
    return CITYSCAPES_TABLE


# ------------------------------------------------------------------------------------------------ the whole


def evaluate_files(
    predictions: Path,
    frames: Path,
    labels: Path | None = None,
    layout: str = "cityscapes",
    flows: Sequence[str] = ("dis",),
    train_ids: bool | None = None,
    workers: int | None = None,
    progress: bool = False,
    *,
    classes: str | None = None,
    pacing: Pacing | None = None,
    unit: str = "clip",
    strict: bool = False,
) -> tuple[pd.DataFrame, dict]:
    """Evaluate label maps on disk.

    Args:
        predictions, frames, labels: folders of label maps, of frames, and of true label maps; without labels, only consistency
            is measured.
        layout: how files are named: "cityscapes", "camvid" or "folder".
        flows: of "dis", "farneback", "raft" and "exact" (procity alone), the best first.
        train_ids: predictions (and labels whose names say nothing) hold trainIds, or ids; None = see `label_map_values`.
        workers: processes; default `default_workers`.
        progress: show a bar.
        classes: "cityscapes", "camvid" or a file (see `class_tables`); None = as the predictions' meta.json says, else as the
            layout does.
        pacing: which frames are neighbours; None = those with consecutive numbers.
        unit: of the intervals, one of `UNITS`. Clips of one city are not independent.
        strict: what is missing is an error.

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
    for name in flows:
        if name not in FLOWS:
            raise InputError(f"flow is {name!r}; it must be one of {', '.join(FLOWS)}")
    if unit not in UNITS:
        raise InputError(f"unit is {unit!r}; it must be one of {', '.join(UNITS)}")
    predictions, flows = Path(predictions), tuple(dict.fromkeys(flows))
    if "raft" in flows:  # whose weights may not be here
        optical_flow.estimate("raft", *np.zeros((2, 128, 128, 3), np.uint8))
    matched = find_clips(predictions, Path(frames), labels and Path(labels), layout, "exact" in flows, pacing)
    clips = matched.clips
    if not labels and all(len(clip.frames) < 2 or clip.stills for clip in clips):
        raise InputError(
            f"--frames {frames} holds no two frames in a row: without --labels there is nothing to measure"
            + "".join(f" ({note})" for note in matched.notes)
        )
    problems = [*matched.problems, *_missing_instances(clips)]
    _refuse(problems if strict else [])
    bar = partial(tqdm, total=len(clips), disable=not progress, dynamic_ncols=True)
    shape = read_header(clips[0].frames[0]).size[::-1]
    looks: dict[tuple[str, Path], Look] = {}
    total = Counted({}, {}, Counter(), Counter())
    with over_clips(workers or default_workers(clips, shape, flows)) as each:
        for some in bar(each(look_at_clip, clips), "looking at all maps"):
            looks |= some
        readings, table = read_as(looks, predictions, layout, classes, train_ids)
        task = Task(readings, table, flows, alone=len(clips) == 1)
        problems += _void_labels(looks, readings)
        _refuse(problems if strict else [])
        for one in bar(each(count_files, clips, [task] * len(clips)), "counting clips"):
            total += one
    return tabulate(matched, total, task, looks, problems, bool(labels), layout, unit)


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise InputError(f"--strict: {'; '.join(problems)}")


def _void_labels(
    looks: Mapping[tuple[str, Path], Look], readings: Mapping[tuple[str, str | None], Reading]
) -> list[str]:
    """Label maps that label nothing."""
    labels = {path: look for (what, path), look in looks.items() if what == "labels"}
    empty = []
    for path, look in labels.items():
        reading = readings["labels", said_by_name(path)]
        if reading.void(look.counts[reading.channel]) == 1:
            empty.append(path)
    return [f"{len(empty)} of {len(labels)} label maps are wholly void (first: {min(empty)})"] if empty else []


def _missing_instances(clips: Sequence[MapClip]) -> list[str]:
    """Where some labels have instanceIds beside them, all should."""
    labels = [path for clip in clips for path in clip.labels.values() if said_by_name(path) in ("ids", "trainIds")]
    without = [path for path in labels if instances_beside(path) is None]
    if not without or len(without) == len(labels):
        return []
    return [f"{len(without)} of {len(labels)} label maps have no instanceIds beside them (first: {without[0]})"]
