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
from tcseg.data.clips import CAMVID_BLOCK
from tcseg.data.images import read_rgb, read_values
from tcseg.errors import InputError
from tcseg.evaluation.class_tables import ClassTable
from tcseg.evaluation.label_map_layouts import MapClip
from tcseg.evaluation.label_map_values import Reading, encoding_in_name
from tcseg.evaluation.split_scores import Blocks, count_clip
from tcseg.labels import IGNORE
from tcseg.machine import usable_cores, worker_pool
from tcseg.metrics.temporal import count_pair
from tcseg.metrics.trajectories import chained

MEMORY = 3.4e9  # bytes that the workers may take together, so that all is below 4 GB: more than fit are not started
_BASE, _PER_PIXEL, _PER_FRAME_PIXEL = 0.6e9, 150, 5  # bytes of one worker: 1.24e9 measured at 2048x1024 and 30 frames
WINDOWS = ("vc8", "vc8_right", "vc16", "vc16_right")
"""Metrics over labelled frames in a row."""


@dataclass(frozen=True)
class Task:
    """How clips are counted.

    Attributes:
        readings: of predictions, and of labels by what their names say.
        classes: that are evaluated.
        flows: of `FLOWS`, the best first.
        alone: there is one clip, whose 17-frame blocks stand in for clips.
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
    """Refuse a file whose (H,W,...) is not that of the file it belongs to.

    Raises:
        InputError: both are named.
    """
    if shape[:2] != wanted[:2]:
        raise InputError(
            f"{path} is {shape[1]}x{shape[0]} but {other} is {wanted[1]}x{wanted[0]}; resize the logits to the frame's "
            "size, then take the best class"
        )


# ------------------------------------------------------------------------------------------------ counting


@dataclass
class Counted:
    """What one clip, or all of them, gave.

    Attributes:
        blocks: counts of the predictions.
        tops: {block: {"tc_<flow>": counts}} of the true labels, on the pairs that are labelled.
        frames: metric -> frames, or pairs or windows of them, in which something was counted.
        pairs: neighbours, and those of which both are labelled.
    """

    blocks: Blocks
    tops: Blocks
    frames: Counter
    pairs: Counter

    def __iadd__(self, other: Counted) -> Counted:
        if twice := self.blocks.keys() & other.blocks.keys():
            raise AssertionError(f"two clips are called {min(twice)}")
        self.blocks |= other.blocks
        self.tops |= other.tops
        self.frames += other.frames
        self.pairs += other.pairs
        return self


def count_files(clip: MapClip, task: Task) -> Counted:
    """Count one clip, as `split_scores.count_clip` does, and TC's ceiling: the true labels' own TC on the same flow.

    Raises:
        InputError: what is wrong with a file, by name.
    """
    maps = np.stack([task.read("predictions", path) for path in clip.predictions])
    labels = np.broadcast_to(np.uint8(IGNORE), maps.shape)
    annotated = np.zeros(len(maps), np.bool_)
    if clip.labels:
        labels = np.full(maps.shape, IGNORE, np.uint8)
        for t, path in clip.labels.items():
            labels[t] = task.read("labels", path)
            annotated[t] = (labels[t] != IGNORE).any()  # a map that is wholly void labels nothing
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
    if clip.stills:  # frames in a row, but not of a video
        blocks = {unit: {k: v for k, v in counts.items() if k not in WINDOWS} for unit, counts in blocks.items()}
        frames = Counter({name: count for name, count in frames.items() if name not in WINDOWS})
    labelled = int((annotated[1:] & annotated[:-1]).sum())
    pairs = Counter() if clip.stills else Counter(all=len(maps) - 1, labelled=labelled)
    return Counted(blocks, tops, frames, pairs)


def _instances(clip: MapClip, shape: tuple[int, int]) -> dict[int, np.ndarray]:
    """Frame -> Cityscapes' instanceIds (H,W), for the iIoU of things, where they lie beside the labels."""
    arrays = {}
    for t, path in clip.labels.items():
        if (beside := instances_beside(path)) is None:
            continue
        values = read_values(beside)
        if values.ndim != 2 or values.dtype == np.uint8:
            what = "of 8 bits" if values.ndim == 2 else "in colours"
            raise InputError(
                f"{beside} is {what}; instanceIds are 16-bit numbers (id * 1000 + number): fetch it again, or remove it"
            )
        require_size(clip.predictions[t], shape, beside, values.shape)
        arrays[t] = values
    return arrays


def instances_beside(path: Path) -> Path | None:
    """The file of instanceIds beside one of labelIds; None where there is none."""
    for kind in ("_labelIds", "_labelTrainIds"):
        beside = path.with_name(path.name.replace(kind, "_instanceIds"))
        if beside != path and beside.exists():
            return beside
    return None


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


def default_workers(clips: Sequence[MapClip], shape: tuple[int, int], flows: Sequence[str] = ()) -> int:
    """One a core, but no more than `MEMORY` holds at this size (H,W) and length, with these sources of flow; at least one."""
    height, width = shape
    longest = max(len(clip.predictions) for clip in clips)
    each = _BASE + height * width * (_PER_PIXEL + _PER_FRAME_PIXEL * longest)
    if "raft" in flows:  # compares each place of its grid (stride 8) with each, at four scales: 4 GB at 2048x1024
        each += 4 * (4 / 3) * (height * width / 64) ** 2
    return max(1, min(usable_cores(), len(clips), int(MEMORY / each)))


@contextmanager
def over_clips(workers: int) -> Iterator[Callable[..., Iterator]]:
    """A `map` that keeps the order, over so many processes, which serve all calls; in this process if it is one."""
    if workers == 1:
        yield map
        return
    pool = worker_pool(workers, _prepare)
    try:
        yield pool.map
    finally:  # on an error, what waits is not begun
        pool.shutdown(cancel_futures=True)
