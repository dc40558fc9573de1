"""Metrics with torchmetrics' protocol: `update` with each batch, `compute` at the end, `reset` before the next evaluation.

They add up counts, so the result over many batches equals the result over all data at once; it is not a mean over batches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from tcseg.errors import InputError
from tcseg.labels import IGNORE
from tcseg.metrics.segmentation import Overlap, confusion_matrix
from tcseg.metrics.temporal import Flicker, count_pair

if TYPE_CHECKING:
    import torch

    Maps = np.ndarray | torch.Tensor


class Metric(ABC):
    """Base class of the metrics in this module.

    Args:
        num_classes: K, in 1..255. Maps hold classes 0..K-1; 255 in labels = ignore. Predictions of K or more count as wrong.
    """

    def __init__(self, num_classes: int) -> None:
        if not 1 <= num_classes <= IGNORE:
            raise InputError(f"num_classes is {num_classes}; it must be in 1..{IGNORE}")
        self.num_classes = num_classes
        self.reset()

    @abstractmethod
    def reset(self) -> None:
        """Forget all counts."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The values since the last reset, shares in 0..1; nan without counted pixels."""


class MeanIoU(Metric):
    """Mean intersection over union over the classes present in labels or predictions, as in the Cityscapes benchmark.

    Example:
        >>> metric = tcseg.MeanIoU(num_classes=3)
        >>> metric.update(np.array([[0, 1], [1, 2]]), np.array([[0, 1], [2, 2]]))
        >>> round(metric.compute()["miou"], 3)
        0.667
    """

    def reset(self) -> None:
        """Forget all counts."""
        self.counts = Overlap.zero(self.num_classes)

    def update(self, predictions: Maps, labels: Maps) -> None:
        """Count label maps.

        Args:
            predictions, labels: classes, both (H,W) or (B,H,W), any integer type, arrays or tensors of any device.

        Raises:
            InputError: shapes differ, a label is neither a class nor 255, or a map has values other than integers in 0..255.
        """
        predicted, true = (_as_maps(name, maps) for name, maps in (("predictions", predictions), ("labels", labels)))
        self.counts += Overlap.from_confusion(confusion_matrix(true, predicted, self.num_classes))

    def compute(self) -> dict[str, float]:
        """`miou` and pixel `accuracy`."""
        return {"miou": float(self.counts.miou()), "accuracy": self.counts.accuracy()}

    def iou(self) -> np.ndarray:
        """IoU of each class, (K,); nan for a class that is absent from predictions and labels."""
        return self.counts.iou()


class TemporalConsistency(Metric):
    """Mean IoU between the prediction for a frame and the next one, warped back along the flow (Varghese et al. 2020).

    A constant prediction has the value 1, so report it together with the mean IoU and the value of the true labels.

    Example:
        >>> metric = tcseg.TemporalConsistency(num_classes=2)
        >>> still = np.zeros((2, 2, 2), np.float32)  # the flow of a scene at rest
        >>> metric.update(np.array([[0, 1], [1, 1]]), np.array([[0, 1], [1, 0]]), still)
        >>> round(metric.compute()["tc"], 3)
        0.583
    """

    def reset(self) -> None:
        """Forget all counts."""
        self.counts = Overlap.zero(self.num_classes)

    def update(self, map_a: Maps, map_b: Maps, flow_ab: Maps, visible: Maps | None = None) -> None:
        """Count pairs of neighbouring frames.

        Args:
            map_a, map_b: predicted classes, (H,W) or (B,H,W).
            flow_ab: (2,H,W) or (B,2,H,W): where a pixel of a lies in b, in pixels, x first.
            visible: bool, same shape as the maps: pixels of a that are visible in b. None = all pixels that stay in the frame.

        Raises:
            InputError: shapes differ, or maps are not of integers 0..255.
        """
        for a, b, flow, visible_pixels in _pairs(map_a, map_b, flow_ab, visible):
            self.counts += count_pair(a, b, flow, visible_pixels, self.num_classes).overlaps()["tc"]

    def compute(self) -> dict[str, float]:
        """`tc`."""
        return {"tc": float(self.counts.miou())}


