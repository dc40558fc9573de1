"""Segmentation metrics: confusion counts first, then shares.

Everything is reduced to counts that add up over frames, clips and processes; a mean over classes is taken once, at the end, of
the summed counts. That is the official Cityscapes rule (one global confusion matrix) and it lets an interval leave
clips out (`intervals.py`). Label maps are uint8 trainIds with 255 = ignore. Metrics over time are in `temporal.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit

from tcseg.errors import InputError
from tcseg.labels import CITYSCAPES_ROWS, IGNORE, LabelSet

BAND = 0.005
"""Half-width of the boundary band as a share of the picture's diagonal (what Cheng et al. 2021 take for Cityscapes)."""

AVERAGE_INSTANCE = {
    "person": 3462.4756337644, "rider": 3930.4788056518, "car": 12794.0202738185, "truck": 27855.1264367816,
    "bus": 35732.1511111111, "train": 67583.7075812274, "motorcycle": 6298.7200839748, "bicycle": 4672.3249222261,
}  # fmt: skip
"""Mean pixels of an instance in Cityscapes' train split at 2048x1024 (cityscapesscripts, evalPixelLevelSemanticLabeling)."""


@njit(cache=True, nogil=True)
def _count(labels, predictions, confusion) -> int:
    """Add C[label, prediction] of flat maps; returns a label that is not a class, or -1."""
    num_classes = confusion.shape[0]
    for i in range(labels.size):
        label = labels[i]
        if label != IGNORE:
            if label >= num_classes:
                return int(label)
            confusion[label, min(predictions[i], num_classes)] += 1
    return -1


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Pixel counts C[i, j] of label i predicted as j.

    Ignored labels are dropped. An ignored (or unknown) prediction on a labelled pixel counts as a miss: it is in column K.

    Args:
        labels, predictions: uint8 arrays of one shape.
        num_classes: K.

    Returns:
        int64 (K, K+1).

    Raises:
        ValueError: shapes or types differ, or a label is neither below K nor 255.
    """
    if labels.shape != predictions.shape:
        raise InputError(
            f"labels are {labels.shape} but predictions {predictions.shape}; resize the logits, then argmax"
        )
    if labels.dtype != np.uint8 or predictions.dtype != np.uint8:
        raise InputError(f"labels are {labels.dtype} and predictions {predictions.dtype}; both must be uint8 trainIds")
    confusion = np.zeros((num_classes, num_classes + 1), np.int64)
    wrong = _count(np.ravel(labels), np.ravel(predictions), confusion)
    if wrong >= 0:
        raise InputError(f"labels contain {wrong}; with {num_classes} classes they must be below {num_classes} or 255")
    return confusion


@dataclass(frozen=True)
class Overlap:
    """Per-class counts behind an IoU, each (..., K): pixels in both, in the prediction, in the label."""

    intersection: np.ndarray
    predicted: np.ndarray
    labelled: np.ndarray

    @classmethod
    def zero(cls, num_classes: int) -> Overlap:
        """Nothing counted yet."""
        return cls(*(np.zeros(num_classes, np.int64) for _ in range(3)))

    @classmethod
    def from_confusion(cls, confusion: np.ndarray) -> Overlap:
        """Counts of a (K, K+1) or (K+1, K+1) confusion matrix; what is beyond K belongs to no class."""
        num_classes = confusion.shape[1] - 1
        return cls(
            confusion.diagonal()[:num_classes].copy(), confusion[:, :num_classes].sum(0), confusion[:num_classes].sum(1)
        )

    def __add__(self, other: Overlap) -> Overlap:
        return Overlap(
            self.intersection + other.intersection, self.predicted + other.predicted, self.labelled + other.labelled
        )

    def __sub__(self, other: Overlap) -> Overlap:
        return Overlap(
            self.intersection - other.intersection, self.predicted - other.predicted, self.labelled - other.labelled
        )

    def counted(self) -> bool:
        """Whether any pixel was counted."""
        return bool(self.labelled.any() or self.predicted.any())

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
        """Share of labelled pixels that are right; nan if there are none."""
        labelled = self.labelled.sum()
        return float(self.intersection.sum() / labelled) if labelled else float("nan")


@dataclass(frozen=True)
class Share:
    """A share `count / total` that can be summed."""

    count: float = 0
    total: float = 0

    def __add__(self, other: Share) -> Share:
        return Share(self.count + other.count, self.total + other.total)

    def counted(self) -> bool:
        """Whether anything was counted."""
        return bool(self.total)

    def value(self) -> float:
        """The share, nan if there was nothing to count."""
        return self.count / self.total if self.total else float("nan")


def overlap(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> Overlap:
    """Counts behind the IoU of two maps of one shape (see `confusion_matrix`)."""
    return Overlap.from_confusion(confusion_matrix(labels, predictions, num_classes))


def classes(label_set: LabelSet) -> dict[str, list[int]]:
    """Every class as a group of its own, name -> [trainId]."""
    return {name: [index] for index, name in enumerate(label_set.classes)}


def categories(label_set: LabelSet) -> dict[str, list[int]]:
    """Cityscapes' categories, name -> trainIds; empty for a label set that has none (CamVid)."""
    if label_set.name != "cityscapes":
        return {}
    groups: dict[str, list[int]] = {}
    for row in CITYSCAPES_ROWS:
        if not row.ignore_in_eval:
            groups.setdefault(row.category, []).append(row.train_id)
    return groups


