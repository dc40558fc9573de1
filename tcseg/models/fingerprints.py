"""A fingerprint of an architecture: hash of the outputs for fixed inputs and fixed weights, in twelve hex digits.

A name such as "student-cpu" does not identify a network: after a change of an activation in `students.py`, the old weights would
still load under this name. Therefore sidecars and records hold the fingerprint of each network. It depends on the behaviour and not
on the code, so a refactored network, or one from another version of a library, has the same fingerprint. It is computed in float64,
where two versions of torch differ by about 1e-12, and rounded to five digits.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

SIZE = (256, 128)  # (W,H): the coarsest maps, of stride 64, still have several cells
PROBES = 8  # numbers that a network's logits become
SEED = 3  # chosen so that no pinned number is close to a rounding limit (tests/models/test_fingerprints.py)
TRAINING_PART = "adapter"  # what distillation adds for a training
DROPOUTS = {
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout", "feature_alpha_dropout",
}  # fmt: skip

PINNED = {
    "teacher": "b31997713197",
    "student": "58dc6a416c0b",
    "student-cpu": "410580e73fcc",
    "student-gpu": "332bc94636a7",
    "mnv3s050-48-o4": "58dc6a416c0b",
    "mnv3s050-48-o8": "474c94742623",
    "mnv3s100-64-o8": "fe55d871f6ad",
    "lcnet050-48-o8": "727dae29978b",
    "mnv4s050-48-o8": "fb3a11f9d495",
    "plain16-32-o8": "ee6768ee7a7b",
    "plain24-48-o8": "00bb5da30502",
    "plain32-64-o8": "332bc94636a7",
    "plain16-32-o4": "288320aefe50",
    "patch16-32-o8": "410580e73fcc",
    "patch16s-32-o8": "4f77a4ce7ade",
    "patch32-48-o8": "24cdb0a901d7",
    "fast-scnn": "055e7f803074",
    "ddrnet-23-slim": "94d33abe7c31",
    "pidnet-s": "edd1184db4d9",
    "lraspp-mv3-large": "d91f96239910",
    "deeplabv3-mv3-large": "7383e492743f",
    "segformer-b0": "ab655ffb88d9",
}
"""Name -> fingerprint at 19 classes, of the networks that committed rows and files of weights are of.

segformer-b0's is of transformers 5.24: in older ones (4.46, 5.0) its weights have other names. Neither loads the other's.
Entries are added, never changed: an id that holds a specification alone means this network. What becomes another one on purpose
gets a name of its own, and a role (`students.CHOSEN`) can then name that.
"""


def fingerprint(model: nn.Module) -> str:
    """Twelve hex digits: equal for networks that give equal answers with equal weights, and that train alike.

    It also counts what a file of weights must hold, and what shows in training alone: the momentum of norms, rates of dropout.
    Weights, mode and device do not count, and neither they nor random numbers are changed.

    Args:
        model: it takes frames (B,3,H,W) and gives logits (B,K,h,w). It is not run: a copy is.

    Returns:
        The digits; after "shapes:" where the network cannot be run on frames of 256x128 (an encoder of one size alone): these are
        of the shapes of its weights, and see no other activation.
    """
    shapes = {key: list(value.shape) for key, value in _state(model).items()}
    try:
        outputs, settings = _run(model)
    except Exception:  # a custom encoder may raise anything, but its weights must still be saved after training
        return f"shapes:{_digits(shapes)}"
    return _digits([shapes, [f"{value:.4e}" for value in outputs], settings])


def outputs(model: nn.Module) -> list[float]:
    """The `PROBES` numbers that a fingerprint is of, before they are rounded."""
    return _run(model)[0]


def _digits(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by their keys in a file of weights, without what a training adds."""
    return {
        key: value
        for key, value in model.state_dict(keep_vars=True).items()
        if isinstance(value, Tensor) and key.split(".")[0] != TRAINING_PART
    }


