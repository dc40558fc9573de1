"""Latency on an NVIDIA GPU: every network, PyTorch mode, precision and size, end to end.

End to end has the way there and back: the frame is the host's, and so is the label map. The students in three precisions also say
how far a precision's label maps agree with fp32's on the same frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tcseg.bench.latency import bench
from tcseg.bench.processes import bench_in_process, merge
from tcseg.deploy.runtimes import open_networks
from tcseg.deploy.torch_runtimes import DTYPES, TORCH_RUNTIMES
from tcseg.errors import CannotRunError
from tcseg.models.networks import SegmentationModel
from tcseg.study.measurements.parts import Parts
from tcseg.study.measurements.speed.latency import PROCESSES, frames_at, trained_or_built
from tcseg.study.opening import open_study

SIZES = ((2048, 1024), (1024, 512))
EVERY_SIZE = ("pytorch", "cudagraph")
COMPILED = tuple(runtime for runtime in TORCH_RUNTIMES if runtime not in EVERY_SIZE)
"""Half a minute a network, where the others take a second: in fp16 at the largest size alone, last, each network by itself."""
FRAMES = 8
WHO = ["model", "runtime", "precision", "width"]


def measure(out: Path, quick: bool = False, anyway: bool = False) -> Iterator[pd.DataFrame]:
    """Time everything on the GPU, part by part.

    Args:
        out: folder; parts are kept there until the table is written.
        quick: one small network and size, few frames, and whatever else the machine does.
        anyway: report although the machine is busy.

    Yields:
        After each part the table so far: the rows of `latency.bench`; `processes` and `spread` as of `processes.merge` (three
        processes for CUDA graphs in fp16 at the largest size, else one); trained (whether the weights are of a training); agreement
        (share of labels equal to those of fp32 in eager mode, of trained networks, on val).

    Raises:
        RuntimeError: there is no CUDA GPU.
        NoisyMachineError: something else keeps the CPU busy (whether it keeps the GPU busy nobody looks).
    """
    if not torch.cuda.is_available():
        raise CannotRunError(
            "measurement gpu needs an NVIDIA GPU and PyTorch's CUDA build, and finds none (tcseg doctor); "
            "a CPU's table: tcseg measure latency"
        )
    study = open_study("procity", "smoke" if quick else "bench")
    candidates, are_trained = trained_or_built(study)
    networks = {name: network.cuda() for name, network in candidates.items() if not quick or name == "student"}
    parts = Parts(None if quick else out, "gpu", anyway, are_trained)
    tables, equal = [], []

    def so_far() -> pd.DataFrame:
        table = merge(tables).assign(agreement=np.nan)
        if equal:
            table = table.drop(columns="agreement").merge(pd.DataFrame(equal), "left", WHO)
        return table.assign(trained=table["model"].map(are_trained))

    for size in ((256, 128),) if quick else SIZES:
        images = frames_at(study, "val", size, FRAMES)
        options = {"images": images, "anyway": anyway or quick}
        options |= {"frames": 3, "seconds": 0} if quick else {"frames": 300, "seconds": 1.5}
        for name, step in _steps(networks, size, size == SIZES[0], options).items():
            tables.append(parts.part(f"{size[0]}x{size[1]}-{name}", step))
            yield so_far()
        trained = {name: network for name, network in networks.items() if are_trained[name]}
        equal += [row | {"width": size[0]} for row in _agreement(trained, images)]
    yield so_far()


def _steps(
    networks: dict[str, SegmentationModel], size: tuple[int, int], largest: bool, options: dict
) -> dict[str, Callable[[], pd.DataFrame]]:
    """The parts of the measurement at a size, the most important ones first: the machine may be available for minutes only."""
    if not largest:
        return {"every": partial(bench, networks, size, runtimes=EVERY_SIZE, precisions=tuple(DTYPES), **options)}
    again = partial(bench_in_process, networks, size, runtimes=("cudagraph",), precisions=("fp16",), **options)
    return {
        "fp16": partial(bench, networks, size, runtimes=EVERY_SIZE, precisions=("fp16",), **options),
        "others": partial(bench, networks, size, runtimes=EVERY_SIZE, precisions=("fp32", "bf16"), **options),
        **{f"again{i}": again for i in range(1, PROCESSES)},
        **{
            f"compiled-{name}": partial(
                bench, {name: network}, size, runtimes=COMPILED, precisions=("fp16",), **options
            )
            for name, network in networks.items()
        },
    }


def _agreement(networks: dict[str, SegmentationModel], images: np.ndarray) -> list[dict]:
    """Of each network and precision, the share of labels that equal those of fp32."""
    size, rows = (images.shape[2], images.shape[1]), []
    for name, model in networks.items():
        maps = {}
        for precision in DTYPES:
            network = open_networks(model, ("pytorch",), size, precision=precision)["pytorch"]
            maps[precision] = np.stack([network(image) for image in images])
            same = float((maps[precision] == maps["fp32"]).mean())
            rows.append({"model": name, "runtime": "pytorch", "precision": precision, "agreement": same})
    return rows
