"""Count the metrics of one clip of label maps on disk, including flow, instances and the ground truth's own TC."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from tcseg import flow as optical_flow
from tcseg.data.class_tables import ClassTable
from tcseg.data.clips import CAMVID_BLOCK
from tcseg.data.images import read_rgb, read_values
from tcseg.errors import InputError
from tcseg.evaluation.label_map_layouts import MapClip
from tcseg.evaluation.label_map_values import Reading, encoding_in_name
from tcseg.evaluation.split_scores import Blocks, count_clip
from tcseg.labels import IGNORE
from tcseg.machine import usable_cores, worker_pool
from tcseg.metrics.temporal import count_pair
from tcseg.metrics.trajectories import chained

MEMORY = 3.4e9  # bytes for all workers together, so that the command stays below 4 GB
_BASE, _PER_PIXEL, _PER_FRAME_PIXEL = 0.6e9, 150, 5  # bytes per worker; measured: 1.24e9 at 2048x1024 and 30 frames
WINDOWS = ("vc8", "vc8_right", "vc16", "vc16_right")
"""Metrics over consecutive labelled frames."""


@dataclass(frozen=True)
class Task:
    """How clips are counted.

    Attributes:
        readings: how to read the maps, by kind ("predictions" or "labels") and by the encoding in their file names.
        classes: the classes to evaluate.
        flows: names from `FLOWS`, the best first.
        alone: there is only one clip; its 17-frame blocks are the units.
    """

    readings: Mapping[tuple[str, str | None], Reading]
    classes: ClassTable
    flows: tuple[str, ...]
    alone: bool = False

    def read(self, what: str, path: Path) -> np.ndarray:
        """A label map as trainIds."""
        return self.readings[what, encoding_in_name(path)].read(path)


# ------------------------------------------------------------------------------------------------ flow


Flow = tuple[np.ndarray, np.ndarray]


class _Flow:
    """Flow t -> t+1 of a clip, with visibility. The last few steps are cached because the metrics with gap 5 need them twice."""

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
            self._frames[t] = read_rgb(self.clip.frames[t])
            require_size(self.clip.predictions[t], self.shape, self.clip.frames[t], self._frames[t].shape)
        return self._frames[t]

    def _estimated(self, t: int) -> Flow:
        a, b = self._frame(t), self._frame(t + 1)
        del self._frames[t]
        forward, backward = (optical_flow.estimate(self.source, *pair) for pair in ((a, b), (b, a)))
        visible = optical_flow.visibility(torch.from_numpy(forward)[None], torch.from_numpy(backward)[None])
        return forward, visible[0].numpy()


def require_size(path: Path, shape: tuple[int, ...], other: Path, wanted: tuple[int, ...]) -> None:
    """Check that a file has the same (H,W) as the file it belongs to.

    Raises:
        InputError: the sizes differ; the message names both files.
    """
    if shape[:2] != wanted[:2]:
        raise InputError(
            f"{path} is {shape[1]}x{shape[0]}, but {other} is {wanted[1]}x{wanted[0]}; they must have the same size: resize the "
            "logits to the size of the frame before the argmax"
        )


# ------------------------------------------------------------------------------------------------ counting


@dataclass
class Counted:
    """Counts of one clip or of all clips.

    Attributes:
        blocks: counts of the predictions.
        tops: {block: {"tc_<flow>": counts}} of the true labels, on pairs with two labelled frames.
        frames: metric -> number of frames, pairs or windows with at least one counted pixel.
        pairs: number of pairs of neighbouring frames: "all", and "labelled" (both frames have labels).
    """

    blocks: Blocks
    tops: Blocks
    frames: Counter
    pairs: Counter

    def __iadd__(self, other: Counted) -> Counted:
        if twice := self.blocks.keys() & other.blocks.keys():
            raise AssertionError(f"two clips are named {min(twice)}")
        self.blocks |= other.blocks
        self.tops |= other.tops
        self.frames += other.frames
        self.pairs += other.pairs
        return self


def count_files(clip: MapClip, task: Task) -> Counted:
    """Count one clip as `split_scores.count_clip` does, and the ceiling of TC: the TC of the true labels with the same flow.

    Raises:
        InputError: a file is damaged, or its size or values are wrong; the message names it.
    """
    maps = np.stack([task.read("predictions", path) for path in clip.predictions])
    labels = np.broadcast_to(np.uint8(IGNORE), maps.shape)
    annotated = np.zeros(len(maps), np.bool_)
    if clip.labels:
        labels = np.full(maps.shape, IGNORE, np.uint8)
        for t, path in clip.labels.items():
            labels[t] = task.read("labels", path)
            annotated[t] = (labels[t] != IGNORE).any()  # an entirely void map has no labels
    units = [
        f"{clip.name}+{t // CAMVID_BLOCK * CAMVID_BLOCK:03d}" if task.alone else clip.name for t in range(len(maps))
    ]
    tops: Blocks = {}
    flows = {}
    for source in () if clip.stills else task.flows:
        truth = partial(_count_truth, tops, units, labels, annotated, task.classes.label_set.num_classes, source)
        flows[source] = chained(_Flow(clip, source, maps.shape[1:], truth))
    frames: Counter = Counter()
    blocks = count_clip(
        maps,
        labels,
        annotated,
        flows,
        task.classes.label_set,
        task.flows[0],
        _instances(clip, maps.shape[1:]),
        units,
        frames,
    )
    if clip.stills:  # consecutive files, but not consecutive video frames
        blocks = {unit: {k: v for k, v in counts.items() if k not in WINDOWS} for unit, counts in blocks.items()}
        frames = Counter({name: count for name, count in frames.items() if name not in WINDOWS})
    labelled = int((annotated[1:] & annotated[:-1]).sum())
    pairs = Counter() if clip.stills else Counter(all=len(maps) - 1, labelled=labelled)
    return Counted(blocks, tops, frames, pairs)


def _instances(clip: MapClip, shape: tuple[int, int]) -> dict[int, np.ndarray]:
    """Frame -> Cityscapes' instanceIds (H,W), needed for iIoU, for labels that have such a file in the same folder."""
    arrays = {}
    for t, labels in clip.labels.items():
        if (path := instances_file(labels)) is None:
            continue
        values = read_values(path)
        if values.ndim != 2 or values.dtype == np.uint8:
            what = "an 8-bit image" if values.ndim == 2 else "a colour image"
            raise InputError(
                f"{path} is {what}; instanceIds are 16-bit numbers (id * 1000 + instance number): replace or remove the file"
            )
        require_size(clip.predictions[t], shape, path, values.shape)
        arrays[t] = values
    return arrays