def _run(model: nn.Module) -> tuple[list[float], list]:
    """What a copy with fixed weights answers, and the settings that show in training alone."""
    ghost = _copy(model)
    dropped = _Dropouts()
    with torch.random.fork_rng(devices=[]), torch.no_grad(), dropped:
        torch.default_generator.manual_seed(SEED)  # for a network that draws numbers when it answers; the CPU's alone
        logits = ghost(_frames())
    probes = np.random.RandomState(SEED).uniform(-1, 1, (PROBES, logits.numel()))
    numbers = probes @ logits.to(torch.float64).contiguous().numpy().ravel() / logits.numel()
    return [float(number) + 0.0 for number in numbers], [*_settings(ghost), *sorted(dropped.rates)]


def _copy(model: nn.Module) -> nn.Module:
    """The network on the CPU, in float64 and eval mode, with fixed weights; constants stay as the code makes them."""
    weights = {id(value): key for key, value in reversed(_state(model).items())}  # of a shared one, the first key
    memo: dict[int, Any] = {}
    for value in (*model.parameters(), *model.buffers()):
        new = value.detach().to("cpu", torch.float64 if value.is_floating_point() else value.dtype)
        if id(value) in weights and value.is_floating_point():
            new = torch.from_numpy(_values(weights[id(value)], tuple(value.shape)))
        memo[id(value)] = nn.Parameter(new, requires_grad=False) if isinstance(value, nn.Parameter) else new
    ghost = copy.deepcopy(model, memo).eval()
    if getattr(ghost, TRAINING_PART, None) is not None:
        setattr(ghost, TRAINING_PART, None)
    return ghost


def _values(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Values of a weight that depend on its key and shape alone; numpy promises these streams for ever.

    Sizes are such that neither the signal nor any part's share in it vanishes: as He et al. initialise, and norms that differ.
    """
    part = key.rsplit(".", 1)[-1]
    uniform = np.random.RandomState(crc32(key.encode())).uniform(-1, 1, shape)
    if len(shape) > 1:
        return uniform * math.sqrt(3 * 2 / max(math.prod(shape[1:]), 1))  # a variance of 2/fan_in
    if part == "bias" or part == "running_mean":
        return uniform * 0.1
    return 1 + uniform * 0.5  # scales and variances


def _frames() -> Tensor:
    """One frame (1,3,H,W), uint8: waves of whole numbers, of other lengths in each channel and direction."""
    x, y = np.arange(SIZE[0]), np.arange(SIZE[1])[:, None]

    def wave(place: np.ndarray, length: int) -> np.ndarray:
        return abs(place % (2 * length) - length) * 85 // length  # 0..85

    channels = [wave(x, 37 + 13 * c) + wave(y, 23 + 7 * c) + wave(x + 2 * y, 61 - 11 * c) for c in range(3)]
    return torch.from_numpy(np.stack(channels).astype(np.uint8))[None]


def _settings(model: nn.Module) -> list:
    """Momentum and eps of each norm that keeps statistics, and the rates of paths that a training drops, each sorted."""
    norms = [[_number(m.momentum), _number(m.eps)] for m in model.modules() if hasattr(m, "momentum") and hasattr(m, "eps")]
    rates = [getattr(m, "p" if type(m).__name__ == "StochasticDepth" else "drop_prob", None) for m in model.modules()]
    return [sorted(norms), sorted(_number(rate) for rate in rates if isinstance(rate, int | float) and rate > 0)]


def _number(value: float | None) -> str:
    return "None" if value is None else f"{value:.4e}"


class _Dropouts(TorchFunctionMode):
    """The rates of dropout that a pass meets, of modules and of functions alike; a rate of zero is none."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[str] = []

    def __torch_function__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        if getattr(func, "__name__", "").rstrip("_") in DROPOUTS:
            rate = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
            self.rates += [_number(rate)] if rate > 0 else []
        return func(*args, **kwargs)
