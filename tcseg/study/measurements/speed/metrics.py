"""Time to compute the metrics of a frame on one core, by part."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from tcseg.labels import CITYSCAPES, IGNORE
from tcseg.machine import cpu_name
from tcseg.metrics import segmentation, temporal, trajectories
from tcseg.study.trivial_predictors import smooth_noise

BUDGET = "mIoU + TC + flicker"


def measure(out: Path, quick: bool = False) -> pd.DataFrame:
    """Time every part of `split_scores.count_clip` on pictures of patches with a tenth of the answers wrong.

    Args:
        out: where the table will be written; unused, as nothing else is.
        quick: one small size, few repetitions.

    Returns:
        Columns cpu, width, height, repetitions, part, ms (median of the process's CPU time a frame). The row "mIoU + TC +
        flicker" is the next three parts together: what a frame must cost at least; the last row is everything for one flow.
    """
    sizes, repetitions = (((128, 64),), 3) if quick else (((512, 256), (1024, 512), (2048, 1024)), 40)
    rows = []
    for width, height in sizes:
        parts = {name: _milliseconds(part, repetitions) for name, part in _parts(width, height).items()}
        core = dict(list(parts.items())[:3])
        parts = {BUDGET: sum(core.values()), **parts, "everything, one flow": sum(parts.values())}
        same = {"cpu": cpu_name(), "width": width, "height": height, "repetitions": repetitions}
        rows += [{**same, "part": name, "ms": round(ms, 3)} for name, ms in parts.items()]
    return pd.DataFrame(rows)


def _milliseconds(part: Callable[[], object], repetitions: int) -> float:
    """Median CPU time of a call, after one that compiles: other processes may have the core in between, and do not count."""
    part()
    times = []
    for _ in range(repetitions):
        start = time.process_time_ns()
        part()
        times.append(time.process_time_ns() - start)
    return float(np.median(times)) / 1e6


def _parts(width: int, height: int) -> dict[str, Callable[[], object]]:
    rng = np.random.default_rng(0)
    num_classes = CITYSCAPES.num_classes
    labels = np.kron(rng.integers(0, num_classes, (height // 16, width // 16)), np.ones((16, 16))).astype(np.uint8)
    wrong = rng.random(labels.shape) < 0.1
    predicted = np.where(wrong, rng.integers(0, num_classes, labels.shape), labels).astype(np.uint8)
    flow, visible = smooth_noise(labels.shape, 2.0, rng), rng.random(labels.shape) < 0.95
    band = segmentation.boundary_band(labels)
    confusion = segmentation.confusion_matrix(labels, predicted, num_classes)
    groups, members = segmentation.categories(CITYSCAPES), np.where(band, labels, np.uint8(IGNORE))
    followed, windows, positions = (
        trajectories.Trajectories(),
        trajectories.Windows(),
        trajectories.Positions(band.shape),
    )
    return {
        "confusion matrix": lambda: segmentation.confusion_matrix(labels, predicted, num_classes),
        "boundary band": lambda: segmentation.boundary_band(labels),
        "a pair: TC in all masks, flicker": lambda: temporal.count_pair(
            predicted, predicted, flow, visible, num_classes, (labels, labels, band)
        ),
        "confusion matrix in the band": lambda: segmentation.confusion_matrix(members, predicted, num_classes),
        "categories": lambda: segmentation.group_overlap(confusion, groups),
        "ETC's script": lambda: temporal.etc_compat(predicted, predicted, flow, num_classes),
        "a step of a trajectory": lambda: followed.step(predicted, labels, (flow, visible)),
        "a step of VC8 and VC16": lambda: windows.step(predicted, labels),
        "a step of chained flow": lambda: positions.advance(flow, visible),
    }
