"""Clips that a network learns in seconds."""

import numpy as np

from tcseg.data.clips import Clips


def toy_clips(count=6, length=3, size=(64, 32)):
    """Left half one class, right half another, colours to match; every frame moves by a pixel."""
    width, height = size
    rng = np.random.default_rng(0)
    edge = rng.integers(16, 48, count)
    x = np.arange(width)
    labels = np.stack([[np.tile(x >= e + t, (height, 1)) for t in range(length)] for e in edge]).astype(np.uint8)
    frames = np.repeat(labels[:, :, None] * 120 + 60, 3, 2).astype(np.uint8)
    frames += rng.integers(0, 20, frames.shape, dtype=np.uint8)
    flow = np.zeros((count, length - 1, 2, height, width), np.float16)
    flow[:, :, 0] = 1
    visible = np.ones((count, length - 1, height, width), bool)
    visible[..., -1] = False
    annotated = np.zeros((count, length), bool)
    annotated[:, length // 2] = True
    return Clips(
        "procity", "train", frames, labels, annotated, {"exact": (flow, visible)}, [f"c{i}" for i in range(count)], "toy",
        (-flow, visible[..., ::-1].copy()),
    )  # fmt: skip
