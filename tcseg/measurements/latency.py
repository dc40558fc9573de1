"""The committed latency table: every network, runtime, precision and size, with what each needs before its first answer.

Students come with their trained weights. Peers are as they are built: with random weights the label map has more borders than any
street, so that their end-to-end times are an upper bound until `tcseg sweep --profile bench` has trained them.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from tcseg import models
from tcseg.benchmark import bench
from tcseg.networks import SegmentationModel
from tcseg.peers import PEERS
from tcseg.repeats import merged
from tcseg.students import CHOSEN
from tcseg.study import Study, open_study
from tcseg.sweeps import network_of

SIZES = ((512, 256), (1024, 512), (2048, 1024))
COLD_SIZE = (1024, 512)
SLOW_MS = (
    25  # what takes longer at its best at COLD_SIZE is not measured at the largest size: it is far from real time there
)
PRECISIONS = ("fp32", "int8")
CALIBRATION = 4  # frames of the training split: enough for times; what int8 costs in accuracy is `precision`


def measure(out: Path, quick: bool = False, anyway: bool = False) -> pd.DataFrame:
    """Time everything on this machine.

    Args:
        out: folder; unused, nothing else is written.
        quick: the smallest size, few frames, and whatever else the machine does.
        anyway: report although the machine is busy.

    Returns:
        The rows of `benchmark.bench`, and `processes` and `spread` of `repeats.merged` (here one process).

    Raises:
        NoisyMachineError: something else keeps the machine busy.
    """
    study = open_study("procity", "smoke" if quick else "bench")
    networks = trained_or_built(study)
    tables: list[pd.DataFrame] = []
    for size in SIZES[:1] if quick else SIZES:
        images, calibration = frames_at(study, "val", size, 16), frames_at(study, "train", size, CALIBRATION)
        cold = size == COLD_SIZE  # a process each: minutes
        options = (
            {"frames": 3, "seconds": 0, "anyway": True} if quick else {"seconds": 3, "cold": cold, "anyway": anyway}
        )
        if size == SIZES[-1]:
            networks = {name: one for name, one in networks.items() if _fastest(tables[-1], name) < SLOW_MS}
            if not networks:
                print(f"nothing is under {SLOW_MS} ms at {COLD_SIZE[0]}x{COLD_SIZE[1]}: the largest size is left out")
                break
        tables.append(bench(networks, size, precisions=PRECISIONS, images=images, calibration=calibration, **options))
    return merged(tables)


def _fastest(table: pd.DataFrame, name: str) -> float:
    """Milliseconds of a network's fastest way, end to end."""
    return table[(table["model"] == name) & (table["scope"] == "end_to_end")]["p50_ms"].min()


def trained_or_built(study: Study) -> dict[str, SegmentationModel]:
    """The student that ships, the chosen students and the peers as they were trained at this size, else as they are built."""
    found = {"student": models.shipped("student")}
    for name in (*CHOSEN, *PEERS):
        try:
            found[name], _ = network_of(study, CHOSEN.get(name, name))
        except RuntimeError as error:  # an optional package is missing: say so and go on
            print(f"not measured: {error}")
    return found


def frames_at(study: Study, split: str, size: tuple[int, int], count: int) -> np.ndarray:
    """Frames of a split, spread evenly over its clips, enlarged: uint8 (N,H,W,3)."""
    clips = study.clips(split)
    chosen = np.linspace(0, len(clips) - 1, count).round().astype(int)
    images = [np.asarray(clips.frames[i, 0]).transpose(1, 2, 0) for i in chosen]
    return np.stack([cv2.resize(image, size, interpolation=cv2.INTER_LINEAR) for image in images])
