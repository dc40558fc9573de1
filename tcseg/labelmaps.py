"""Anyone's label maps on disk -> the study's metrics: `tcseg evaluate`.

Clips are counted one at a time, in as many processes as there are cores, and only counts are kept: memory does not grow with the
number of clips. Which files belong together: `mapfiles`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from tcseg import flow as optical_flow
from tcseg import stats
from tcseg.artefacts import write_json, write_table
from tcseg.data import CAMVID_BLOCK
from tcseg.errors import InputError
from tcseg.evaluation import Blocks, count_clip, per_block, score, split_flow, summarise, summed
from tcseg.labels import IGNORE
from tcseg.machine import usable_cores, worker_pool
from tcseg.mapfiles import Encoding, MapClip, check_headers, find_clips, read_map, read_maps, require_size
from tcseg.snippets import read_frame
from tcseg.temporal import count_pair
from tcseg.trajectories import chained

FLOWS = ("exact", "dis", "farneback", "raft")
MEMORY = 3.4e9  # bytes that the workers may take together, so that all is below 4 GB: more than fit are not started
_BASE, _PER_PIXEL, _PER_FRAME_PIXEL = 0.6e9, 150, 5  # bytes of one worker: 1.24e9 measured at 2048x1024 and 30 frames


@dataclass(frozen=True)
class Task:
    """How clips are counted.

    Attributes:
        encoding: of the label maps.
        flows: of `FLOWS`, the best first.
        alone: there is one clip, whose 17-frame blocks stand in for clips.
    """

    encoding: Encoding
    flows: tuple[str, ...]
    alone: bool = False


# ------------------------------------------------------------------------------------------------ flow


Flow = tuple[np.ndarray, np.ndarray]


class _Flow:
    """Flow of a clip's neighbours, t -> t+1, and what is visible; the last few are kept, as gap 5 walks them again."""

    KEPT = 6

    def __init__(self, clip: MapClip, source: str, shape: tuple[int, int], on_new: Callable[[int, Flow], None]) -> None:
        self.clip, self.source, self.shape, self.on_new = clip, source, shape, on_new
        self._steps: dict[int, Flow] = {}
        self._frames: dict[int, np.ndarray] = {}

    def __call__(self, t: int) -> Flow:
        if t not in self._steps:
            self._steps[t] = self._exact(t) if self.source == "exact" else self._estimated(t)
            self.on_new(t, self._steps[t])
            while len(self._steps) > self.KEPT:
                del self._steps[min(self._steps)]
        return self._steps[t]

    def _exact(self, t: int) -> Flow:
        flow, visible = optical_flow.read_kitti(self.clip.flow[t])
        require_size(self.clip.flow[t], visible.shape, self.clip.predictions[t], self.shape)
        return flow, visible

    def _frame(self, t: int) -> np.ndarray:
        if t not in self._frames:
            self._frames[t] = read_frame(self.clip.frames[t])
            require_size(self.clip.predictions[t], self.shape, self.clip.frames[t], self._frames[t].shape)
        return self._frames[t]

    def _estimated(self, t: int) -> Flow:
        a, b = self._frame(t), self._frame(t + 1)
        del self._frames[t]
        forward, backward = (optical_flow.estimate(self.source, *pair) for pair in ((a, b), (b, a)))
        visible = optical_flow.visibility(torch.from_numpy(forward)[None], torch.from_numpy(backward)[None])
        return forward, visible[0].numpy()


# ------------------------------------------------------------------------------------------------ counting


