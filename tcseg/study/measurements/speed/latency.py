"""The committed latency table of a CPU: every network, runtime, precision and size, and the time to the first prediction.

The student that ships and the networks that `tcseg sweep --profile bench` has trained on this machine come with their weights; the
others are as they are built (`trained_on` says which): with random weights the label map has more borders than any street, so that
their end-to-end times are an upper bound.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from tcseg.bench.busy_machine import NoisyMachineError
from tcseg.bench.latency import bench
from tcseg.bench.processes import bench_in_process, merge
from tcseg.deploy.exported_files import RUNTIMES
from tcseg.models import registry
from tcseg.models.networks import SegmentationModel
from tcseg.models.peers import PEERS
from tcseg.models.students import CHOSEN
from tcseg.study.measurements.parts import Parts
from tcseg.study.model_selection import networks_of
from tcseg.study.opening import open_study
from tcseg.study.study import Study

SIZES = ((512, 256), (1024, 512), (2048, 1024))
MAIN_SIZE = (1024, 512)
"""Where cold starts are measured, and how far processes agree: minutes."""
PROCESSES = 3
CLOSE_MS = 50  # what takes longer at its best is measured in one process: nobody argues about its last percent
SLOW_MS = (
    100  # what takes longer at its best at MAIN_SIZE needs most of a second at the largest size, which is left out
)
PRECISIONS = ("fp32", "int8")
CALIBRATION = 4  # frames of the training split: enough for times; what int8 costs in accuracy is `precision`
ATTEMPTS = 3  # at a size, where the machine is busy: what is measured at other sizes is not lost


def measure(out: Path, quick: bool = False, anyway: bool = False) -> pd.DataFrame:
    """Time everything on this machine's CPU; its GPU is what `measurements.gpu` measures.

    Args:
        out: folder; parts are kept there until the table is written.
        quick: the smallest size, few frames, and whatever else the machine does.
        anyway: report although the machine is busy.

    Returns:
        The rows of `latency.bench`, `trained_on` (whether the weights are of a training), and `processes` and `spread` of
        `processes.merge`: several processes at `MAIN_SIZE` for what is fast, one elsewhere. What was left out at a size has n = 0.

    Raises:
        NoisyMachineError: the machine stayed busy through all attempts.
    """
    study = open_study("procity", "smoke" if quick else "bench")
    networks, are_trained = trained_or_built(study)
    parts = Parts(None if quick else out, "latency", anyway, are_trained)
    tables: list[pd.DataFrame] = []
    for size in SIZES[:1] if quick else SIZES:
        options = {
            "runtimes": RUNTIMES,
            "precisions": PRECISIONS,
            "images": frames_at(study, "val", size, 16),
            "calibration": frames_at(study, "train", size, CALIBRATION),
            "anyway": anyway or quick,
            **({"frames": 3, "seconds": 0} if quick else {"seconds": 3}),
        }
        slow = {name for name in networks if size == SIZES[-1] and _fastest(tables[-1], name) > SLOW_MS}
        timed = {name: network for name, network in networks.items() if name not in slow}
        name_of = f"{size[0]}x{size[1]}"
        first = parts.part(name_of, partial(_retry_when_busy, bench, timed, size, cold=size == MAIN_SIZE, **options))
        close = {name: one for name, one in timed.items() if size == MAIN_SIZE and _fastest(first, name) <= CLOSE_MS}
        others = [
            parts.part(f"{name_of}-again{i}", partial(_retry_when_busy, bench_in_process, close, size, **options))
            for i in range(PROCESSES - 1 if close else 0)
        ]
        tables.append(merge([first, *others]))
        if slow:
            print(f"left out at {size[0]}x{size[1]}, above {SLOW_MS} ms at half the width: {', '.join(sorted(slow))}")
            tables.append(_left_out(tables[1], slow, size))
    every = pd.concat(tables, ignore_index=True)
    return every.assign(trained=every["model"].map(are_trained))


def _retry_when_busy(step: Callable[..., pd.DataFrame], *args: object, **options: object) -> pd.DataFrame:
    """A step of the benchmark, repeated if the machine was too busy for it."""
    for _ in range(ATTEMPTS - 1):
        try:
            return step(*args, **options)
        except NoisyMachineError as error:
            print(f"once more: {error}")
    return step(*args, **options)


def _left_out(table: pd.DataFrame, names: set[str], size: tuple[int, int]) -> pd.DataFrame:
    """Rows of networks at a size that they were not timed at: n = 0, and no numbers of another size."""
    who = ["machine", "cores", "model", "runtime", "precision", "threads", "scope", "params_m"]
    rows = table.loc[table["model"].isin(names), who]
    return rows.assign(width=size[0], height=size[1], n=0).reindex(columns=table.columns)


def _fastest(table: pd.DataFrame, name: str) -> float:
    """Milliseconds of a network's fastest way, end to end."""
    return table[(table["model"] == name) & (table["scope"] == "end_to_end")]["p50_ms"].min()


def trained_or_built(study: Study) -> tuple[dict[str, SegmentationModel], dict[str, bool]]:
    """The student that ships, the chosen students and the peers, and whether each is trained.

    Chosen students and peers as they were trained at this size on this machine, else as they are built.
    """
    networks, are_trained = networks_of(study, (*CHOSEN, *PEERS))
    return {"student": registry.shipped("student")} | networks, {"student": True} | are_trained


def frames_at(study: Study, split: str, size: tuple[int, int], count: int) -> np.ndarray:
    """Frames of a split, spread evenly over its clips, enlarged: uint8 (N,H,W,3)."""
    clips = study.clips(split)
    chosen = np.linspace(0, len(clips) - 1, count).round().astype(int)
    images = [np.asarray(clips.frames[i, 0]).transpose(1, 2, 0) for i in chosen]
    return np.stack([cv2.resize(image, size, interpolation=cv2.INTER_LINEAR) for image in images])
