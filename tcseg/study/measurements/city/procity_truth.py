"""Exactness of procity's ground truth, scores of perfect labels, and class frequencies."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from tcseg import procity
from tcseg.data.clip_files import read_labels
from tcseg.labels import CITYSCAPES, ids_to_train_ids
from tcseg.metrics.segmentation import Overlap
from tcseg.metrics.temporal import temporal_overlap, warp_map
from tcseg.procity import writer
from tcseg.procity.world import geometry

BONNET = 1  # label id of the ego vehicle
SHARES = {
    "road": 36.9, "sidewalk": 6.1, "building": 22.8, "wall": 0.66, "fence": 0.88, "pole": 1.23, "traffic light": 0.21,
    "traffic sign": 0.55, "vegetation": 15.9, "terrain": 1.16, "sky": 4.0, "person": 1.22, "rider": 0.14, "car": 7.0,
    "truck": 0.27, "bus": 0.23, "train": 0.23, "motorcycle": 0.10, "bicycle": 0.41,
}  # fmt: skip
"""Cityscapes' train: percent of the labelled pixels, approximately (as Cordts et al. 2016 plot it)."""
COMMON = ("road", "building", "vegetation", "car", "sidewalk", "sky", "person", "pole")
"""Classes whose share shall be within a factor of 1.5 of Cityscapes'; the rest is stratified, and so more frequent."""


def lifted_flow(sequence: procity.Sequence, t: int) -> np.ndarray:
    """Forward flow by another way than the renderer's: depth -> world -> the rigid part's motion -> next camera.

    Returns:
        float64 (2,H,W) px; nan where there is no finite depth (sky) and on the bonnet.
    """
    frame, following = sequence.render(t, flow=(False, False)), sequence.camera(t + 1)
    polygon = sequence.view(t)[0].id_buffer[1::2, 1::2]
    solid = polygon >= 0
    y, x = np.nonzero(solid)
    points = np.stack([x + 0.5, y + 0.5, np.ones(len(x))])
    rotation, centre = (np.array(frame.camera["pose"][key]) for key in ("rotation", "centre"))
    world = rotation.T @ (np.linalg.inv(sequence.k) @ points * frame.depth[solid].astype(np.float64)) + centre[:, None]
    part = sequence.polygons.ids[polygon[solid], 0]
    now, then = geometry.poses_at(sequence.parts, t), geometry.poses_at(sequence.parts, t + 1)
    local = np.einsum("nij,nj->ni", np.linalg.inv(now[:, :, :3])[part], world.T - now[part, :, 3])
    moved = np.einsum("nij,nj->ni", then[part, :, :3], local) + then[part, :, 3]
    rotation, centre = (np.array(following["pose"][key]) for key in ("rotation", "centre"))
    image = sequence.k @ rotation @ (moved - centre).T
    flow = np.full((2, *solid.shape), np.nan)
    flow[:, solid] = image[:2] / image[2] - points[:2]
    return flow


def depth_and_motion(size: tuple[int, int], snippets: int) -> float:
    """Largest distance in pixels between the renderer's flow and `lifted_flow`, over val snippets, where it says visible."""
    worst = 0.0
    for index in range(snippets):
        sequence = writer.SnippetTask("", "val", index, size).sequence(effects=False)
        frame = sequence.render(procity.ANNOTATED, flow=(True, False))
        error = np.hypot(*(lifted_flow(sequence, procity.ANNOTATED) - frame.flow_forward))
        worst = max(worst, float(np.nanmax(np.where(frame.visible_forward, error, np.nan))))
    return worst


