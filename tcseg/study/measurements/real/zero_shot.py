"""The included students on real streets, beside the teacher of those that were adapted to real streets.

The networks see frames as `tcseg segment` shows them by default, and are scored at the frames' own size. CamVid's validation split
is one street, and of Cityscapes a machine may have few labelled frames: no interval would say how these networks do on another
street, so there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from tcseg.data.clip_files import camvid_snippets, read_frame, read_labels
from tcseg.data.folders import find_dataset
from tcseg.errors import InputError, NotFoundError
from tcseg.labels import LabelSet, cityscapes_to_camvid, label_set
from tcseg.metrics.segmentation import Overlap, confusion_matrix
from tcseg.models import registry
from tcseg.models.networks import SegmentationModel
from tcseg.models.trained_on import NATIVE, Size, size_for
from tcseg.study.measurements import write_table
from tcseg.video.pipeline import FrameRunner, open_runners

NAMES = (*registry.SHIPPED, registry.FAST, *registry.STREET)
TEACHER = "teacher"  # a public network's stored answers, from which the students for real streets learned
NOTHING = "nothing"
LEARNED = {
    "camvid": dict.fromkeys(registry.STREET, "other frames of these drives, no labels"),
    "cityscapes": {
        **dict.fromkeys(registry.STREET, "these frames, no labels"),
        TEACHER: "the training split with labels, of which these frames may be a part",
    },
}
"""Data set -> network -> what it learned from of the same data set; else `NOTHING`."""

Answer = Callable[[Path, np.ndarray], np.ndarray]
"""A frame's file, and the frame uint8 (H,W,3) -> its classes uint8 (H,W), Cityscapes' trainIds."""


@dataclass(frozen=True)
class Labelled:
    """Labelled frames of a real data set: (frame, label map) files."""

    dataset: str
    split: str
    files: list[tuple[Path, Path]]

    @property
    def classes(self) -> LabelSet:
        """Those that are scored."""
        return label_set(self.dataset)

    def triples(self) -> Iterator[tuple[Path, np.ndarray, np.ndarray]]:
        """A frame's file, the frame uint8 (H,W,3) RGB, and its trainIds uint8 (H,W)."""
        for frame, labels in self.files:
            yield frame, read_frame(frame), read_labels(labels, self.dataset)


def measure(out: Path, quick: bool = False) -> pd.DataFrame:
    """Score every student that ships, and stored answers of their teacher, on each real data set that is here.

    Args:
        out: folder; gets tables/zero_shot_classes.csv, too.
        quick: two frames of each data set.

    Returns:
        A row a data set and network: dataset, split, network, run_id, sha256 (of the weights), learned_from (of the data set),
        width, height (of the frames), seen_width, seen_height, frames, classes (that are scored: CamVid's 11 or Cityscapes' 19),
        miou, pixel_accuracy, miou_native (had the network seen the frames at their own size). A class that is neither in a label
        nor in an answer does not count. The teacher has no run, weights or size here.

    Raises:
        FileNotFoundError: neither CamVid nor Cityscapes is on this machine.
    """
    rows, by_class = [], []
    for labelled in labelled_sets(2 if quick else None):
        for name in NAMES:
            row, classes = score(name, registry.shipped(name), labelled)
            rows.append(row)
            by_class += classes
        if (maps := _maps_of(labelled)) is not None:
            confusion = _confusion(lambda path, _: cv2.imread(str(maps / path.name), cv2.IMREAD_UNCHANGED), labelled)  # noqa: B023
            rows.append(_shared(TEACHER, labelled) | _scores(confusion))
            by_class += _by_class(TEACHER, labelled, confusion)
    write_table(out, "zero_shot_classes", pd.DataFrame(by_class))
    return pd.DataFrame(rows)


def _maps_of(labelled: Labelled) -> Path | None:
    """The folder of the teacher's label maps of a data set, where there is one for every frame."""
    root = find_dataset("teacher_maps")
    if root is None:
        return None
    dataset = {"cityscapes": "cityscapes_sample"}.get(labelled.dataset, labelled.dataset)
    names = {frame.name for frame, _ in labelled.files}
    folders = {path.parent for path in (root / dataset / "labels").rglob(labelled.files[0][0].name)}
    return next((one for one in folders if names <= {path.name for path in one.iterdir()}), None)


def labelled_sets(limit: int | None = None) -> list[Labelled]:
    """The real data sets on this machine; of Cityscapes' val, where there is any, else of its train.

    Raises:
        FileNotFoundError: there is none.
    """
    sets = []
    if (root := find_dataset("camvid")) is not None:
        (clip,) = camvid_snippets(root, "val", limit)
        sets.append(Labelled("camvid", "val", [(frame, clip.labels[t]) for t, frame in enumerate(clip.frames)]))
    if (root := find_dataset("cityscapes")) is not None:
        splits = {split: list(islice(_cityscapes_files(root, split), limit)) for split in ("val", "train")}
        sets += [Labelled("cityscapes", split, files) for split, files in splits.items() if files][:1]
    if not sets:
        raise NotFoundError("neither CamVid nor Cityscapes is on this machine; data/README.md says how to get them")
    return sets


