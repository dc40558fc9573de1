"""A model (or any predictor) over a split -> metrics, per class, per clip.

The clip is the unit of everything that is counted; where a data set has one clip only (CamVid's val: one street), its 17-frame
blocks stand in. What a data set cannot say is None: Cityscapes has no true flow and no labels between annotated frames, so it
has no exact TC, no ceiling and no flicker.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch

from tcseg.data import CAMVID_BLOCK, Clips
from tcseg.labels import IGNORE
from tcseg.metrics import Flicker, Overlap, flicker, overlap, temporal_overlap, warp_map
from tcseg.models import SegmentationModel
from tcseg.postprocess import upsample_argmax

Predictor = Callable[[int], np.ndarray]
"""Clip index -> predicted trainIds, uint8 (T,H,W)."""


@torch.no_grad()
def predict(model: SegmentationModel, frames: np.ndarray, batch: int = 15) -> np.ndarray:
    """Segment frames one by one (batched for speed only): uint8 (T,3,H,W) RGB -> uint8 (T,H,W) trainIds.

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
    """Metrics of a model on a split; see `evaluate_predictor`."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device).eval()
    result = evaluate_predictor(lambda i: predict(model, np.asarray(clips.frames[i])), clips)
    model.cpu()
    return result


def evaluate_predictor(predictor: Predictor, clips: Clips) -> dict:
    """Metrics of label maps on a split.

    Conventions: mIoU over one accumulated confusion matrix on annotated frames, mean over classes present in labels or
    predictions. TC (per flow source): prediction of t+1 warped nearest onto t with flow t -> t+1, over visible pixels that stay
    in the frame and, where both frames are labelled, are not void; counts accumulated over all pairs. Flicker: along trajectories
    of constant true label, true flow if there is one.

    Returns:
        {"metrics": shares in 0..1 or None, "per_class": lists of K, "per_clip": counts for `stats`} as in runs' records.
    """
    num_classes = clips.label_set.num_classes
    zero = np.zeros(num_classes, np.int64)
    overlaps: dict[str, dict[str, Overlap]] = defaultdict(lambda: defaultdict(lambda: Overlap(zero, zero, zero)))
    flickers: dict[str, list[Flicker]] = defaultdict(list)
    for i, name in enumerate(clips.names):
        maps, labels = predictor(i), np.asarray(clips.labels[i])
        _check_maps(maps, labels, name)
        blocks = _blocks(clips, i)
        for t in np.flatnonzero(clips.annotated[i]):
            overlaps["miou"][blocks[t]] += overlap(labels[t], maps[t], num_classes)
        for source in clips.flows:
            for t in range(len(maps) - 1):
                pair = _Pair(clips, source, i, t)
                overlaps[f"tc_{source}"][blocks[t]] += temporal_overlap(
                    maps[t], pair.warp(maps[t + 1]), pair.mask, num_classes
                )
                if source == clips.flow_source and pair.labelled:
                    flickers[blocks[t]].append(
                        flicker(maps[t], pair.warp(maps[t + 1]), labels[t], pair.labels_b, pair.mask)
                    )
    return _summarise(overlaps, flickers)


def _check_maps(maps: np.ndarray, labels: np.ndarray, name: str) -> None:
    if maps.shape != labels.shape or maps.dtype != np.uint8:
        raise ValueError(f"predictions of clip {name} are {maps.dtype} {maps.shape}; they must be uint8 {labels.shape}")


def _blocks(clips: Clips, index: int) -> list[str]:
    """The resampling unit of each frame of a clip."""
    length, name = clips.frames.shape[1], clips.names[index]
    if len(clips) > 1:
        return [name] * length
    return [f"{name}+{t // CAMVID_BLOCK * CAMVID_BLOCK:03d}" for t in range(length)]


class _Pair:
    """Frames t and t+1 of a clip: their flow, what of t is seen in t+1, labels of t+1 on t's grid."""

    def __init__(self, clips: Clips, source: str, index: int, t: int) -> None:
        flow, visible = clips.flows[source]
        self.flow = np.asarray(flow[index, t], dtype=np.float32)
        self.mask = np.asarray(visible[index, t])
        self.labelled = bool(clips.annotated[index, t] and clips.annotated[index, t + 1])
        if self.labelled:
            self.labels_b = self.warp(clips.labels[index, t + 1])
            # The true labels must be scored on the same pixels as a prediction, or their TC is no ceiling.
            self.mask = self.mask & (clips.labels[index, t] != IGNORE) & (self.labels_b != IGNORE)

    def warp(self, map_b: np.ndarray) -> np.ndarray:
        """Bring a label map of t+1 onto t's grid, nearest."""
        return warp_map(np.asarray(map_b), self.flow)


def _summarise(overlaps: dict[str, dict[str, Overlap]], flickers: dict[str, list[Flicker]]) -> dict:
    metrics: dict[str, object] = {
        "miou": None,
        "pixel_accuracy": None,
        "flicker": None,
        "harmful_flicker": None,
        "tc": {},
    }
    per_class: dict[str, object] = {"tc": {}}
    per_clip: dict[str, object] = {"names": list(overlaps["miou"])}
    for kind, clips in overlaps.items():
        total = sum(clips.values(), start=Overlap(*(np.int64(0),) * 3))
        iou = [None if np.isnan(value) else round(float(value), 5) for value in total.iou()]
        if kind == "miou":
            metrics["miou"], metrics["pixel_accuracy"] = _share(total.miou()), _share(total.accuracy())
            per_class["iou"] = iou
        else:
            metrics["tc"][kind[3:]], per_class["tc"][kind[3:]] = _share(total.miou()), iou
        fields = ("intersection", "predicted", "labelled")
        per_clip[kind] = {field: [getattr(counts, field).tolist() for counts in clips.values()] for field in fields}
    if flickers:
        for kind, count, total in (("flicker", "changed", "pixels"), ("harmful_flicker", "spoiled", "right")):
            counts = [sum(getattr(f, count) for f in rows) for rows in flickers.values()]
            totals = [sum(getattr(f, total) for f in rows) for rows in flickers.values()]
            per_clip[kind] = {"count": counts, "total": totals}
            metrics[kind] = _share(sum(counts) / max(1, sum(totals)))
    return {"metrics": metrics, "per_class": per_class, "per_clip": per_clip}


def _share(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)


def ceiling(clips: Clips) -> dict[str, float | None]:
    """TC of the true labels under each flow and the same mask: what a perfect model would score. None without dense labels."""
    if not clips.annotated.all():
        return dict.fromkeys(clips.flows)
    truth = evaluate_predictor(lambda i: np.asarray(clips.labels[i]), clips)
    return truth["metrics"]["tc"]
