"""A camera that does not move: what flow, TC and flicker say there, with maps of two classes made by background subtraction.

`still_camera.csv` has a row for each way to answer and each flow, `still_camera_motion.csv` the motion that flow finds.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from tcseg.data.folders import explain_missing, find_dataset
from tcseg.data.own.films import Film, frame_count
from tcseg.errors import NotFoundError
from tcseg.evaluation import split_scores
from tcseg.flow import estimated_flow
from tcseg.labels import own_classes
from tcseg.metrics.trajectories import chained
from tcseg.study.measurements import write_table

FILM = "fixed_camera_cars.mp4"
SIZE = (384, 224)
CLIP = 30  # frames that are counted together
CLASSES = own_classes(["background", "moving"], [(60, 60, 60), (220, 60, 60)], "still camera")
STILL = 0.5  # pixels; less than this between two frames is no motion
NOISE = 0.02  # share of the pixels that change at random


def measure(out: Path, quick: bool = False) -> pd.DataFrame:
    """Score four ways to answer against the subtracted background, under estimated flow and under none.

    Args:
        out: folder; gets `tables/still_camera_motion.csv`, too.
        quick: two clips alone.

    Returns:
        answer, flow ("dis", "zero"), miou, tc, tc_background, tc_moving, flicker, harmful_flicker: shares 0..1, empty where nothing
        counts.

    Raises:
        NotFoundError: the film is not in data/videos.
    """
    root = find_dataset("videos")
    if root is None or not (root / FILM).is_file():
        raise NotFoundError(f"{FILM} is not in data/videos ({explain_missing('videos') if root is None else root})")
    frames = read(root / FILM, 2 * CLIP if quick else None)
    truth = subtracted(frames)
    write_table(out, "still_camera_motion", motion(frames, truth))
    parts = [slice(start, start + CLIP) for start in range(0, len(frames) - CLIP + 1, CLIP)]
    moved = frames.transpose(0, 3, 1, 2)
    flows = {source: [estimated_flow(moved[part], source)[0] for part in parts] for source in ("dis", "zero")}
    rows = []
    for answer, maps in answers(truth).items():
        for source, pairs in flows.items():
            blocks = {}
            for number, (part, (flow, visible)) in enumerate(zip(parts, pairs, strict=True)):
                counted = split_scores.count_clip(
                    maps[part], truth[part], np.ones(CLIP, bool), {source: chained(_steps(flow, visible))}, CLASSES, source
                )
                blocks |= {f"clip {number}": counted["clip"]}
            rows.append({"answer": answer, "flow": source, **scores(split_scores.summarise(blocks), source)})
    return pd.DataFrame(rows)


def _steps(flow: np.ndarray, visible: np.ndarray):
    return lambda t: (flow[t].astype(np.float32), visible[t])


def scores(result: dict, source: str) -> dict[str, float | None]:
    """The numbers of one row."""
    metrics, by_class = result["metrics"], result["per_class"]["tc"][source]
    return {
        "miou": metrics["miou"],
        "tc": metrics["tc"][source],
        **{f"tc_{name}": value for name, value in zip(CLASSES.classes, by_class, strict=True)},
        **{name: metrics[name] for name in ("flicker", "harmful_flicker")},
    }


def read(path: Path, most: int | None = None) -> np.ndarray:
    """Frames of a film at `SIZE`, uint8 (N,H,W,3) RGB."""
    film, count = Film(path), frame_count(path)
    shown = [cv2.resize(film.frame(t), SIZE, interpolation=cv2.INTER_AREA) for t in range(min(count, most or count))]
    film.close()
    return np.stack(shown)


def subtracted(frames: np.ndarray) -> np.ndarray:
    """0 = background, 1 = moving: a mixture of Gaussians that has seen the film once before (Zivkovic 2004), without specks."""
    model = cv2.createBackgroundSubtractorMOG2(history=len(frames), detectShadows=True)
    for frame in frames:
        model.apply(frame)
    kernel = np.ones((3, 3), np.uint8)
    maps = [(model.apply(frame, learningRate=0) == 255).astype(np.uint8) for frame in frames]
    return np.stack([cv2.morphologyEx(cv2.morphologyEx(one, cv2.MORPH_OPEN, kernel), cv2.MORPH_CLOSE, kernel) for one in maps])


def answers(truth: np.ndarray) -> dict[str, np.ndarray]:
    """Ways to answer: as the maps say, always background, a frame late, and with a share of the pixels changed at random."""
    changed = np.random.default_rng(0).random(truth.shape) < NOISE
    return {
        "the maps": truth,
        "always background": np.zeros_like(truth),
        "one frame late": np.concatenate((truth[:1], truth[:-1])),
        f"{NOISE:.0%} of the pixels wrong": np.where(changed, 1 - truth, truth).astype(np.uint8),
    }


def motion(frames: np.ndarray, truth: np.ndarray) -> pd.DataFrame:
    """What DIS finds between neighbouring frames, in each class: median motion, share that is still, share that is visible."""
    rows = []
    lengths, seen = {0: [], 1: []}, {0: [], 1: []}
    for t in range(0, len(frames) - 1, 5):
        (flow, visible), _ = estimated_flow(frames[t : t + 2].transpose(0, 3, 1, 2), "dis")
        for label in lengths:
            here = truth[t] == label
            lengths[label].append(np.hypot(*flow[0].astype(np.float32))[here])
            seen[label].append(visible[0][here])
    total = sum(len(part) for of in lengths.values() for part in of)
    for label, name in enumerate(CLASSES.classes):
        length, visible = np.concatenate(lengths[label]), np.concatenate(seen[label])
        rows.append({
            "class": name, "pixels": len(length) / total, "median_px": float(np.median(length)) if len(length) else None,
            "still": float((length < STILL).mean()) if len(length) else None,
            "visible": float(visible.mean()) if len(visible) else None,
        })  # fmt: skip
    return pd.DataFrame(rows)