def _errors(a: procity.Frame, b: procity.Frame) -> dict[str, float]:
    """How well a's exact flow explains b, where it says visible, without the bonnet."""
    rows, cols = a.label_ids.shape
    grid_y, grid_x = np.mgrid[0:rows, 0:cols].astype(np.float32)
    x, y = grid_x + a.flow_forward[0], grid_y + a.flow_forward[1]
    mask = a.visible_forward & (a.label_ids != BONNET)
    now, then = a.image.astype(np.float32), b.image.astype(np.float32)
    warped = cv2.remap(then, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    labels = warp_map(b.label_ids, a.flow_forward)
    square = np.ones((3, 3), np.uint8)
    interior = cv2.erode(a.label_ids, square) == cv2.dilate(a.label_ids, square)
    back = np.stack([cv2.remap(c, x, y, cv2.INTER_LINEAR) for c in b.flow_backward])
    return {
        "photometric_exact": float(np.abs(warped - now).mean(2)[mask].mean()),
        "photometric_zero": float(np.abs(then - now).mean(2)[mask].mean()),
        "label_agreement": float((labels == a.label_ids)[mask].mean()),
        "label_agreement_interior": float((labels == a.label_ids)[mask & interior].mean()),
        "flow_return_median_px": float(np.median(np.hypot(*(back + a.flow_forward))[a.visible_forward])),
    }


def exactness(size: tuple[int, int], snippets: int) -> dict[str, float]:
    """Means over val snippets (frames 9 to 10 and 18 to 19, effects off), and the TC of perfect labels over the same pairs.

    `photometric_*` in grey levels; `label_agreement*` shares of pixels under nearest lookup, `interior` where 3x3 labels are one;
    `flow_return_median_px` of the worst pair. `tc_ceiling`: mean IoU of the labels with their warped successors.
    """
    rows, counts = [], Overlap(*(np.zeros(CITYSCAPES.num_classes, np.int64) for _ in range(3)))
    for index in range(snippets):
        sequence = writer.SnippetTask("", "val", index, size).sequence(effects=False)
        for t in (9, procity.ANNOTATED - 1):
            a, b = sequence.render(t, flow=(True, False)), sequence.render(t + 1, flow=(False, True))
            rows.append(_errors(a, b))
            now, then = ids_to_train_ids(a.label_ids), ids_to_train_ids(b.label_ids)
            counts += temporal_overlap(now, warp_map(then, a.flow_forward), a.visible_forward, CITYSCAPES.num_classes)
    table = pd.DataFrame(rows)
    values = {
        **table.mean(),
        "flow_return_median_px": table["flow_return_median_px"].max(),
        "tc_ceiling": counts.miou(),
    }
    return {f"{name}_{size[0]}x{size[1]}": float(value) for name, value in values.items()}


def class_table(root: Path) -> pd.DataFrame:
    """Share of the labelled pixels of each class in each split, and of val's clips that show it.

    Args:
        root: a procity tree.

    Returns:
        A row a class: class, train, val, test (shares; nan for an empty split), val_clips (share of the clips), cityscapes.
    """
    table = pd.DataFrame({"class": CITYSCAPES.classes})
    for split in ("train", "val", "test"):
        pixels = _pixels(root, split)
        table[split] = pixels.sum(0) / max(1, pixels.sum()) if len(pixels) else np.nan
        if split == "val":
            seen = (pixels > 0).mean(0) if len(pixels) else np.nan
    return table.assign(val_clips=seen, cityscapes=[SHARES[name] / 100 for name in CITYSCAPES.classes])


def _pixels(root: Path, split: str) -> np.ndarray:
    """Labelled pixels by clip and class, int64 (N,K)."""
    clips: dict[str, np.ndarray] = {}
    for path in sorted((root / "gtFine" / split).glob("*/*_labelIds.png")):
        labels = read_labels(path, "procity")
        count = np.bincount(labels.ravel(), minlength=256)[: CITYSCAPES.num_classes]
        name = path.name.rsplit("_", 3)[0]  # without frame and kind
        clips[name] = clips.get(name, 0) + count
    return np.array(list(clips.values())).reshape(len(clips), CITYSCAPES.num_classes)


def class_facts(table: pd.DataFrame, clips: int) -> dict[str, float]:
    """What `class_table` says about val: clips, classes in a fifth of them, the rarest class, the factor to Cityscapes."""
    common = table[table["class"].isin(COMMON)]
    ratio = np.log(common["val"] / common["cityscapes"]).abs()
    return {
        "val_clips": clips,
        "classes_in_20pct_of_val_clips": int((table["val_clips"] >= 0.2).sum()),
        "min_class_share_val": float(table["val"].min()),
        "largest_factor_to_cityscapes_val": float(np.exp(ratio.max())),
    }
