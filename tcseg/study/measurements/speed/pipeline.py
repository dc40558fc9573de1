"""Throughput of `tcseg segment` from file to file, compared with its stages alone and with what the cores allow."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from tcseg.bench.throughput import pipeline_rates
from tcseg.deploy.exported_files import RUNTIMES, why_missing
from tcseg.machine import machine_facts
from tcseg.models import registry
from tcseg.models.students import CHOSEN
from tcseg.models.trained_on import NATIVE
from tcseg.study.model_selection import network_of
from tcseg.study.opening import open_study
from tcseg.study.study import Study
from tcseg.video.encoding import record

SIZES = ((512, 256), (1024, 512))


def measure(out: Path, quick: bool = False) -> pd.DataFrame:
    """Time the pipeline on a film of validation streets.

    Args:
        out: folder; unused, nothing else is written.
        quick: the smaller size, few frames.

    Returns:
        model, runtime, width, height, the columns of `throughput.pipeline_rates`, threads (the machine's cores), machine.
    """
    study = open_study("procity", "smoke" if quick else "bench")
    chosen, _ = network_of(study, CHOSEN["student-cpu"])
    networks = {"student-cpu": chosen, "student": registry.shipped("student")}
    runtimes = [runtime for runtime in RUNTIMES if not why_missing(runtime)]
    facts = machine_facts()
    rows = []
    for size in SIZES[:1] if quick else SIZES:
        with tempfile.TemporaryDirectory(prefix="tcseg-") as folder:
            film = record(_drives(study, size, 1 if quick else 5), Path(folder) / "drives.mp4", 25.0)
            for (name, network), runtime in product(networks.items(), runtimes):
                rates = pipeline_rates(film, network, NATIVE, runtime, repeats=1 if quick else 3)
                row = {"model": name, "runtime": runtime, "width": size[0], "height": size[1]}
                rounded = {key: round(rate, 3 if key.startswith("share") else 1) for key, rate in rates.items()}
                rows.append(row | rounded | {"threads": facts["cores"], "machine": facts["cpu"]})
    return pd.DataFrame(rows)


def _drives(study: Study, size: tuple[int, int], count: int) -> Iterator[np.ndarray]:
    """Every frame of the first validation clips, enlarged."""
    clips = study.clips("val")
    for i, t in product(range(count), range(clips.frames.shape[1])):
        yield cv2.resize(np.asarray(clips.frames[i, t]).transpose(1, 2, 0), size, interpolation=cv2.INTER_LINEAR)
