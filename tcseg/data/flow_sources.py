"""Optical flow of a split: the exact flow, an estimator's, none, or single images moved by known homographies."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tcseg.data.clips import Clips
from tcseg.errors import InputError
from tcseg.flow import FlowPair, compose, estimated_flow

FLOW_SOURCES = ("exact", "dis", "farneback", "raft", "zero", "synthetic")


def with_flow(clips: Clips, source: str = "best", gap: int = 1) -> Clips:
    """The same clips with motion of another source, or between frames further apart.

    Args:
        clips: a split.
        source: "best" = what the data set has; "exact", "dis", "farneback", "raft", "zero" (nothing moves, all is visible), or
            "synthetic" (no flow: training moves stills by known homographies).
        gap: frames from one to the other; the steps of a longer way are composed.

    Returns:
        Clips whose only flow is t -> t+gap, (N,T-gap,2,H,W). Stills are returned as they are: they have synthetic motion only.

    Raises:
        ValueError: an unknown source, a gap that no clip is long enough for, or true flow that the data set does not have.
    """
    length = clips.frames.shape[1]
    if source not in ("best", *FLOW_SOURCES):
        raise InputError(f"flow source is {source!r}; it must be best or one of {', '.join(FLOW_SOURCES)}")
    if length == 1 or source == "synthetic":
        return replace(clips, flows={}, backward=None)
    if not 1 <= gap < length:
        raise InputError(f"gap is {gap}; clips of {length} frames have pairs with gaps of 1 to {length - 1}")
    name = clips.flow_source if source == "best" else source
    if name == "exact" and "exact" not in clips.flows:
        raise InputError(f"flow source is 'exact', but {clips.dataset} has no true flow; use 'dis' or 'synthetic'")
    steps = clips.flows[name] if name in clips.flows else _flow_of(clips, name)
    if gap > 1:
        far = [_far(*(torch.from_numpy(np.asarray(part[i])) for part in steps), gap) for i in range(len(clips))]
        steps = np.stack([flow for flow, _ in far]), np.stack([visible for _, visible in far])
    return replace(clips, flows={name: steps})


def _flow_of(clips: Clips, source: str) -> FlowPair:
    """Flow t -> t+1 and visibility of all clips, estimated now; zero flow sees everything."""
    if source == "zero":
        count, length, _, height, width = clips.frames.shape
        still = np.zeros((count, length - 1, 2, height, width), np.float16)
        return still, np.ones((count, length - 1, height, width), bool)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda frames: estimated_flow(frames, source)[0], clips.frames))
    return np.stack([flow for flow, _ in found]), np.stack([visible for _, visible in found])


def _far(flow: Tensor, visible: Tensor, gap: int) -> FlowPair:
    """Compose single steps (T-1,2,H,W) of one clip to flow t -> t+gap, (T-gap,2,H,W)."""
    count = len(flow) - gap + 1
    there, seen = flow[:count].float(), visible[:count]
    for step in range(1, gap):
        onward = slice(step, step + count)
        there, seen = compose(there, flow[onward].float(), seen, visible[onward])
    return there.half().numpy(), seen.numpy()
