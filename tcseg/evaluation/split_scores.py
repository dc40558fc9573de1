"""Evaluate a model, or any predictor, on a split: metrics, per class and per clip.

The clip is the unit of everything that is counted; where a data set has one clip only (CamVid's val: one street), its 17-frame
blocks stand in. What a data set cannot say is None: Cityscapes has no true flow and no labels between annotated frames, so it
has no exact TC, no ceiling and no flicker. Counts add up: `count_clip` looks at one clip and nothing else, so that clips can be
counted anywhere and in any order, and `summarise` takes the shares.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
import torch

from tcseg.data.clips import CAMVID_BLOCK, Clips
from tcseg.deploy.label_map import upsample_argmax
from tcseg.errors import InputError
from tcseg.labels import IGNORE, LabelSet
from tcseg.metrics.segmentation import (
    Overlap,
    Share,
    boundary_band,
    categories,
    classes,
    confusion_matrix,
    group_overlap,
    instance_overlap,
)
from tcseg.metrics.temporal import count_pair, etc_compat, etc_score
from tcseg.metrics.trajectories import FlowOf, Trajectories, Windows, chained
from tcseg.models.networks import SegmentationModel

Predictor = Callable[[int], np.ndarray]
"""Clip index -> predicted trainIds, uint8 (T,H,W)."""

Counts = Overlap | Share
Blocks = dict[str, dict[str, Counts]]
"""Block (a clip, or 17 frames of it) -> metric -> counts that add up."""

GAP = 5  # frames; every 5th frame is compared with the 5th after it
TC_VARIANTS = ("tc", "tc_gap5", "tc_unmasked", "tc_boundary", "tc_interior", "etc_compat")
SHARES = "flicker harmful_flicker healed wandering steady_and_right vc8 vc8_right vc16 vc16_right".split()
OVERLAPS = ("miou", "miou_category", "miou_boundary", "iiou", "iiou_category")
WITH_INTERVALS = ("miou", "flicker", "harmful_flicker")
"""Besides TC of each flow, and over a gap of the best: what a record keeps per clip, for `intervals`."""


@torch.no_grad()
def predict(model: SegmentationModel, frames: np.ndarray, batch: int = 15) -> np.ndarray:
    """Segment frames independently (batched only for speed): uint8 (T,3,H,W) RGB -> uint8 (T,H,W) trainIds.

    Logits are upsampled to the frame's size, then the best class is taken.
    """
    device = next(model.parameters()).device
    size = (frames.shape[-1], frames.shape[-2])
    maps = []
    for start in range(0, len(frames), batch):
        logits = model(torch.from_numpy(np.ascontiguousarray(frames[start : start + batch])).to(device))
        maps.append(upsample_argmax(logits.float().cpu(), size))
    return np.concatenate(maps)


def evaluate(model: SegmentationModel, clips: Clips) -> dict:
    """Evaluate a model on a split; see `summarise` for the result."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device).eval()
    result = evaluate_predictor(lambda i: predict(model, np.asarray(clips.frames[i])), clips)
    model.cpu()
    return result


def evaluate_predictor(predictor: Predictor, clips: Clips) -> dict:
    """Evaluate label maps on a split; see `summarise` for the result."""
    return summarise(count_predictor(predictor, clips))


def count_predictor(predictor: Predictor, clips: Clips) -> Blocks:
    """Counts of label maps on a split; see `count_clip`."""
    blocks: Blocks = {}
    for i, name in enumerate(clips.names):
        flows = {source: _stored_flow(clips, source, i) for source in clips.flows}
        labels, units = np.asarray(clips.labels[i]), _blocks(clips, i)
        try:
            blocks |= count_clip(
                predictor(i), labels, clips.annotated[i], flows, clips.label_set, clips.flow_source, blocks=units
            )
        except ValueError as error:
            raise InputError(f"predictions of clip {name}: {error}") from None
    return blocks


def _blocks(clips: Clips, index: int) -> list[str]:
    """The resampling unit of each frame of a clip."""
    length, name = clips.frames.shape[1], clips.names[index]
    if len(clips) > 1:
        return [name] * length
    return [f"{name}+{t // CAMVID_BLOCK * CAMVID_BLOCK:03d}" for t in range(length)]


def _stored_flow(clips: Clips, source: str, index: int) -> FlowOf:
    flow, visible = clips.flows[source]
    return chained(lambda t: (np.asarray(flow[index, t], dtype=np.float32), np.asarray(visible[index, t])))


# ------------------------------------------------------------------------------------------------ counting


