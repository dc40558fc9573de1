"""How well a student does before and after, beside its teacher: agreement, flicker, and where there are labels, truth.

Counted on frames that nobody learned from: the end of each video, and videos given for scoring. Agreement says how like the
teacher the student answers, not how right either is. Flicker is the share of visible pixels whose class changes from one frame to
the next, along DIS flow; where truth is known, of those whose true class stays the same, as everywhere in the study. Intervals
leave out a unit at a time: a snippet, or half a second of a video. They speak of these streets, not of others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from tcseg.adaptation.frames import STILLS, WIDTH, is_cut, read_snippets
from tcseg.adaptation.kinds.answers import Place
from tcseg.adaptation.store import Targets
from tcseg.adaptation.teachers import STRIDE, Teacher
from tcseg.data.class_tables import class_table
from tcseg.data.images import files_below, natural
from tcseg.errors import InputError, NotFoundError
from tcseg.evaluation.label_map_values import decide, inspect_map
from tcseg.flow import estimate, visibility
from tcseg.labels import CAMVID, IGNORE, LabelSet, cityscapes_to_camvid
from tcseg.metrics.intervals import Interval, clip_interval
from tcseg.metrics.segmentation import Overlap, confusion_matrix
from tcseg.metrics.temporal import count_pair
from tcseg.models.networks import SegmentationModel
from tcseg.video.pipeline import FrameRunner, open_runners, resized
from tcseg.video.reading.decoding import open_source

STAGES = ("before", "after", "teacher")
COUNTED = 640  # columns of the grid on which pixels are counted, at most
SHOWN = 120  # that the report looks at, evenly spread
UNIT = 0.5  # seconds of a scoring video that are one unit of the intervals
DOUBT = 26  # of 255: where a teacher says less than this in all, nothing is counted


# ------------------------------------------------------------------------------------------------ truth


class Truth:
    """True label maps of some frames.

    Args:
        folder: of label maps, called as the frames are (also with Cityscapes' endings), in folders called as the videos or not.
        classes: what they hold: "cityscapes", "camvid", or a file as for `tcseg evaluate --classes`.
        answered: the student's classes.

    Raises:
        NotFoundError: there is no such folder, or no map in it.
        InputError: maps cannot be read, or the student has other classes.
    """

    def __init__(self, folder: Path, classes: str, answered: LabelSet) -> None:
        if not folder.is_dir():
            raise NotFoundError(f"labels are {folder}, which is no folder; give the one that holds true label maps")
        files = [path for path in files_below(folder, (".png", ".bmp", ".tif")) if not _is_other(path)]
        if not files:
            raise NotFoundError(f"{folder} has no label maps (.png)")
        table = class_table(classes)
        self.label_set = table.label_set
        self.merged = self.label_set.classes == CAMVID.classes != answered.classes
        if not self.merged and self.label_set.classes != answered.classes:
            raise InputError(f"labels are of {classes} ({self.label_set.num_classes} classes), the student of {answered.name}")
        self.name = folder.name
        self._reading = decide({path: inspect_map(path) for path in files}, table, "labels")
        self._at: dict[tuple, Path] = {}
        for path in files:
            name = natural(_bare(path.stem))
            self._at[(path.parent.name, name)] = self._at[("", name)] = path

    def __call__(self, place: Place) -> np.ndarray | None:
        """Labels uint8 (H,W) of a frame, or None."""
        name = natural(_bare(place.frame))
        path = self._at.get((place.video.split("/")[-1], name)) or self._at.get(("", name))
        return None if path is None else self._reading.read(path)

    def as_true(self, answer: np.ndarray) -> np.ndarray:
        """An answer in the classes of the labels."""
        return cityscapes_to_camvid(answer) if self.merged else answer


def _bare(stem: str) -> str:
    for ending in ("_leftImg8bit", "_gtFine_labelIds", "_gtFine_labelTrainIds", "_labelIds", "_labelTrainIds"):
        stem = stem.removesuffix(ending)
    return stem


def _is_other(path: Path) -> bool:
    return path.stem.endswith(("_instanceIds", "_color", "_polygons"))


# ------------------------------------------------------------------------------------------------ frames to be counted


class Shown(NamedTuple):
    """A frame to be scored.

    Attributes:
        frame: uint8 (H,W,3) RGB.
        place: where it comes from.
        told: (W,H) -> the teacher's label map of that size, uint8, 255 = it does not say.
        unit: of the intervals.
        follows: it is the next frame after the one before.
    """

    frame: np.ndarray
    place: Place
    told: Callable[[tuple[int, int]], np.ndarray]
    unit: str
    follows: bool


def held_out_frames(targets: Sequence[Targets], kept: Sequence[Sequence[int]], most: int = SHOWN) -> Iterator[Shown]:
    """Frames of snippets that were kept apart: of all videos together about `most` snippets, evenly spread."""
    total = sum(map(len, kept))
    for one, some in zip(targets, kept, strict=True):
        some = list(some)[:: max(1, -(-total // most))]
        for index, frames in read_snippets(one.plan, some):
            stored, places = one[index], one.plan.places([index])
            for t, (frame, place) in enumerate(zip(frames, places, strict=True)):
                yield Shown(frame, place, _upsampled(stored.probs[t]), f"{one.plan.name} {index}", t > 0)


def _upsampled(probs: np.ndarray) -> Callable[[tuple[int, int]], np.ndarray]:
    return lambda size: decided(
        F.interpolate(torch.from_numpy(probs)[None].float(), size[::-1], mode="bilinear", align_corners=False)[0]
    )


def decided(probs: torch.Tensor) -> np.ndarray:
    """The greatest class of stored answers (K,h,w), 0..255 a cell: uint8 (h,w), 255 where the teacher hardly says anything."""
    best = probs.argmax(0).to(torch.uint8).numpy()
    return np.where(probs.sum(0).numpy() < DOUBT, np.uint8(IGNORE), best)


def video_frames(source: Path, name: str, teacher: Teacher, fps: float | None = None) -> Iterator[Shown]:
    """All frames of a video that is given for scoring."""
    opened = open_source(source)
    rate, before = fps or opened.fps, None
    for index, frame in enumerate(opened.frames()):
        place = Place(name, opened.names[index] if opened.names else f"{index:06}")

        def told(size: tuple[int, int], frame: np.ndarray = frame, place: Place = place) -> np.ndarray:
            wide = size[0] * STRIDE, size[1] * STRIDE
            return decided(torch.from_numpy(teacher.ask(frame[None], wide, [place])[0]).float())

        small = cv2.resize(frame, (WIDTH, max(16, round(frame.shape[0] * WIDTH / frame.shape[1]))), interpolation=cv2.INTER_AREA)
        follows = before is not None and rate >= STILLS and not is_cut(before, small)
        yield Shown(frame, place, told, f"{name} {int(index / rate / UNIT)}", follows)
        before = small


# ------------------------------------------------------------------------------------------------ counting


@dataclass
class Counted:
    """Counts of one stage, by unit.

    Attributes:
        agreement: unit -> confusion (K,K+1) of teacher (rows) and stage.
        changed: unit -> [pixels that changed, pixels compared].
        truth: unit -> confusion (K',K'+1) of truth and stage.
    """

    agreement: dict[str, np.ndarray] = field(default_factory=dict)
    changed: dict[str, np.ndarray] = field(default_factory=dict)
    truth: dict[str, np.ndarray] = field(default_factory=dict)


def _add(counts: dict[str, np.ndarray], unit: str, more: np.ndarray) -> None:
    counts[unit] = counts.get(unit, 0) + more


def _grid(frame: np.ndarray) -> tuple[int, int]:
    height, width = frame.shape[:2]
    return (width, height) if width <= COUNTED else (COUNTED, max(16, round(height * COUNTED / width)))


def _nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if labels.shape == size[::-1]:
        return labels
    return cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT)


class Counter:
    """Counts frames one after the other.

    Args:
        networks: "before" and "after".
        label_set: of student and teacher.
        truth: of labelled frames, or None.
    """

    def __init__(self, networks: dict[str, SegmentationModel], label_set: LabelSet, truth: Truth | None = None) -> None:
        self.networks, self.label_set, self.truth = networks, label_set, truth
        self.of = {stage: Counted() for stage in (*networks, "teacher")}
        self.frames = 0
        self._runners: dict[tuple, list[FrameRunner]] = {}
        self._last: tuple | None = None

    def step(self, shown: Shown) -> None:
        """Add a frame."""
        runners, size = self._open(shown.frame), _grid(shown.frame)
        answers = {stage: runner(shown.frame)[0] for stage, runner in zip(self.networks, runners, strict=True)}
        told = shown.told(size)
        small = {stage: _nearest(labels, size) for stage, labels in answers.items()} | {"teacher": told}
        for stage, labels in small.items():
            _add(self.of[stage].agreement, shown.unit, confusion_matrix(told, labels, self.label_set.num_classes))
        labels = self.truth(shown.place) if self.truth else None
        if labels is not None:
            self._against_truth(shown, answers, labels)
        picture, true = resized(shown.frame, size), None if labels is None else _nearest(labels, size)
        if shown.follows and self._last is not None and self._last[0].shape == picture.shape:
            self._pair(shown.unit, picture, small, true)
        self._last = picture, small, true
        self.frames += 1

    def _open(self, frame: np.ndarray) -> list[FrameRunner]:
        if frame.shape not in self._runners:
            self._runners = {frame.shape: open_runners(self.networks.values(), "pytorch", frame, live=True)[0]}
        return self._runners[frame.shape]

    def _against_truth(self, shown: Shown, answers: dict[str, np.ndarray], labels: np.ndarray) -> None:
        size = labels.shape[1], labels.shape[0]
        for stage, answer in {**answers, "teacher": shown.told(size)}.items():
            mapped = self.truth.as_true(_nearest(answer, size))
            _add(self.of[stage].truth, shown.unit, confusion_matrix(labels, mapped, self.truth.label_set.num_classes))

    def _pair(self, unit: str, picture: np.ndarray, small: dict[str, np.ndarray], true: np.ndarray | None) -> None:
        before, maps, true_before = self._last
        flow, back = (torch.from_numpy(estimate("dis", *pair))[None] for pair in ((before, picture), (picture, before)))
        seen = visibility(flow, back)[0].numpy()
        flow, classes = flow[0].numpy(), self.label_set.num_classes
        known = true is not None and true_before is not None
        band = np.zeros(seen.shape, bool)
        for stage, after in small.items():
            pair = maps[stage], after
            if known:
                pair = tuple(self.truth.as_true(one) for one in pair)
                flicker = count_pair(*pair, flow, seen, self.truth.label_set.num_classes, (true_before, true, band)).flicker
                share = flicker.shares()["flicker"]
                changes = np.array([share.count, share.total])
            else:
                joint = count_pair(*pair, flow, seen, classes).joint
                joint = (joint[1] + joint[3])[:classes, :classes]
                changes = np.array([joint.sum() - np.trace(joint), joint.sum()])
            _add(self.of[stage].changed, unit, changes)


# ------------------------------------------------------------------------------------------------ results


class Score(NamedTuple):
    """Of one stage: intervals 0..1, nan where nothing was counted, and IoU by class where it occurs."""

    agreement: Interval
    flicker: Interval
    miou: Interval
    agreement_by_class: dict[str, float]
    truth_by_class: dict[str, float]


NONE = Interval(float("nan"), float("nan"), float("nan"))


def _overlap_interval(by_unit: dict[str, np.ndarray]) -> Interval:
    if not by_unit:
        return NONE
    all_of = [Overlap.from_confusion(one) for one in by_unit.values()]
    names = ("intersection", "predicted", "labelled")
    return clip_interval({name: [getattr(one, name) for one in all_of] for name in names})


def _by_class(by_unit: dict[str, np.ndarray], label_set: LabelSet) -> dict[str, float]:
    if not by_unit:
        return {}
    total = Overlap.from_confusion(sum(by_unit.values()))
    union = total.predicted + total.labelled - total.intersection
    shares = total.intersection / np.maximum(union, 1)
    return {name: float(share) for name, share, there in zip(label_set.classes, shares, union, strict=True) if there}


def score(counter: Counter) -> dict[str, Score]:
    """Stage -> what was counted, with 95 % intervals over units."""
    found = {}
    for stage, of in counter.of.items():
        changes = list(of.changed.values())
        flicker = NONE
        if changes and sum(int(total) for _, total in changes):
            flicker = clip_interval({"count": [one[0] for one in changes], "total": [one[1] for one in changes]})
        true = _by_class(of.truth, counter.truth.label_set) if counter.truth else {}
        told = _by_class(of.agreement, counter.label_set)
        found[stage] = Score(_overlap_interval(of.agreement), flicker, _overlap_interval(of.truth), told, true)
    return found


def compare(
    before: SegmentationModel,
    after: SegmentationModel,
    frames: Iterable[Shown],
    truth: Truth | None = None,
    progress: bool = False,
) -> tuple[dict[str, Score], int]:
    """Score two networks of the same classes and their teacher on frames; returns stage -> `Score`, and how many frames."""
    counter = Counter({"before": before.eval(), "after": after.eval()}, after.label_set, truth)
    for shown in tqdm(frames, desc="scoring", unit="frame", disable=not progress):
        counter.step(shown)
    return score(counter), counter.frames
