"""Estimated flow compared with procity's exact flow: error, time, and effect on TC.

Scenes are val's first clips, rendered at each width: the same streets and the same motion, so that errors in pixels grow with the
width while a good estimator's relative error does not. `flow.csv` is about the flow, `flow_tc.csv` about the scores that it gives.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

from tcseg import procity
from tcseg.data.clips import Clips
from tcseg.evaluation.split_scores import evaluate_predictor, predict
from tcseg.flow import estimate, visibility
from tcseg.labels import IGNORE, ids_to_train_ids
from tcseg.metrics.temporal import warp_map
from tcseg.models import registry
from tcseg.models.networks import SegmentationModel
from tcseg.procity.snippet_files import SnippetTask
from tcseg.study.measurements import write_table

SIZES = ((256, 128), (512, 256), (1024, 512))
STARTS = (3, 12, 21)  # first frames of a clip's pairs
TRUTH = "true labels"

Estimator = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Two frames, uint8 (H,W,3) RGB -> flow float32 (2,H,W) in pixels, from the first to the second."""


def _dis(preset: int) -> Estimator:
    """DIS (Kroeger et al. 2016) at one of OpenCV's presets."""

    def calc(frame_a: np.ndarray, frame_b: np.ndarray) -> np.ndarray:
        gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (frame_a, frame_b)]
        flow = cv2.DISOpticalFlow_create(preset).calc(*gray, None)
        return np.ascontiguousarray(flow.transpose(2, 0, 1), np.float32)

    return calc


def _of(method: str) -> Estimator:
    return lambda frame_a, frame_b: estimate(method, frame_a, frame_b)


ESTIMATORS: dict[str, Estimator] = {
    "zero": _of("zero"),
    "dis-ultrafast": _dis(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST),
    "dis-fast": _dis(cv2.DISOPTICAL_FLOW_PRESET_FAST),
    "dis": _of("dis"),  # preset medium: the study's
    "farneback": _of("farneback"),
    "raft": _of("raft"),
}
"""What is compared with the exact flow."""


@dataclass(frozen=True)
class Pair:
    """Two neighbouring frames with their truth.

    Attributes:
        frame_a, frame_b: uint8 (H,W,3) RGB.
        labels_a, labels_b: uint8 (H,W) trainIds, 255 = void.
        flow: float32 (2,H,W) pixels, exact.
        visible: bool (H,W), what of a is seen in b.
    """

    frame_a: np.ndarray
    frame_b: np.ndarray
    labels_a: np.ndarray
    labels_b: np.ndarray
    flow: np.ndarray
    visible: np.ndarray


def pairs(size: tuple[int, int], clips: int, starts: Iterable[int]) -> Iterator[Pair]:
    """Pairs of val's first clips, rendered on demand."""
    for index in range(clips):
        scene = SnippetTask("", "val", index, size).sequence()
        for t in starts:
            a, b = scene.render(t, flow=(True, False)), scene.render(t + 1, flow=(False, False))
            labels = (ids_to_train_ids(a.label_ids), ids_to_train_ids(b.label_ids))
            yield Pair(a.image, b.image, *labels, a.flow_forward, a.visible_forward)