def _cityscapes_files(root: Path, split: str) -> Iterator[tuple[Path, Path]]:
    for labels in sorted((root / "gtFine" / split).glob("*/*_gtFine_labelIds.png")):
        name = labels.name.replace("_gtFine_labelIds", "_leftImg8bit")
        places = [root / tree / split / labels.parent.name / name for tree in ("leftImg8bit", "leftImg8bit_sequence")]
        if frame := next((place for place in places if place.exists()), None):
            yield frame, labels


def score(name: str, model: SegmentationModel, labelled: Labelled) -> tuple[dict, list[dict]]:
    """A network's row, and its rows by class.

    Returns:
        As a row of `measure`; and dataset, network, class, share (of the labelled pixels), iou, taken_for (the wrong answer that
        most of the class's pixels got) and taken_for_share (of the class's pixels); shares in 0..1.
    """
    confusion = _confusion(_answers(model), labelled)
    row = _shared(name, labelled)
    frame = (row["width"], row["height"])
    seen_width, seen_height = size_for(model, frame) or frame
    row |= {"run_id": registry.shipped_notes(name).get("run_id", ""), "sha256": registry.weights_hash(name)}
    row |= {"seen_width": seen_width, "seen_height": seen_height} | _scores(confusion)
    row |= {"miou_native": _mean(_confusion(_answers(model, NATIVE), labelled))}
    return row, _by_class(name, labelled, confusion)


def scores_of(model: SegmentationModel, labelled: Labelled) -> dict[str, float]:
    """`miou` and `pixel_accuracy`, 0..1, of a network that sees the frames as `tcseg segment` shows them."""
    return _scores(_confusion(_answers(model), labelled))


def _shared(name: str, labelled: Labelled) -> dict:
    """What a row says before any score."""
    first, names = read_frame(labelled.files[0][0]), labelled.classes.classes
    return {
        **{"dataset": labelled.dataset, "split": labelled.split, "network": name, "run_id": "", "sha256": ""},
        "learned_from": LEARNED[labelled.dataset].get(name, NOTHING),
        **{"width": first.shape[1], "height": first.shape[0], "seen_width": pd.NA, "seen_height": pd.NA},
        **{"frames": len(labelled.files), "classes": len(names)},
    }


def _scores(confusion: np.ndarray) -> dict[str, float]:
    return {"miou": _mean(confusion), "pixel_accuracy": round(float(np.trace(confusion) / confusion.sum()), 5)}


def _mean(confusion: np.ndarray) -> float:
    return round(float(np.nanmean(Overlap.from_confusion(confusion).iou())), 5)


def _by_class(network: str, labelled: Labelled, confusion: np.ndarray) -> list[dict]:
    """The rows of a network by class; see `score`."""
    names, iou = labelled.classes.classes, Overlap.from_confusion(confusion).iou()
    shares = confusion.sum(1) / confusion.sum()
    rows = []
    for k, title in enumerate(names):
        wrong = confusion[k, : len(names)].copy()
        wrong[k] = 0
        other = int(wrong.argmax())
        rows.append({
            **{"dataset": labelled.dataset, "network": network, "class": title},
            **{"share": round(float(shares[k]), 5), "iou": round(float(iou[k]), 5)},
            "taken_for": names[other] if wrong[other] else "",
            "taken_for_share": round(float(wrong[other] / confusion[k].sum()) if wrong[other] else 0.0, 5),
        })  # fmt: skip
    return rows


def _answers(model: SegmentationModel, size: Size = None) -> Answer:
    """What a network answers, as `tcseg segment` shows it the frames."""
    opened: dict[tuple, FrameRunner] = {}

    def answer(_: Path, frame: np.ndarray) -> np.ndarray:
        if frame.shape not in opened:
            opened.clear()
            opened[frame.shape] = open_runners([model], "pytorch", frame, True, size)[0][0]
        return opened[frame.shape](frame)[0]

    return answer


def _confusion(answer: Answer, labelled: Labelled) -> np.ndarray:
    """Pixels of label i answered as j, (K,K+1), over all frames."""
    total = 0
    for path, frame, labels in labelled.triples():
        if labels.shape != frame.shape[:2]:
            raise InputError(f"a label map of {labelled.dataset} is {labels.shape}, its frame {frame.shape[:2]}: they must agree")
        predicted = answer(path, frame)
        predicted = cityscapes_to_camvid(predicted) if labelled.dataset == "camvid" else predicted
        total = total + confusion_matrix(labels, predicted, labelled.classes.num_classes)
    return total