class FlickerRate(Metric):
    """Share of visible pixels whose predicted class changes although the true class stays the same.

    Example:
        >>> metric = tcseg.FlickerRate(num_classes=2)
        >>> still, road = np.zeros((2, 2, 2), np.float32), np.zeros((2, 2), np.uint8)
        >>> metric.update(np.array([[0, 1], [0, 0]]), np.array([[0, 0], [0, 0]]), still, road, road)
        >>> metric.compute()["flicker"], metric.compute()["harmful_flicker"]
        (0.25, 0.0)
    """

    def reset(self) -> None:
        """Forget all counts."""
        self.counts = Flicker()

    def update(
        self, map_a: Maps, map_b: Maps, flow_ab: Maps, labels_a: Maps, labels_b: Maps, visible: Maps | None = None
    ) -> None:
        """Count pairs of neighbouring frames, as `TemporalConsistency.update`, with the true classes of both.

        Raises:
            InputError: shapes differ, or maps are not of integers 0..255.
        """
        true = (_batch("labels_a", labels_a), _batch("labels_b", labels_b))
        pairs = list(_pairs(map_a, map_b, flow_ab, visible))
        for name, labels in zip(("labels_a", "labels_b"), true, strict=True):
            if labels.shape != (len(pairs), *pairs[0][0].shape):
                raise InputError(
                    f"{name} has shape {labels.shape}, but the maps have {(len(pairs), *pairs[0][0].shape)}; they must be equal"
                )
        for (a, b, flow, visible_pixels), labels in zip(pairs, zip(*true, strict=True), strict=True):
            flicker = count_pair(a, b, flow, visible_pixels, self.num_classes, (*labels, np.zeros_like(visible_pixels))).flicker
            self.counts = Flicker(
                *(x + y for x, y in zip(vars(self.counts).values(), vars(flicker).values(), strict=True))
            )

    def compute(self) -> dict[str, float]:
        """`flicker`; `harmful_flicker`, on correct pixels; `healed` and `wandering`, on wrong pixels."""
        return {name: share.value() for name, share in self.counts.shares().items()}


def _as_array(values: Maps) -> np.ndarray:
    """Convert an array or a tensor of any device to an array, without importing torch."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def _as_maps(name: str, maps: Maps) -> np.ndarray:
    """Integer maps on the CPU as uint8, as the kernels take them."""
    array = _as_array(maps)
    if array.dtype.kind not in "iub":
        raise InputError(f"{name} has type {array.dtype}; it must hold integer classes: take the argmax of the scores")
    if array.size and (array.min() < 0 or array.max() > IGNORE):
        raise InputError(f"{name} has values {array.min()}..{array.max()}; they must be in 0..{IGNORE}")
    return array.astype(np.uint8)


def _batch(name: str, maps: Maps) -> np.ndarray:
    array = _as_maps(name, maps)
    if array.ndim not in (2, 3):
        raise InputError(f"{name} has shape {array.shape}; it must be (H,W) or (B,H,W)")
    return array[None] if array.ndim == 2 else array


def _pairs(map_a: Maps, map_b: Maps, flow_ab: Maps, visible: Maps | None) -> list[tuple[np.ndarray, ...]]:
    """Each pair's maps, flow and visibility."""
    a, b = _batch("map_a", map_a), _batch("map_b", map_b)
    flow = _as_array(flow_ab)
    flow = (flow[None] if flow.ndim == 3 else flow).astype(np.float32)
    visible_pixels = np.ones(a.shape, bool) if visible is None else _batch("visible", visible).astype(bool)
    flow_shape = (len(a), 2, *a.shape[1:])
    for name, shape, required in (
        ("map_b", b.shape, a.shape),
        ("flow_ab", flow.shape, flow_shape),
        ("visible", visible_pixels.shape, a.shape),
    ):
        if shape != required:
            raise InputError(f"{name} has shape {shape}; it must be {required}, because map_a has shape {a.shape}")
    return list(zip(a, b, flow, visible_pixels, strict=True))
