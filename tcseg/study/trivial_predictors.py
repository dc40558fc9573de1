"""Controls: trivial predictors and their scores. A metric that one of them wins must not be used alone.

Each maker returns a `Predictor`, as a network's is: clip index -> trainIds, uint8 (T,H,W). Those that start from true labels
need every frame labelled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np
import pandas as pd

from tcseg.data.clips import Clips
from tcseg.errors import InputError
from tcseg.evaluation.split_scores import (
    Blocks,
    Predictor,
    count_predictor,
    per_block,
    predict,
    score,
    split_flow,
    summed,
)
from tcseg.labels import IGNORE
from tcseg.metrics import intervals
from tcseg.metrics.segmentation import Overlap
from tcseg.metrics.temporal import WARPS, temporal_overlap, warp_map
from tcseg.models.networks import SegmentationModel
from tcseg.video.temporal_filters import Exponential, filtered

COLUMNS = ["dataset", "predictor", "flow", "metric", "value", "ci_low", "ci_high"]
FLIP_RATES = (0.01, 0.02, 0.05, 0.1, 0.2)
SHOWN_RATE = 0.05  # the dose that stands in the tables of networks, too


# ------------------------------------------------------------------------------------------------ that see nothing


def constant_map(clips: Clips, train_id: int) -> Predictor:
    """One class, everywhere, always: perfectly consistent."""
    return lambda index: np.full(clips.labels.shape[1:], train_id, np.uint8)


def push(ids: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Carry labels (H,W) forward along a flow (2,H,W) to the nearest pixel; where nothing lands, what was there stays."""
    height, width = ids.shape
    y, x = np.mgrid[:height, :width]
    to_x, to_y = np.rint(x + flow[0]).astype(int), np.rint(y + flow[1]).astype(int)
    inside = (to_x >= 0) & (to_x < width) & (to_y >= 0) & (to_y < height)
    out = ids.copy()
    out[to_y[inside], to_x[inside]] = ids[inside]
    return out


def carried(model: SegmentationModel, clips: Clips) -> Predictor:
    """Let a network look at the first frame only; from then on push its answer along the best flow."""

    def predictor(index: int) -> np.ndarray:
        maps = [predict(model, clips.frames[index, :1])[0]]
        for flow in clips.flow[index]:
            maps.append(push(maps[-1], np.asarray(flow, np.float32)))
        return np.stack(maps)

    return predictor


def smoothed(base: Predictor, num_classes: int, share: float = 0.15, frames: int = 15) -> Predictor:
    """Blur answers over space and time until little is left of what is small: the majority in a large box.

    Args:
        base: whose label maps.
        num_classes: K.
        share: side of the box as a share of the picture's height.
        frames: length of the box in time.
    """

    def predictor(index: int) -> np.ndarray:
        maps = base(index)
        side = max(3, round(share * maps.shape[1]))
        best, votes = np.full(maps.shape, IGNORE, np.uint8), np.zeros(maps.shape, np.float32)
        for train_id in range(num_classes):
            mine = np.stack([cv2.blur((one == train_id).astype(np.float32), (side, side)) for one in maps])
            mine = cv2.blur(mine.reshape(len(maps), -1), (1, frames)).reshape(maps.shape)  # rows are frames here
            best[mine > votes] = train_id
            votes = np.maximum(votes, mine)
        return best

    return predictor


# ------------------------------------------------------------------------------------------------ that know the truth


def true_labels(clips: Clips) -> Predictor:
    """A perfect model."""
    return lambda index: np.asarray(clips.labels[index])


def flipped(clips: Clips, rate: float, seed: int = 0) -> Predictor:
    """A perfect model that stutters: each pixel of each frame, with probability `rate`, gets one of the other classes.

    Its flicker is known beforehand: of two independent answers to one truth, changed = 2 r (1-r) + r^2 (K-2)/(K-1), and harmful
    flicker = r. So a metric's response to a known dose can be read off.
    """
    if not 0 <= rate <= 1:
        raise InputError(f"rate is {rate}; it must be a share in 0..1")
    num_classes = clips.label_set.num_classes

    def predictor(index: int) -> np.ndarray:
        rng = np.random.default_rng([seed, index])
        labels = np.asarray(clips.labels[index])
        other = (labels + rng.integers(1, num_classes, labels.shape, np.uint8)) % num_classes
        flip = (rng.random(labels.shape, np.float32) < rate) & (labels != IGNORE)
        return np.where(flip, other, labels).astype(np.uint8)

    return predictor


# ------------------------------------------------------------------------------------------------ what they score


def controls(clips: Clips, model: SegmentationModel, train_id: int) -> dict[str, Predictor]:
    """Every control of a study: name -> predictor.

    Args:
        clips: the split; without dense labels, those that start from the truth are left out.
        model: the student that looks where a control looks.
        train_id: the most frequent class, for the constant map.
    """

    def predictor(index: int) -> np.ndarray:
        return predict(model, np.asarray(clips.frames[index]))

    predictors = {"constant map": constant_map(clips, train_id)}
    if clips.flows:
        predictors["first frame, carried along"] = carried(model, clips)
    predictors["student, over-smoothed"] = smoothed(predictor, clips.label_set.num_classes)
    predictors["student, averaged over time"] = filtered(model, clips, Exponential)
    if clips.annotated.all():
        predictors |= {flip_name(rate): flipped(clips, rate) for rate in FLIP_RATES}
        predictors["true labels"] = true_labels(clips)
    return predictors


def flip_name(rate: float) -> str:
    """How tables name the control `flipped`."""
    return f"true labels, {100 * rate:g} % flipped"