def count_files(clip: MapClip, task: Task) -> tuple[Blocks, Blocks]:
    """Count one clip, as `evaluation.count_clip` does, and TC's ceiling: the true labels' own TC on the same flow.

    Returns:
        Counts of the predictions, and {block: {"tc_<flow>": counts}} of the true labels, where neighbours are labelled.

    Raises:
        ValueError: what is wrong with a file, by name.
    """
    maps = read_maps(clip.predictions, task.encoding)
    annotated = np.array([t in clip.labels for t in range(len(maps))])
    labels = np.broadcast_to(np.uint8(IGNORE), maps.shape)
    if clip.labels:
        labels = np.full(maps.shape, IGNORE, np.uint8)
        for t, path in clip.labels.items():
            label = read_map(path, task.encoding, ids_in_name=task.encoding.layout == "cityscapes")
            require_size(clip.predictions[t], maps.shape[1:], path, label.shape)
            labels[t] = label
    units = [
        f"{clip.name}+{t // CAMVID_BLOCK * CAMVID_BLOCK:03d}" if task.alone else clip.name for t in range(len(maps))
    ]
    tops: Blocks = {}
    flows = {}
    for source in task.flows:
        truth = partial(_count_truth, tops, units, labels, annotated, task.encoding.label_set.num_classes, source)
        flows[source] = chained(_Flow(clip, source, maps.shape[1:], truth))
    things, instances = task.encoding.label_set, _instances(clip, maps.shape[1:])
    return count_clip(maps, labels, annotated, flows, things, task.flows[0], blocks=units, instances=instances), tops


def _instances(clip: MapClip, shape: tuple[int, int]) -> dict[int, np.ndarray]:
    """Frame -> Cityscapes' instanceIds (H,W), for the iIoU of things, where they lie beside the labels."""
    found = {}
    for t, path in clip.labels.items():
        beside = path.with_name(path.name.replace("_labelIds", "_instanceIds"))
        if beside != path and beside.exists():
            found[t] = cv2.imread(str(beside), cv2.IMREAD_UNCHANGED)
            if found[t] is None or found[t].ndim != 2:
                raise InputError(f"{beside} is no readable image of one channel; fetch it again, or remove it")
            require_size(clip.predictions[t], shape, beside, found[t].shape)
    return found


def _count_truth(tops: Blocks, units, labels, annotated, num_classes: int, source: str, t: int, flow: Flow) -> None:
    """Add the true labels' own TC of frames t and t+1 to `tops`, while their flow is at hand."""
    if not (annotated[t] and annotated[t + 1]):
        return
    nowhere = np.zeros(labels.shape[1:], np.bool_)
    pair = count_pair(labels[t], labels[t + 1], *flow, num_classes, (labels[t], labels[t + 1], nowhere))
    block, name, counts = tops.setdefault(units[t], {}), f"tc_{source}", pair.overlaps()["tc"]
    block[name] = block[name] + counts if name in block else counts


