"""The included students on real streets, without any fine-tuning.

The networks see frames as `tcseg segment` shows them by default, and are scored at the frames' own size. CamVid's validation split
is one street, and of Cityscapes a machine may have few labelled frames: no interval would say how these networks do on another
street, so there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

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
from tcseg.video.pipeline import open_runners

NAMES = (*registry.SHIPPED, registry.FAST)


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

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Frames uint8 (H,W,3) RGB with their trainIds uint8 (H,W)."""
        for frame, labels in self.files:
            yield read_frame(frame), read_labels(labels, self.dataset)


def measure(out: Path, quick: bool = False) -> pd.DataFrame:
    """Score every student that ships on each real data set that is here.

    Args:
        out: folder; gets tables/zero_shot_classes.csv, too.
        quick: two frames of each data set.

    Returns:
        A row a data set and network: dataset, split, network, run_id, sha256 (of the weights), width, height (of the frames),
        seen_width, seen_height, frames, classes (that are scored: CamVid's 11 or Cityscapes' 19), miou, pixel_accuracy, miou_native
        (had the network seen the frames at their own size). A class that is neither in a label nor in an answer does not count.

    Raises:
        FileNotFoundError: neither CamVid nor Cityscapes is on this machine.
    """
    rows, by_class = [], []
    for labelled in labelled_sets(2 if quick else None):
        for name in NAMES:
            row, classes = score(name, registry.shipped(name), labelled)
            rows.append(row)
            by_class += classes
    write_table(out, "zero_shot_classes", pd.DataFrame(by_class))
    return pd.DataFrame(rows)


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
    confusion, first = _confusion(model, labelled), read_frame(labelled.files[0][0])
    frame = (first.shape[1], first.shape[0])
    network_frame = size_for(model, frame) or frame
    overlap, names = Overlap.from_confusion(confusion), labelled.classes.classes
    same = {"dataset": labelled.dataset, "network": name}
    row = {
        **{"dataset": labelled.dataset, "split": labelled.split, "network": name},
        "run_id": registry.shipped_notes(name)["run_id"],
        "sha256": registry.weights_hash(name),
        **{"width": frame[0], "height": frame[1], "seen_width": network_frame[0], "seen_height": network_frame[1]},
        **{"frames": len(labelled.files), "classes": len(names)},
        "miou": _mean(overlap),
        "pixel_accuracy": round(float(np.trace(confusion) / confusion.sum()), 5),
        "miou_native": _mean(Overlap.from_confusion(_confusion(model, labelled, NATIVE))),
    }
    shares = confusion.sum(1) / confusion.sum()
    classes = []
    for k, (title, iou) in enumerate(zip(names, overlap.iou(), strict=True)):
        wrong = confusion[k, : len(names)].copy()
        wrong[k] = 0
        other = int(wrong.argmax())
        mistaken_for = names[other] if wrong[other] else ""
        share = wrong[other] / confusion[k].sum() if wrong[other] else 0.0
        facts = {"class": title, "share": round(float(shares[k]), 5), "iou": round(float(iou), 5)}
        classes.append(same | facts | {"taken_for": mistaken_for, "taken_for_share": round(float(share), 5)})
    return row, classes


def _mean(overlap: Overlap) -> float:
    return round(float(np.nanmean(overlap.iou())), 5)


def _confusion(model: SegmentationModel, labelled: Labelled, size: Size = None) -> np.ndarray:
    """Pixels of label i answered as j, (K,K+1), over all frames; each is seen as `tcseg segment` shows it."""
    total, runner, shape = 0, None, None
    for frame, labels in labelled.pairs():
        if labels.shape != frame.shape[:2]:
            raise InputError(f"a label map of {labelled.dataset} is {labels.shape}, its frame {frame.shape[:2]}: they must agree")
        if frame.shape != shape:
            (runner,), shape = open_runners([model], "pytorch", frame, True, size)[0], frame.shape
        predicted = runner(frame)[0]
        predicted = cityscapes_to_camvid(predicted) if labelled.dataset == "camvid" else predicted
        total = total + confusion_matrix(labels, predicted, labelled.classes.num_classes)
    return total
