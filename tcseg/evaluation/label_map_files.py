"""Evaluate label maps on disk with the metrics of the study (`tcseg evaluate`).

Each process counts one clip at a time and keeps only the counts, so memory does not grow with the number of clips.
`label_map_layouts` matches the files, `label_map_values` finds out what their values mean, `label_map_counts` counts, and
`label_map_tables` reports each score with the number of frames and units behind it and the share of void pixels.
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
from tcseg.data.class_tables import CAMVID_TABLE, CITYSCAPES_TABLE, ClassTable, class_table
from tcseg.data.images import read_header
from tcseg.errors import InputError, read_options, require_one_of
from tcseg.evaluation.label_map_counts import (
    Counted,
    Task,
    count_files,
    default_workers,
    instances_file,
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
CAMVID_LIKE = 11  # values up to this are valid both for CamVid and as Cityscapes' trainIds


# ------------------------------------------------------------------------------------------------ what the maps hold


def inspect_clip(clip: MapClip) -> dict[tuple[str, Path], MapContents]:
    """Decode all label maps of a clip, count their values, and compare their sizes with each other and with the frames.

    Raises:
        InputError: a file is damaged, is not a label map, or has another size; the message names it.
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
                    "three must have the same size (resize labels with nearest-neighbour interpolation)"
                )
    return contents


def read_as(
    contents: Mapping[tuple[str, Path], MapContents], predictions: Path, layout: str, classes: str | None, train_ids: bool | None
) -> tuple[dict[tuple[str, str | None], Reading], ClassTable]:
    """Decide how to read predictions and labels: from the options, from meta.json and file names, then from all values.

    Returns:
        ("predictions" or "labels", encoding in the file name) -> reading; and the classes to evaluate.

    Raises:
        InputError: the encoding is ambiguous or contradictory; the message names the option that decides.
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
            f"--{'train-ids' if train_ids else 'ids'} contradicts the predictions' meta.json, which says that they hold "
            f"{meta['values']}; omit the option or correct meta.json"
        )
    readings = {}
    for what, paths in of.items():
        for stated in dict.fromkeys(map(encoding_in_name, paths)):
            some = {path: content for path, content in paths.items() if encoding_in_name(path) == stated}
            table, join = (own, merged) if what == "predictions" else (target, False)
            readings[what, stated] = _decide(some, table, what, stated, meta, flag, join)
    return readings, target


def _decide(some, table, what, stated, meta, flag, merged) -> Reading:
    """How to read one kind of maps. meta.json comes first, then the option and the file names, then the values."""
    if what == "predictions" and meta:
        return decide(some, table, what, meta["values"], "stated by their meta.json", merged)
    if stated and not (what == "predictions" and flag):
        return decide(some, table, what, stated, "stated by their file names", merged)
    if flag:
        other = {"ids": "trainIds", "trainIds": "ids"}[flag]
        if what == "labels" and not _fits(some, table, flag) and _fits(some, table, other):
            return decide(some, table, what)  # the option describes the predictions
        return decide(some, table, what, flag, "stated by the option", merged)
    return decide(some, table, what, merged=merged)


def _fits(some: Mapping[Path, MapContents], table: ClassTable, values: str) -> bool:
    return values in table.encodings and all(Reading(table, values).fits(content) for content in some.values())


def _are_cityscapes(some: Mapping[Path, MapContents]) -> bool:
    """Whether the values fit Cityscapes but not CamVid, as when a 19-class network is compared with CamVid's labels."""
    as_camvid = all(Reading(CAMVID_TABLE, "ids").fits(content) for content in some.values())
    return not as_camvid and any(_fits(some, CITYSCAPES_TABLE, values) for values in CITYSCAPES_TABLE.encodings)


def _not_camvid(some: Mapping[Path, MapContents]) -> ClassTable:
    """The Cityscapes table, if the values cannot be CamVid's."""
    used = {value for content in some.values() for counts in content.counts.values() for value in np.flatnonzero(counts)}
    if max(used - {IGNORE}, default=CAMVID_LIKE + 1) <= CAMVID_LIKE:
        raise InputError(
            f"the largest value is {max(used - {IGNORE})}, so the maps may hold CamVid's 11 classes or Cityscapes' trainIds; "
            "pass --classes camvid, --classes cityscapes or --classes FILE"
        )
    return CITYSCAPES_TABLE


