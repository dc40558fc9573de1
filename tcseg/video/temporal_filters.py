"""Filters over time that reduce flicker at inference; they cost time and use older frames.

The competitors of a student that was *trained* to be steady. Each is causal (frame t needs frames up to t only) and has one
method, `step(frame, answer)`: it is given a frame and a function that runs the network on it, and returns probabilities. What it
adds in milliseconds is measured (`tcseg measure steadiness`); what it adds in age is `lag`.

| filter | what it does | lag, frames |
|---|---|---|
| `Exponential` | p <- m p_before + (1 - m) p | m / (1 - m) |
| `FlowAveraged` | the same along estimated flow, where the picture looks as the flow says | m / (1 - m) |
| `Median` | each class' median of three frames | 1 |
| `Keyframes` | the network sees every n-th frame; in between its answer is warped along estimated flow | (n - 1) / 2 |
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from tcseg.data.clips import Clips
from tcseg.deploy.label_map import upsample_argmax
from tcseg.errors import InputError
from tcseg.evaluation.split_scores import Predictor
from tcseg.flow import estimate, resize_flow, warp
from tcseg.models.networks import SegmentationModel
from tcseg.training.teacher_targets import plain_probs

RunNetwork = Callable[[], Tensor]
"""Runs the network on the frame at hand: probabilities (K,h,w)."""
FLOW_WIDTH = (
    512  # flow is estimated on frames at most so wide: finer costs more than a network and moves borders by nothing
)
DOUBT = 12.0  # grey levels by which a warped frame may differ until its trust has fallen to 1/e


class Filter(Protocol):
    """A filter between a network and the label map."""

    lag: float
    """Mean age of the evidence in an answer, frames."""

    def step(self, frame: np.ndarray, run_network: RunNetwork) -> Tensor:
        """Probabilities (K,h,w) of a frame, uint8 (H,W,3) RGB, of one video in order."""


def _share(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise InputError(f"{name} is {value}; it must be at least 0 and below 1")
    return value


class Nothing:
    """The network alone."""

    lag = 0.0

    def step(self, frame: np.ndarray, run_network: RunNetwork) -> Tensor:
        """The network's own prediction."""
        return run_network()


class Exponential:
    """A running mean of probabilities, without flow: `memory` of the old and the rest of the new."""

    def __init__(self, memory: float = 0.5) -> None:
        self.memory = _share("memory", memory)
        self.lag = memory / (1 - memory)
        self._state: Tensor | None = None

    def step(self, frame: np.ndarray, run_network: RunNetwork) -> Tensor:
        """The mean so far."""
        probs = run_network()
        self._state = probs if self._state is None else self.memory * self._state + (1 - self.memory) * probs
        return self._state


def _gray(frame: np.ndarray) -> np.ndarray:
    """A frame as flow is estimated on it: RGB, at most `FLOW_WIDTH` wide."""
    height, width = frame.shape[:2]
    if width <= FLOW_WIDTH:
        return frame
    return cv2.resize(frame, (FLOW_WIDTH, round(height * FLOW_WIDTH / width)), interpolation=cv2.INTER_AREA)


def _carried(state: Tensor, before: np.ndarray, now: np.ndarray) -> tuple[Tensor, Tensor]:
    """The old probabilities on the new frame's grid, and how far they may be trusted there (h,w), 0..1."""
    flow = torch.from_numpy(estimate("dis", now, before))[None]
    size = state.shape[-1], state.shape[-2]
    pair = [torch.from_numpy(cv2.resize(image, size, interpolation=cv2.INTER_AREA)) for image in (before, now)]
    then, current = (image.permute(2, 0, 1)[None].float() for image in pair)
    small = resize_flow(flow, size)
    moved, inside = warp(torch.cat((state[None], then), 1), small)
    change = (moved[:, -3:] - current).abs().mean(1)
    return moved[0, :-3], (torch.exp(-change / DOUBT) * inside)[0]


class FlowAveraged:
    """A running mean along the flow estimated (DIS) from the current frame back to the previous one."""

    def __init__(self, memory: float = 0.5) -> None:
        self.memory = _share("memory", memory)
        self.lag = memory / (1 - memory)
        self._state: Tensor | None = None
        self._frame: np.ndarray | None = None

    def step(self, frame: np.ndarray, run_network: RunNetwork) -> Tensor:
        """The mean so far, moved with the picture."""
        probs, now = run_network(), _gray(frame)
        if self._state is not None:
            moved, trust = _carried(self._state, self._frame, now)
            share = self.memory * trust
            probs = share * moved + (1 - share) * probs
        self._state, self._frame = probs, now
        return probs


class Median:
    """The median of each class's probability over the last three frames, which removes predictions of a single frame."""

    lag = 1.0

    def __init__(self) -> None:
        self._last: deque[Tensor] = deque(maxlen=3)

    def step(self, frame: np.ndarray, run_network: RunNetwork) -> Tensor:
        """Median of what there is; of two frames the mean."""
        self._last.append(run_network())
        stack = torch.stack(tuple(self._last))
        return stack.median(0).values if len(stack) == 3 else stack.mean(0)


class Keyframes:
    """Run the network on every `every`-th frame only; in between, its prediction follows the estimated flow."""

    def __init__(self, every: int = 2) -> None:
        if every < 1:
            raise InputError(f"every is {every}; it must be at least 1")
        self.every, self.lag = every, (every - 1) / 2
        self._count = 0
        self._state: Tensor | None = None
        self._frame: np.ndarray | None = None

    def step(self, frame: np.ndarray, run_network: RunNetwork) -> Tensor:
        """The network's prediction, or the last one moved along the flow."""
        now = _gray(frame)
        if self._count % self.every == 0:
            self._state = run_network()
        else:
            moved, trust = _carried(self._state, self._frame, now)
            # What enters the frame is as its place was answered before.
            self._state = torch.where(trust > 0, moved, self._state)
        self._frame = now
        self._count += 1
        return self._state


FILTERS: dict[str, Callable[[], Filter]] = {
    **{f"running mean {memory:g}": lambda memory=memory: Exponential(memory) for memory in (0.3, 0.5, 0.7)},
    **{f"mean along flow {memory:g}": lambda memory=memory: FlowAveraged(memory) for memory in (0.3, 0.5, 0.7)},
    "median of three": Median,
    **{f"every {every} frames": lambda every=every: Keyframes(every) for every in (2, 4)},
}
"""Name in tables -> a new filter. A filter is of one video: make one for each."""


def label_maps(probs: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Labels uint8 (T,H,W) of probabilities (T,K,h,w) at size (W,H): their logarithms are upsampled, as a network's logits are.

    Logarithms of a softmax are its logits but for a term that all classes share, so that without a filter nothing changes.
    """
    return upsample_argmax(probs.clamp(min=1e-12).log(), size)


def filtered(model: SegmentationModel, clips: Clips, new_filter: Callable[[], Filter]) -> Predictor:
    """Apply a filter to a network's predictions on a split.

    Args:
        model: the network, in eval mode.
        clips: the split.
        new_filter: makes the filter of one clip, as those of `FILTERS`.
    """

    def predictor(index: int) -> np.ndarray:
        frames = np.asarray(clips.frames[index])
        probs = plain_probs(model, torch.from_numpy(frames))
        steady = new_filter()
        images = np.ascontiguousarray(frames.transpose(0, 2, 3, 1))
        filtered_probs = [steady.step(image, lambda t=t: probs[t]) for t, image in enumerate(images)]
        return label_maps(torch.stack(filtered_probs), clips.size)

    return predictor