def instances_file(path: Path) -> Path | None:
    """The instanceIds file that belongs to a labelIds file, in the same folder; None if it does not exist."""
    for kind in ("_labelIds", "_labelTrainIds"):
        other = path.with_name(path.name.replace(kind, "_instanceIds"))
        if other != path and other.exists():
            return other
    return None


def _count_truth(tops: Blocks, units, labels, annotated, num_classes: int, source: str, t: int, flow: Flow) -> None:
    """Add the TC of the true labels of frames t and t+1 to `tops`; called when their flow is computed."""
    if not (annotated[t] and annotated[t + 1]):
        return
    nowhere = np.zeros(labels.shape[1:], np.bool_)
    pair = count_pair(labels[t], labels[t + 1], *flow, num_classes, (labels[t], labels[t + 1], nowhere))
    block, name, counts = tops.setdefault(units[t], {}), f"tc_{source}", pair.overlaps()["tc"]
    block[name] = block[name] + counts if name in block else counts


def _prepare() -> None:
    """Use one thread per worker; there is one worker per core."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def default_workers(clips: Sequence[MapClip], shape: tuple[int, int], flows: Sequence[str] = ()) -> int:
    """Number of workers: one per core, but at most as many as fit into `MEMORY` with frames of this (H,W); at least one."""
    height, width = shape
    longest = max(len(clip.predictions) for clip in clips)
    each = _BASE + height * width * (_PER_PIXEL + _PER_FRAME_PIXEL * longest)
    if "raft" in flows:  # its correlation volume (all pairs of cells at stride 8, four scales) takes 4 GB at 2048x1024
        each += 4 * (4 / 3) * (height * width / 64) ** 2
    return max(1, min(usable_cores(), len(clips), int(MEMORY / each)))


@contextmanager
def over_clips(workers: int) -> Iterator[Callable[..., Iterator]]:
    """A `map` function that keeps the order and runs in this many processes; with one, it runs in this process."""
    if workers == 1:
        yield map
        return
    pool = worker_pool(workers, _prepare)
    try:
        yield pool.map
    finally:  # after an error, pending clips are not started
        pool.shutdown(cancel_futures=True)