def count_clip(
    maps: np.ndarray,
    labels: np.ndarray,
    annotated: np.ndarray,
    flows: Mapping[str, FlowOf],
    label_set: LabelSet,
    truth_flow: str | None,
    instances: Mapping[int, np.ndarray] | None = None,
    blocks: Sequence[str] | None = None,
    frames: Counter | None = None,
) -> Blocks:
    """Count all metrics of one clip's predictions.

    Segmentation (annotated frames): miou, miou_category, miou_boundary, iiou and iiou_category where there are instances. For each
    flow (conventions in `temporal`): tc_<flow>; tc_gap5_<flow> between every 5th frame and the 5th after it; tc_unmasked_<flow>;
    tc_boundary_<flow> and tc_interior_<flow> on pairs with labels; etc_compat_<flow>. With `truth_flow` and labels:
    flicker and what belongs to it, steady_and_right. On labelled frames without motion: vc8, vc16 and their _right.

    Args:
        maps, labels: uint8 (T,H,W) trainIds, 255 = void.
        annotated: bool (T,), which frames have labels.
        flows: name -> (t, gap) -> flow t -> t+gap, float32 (2,H,W), and visible (H,W).
        label_set: whose classes.
        truth_flow: the flow that trajectories of constant true label follow; None = no flicker.
        instances: frame -> Cityscapes' instanceIds (H,W).
        blocks: the unit that each frame belongs to; default one, called "clip". A pair belongs to its first frame's.
        frames: gets, for each metric, the frames (or pairs or windows) in which something was counted.

    Returns:
        block -> metric -> `Overlap` or `Share`. What the clip cannot say is not there.

    Raises:
        ValueError: maps of another shape or type, or ids that are neither classes nor 255.
    """
    _check_maps(maps, labels, label_set)
    found: Blocks = defaultdict(dict)
    blocks = blocks or ["clip"] * len(maps)

    bands = {t: boundary_band(labels[t]) for t in np.flatnonzero(annotated).tolist()}
    streams = [_over_frames(maps, labels, bands, label_set, instances or {}), _over_windows(maps, labels, bands)]
    for source, flow_of in flows.items():
        streams.append(_over_pairs(maps, labels, bands, label_set, source, flow_of, flicker=source == truth_flow))
    for t, counts in chain(*streams):
        for name, value in counts.items():
            block = found[blocks[t]]
            block[name] = block[name] + value if name in block else value
            if frames is not None and value.counted():
                frames[name] += 1
    return dict(found)


def _check_maps(maps: np.ndarray, labels: np.ndarray, label_set: LabelSet) -> None:
    if maps.shape != labels.shape or maps.dtype != np.uint8:
        raise InputError(f"label maps are {maps.dtype} {maps.shape}; they must be uint8 {labels.shape}")
    unknown = (maps >= label_set.num_classes) & (maps != IGNORE)
    if unknown.any():
        raise InputError(
            f"label maps contain {np.unique(maps[unknown]).tolist()}; they must hold trainIds below "
            f"{label_set.num_classes} or 255 (ids of the 34-class table: labels.ids_to_train_ids)"
        )


Counted = Iterator[tuple[int, dict[str, Counts]]]  # frame that they belong to, metric -> counts


def _over_frames(maps, labels, bands, label_set, instances) -> Counted:
    """Segmentation, on annotated frames."""
    num_classes, groups = label_set.num_classes, categories(label_set)
    for t, band in bands.items():
        confusion = confusion_matrix(labels[t], maps[t], num_classes)
        inside = confusion_matrix(np.where(band, labels[t], np.uint8(IGNORE)), maps[t], num_classes)
        found = {"miou": Overlap.from_confusion(confusion), "miou_boundary": Overlap.from_confusion(inside)}
        if groups:
            found["miou_category"] = group_overlap(confusion, groups)
        if groups and t in instances:
            for name, members in (("iiou", classes(label_set)), ("iiou_category", groups)):
                found[name] = instance_overlap(confusion, maps[t], instances[t], members)
        yield t, found


def _over_windows(maps, labels, bands) -> Counted:
    """VSPW's VC, where frames in a row are annotated."""
    windows = Windows()
    for t in range(len(maps) - 1):  # the published script never looks at a clip's last frame
        if t in bands:
            yield t, windows.step(maps[t], labels[t])
        else:
            windows = Windows()


def _over_pairs(maps, labels, bands, label_set, source, flow_of, flicker) -> Counted:
    """TC under one flow and, along it, flicker and trajectories."""
    trajectories, arrival = Trajectories(), None
    for t in range(len(maps)):
        if flicker and t in bands:
            lasted = trajectories.step(maps[t], labels[t], arrival if t - 1 in bands else None)
            yield t, {"steady_and_right": lasted}
        if t + 1 < len(maps):
            arrival = flow_of(t, 1)
            yield t, _count_neighbours(maps, labels, bands, label_set, t, source, arrival, flicker)
        if t % GAP == 0 and t + GAP < len(maps):
            pair = count_pair(
                maps[t], maps[t + GAP], *flow_of(t, GAP), label_set.num_classes, _truth(labels, bands, t, t + GAP)
            )
            yield t, {f"tc_gap5_{source}": pair.overlaps()["tc"]}


def _count_neighbours(maps, labels, bands, label_set, t, source, arrival, flicker) -> dict[str, Counts]:
    a, b, num_classes = maps[t], maps[t + 1], label_set.num_classes
    pair = count_pair(a, b, *arrival, num_classes, _truth(labels, bands, t, t + 1))
    found: dict[str, Counts] = {f"{variant}_{source}": counts for variant, counts in pair.overlaps().items()}
    found[f"etc_compat_{source}"] = etc_compat(a, b, arrival[0], num_classes)
    if flicker and pair.flicker is not None:
        found |= pair.flicker.shares()
    return found