def group_overlap(confusion: np.ndarray, groups: dict[str, list[int]]) -> Overlap:
    """Counts behind the IoU of groups of classes: within a group, every class is right.

    Args:
        confusion: (K, K+1).
        groups: name -> trainIds, as `categories` gives them.

    Returns:
        An `Overlap` over the groups.
    """
    member = np.zeros((len(groups) + 1, confusion.shape[1]), np.int64)
    member[-1, -1] = 1  # the column of misses stays what it is
    for group, train_ids in enumerate(groups.values()):
        member[group, train_ids] = 1
    return Overlap.from_confusion(member[:-1, :-1] @ confusion @ member.T)


def instance_overlap(
    confusion: np.ndarray, predictions: np.ndarray, instances: np.ndarray, groups: dict[str, list[int]]
) -> Overlap:
    """Counts behind iIoU: an instance's pixels weigh mean size / own size, so that a far car counts as much as a near one.

    `iIoU = iTP / (iTP + FP + iFN)` (Cordts et al. 2016, section 4.1): right and missed pixels are weighted, false ones are not.
    Cityscapes' mean sizes are those of 2048x1024 pictures; they are scaled to the area of this one.

    Args:
        confusion: (K, K+1) of the same frame.
        predictions: uint8 (H,W) trainIds.
        instances: integer (H,W), Cityscapes' instanceIds: label id * 1000 + number, a label id alone where there is no instance.
        groups: `classes` or `categories` of Cityscapes.

    Returns:
        float64 counts over the groups; zero for groups with a class that has no instances.
    """
    rows = {row.train_id: row for row in CITYSCAPES_ROWS if row.has_instances and not row.ignore_in_eval}
    group_of, train_of = np.full(256, -1), np.full(35, IGNORE)
    for group, train_ids in enumerate(groups.values()):
        group_of[train_ids] = group
    for train_id, row in rows.items():
        train_of[row.id] = train_id
    number = np.ravel(instances).astype(np.int64)
    number[number <= 1000] = 0
    size = np.bincount(number)
    right = np.bincount(number, group_of[np.ravel(predictions)] == group_of[train_of[number // 1000]], len(size))
    weighted = np.zeros((2, len(groups)))
    for one in np.flatnonzero(size[1001:]) + 1001:
        if (train_id := int(train_of[one // 1000])) in rows:
            weight = AVERAGE_INSTANCE[rows[train_id].name] * predictions.size / (2048 * 1024) / size[one]
            weighted[:, group_of[train_id]] += weight * right[one], weight * size[one]
    counts = group_overlap(confusion, groups)
    countable = np.array([all(train_id in rows for train_id in train_ids) for train_ids in groups.values()])
    hit, all_of_it = weighted * countable
    return Overlap(hit, hit + countable * (counts.predicted - counts.intersection), all_of_it)


def band_width(shape: tuple[int, int], share: float = BAND) -> int:
    """Pixels on each side of a border that belong to the band: a share of the diagonal of (H,W), at least one."""
    return max(1, round(share * float(np.hypot(*shape))))


def boundary_band(labels: np.ndarray, width: int | None = None) -> np.ndarray:
    """Pixels at most `width` rows and columns away from another true class.

    The band lies on both sides of a border, and of *true* borders only, so that all predictions are judged on the same pixels
    (a trimap, Kohli et al. 2009). Its width is relative to the diagonal as in Boundary IoU (Cheng et al. 2021), which takes the
    inner side of each mask's own border instead. Where a class meets void nobody knows the border: no band.

    Args:
        labels: uint8 (H,W) trainIds, 255 = void.
        width: pixels; default `band_width`.

    Returns:
        bool (H,W).
    """
    side = 2 * (width or band_width(labels.shape)) + 1
    window = np.ones((side, side), np.uint8)
    greatest = cv2.dilate(np.where(labels == IGNORE, np.uint8(0), labels), window)
    return greatest > cv2.erode(labels, window)
