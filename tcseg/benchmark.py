"""The latency protocol: what a frame costs, batch 1, with everything that is not the network in view.

Published frame rates of one network differ by a factor of two, because they leave out different things. Here every
frame goes through preparation, network and label map, one after the other, and each step is timed; the three scopes
are sums of those steps in the same frames, so that their differences mean something:

- `network`: prepared frame -> logits, nothing else;
- `network+argmax`: -> label map at full resolution;
- `end_to_end`: uint8 frame -> uint8 label map, with padding, layout and cropping. Decoding video is not in it.

Models and runtimes take turns in short rounds, so that a slow minute of the machine hits them all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING

import numba
import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from tcseg.export import RUNTIMES, missing, sample_frames
from tcseg.machine import cpu_name, gpu_name, machine_facts
from tcseg.runtimes import Network, open_networks

if TYPE_CHECKING:
    from tcseg.networks import SegmentationModel

__all__ = ["COLUMNS", "SCOPES", "bench", "machine_facts", "noise"]

log = logging.getLogger(__name__)

SCOPES = ("network", "network+argmax", "end_to_end")
COLUMNS = (
    "machine", "model", "runtime", "precision", "height", "width", "threads", "scope", "n",
    "p50_ms", "p90_ms", "p99_ms", "max_ms", "fps",
)  # fmt: skip
MIN_FRAMES = 30
ROUND = 10  # frames of one model before the next one's turn
NOISY = 0.25  # spread of a fixed computation above which the machine is busy with something else


def noise(repeats: int = 40) -> float:
    """How unsteady the machine is now: (p90 - p10) / p50 of the time of one fixed matrix product. Quiet: below 0.1."""
    a = np.ones((384, 384), np.float32)
    times = []
    for _ in range(repeats + 5):
        began = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - began)
    low, middle, high = np.percentile(times[5:], [10, 50, 90])
    return float((high - low) / middle)


def time_frame(network: Network, frame: np.ndarray) -> tuple[float, float, float]:
    """Milliseconds that one frame takes in each of `SCOPES`."""
    size = (frame.shape[1], frame.shape[0])
    start = time.perf_counter()
    prepared = network.prepare(frame)
    ready = time.perf_counter()
    logits = network.run(prepared)
    answered = time.perf_counter()
    network.finish(logits, size)
    done = time.perf_counter()
    return (answered - ready) * 1e3, (done - ready) * 1e3, (done - start) * 1e3


def summarize(milliseconds: np.ndarray) -> dict[str, float | int]:
    """Times of n frames -> n, p50_ms, p90_ms, p99_ms, max_ms, and fps = 1000 / p50_ms."""
    p50, p90, p99 = np.percentile(milliseconds, [50, 90, 99])
    return {
        "n": len(milliseconds),
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "max_ms": float(np.max(milliseconds)),
        "fps": 1000 / p50,
    }


@contextmanager
def _threads(count: int | None) -> Iterator[int]:
    """Pin torch's and numba's threads; gives back how many."""
    before = torch.get_num_threads(), numba.get_num_threads()
    count = before[0] if count is None else count
    if not 1 <= count <= numba.config.NUMBA_NUM_THREADS:
        raise ValueError(
            f"threads is {count}; it must be 1..{numba.config.NUMBA_NUM_THREADS}, the cores of this machine"
        )
    torch.set_num_threads(count)
    numba.set_num_threads(count)
    try:
        yield count
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])


def _measure(
    networks: dict[tuple[str, str], Network], images: np.ndarray, frames: int, seconds: float, progress: bool
) -> dict[tuple[str, str], np.ndarray]:
    """Warm up, then take turns until each network has `frames` frames or `seconds`, but never under `MIN_FRAMES`."""
    times: dict[tuple[str, str], list[tuple[float, float, float]]] = {key: [] for key in networks}
    stream = cycle(images)
    for network in tqdm(networks.values(), "warm-up", disable=not progress, leave=False):
        for _ in range(5):
            network(next(stream))
    least = min(MIN_FRAMES, frames)
    waiting = set(networks)
    with tqdm(total=frames * len(networks), desc="bench", unit="frame", disable=not progress, leave=False) as bar:
        while waiting:
            for key in [key for key in networks if key in waiting]:
                network, mine = networks[key], times[key]
                time_frame(network, next(stream))  # the caches hold another network's data: not counted
                for _ in range(min(ROUND, frames - len(mine))):
                    mine.append(time_frame(network, next(stream)))
                    bar.update()
                spent = sum(end_to_end for _, _, end_to_end in mine) / 1e3
                if len(mine) >= frames or (spent >= seconds and len(mine) >= least):
                    waiting.discard(key)
                    bar.update(frames - len(mine))
    return {key: np.array(mine) for key, mine in times.items()}


def _open(
    models: dict[str, SegmentationModel], runtimes: Sequence[str], size: tuple[int, int], threads: int, progress: bool
) -> tuple[dict[tuple[str, str], Network], dict[str, str]]:
    """Open every model in every runtime that is installed; the others with the reason."""
    absent = {runtime: reason for runtime in runtimes if (reason := missing(runtime))}
    for reason in absent.values():
        log.warning("not measured: %s", reason)
    present = [runtime for runtime in runtimes if runtime not in absent]
    opened: dict[tuple[str, str], Network] = {}
    for name in tqdm(models, "open", disable=not progress, leave=False):
        networks = open_networks(models[name], present, size, threads)
        opened |= {(name, runtime): networks[runtime] for runtime in present}
    return opened, absent


def bench(
    models: dict[str, SegmentationModel],
    size: tuple[int, int] = (1024, 512),
    frames: int = 500,
    seconds: float = 10,
    runtimes: Sequence[str] = RUNTIMES,
    threads: int | None = None,
    images: np.ndarray | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Measure the latency of models in several runtimes, batch 1, in one process.

    Args:
        models: name in the table -> network. PyTorch runs it on the device it is on, the other runtimes on the CPU.
        size: (W,H) of the frames.
        frames: per model and runtime, at most; not under 30 unless `frames` itself is.
        seconds: per model and runtime, at most.
        runtimes: of `tcseg.export.RUNTIMES`; one that is not installed gives rows with n = 0 and no times.
        threads: of the network and of the label map; None = torch's own number.
        images: uint8 (N,H,W,3) RGB frames of that size; None = pictures without meaning. The label map's cost depends
            on how many class borders there are: real frames are better.
        progress: show bars.

    Returns:
        One row a model, runtime and scope, with `COLUMNS`. In `attrs`: `noise` (the function's
        value) and `missing` (runtime -> reason).

    Raises:
        ValueError: no model, an unknown runtime, images of another size, more threads than cores.
    """
    if not models:
        raise ValueError("models is empty; pass at least one, as {'student': shipped('student')}")
    if frames < 1:
        raise ValueError(f"frames is {frames}; it must be at least 1")
    images = sample_frames(size, 8) if images is None else images
    if images.dtype != np.uint8 or images.shape[1:] != (size[1], size[0], 3):
        raise ValueError(
            f"images are {images.dtype} {images.shape}; for size={size} they must be uint8 (N,{size[1]},{size[0]},3)"
        )
    with _threads(threads) as count:
        networks, absent = _open(models, runtimes, size, count, progress)
        before = noise()
        times = _measure(networks, images, frames, seconds, progress)
        spread = max(before, noise())
    if spread > NOISY:
        log.warning(
            "this machine is busy (a fixed computation varies by %.0f %%): measure again when it is quiet", 100 * spread
        )
    rows = [
        {"model": name, "runtime": runtime, "precision": "fp32", "height": size[1], "width": size[0], "threads": count}
        | {"machine": _machine(models[name], runtime), "scope": scope}
        | (summarize(times[name, runtime][:, i]) if runtime not in absent else {"n": 0})
        for name in models
        for runtime in runtimes
        for i, scope in enumerate(SCOPES)
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table.attrs |= {"noise": spread, "missing": absent}
    return table


def _machine(model: SegmentationModel, runtime: str) -> str:
    on_gpu = runtime == "pytorch" and model.head.weight.device.type != "cpu"
    return gpu_name() or cpu_name() if on_gpu else cpu_name()