def _truth(labels, bands, a, b) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Labels of two frames and the band of the first, where both are annotated.

    The TC of the true labels is only a ceiling if it is computed on the same pixels as that of a prediction.
    """
    return (labels[a], labels[b], bands[a]) if a in bands and b in bands else None


# ------------------------------------------------------------------------------------------------ shares


def summarise(blocks: Mapping[str, Mapping[str, Counts]]) -> dict:
    """Sum the counts over clips, and compute the metrics.

    Conventions: mIoU over one accumulated confusion matrix on annotated frames, mean over classes present in labels or
    predictions; TC the same over all pairs; flicker and its like: summed counts over summed counts.

    Returns:
        {"metrics": shares in 0..1 or None where the data cannot say, by flow for TC, "per_class": lists of K, "per_clip":
        counts for `intervals`, one entry a block}, as in runs' records.
    """
    names = dict.fromkeys(name for counts in blocks.values() for name in counts)
    total = {name: summed(blocks, name) for name in names}
    metrics: dict[str, object] = {name: _rounded(score(name, total.get(name))) for name in (*OVERLAPS, *SHARES)}
    metrics |= {variant: {} for variant in TC_VARIANTS}
    per_class: dict[str, object] = {"tc": {}}
    for name, counts in total.items():
        if flow_metric := split_flow(name):
            variant, source = flow_metric
            metrics[variant][source] = _rounded(score(name, counts))
            if variant == "tc":
                per_class["tc"][source] = _ious(counts)
    metrics["pixel_accuracy"] = metrics["accuracy_interior"] = None
    if "miou" in total:
        per_class["iou"] = _ious(total["miou"])
        metrics["pixel_accuracy"] = _rounded(total["miou"].accuracy())
        metrics["accuracy_interior"] = _rounded((total["miou"] - total["miou_boundary"]).accuracy())
    best = next(iter(metrics["tc"]), None)
    kept = [n for n in names if n in WITH_INTERVALS or n == f"tc_gap5_{best}" or (split_flow(n) or ("",))[0] == "tc"]
    per_clip = {"names": list(blocks), **{name: per_block(blocks, name) for name in kept}}
    return {"metrics": metrics, "per_class": per_class, "per_clip": per_clip}


def split_flow(name: str) -> tuple[str, str] | None:
    """A TC metric's variant and flow: "tc_gap5_dis" -> ("tc_gap5", "dis"); None for any other metric."""
    for variant in sorted(TC_VARIANTS, key=len, reverse=True):
        if name.startswith(f"{variant}_"):
            return variant, name[len(variant) + 1 :]
    return None


def score(name: str, counts: Counts | None) -> float:
    """The share that counts amount to; nan where there are none."""
    if counts is None:
        return float("nan")
    if name.startswith("etc_compat"):
        return etc_score(counts)
    return float(counts.value() if isinstance(counts, Share) else counts.miou())


def per_block(blocks: Mapping[str, Mapping[str, Counts]], name: str) -> dict[str, list]:
    """One metric's counts, a row a block, as `intervals` takes them; zero where a block has none."""
    first = next(counts[name] for counts in blocks.values() if name in counts)
    nothing = Share() if isinstance(first, Share) else Overlap.zero(len(first.labelled))
    rows = [counts.get(name, nothing) for counts in blocks.values()]
    return {key: [np.asarray(getattr(row, key)).tolist() for row in rows] for key in vars(first)}


def summed(blocks: Mapping[str, Mapping[str, Counts]], name: str) -> Counts:
    """One metric's counts over all blocks."""
    first, *others = (counts[name] for counts in blocks.values() if name in counts)
    return sum(others, start=first)


def _ious(counts: Overlap) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 5) for value in counts.iou()]


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)


# ------------------------------------------------------------------------------------------------ ceilings


def ceilings(clips: Clips) -> dict[str, dict[str, float | None]]:
    """What a perfect model would score: every variant of TC of the true labels, by flow. None where labels are not dense."""
    if not clips.annotated.all():
        return {variant: dict.fromkeys(clips.flows) for variant in TC_VARIANTS}
    truth = evaluate_predictor(lambda i: np.asarray(clips.labels[i]), clips)["metrics"]
    return {variant: truth[variant] for variant in TC_VARIANTS}


def ceiling(clips: Clips) -> dict[str, float | None]:
    """TC of the true labels under each flow and the same mask: what a perfect model would score. None without dense labels."""
    return ceilings(clips)["tc"]


def with_ceilings(metrics: dict, tops: dict[str, dict[str, float | None]]) -> dict:
    """Add the ceilings to a record's metrics: tc_ceiling, ceilings, and tc_of_ceiling = TC / its ceiling, by flow."""
    share = {
        flow: round(tc / top, 6) if tc is not None and (top := tops["tc"].get(flow)) else None
        for flow, tc in metrics["tc"].items()
    }
    return {**metrics, "tc_ceiling": tops["tc"], "tc_of_ceiling": share, "ceilings": tops}
