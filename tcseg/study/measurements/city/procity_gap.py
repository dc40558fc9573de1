"""The gap between procity's cities: one teacher on new snippets of its training cities, and on the validation cities.

The two sets have the same style of snippet and as many clips, but not the same share of each class, and IoU depends on that. So
beside the IoU stands what does not: the recall, and val's IoU after weighting its pixels to the train cities' class shares.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from tcseg import procity
from tcseg.data.clips import Clips
from tcseg.evaluation import split_scores
from tcseg.labels import CITYSCAPES, ids_to_train_ids
from tcseg.metrics.intervals import clip_interval
from tcseg.metrics.segmentation import Overlap, confusion_matrix
from tcseg.models.networks import SegmentationModel
from tcseg.procity import writer

BLOCK = 8  # consecutive snippets that share a stratum of rare classes


def fresh_clips(first: int, count: int, size: tuple[int, int]) -> Clips:
    """Snippets of the training cities beyond those of the training split, as val's are: all frames, all labelled.

    Args:
        first: how many the training split has; rounded up to whole strata.
        count: snippets.
        size: (W,H).

    Returns:
        Clips without flow.
    """
    start = -(-first // BLOCK) * BLOCK
    frames = np.empty((count, procity.FRAMES, 3, size[1], size[0]), np.uint8)
    labels = np.empty((count, procity.FRAMES, size[1], size[0]), np.uint8)
    names = []
    for i in range(count):
        snippet = writer.SnippetTask("", "train", start + i, size)
        sequence = snippet.sequence()
        for t in range(procity.FRAMES):
            frame = sequence.render(t, flow=(False, False))
            frames[i, t], labels[i, t] = frame.image.transpose(2, 0, 1), ids_to_train_ids(frame.label_ids)
        names.append(f"{snippet.city}_{snippet.index:06d}")
    key = hashlib.sha256(f"{procity.VERSION} {start} {count} {size}".encode()).hexdigest()[:12]
    return Clips("procity", "train-cities", frames, labels, np.ones(labels.shape[:2], bool), {}, names, key)


def confusions(model: SegmentationModel, clips: Clips) -> np.ndarray:
    """Pixel counts by clip, label and prediction, int64 (N,K,K+1); see `segmentation.confusion_matrix`."""
    classes, counts = clips.label_set.num_classes, []
    for frames, labels in zip(clips.frames, clips.labels, strict=True):
        counts.append(confusion_matrix(np.asarray(labels), split_scores.predict(model, np.asarray(frames)), classes))
    return np.stack(counts)


def reweighted(confusion: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """A confusion matrix (K,K+1) as it would be if each label had the given share (K,) of the pixels; float64."""
    return confusion / np.maximum(1, confusion.sum(1, keepdims=True)) * shares[:, None]


def _recall(confusion: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.diag(confusion) / confusion.sum(1)


def class_gap(train: np.ndarray, val: np.ndarray) -> pd.DataFrame:
    """Per class: share, IoU and recall in the train cities and in val's, and val's IoU at the train cities' shares.

    Args:
        train, val: confusion matrices by clip, (N,K,K+1).
    """
    train_pixels, val_pixels = train.sum(0), val.sum(0)
    shares = train_pixels.sum(1) / train_pixels.sum()
    return pd.DataFrame(
        {
            "class": CITYSCAPES.classes,
            "share_train_cities": shares,
            "share_val_cities": val_pixels.sum(1) / val_pixels.sum(),
            "iou_train_cities": Overlap.from_confusion(train_pixels).iou(),
            "iou_val_cities": Overlap.from_confusion(val_pixels).iou(),
            "iou_val_cities_reweighted": Overlap.from_confusion(reweighted(val_pixels, shares)).iou(),
            "recall_train_cities": _recall(train_pixels),
            "recall_val_cities": _recall(val_pixels),
        }
    )


def gap_facts(train: np.ndarray, val: np.ndarray) -> dict[str, float]:
    """The teacher's mIoU on both sets with intervals over clips, mean recall, and val's mIoU at the train cities' shares."""
    table, facts = class_gap(train, val), {}
    for name, counts in (("train", train), ("val", val)):
        overlaps = [Overlap.from_confusion(confusion) for confusion in counts]
        fields = ("intersection", "predicted", "labelled")
        interval = clip_interval({field: [getattr(overlap, field) for overlap in overlaps] for field in fields})
        facts[f"teacher_miou_{name}_cities"] = interval.value
        facts[f"teacher_miou_{name}_cities_low"] = interval.low
        facts[f"teacher_miou_{name}_cities_high"] = interval.high
        facts[f"teacher_recall_{name}_cities"] = table[f"recall_{name}_cities"].mean()
        facts[f"teacher_accuracy_{name}_cities"] = np.trace(counts.sum(0)) / counts.sum()
    return facts | {"teacher_miou_val_cities_reweighted": table["iou_val_cities_reweighted"].mean()}