# ------------------------------------------------------------------------------------------------ the whole


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of `evaluate_files`.

    Attributes:
        flows: names from `FLOWS`, the best first.
        train_ids: whether predictions (and labels without an encoding in their names) hold trainIds (True) or ids (False); None =
            detect it, see `label_map_values`.
        classes: "cityscapes", "camvid" or a file (see `class_tables`); None = from the predictions' meta.json, else from the
            layout.
        pacing: which frames are neighbours.
        unit: the unit of the confidence intervals, one of `UNITS`. Clips of one city are not independent.
        strict: raise an error if a file is missing.
        workers: number of processes; default `default_workers`.
        progress: show a progress bar.
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
        predictions, frames, labels: folders of label maps, frames and true label maps. Without labels, only temporal consistency
            is measured.
        layout: the naming scheme of the files: "cityscapes", "camvid" or "folder".
        options: fields of `EvaluationOptions`, such as `flows=("exact", "dis")`, `classes="camvid"`.

    Returns:
        A table (metric, flow, value, ci_low, ci_high, frames, units, void, why; shares in 0..1), and a record with the keys of a
        run (metrics, per_class, per_clip) and data, coverage, missing.

    Raises:
        NotFoundError, InputError: a file is missing or invalid; the message names it.

    Example:
        >>> done = tcseg.segment_video(video, None, labels=folder / "maps", progress=False)
        >>> table, record = tcseg.evaluate_files(folder / "maps", frames=video, layout="folder", workers=1)
        >>> table["metric"][0], bool(0 <= table["value"][0] <= 1)  # without labels: steadiness alone
        ('changed', True)
    """
    chosen = read_options(EvaluationOptions, options)
    predictions, frames, labels = Path(predictions), Path(frames), labels and Path(labels)
    if "raft" in chosen.flows:  # fail now if its weights are not installed
        optical_flow.estimate("raft", *np.zeros((2, 128, 128, 3), np.uint8))
    matched = find_clips(predictions, frames, labels, layout, "exact" in chosen.flows, chosen.pacing)
    if not labels and all(len(clip.frames) < 2 or clip.stills for clip in matched.clips):
        raise InputError(
            f"--frames {frames} has no two neighbouring frames, so there is nothing to measure without --labels; pass --labels "
            "FOLDER, or --step N if the frames are a video" + "".join(f" ({note})" for note in matched.notes)
        )
    problems = [*matched.problems, *_missing_instances(matched.clips)]
    _require_complete(problems if chosen.strict else [])
    total, task, contents = _read_and_count(matched.clips, predictions, layout, chosen, problems)
    return tabulate(matched, total, task, contents, problems, bool(labels), layout, chosen.unit)


def _read_and_count(
    clips: Sequence[MapClip], predictions: Path, layout: str, options: EvaluationOptions, problems: list[str]
) -> tuple[Counted, Task, dict[tuple[str, Path], MapContents]]:
    """Read all maps twice: first to detect their encoding, then to count. Problems with the maps are added to `problems`."""
    bar = partial(tqdm, total=len(clips), disable=not options.progress, dynamic_ncols=True)
    shape = read_header(clips[0].frames[0]).size[::-1]
    contents: dict[tuple[str, Path], MapContents] = {}
    total = Counted({}, {}, Counter(), Counter())
    with over_clips(options.workers or default_workers(clips, shape, options.flows)) as each:
        for some in bar(each(inspect_clip, clips), "reading all maps"):
            contents |= some
        readings, table = read_as(contents, predictions, layout, options.classes, options.train_ids)
        task = Task(readings, table, options.flows, alone=len(clips) == 1)
        problems += _void_labels(contents, readings)
        _require_complete(problems if options.strict else [])
        for one in bar(each(count_files, clips, [task] * len(clips)), "counting clips"):
            total += one
    return total, task, contents


def _require_complete(problems: Sequence[str]) -> None:
    if problems:
        raise InputError(f"--strict allows no missing files: {'; '.join(problems)}")


def _void_labels(
    contents: Mapping[tuple[str, Path], MapContents], readings: Mapping[tuple[str, str | None], Reading]
) -> list[str]:
    """A message about label maps without a labelled pixel."""
    labels = {path: content for (what, path), content in contents.items() if what == "labels"}
    empty = []
    for path, content in labels.items():
        reading = readings["labels", encoding_in_name(path)]
        if reading.void(content.counts[reading.channel]) == 1:
            empty.append(path)
    return [f"{len(empty)} of {len(labels)} label maps are entirely void (first: {min(empty)})"] if empty else []


def _missing_instances(clips: Sequence[MapClip]) -> list[str]:
    """A message if some labels have instanceIds and others do not."""
    labels = [path for clip in clips for path in clip.labels.values() if encoding_in_name(path) in ("ids", "trainIds")]
    without = [path for path in labels if instances_file(path) is None]
    if not without or len(without) == len(labels):
        return []
    return [f"{len(without)} of {len(labels)} label maps have no instanceIds file in their folder (first: {without[0]})"]