def _prepare() -> None:
    """A worker counts on one core; the other cores have workers of their own."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def default_workers(clips: Sequence[MapClip], encoding: Encoding, flows: Sequence[str] = ()) -> int:
    """One a core, but no more than `MEMORY` holds at this size and length, with these sources of flow; at least one."""
    height, width = read_map(clips[0].predictions[0], encoding).shape
    longest = max(len(clip.predictions) for clip in clips)
    each = _BASE + height * width * (_PER_PIXEL + _PER_FRAME_PIXEL * longest)
    if "raft" in flows:  # compares each place of its grid (stride 8) with each, at four scales: 4 GB at 2048x1024
        each += 4 * (4 / 3) * (height * width / 64) ** 2
    return max(1, min(usable_cores(), len(clips), int(MEMORY / each)))


def _count_all(clips: Sequence[MapClip], task: Task, workers: int) -> Iterator[tuple[Blocks, Blocks]]:
    if workers == 1:
        yield from (count_files(clip, task) for clip in clips)
        return
    pool = worker_pool(workers, _prepare)
    try:
        yield from pool.map(count_files, clips, [task] * len(clips))
    finally:  # on an error, what waits is not begun
        pool.shutdown(cancel_futures=True)


def evaluate_files(
    predictions: Path,
    frames: Path,
    labels: Path | None = None,
    layout: str = "cityscapes",
    flows: Sequence[str] = ("dis",),
    train_ids: bool = False,
    workers: int | None = None,
    progress: bool = False,
) -> tuple[pd.DataFrame, dict]:
    """Evaluate label maps on disk.

    Args:
        predictions, frames, labels, layout: see `find_clips`. Without labels: temporal consistency only.
        flows: of `FLOWS`, the best first.
        train_ids: predictions hold trainIds; else ids of Cityscapes' table. CamVid's ids are trainIds (11 or 255 = void).
        workers: processes; default `default_workers`.
        progress: show a bar.

    Returns:
        A table (metric, flow, value, ci_low, ci_high, units; shares), and a record as a run has: metrics, per_class, per_clip.

    Raises:
        FileNotFoundError, ValueError: what is missing or wrong, by name.
    """
    for name in flows:
        if name not in FLOWS:
            raise InputError(f"flow is {name!r}; it must be one of {', '.join(FLOWS)}")
    clips = find_clips(predictions, frames, labels, layout, "exact" in flows)
    if not labels and all(len(clip.frames) < 2 for clip in clips):
        raise InputError(
            f"--frames {frames} holds no two frames in a row: without --labels there is nothing to measure"
        )
    for clip in clips:
        check_headers(clip)
    task = Task(Encoding(layout, train_ids), tuple(flows), alone=len(clips) == 1)
    counted: Blocks = {}
    tops: Blocks = {}
    results = _count_all(clips, task, workers or default_workers(clips, task.encoding, task.flows))
    for blocks, truth in tqdm(results, "clips", len(clips), disable=not progress, dynamic_ncols=True):
        counted |= blocks
        tops |= truth
    record = summarise(counted)
    record["metrics"]["tc_ceiling"] = {
        flow: score("tc", summed(tops, f"tc_{flow}")) if tops else None for flow in task.flows
    }
    record["classes"] = list(task.encoding.label_set.classes)
    record["data"] = {"layout": layout, "clips": len(clips), "frames": sum(len(clip.frames) for clip in clips)}
    return _table(counted, record), record


def _table(blocks: Blocks, record: dict) -> pd.DataFrame:
    """Metrics with intervals over clips."""
    names = dict.fromkeys(name for counts in blocks.values() for name in counts)
    rows = []
    for name in names:
        variant, flow = split_flow(name) or (name, "")
        low = high = float("nan")
        if variant != "etc_compat":  # its mean is its own
            _, low, high = stats.bootstrap_interval(per_block(blocks, name))
        value = score(name, summed(blocks, name))
        rows.append({"metric": variant, "flow": flow, "value": value, "ci_low": low, "ci_high": high})
        if variant == "tc" and record["metrics"]["tc_ceiling"].get(flow) is not None:
            rows.append({"metric": "tc_ceiling", "flow": flow, "value": record["metrics"]["tc_ceiling"][flow]})
    return pd.DataFrame(rows).assign(units=len(blocks))


# ------------------------------------------------------------------------------------------------ saying it


def write(out: Path, table: pd.DataFrame, record: dict) -> None:
    """Write metrics.csv and metrics.json, aside and renamed."""
    write_table(out / "metrics.csv", table)
    write_json(out / "metrics.json", record)


def as_text(table: pd.DataFrame, record: dict) -> str:
    """The table in percent, IoU by class, and what the numbers are about."""
    shown = table.assign(**{name: 100 * table[name] for name in ("value", "ci_low", "ci_high")}).drop(columns="units")
    parts = [shown.to_string(index=False, float_format=lambda value: f"{value:.2f}", na_rep="-")]
    if "iou" in record["per_class"]:
        pairs = zip(record["classes"], record["per_class"]["iou"], strict=True)
        parts.append("IoU: " + ", ".join(f"{name} {'-' if iou is None else f'{100 * iou:.1f}'}" for name, iou in pairs))
    data, units = record["data"], int(table["units"].iloc[0])
    about = (
        f"{units} clips"
        if data["clips"] > 1
        else f"{units} blocks of {CAMVID_BLOCK} frames of one clip: of that street alone"
    )
    parts.append(f"Percent; 95 % intervals over {about}. {data['frames']} frames.")
    return "\n\n".join(parts)