def available() -> list[str]:
    """The estimators that run here without a download: RAFT only where its weights are."""
    from torchvision.models.optical_flow import Raft_Large_Weights

    weights = Path(torch.hub.get_dir(), "checkpoints", Path(Raft_Large_Weights.C_T_SKHT_V2.url).name)
    return [name for name in ESTIMATORS if name != "raft" or weights.exists()]


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV and torch on one thread."""
    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


def errors(flow: np.ndarray, pair: Pair) -> dict[str, float]:
    """Sums over a pair's pixels, to be added up over pairs.

    `wrong` counts KITTI's outliers (Menze and Geiger 2015), more than 3 px and more than 5 % off. `agree` counts pixels, visible
    and with a label, that arrive (nearest) at a pixel of the same label; one that the flow takes outside has not arrived.
    """
    error = np.hypot(*(flow - pair.flow))
    outlier = (error > 3) & (error > 0.05 * np.hypot(*pair.flow))
    labelled = pair.visible & (pair.labels_a != IGNORE)
    arrived = warp_map(pair.labels_b, flow)
    return {
        "pixels": error.size, "error": float(error.sum(dtype=np.float64)), "wrong": int(outlier.sum()),
        "visible": int(pair.visible.sum()), "error_visible": float(error[pair.visible].sum(dtype=np.float64)),
        "labelled": int(labelled.sum()), "agree": int((arrived == pair.labels_a)[labelled].sum()),
    }  # fmt: skip


def quality(size: tuple[int, int], clips: int, starts: Iterable[int], estimators: Iterable[str]) -> pd.DataFrame:
    """Errors and time of estimators at one size; sums over all pixels of all pairs, and the median time of a pair.

    Returns:
        A row an estimator, "exact" last: estimator, width, height; epe, epe_visible, epe_occluded (mean distance to the exact flow
        in pixels: all, seen in the next frame, hidden or gone there); fl_all, label_agreement (shares; see `errors`); ms (median
        of one pair on one thread, from two RGB frames; NaN for "exact", which is no estimate). NaN for what was not measured.
    """
    rows = []
    with one_thread():
        for pair in pairs(size, clips, starts):
            rows.append({"estimator": "exact", "ms": np.nan, **errors(pair.flow, pair)})
            for name in estimators:
                started = time.perf_counter()
                flow = ESTIMATORS[name](pair.frame_a, pair.frame_b)
                rows.append({"estimator": name, "ms": 1e3 * (time.perf_counter() - started), **errors(flow, pair)})
    grouped = pd.DataFrame(rows).groupby("estimator")
    total = grouped.sum()
    hidden = (total["pixels"] - total["visible"]).replace(0, np.nan)
    table = pd.DataFrame({
        "width": size[0],
        "height": size[1],
        "epe": total["error"] / total["pixels"],
        "epe_visible": total["error_visible"] / total["visible"],
        "epe_occluded": (total["error"] - total["error_visible"]) / hidden,
        "fl_all": total["wrong"] / total["pixels"],
        "label_agreement": total["agree"] / total["labelled"],
        "ms": grouped["ms"].median(),
    })  # fmt: skip
    return table.reindex([*ESTIMATORS, "exact"]).assign(width=size[0], height=size[1]).reset_index(names="estimator")


# ------------------------------------------------------------------------------------------------ what it does to TC


def val_clips(size: tuple[int, int], clips: int, frames: int) -> Clips:
    """Val's first clips in memory, with the exact flow; nothing is written."""
    images, labels, flows, visible = [], [], [], []
    for index in range(clips):
        scene = SnippetTask("", "val", index, size).sequence()
        rendered = [scene.render(t, flow=(t + 1 < frames, False)) for t in range(frames)]
        images.append([frame.image.transpose(2, 0, 1) for frame in rendered])
        labels.append([ids_to_train_ids(frame.label_ids) for frame in rendered])
        flows.append([frame.flow_forward for frame in rendered[:-1]])
        visible.append([frame.visible_forward for frame in rendered[:-1]])
    exact = (np.array(flows, np.float32), np.array(visible))
    names = [f"val_{index:06d}" for index in range(clips)]
    annotated = np.ones((clips, frames), bool)
    return Clips("procity", "val", np.array(images), np.array(labels), annotated, {"exact": exact}, names, "")


def estimated(clips: Clips, name: str) -> tuple[np.ndarray, np.ndarray]:
    """An estimator's flow t -> t+1 of every pair of clips, float32 (N,T-1,2,H,W), and its own forward-backward visibility."""
    flows, visible = [], []
    for frames in clips.frames.transpose(0, 1, 3, 4, 2):
        frames = np.ascontiguousarray(frames)
        forward = np.stack([ESTIMATORS[name](a, b) for a, b in zip(frames[:-1], frames[1:])])
        backward = np.stack([ESTIMATORS[name](b, a) for a, b in zip(frames[:-1], frames[1:])])
        flows.append(forward)
        visible.append(visibility(torch.from_numpy(forward), torch.from_numpy(backward)).numpy())
    return np.stack(flows), np.stack(visible)


def tc_by_flow(clips: Clips, networks: dict[str, SegmentationModel], estimators: Iterable[str]) -> pd.DataFrame:
    """TC of networks, and of the true labels, scored with each flow and that flow's own visibility.

    Returns:
        predictor ("true labels" or a network), estimator, tc, ceiling (TC of the true labels under the same flow and mask),
        share (tc / ceiling), masked (share of pixels that the flow's visibility drops).
    """
    clips = replace(clips, flows={**clips.flows, **{name: estimated(clips, name) for name in estimators}})
    maps_by_name = {TRUTH: clips.labels}
    for name, network in networks.items():
        maps_by_name[name] = np.stack([predict(network, frames) for frames in clips.frames])
    tc = {name: evaluate_predictor(maps.__getitem__, clips)["metrics"]["tc"] for name, maps in maps_by_name.items()}
    return pd.DataFrame([
        {
            "predictor": name, "estimator": flow, "tc": tc[name][flow], "ceiling": tc[TRUTH][flow],
            "share": tc[name][flow] / tc[TRUTH][flow], "masked": 1 - float(clips.flows[flow][1].mean()),
        }
        for name in maps_by_name for flow in clips.flows
    ])  # fmt: skip


# ------------------------------------------------------------------------------------------------ the measurement


def measure(out: Path, quick: bool) -> pd.DataFrame:
    """Quality of each estimator at each size (`flow.csv`), TC by estimator (`flow_tc.csv`); chapter 4 draws both."""
    clips, starts, sizes = (1, STARTS[:1], SIZES[:1]) if quick else (8, STARTS, SIZES)
    able = available()
    table = pd.concat([quality(size, clips, starts, able) for size in sizes], ignore_index=True)
    networks = {name: registry.shipped(name) for name in registry.SHIPPED}
    scores = tc_by_flow(val_clips(sizes[0], clips, 3 if quick else procity.FRAMES), networks, able)
    write_table(out, "flow_tc", scores)
    return table
