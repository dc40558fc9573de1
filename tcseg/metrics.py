"""Segmentation and temporal metrics: counts first, shares last.

Everything is reduced to integer counts that add up over frames, clips and processes; a mean over classes is taken once, at the
end, of the summed counts. That is the official Cityscapes rule (one global confusion matrix) and it lets the bootstrap resample
clips (`stats.py`). Label maps are uint8 trainIds with 255 = ignore.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tcseg.labels import IGNORE


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Pixel counts C[i, j] of label i predicted as j.

    Ignored labels are dropped. An ignored (or unknown) prediction on a labelled pixel counts as a miss: it is in column K.

    Args:
        labels, predictions: integer arrays of one shape.
        num_classes: K.

    Returns:
        int64 (K, K+1).

    Raises:
        ValueError: shapes differ, or a label is neither below K nor 255.
    """
    if labels.shape != predictions.shape:
        raise ValueError(
            f"labels are {labels.shape} but predictions {predictions.shape}; resize the logits, then argmax"
        )
    counted = labels != IGNORE
    truth = labels[counted].astype(np.int64)
    if truth.size and truth.max() >= num_classes:
        raise ValueError(
            f"labels contain {truth.max()}; with {num_classes} classes they must be below {num_classes} or 255"
        )
    guess = np.minimum(predictions[counted].astype(np.int64), num_classes)
    flat = np.bincount(truth * (num_classes + 1) + guess, minlength=num_classes * (num_classes + 1))
    return flat.reshape(num_classes, num_classes + 1)


@dataclass(frozen=True)
class Overlap:
    """Per-class counts behind an IoU, each int64 (..., K): pixels in both, in the prediction, in the label."""

    intersection: np.ndarray
    predicted: np.ndarray
    labelled: np.ndarray

    @classmethod
    def from_confusion(cls, confusion: np.ndarray) -> Overlap:
        """Counts of a (K, K+1) confusion matrix."""
        num_classes = confusion.shape[0]
        return cls(np.diag(confusion).copy(), confusion[:, :num_classes].sum(0), confusion.sum(1))

    def __add__(self, other: Overlap) -> Overlap:
        return Overlap(
            self.intersection + other.intersection, self.predicted + other.predicted, self.labelled + other.labelled
        )

    def iou(self) -> np.ndarray:
        """IoU per class (..., K), nan where a class is in neither map."""
        union = self.predicted + self.labelled - self.intersection
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(union > 0, self.intersection / union, np.nan)

    def miou(self) -> np.ndarray | float:
        """Mean IoU over the classes present in either map; nan if there is none."""
        iou = self.iou()
        present = ~np.isnan(iou)
        total = np.where(present, iou, 0).sum(-1)
        with np.errstate(invalid="ignore"):
            return total / present.sum(-1)

    def accuracy(self) -> float:
        """Share of labelled pixels that are right."""
        return float(self.intersection.sum() / max(1, self.labelled.sum()))


def overlap(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> Overlap:
    """Counts behind the IoU of two maps of one shape (see `confusion_matrix`)."""
    return Overlap.from_confusion(confusion_matrix(labels, predictions, num_classes))


def warp_map(labels_b: np.ndarray, flow_ab: np.ndarray) -> np.ndarray:
    """Bring label map b onto a's grid, nearest; `IGNORE` where the flow leaves the frame.

    Args:
        labels_b: (H,W) uint8.
        flow_ab: (2,H,W) float, pixels, x first: where a pixel of a lies in b.
    """
    height, width = labels_b.shape
    if flow_ab.shape != (2, height, width):
        raise ValueError(f"flow is {flow_ab.shape} but the label map {labels_b.shape}; need (2,H,W) and (H,W)")
    x = np.rint(np.arange(width, dtype=np.float32) + flow_ab[0]).astype(np.int32)
    y = np.rint(np.arange(height, dtype=np.float32)[:, None] + flow_ab[1]).astype(np.int32)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    warped = labels_b[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return np.where(inside, warped, np.uint8(IGNORE))


def temporal_overlap(map_a: np.ndarray, map_b_on_a: np.ndarray, mask: np.ndarray, num_classes: int) -> Overlap:
    """Counts behind temporal consistency: map a against map b warped onto a, over masked pixels that stay in the frame.

    TC (Varghese et al. 2020; Liu et al. 2020) is `.miou()` of these counts, summed over all pairs first.
    A perfect model's TC is below 1 (its borders are quantised): report `TC of the true labels` beside it as the ceiling.
    """
    counted = mask & (map_b_on_a != IGNORE) & (map_a != IGNORE)
    return overlap(np.where(counted, map_a, IGNORE).astype(np.uint8), map_b_on_a, num_classes)


@dataclass(frozen=True)
class Flicker:
    """Counts over visible pixels whose true label is the same in both frames (of a trajectory).

    Attributes:
        pixels: such pixels.
        changed: of them, with a prediction that changes.
        right: of them, predicted right in the first frame.
        spoiled: of `right`, wrong in the second.
    """

    pixels: int
    changed: int
    right: int
    spoiled: int


def flicker(
    pred_a: np.ndarray, pred_b_on_a: np.ndarray, labels_a: np.ndarray, labels_b_on_a: np.ndarray, mask: np.ndarray
) -> Flicker:
    """Count flicker between two frames; all maps (H,W) on a's grid, b's warped nearest.

    flicker = changed / pixels; harmful flicker = spoiled / right (the share of right pixels that turn wrong).
    """
    steady_truth = mask & (labels_a != IGNORE) & (labels_a == labels_b_on_a)
    changed = steady_truth & (pred_a != pred_b_on_a)
    right = steady_truth & (pred_a == labels_a)
    return Flicker(int(steady_truth.sum()), int(changed.sum()), int(right.sum()), int((right & changed).sum()))