def scores(predictors: Mapping[str, Predictor], clips: Clips) -> pd.DataFrame:
    """What predictors score: a row a predictor, flow and metric (COLUMNS), with its interval over clips.

    `flow` is empty for metrics that need none; values are shares in 0..1.
    """
    rows = []
    for name, predictor in predictors.items():
        blocks = count_predictor(predictor, clips)
        rows += [{"dataset": clips.dataset, "predictor": name, **row} for row in _metric_rows(blocks)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _metric_rows(blocks: Blocks) -> list[dict]:
    rows = []
    for name in dict.fromkeys(name for counts in blocks.values() for name in counts):
        counts, value = per_block(blocks, name), score(name, summed(blocks, name))
        if name.startswith("etc_compat"):  # its mean is over all classes, absent ones count zero
            pixels = intervals.counted(counts)
            counts["labelled"] = (np.array(counts["labelled"]) + 1e-10 * pixels[:, None] / max(1, pixels.sum())).tolist()
        rows.append(_row(name, value, counts))
        if name == "miou":
            shares = {"count": np.sum(counts["intersection"], 1), "total": np.sum(counts["labelled"], 1)}
            rows.append(_row("pixel_accuracy", summed(blocks, name).accuracy(), shares))
    return rows


def _row(name: str, value: float, counts: dict) -> dict:
    metric, flow = split_flow(name) or (name, None)
    interval = intervals.clip_interval(counts)
    return {"flow": flow, "metric": metric, "value": value, "ci_low": interval.low, "ci_high": interval.high}


def as_ablation_rows(table: pd.DataFrame, flows: Sequence[str], ceilings: Mapping[str, float | None]) -> pd.DataFrame:
    """Controls in the shape of the ablation's rows: control, miou, pixel_accuracy, flicker, harmful_flicker, flow, tc, tc_ceiling.

    Of the doses of `flipped`, one is kept.

    Args:
        table: of `scores`.
        flows: a row each; empty where there is no such flow.
        ceilings: TC of the true labels by flow.
    """
    dropped_doses = {flip_name(rate) for rate in FLIP_RATES if rate != SHOWN_RATE}
    rows = []
    for name, own in table[~table["predictor"].isin(dropped_doses)].groupby("predictor", sort=False):
        value = own[own["flow"].isna()].set_index("metric")["value"]
        tc = own[own["metric"] == "tc"].set_index("flow")["value"]
        same = {key: value.get(key) for key in ("miou", "pixel_accuracy", "flicker", "harmful_flicker")}
        rows += [{"control": name, **same, "flow": f, "tc": tc.get(f), "tc_ceiling": ceilings.get(f)} for f in flows]
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------- why a perfect model does not score 100


def smooth_noise(shape: tuple[int, int], sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Errors as flow estimators make them, smooth over a sixteenth of the picture: (2,H,W), standard deviation `sigma` px."""
    height, width = shape
    noise = np.stack([cv2.resize(rng.normal(size=(8, 16)), (width, height)) for _ in range(2)])
    return (noise * sigma / noise.std()).astype(np.float32)


def perfect_scores(
    clips: Clips, sigmas: Sequence[float] = (0, 0.1, 0.25, 0.5, 1, 2), pairs: int = 30, seed: int = 0
) -> pd.DataFrame:
    """TC of a perfect model under a flow that is wrong by a little, for four ways to warp label maps.

    Two scenes. *still*: nothing moves, both answers are the same true labels, and the flow should be zero. *moving*: the true
    labels of frames t and t+1 and the best flow there is. To both flows, smooth noise is added.

    Args:
        clips: a split with labels; "moving" needs labels on frames in a row.
        sigmas: standard deviations of the noise in pixels.
        pairs: at most so many pairs of frames of each scene, spread evenly.
        seed: of the noise, which is the same for all ways.

    Returns:
        Columns scene, mask ("visible pixels", "all pixels"), way (see `temporal.WARPS`), sigma, tc in 0..1.
    """
    sums: dict[tuple, Overlap] = {}
    for number, (scene, a, b, flow, visible) in enumerate(_scenes(clips, pairs)):
        valid = (a != IGNORE) & (warp_map(b, flow) != IGNORE)
        masks = {"all pixels": valid, "visible pixels": valid & visible}
        answer_a, answer_b = (
            np.where(labels == IGNORE, np.uint8(0), labels) for labels in (a, b)
        )  # no void in an answer
        for sigma in sigmas:
            wrong = flow + smooth_noise(a.shape, sigma, np.random.default_rng([seed, number]))
            for way, warp in WARPS.items():
                warped = warp(answer_b, wrong)
                for mask, in_view in masks.items():
                    key = scene, mask, way, sigma
                    counts = temporal_overlap(answer_a, warped, in_view & (warped != IGNORE), clips.label_set.num_classes)
                    sums[key] = sums[key] + counts if key in sums else counts
    rows = [(*key, float(counts.miou())) for key, counts in sums.items()]
    return pd.DataFrame(rows, columns=["scene", "mask", "way", "sigma", "tc"])


def _scenes(clips: Clips, pairs: int) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Scene, labels a, labels b, flow, visible."""
    labelled = np.argwhere(clips.annotated)
    everything = np.ones(clips.labels.shape[-2:], bool)
    for i, t in _spread(labelled, pairs):
        labels = np.asarray(clips.labels[i, t])
        yield "still", labels, labels, np.zeros((2, *labels.shape), np.float32), everything
    if clips.flows:
        for i, t in _spread(np.argwhere(clips.annotated[:, :-1] & clips.annotated[:, 1:]), pairs):
            both = (np.asarray(clips.labels[i, now]) for now in (t, t + 1))
            yield "moving", *both, np.asarray(clips.flow[i, t], np.float32), np.asarray(clips.visible[i, t])


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    chosen = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return rows[chosen]
