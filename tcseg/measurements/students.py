"""Which network should the student be? Accuracy and steadiness under one recipe, against the time of a frame.

The candidates of `students` and the peers of `peers` at 1024x512: all trained by one recipe, supervised, from scratch, for as many
steps and for twice as many (`tcseg sweep --profile bench`), and timed together. A network is shown with the better of the two; what
doubling gained tells how far it is from its end. What is not trained yet has times and no scores.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tcseg import figures, models
from tcseg.benchmark import bench
from tcseg.measurements import write_figure
from tcseg.measurements.latency import CALIBRATION, frames_at
from tcseg.networks import SegmentationModel
from tcseg.peers import PEERS
from tcseg.recipes import SAME_AS_STUDENT
from tcseg.runs import Run
from tcseg.students import CANDIDATES, CHOSEN
from tcseg.study import open_study
from tcseg.sweeps import best, trained

SIZE = (1024, 512)
RUNTIMES = ("onnxruntime", "openvino")
PRECISIONS = ("fp32", "int8")


def measure(out: Path, quick: bool = False, anyway: bool = False) -> pd.DataFrame:
    """Time every candidate and peer, and set what it scores beside it.

    Args:
        out: folder; gets `figures/students.png`.
        quick: at profile smoke and 256x128, few frames.
        anyway: report although the machine is busy.

    Returns:
        model (the role of those that were chosen), arch, peer, seeds, steps, miou, tc, flicker, harmful_flicker (means over seeds,
        0..1), doubling (what twice the steps gained in mIoU), train_minutes (of those steps), params_m, gflop (at the timed size),
        <runtime>_<precision>_ms (end to end, p50), best_ms and best (its runtime and precision), width, height, machine, threads.

    Raises:
        NoisyMachineError: something else keeps the machine busy.
    """
    study = open_study("procity", "smoke" if quick else "bench")
    runs = {name: trained(study, name) for name in ("student", *CANDIDATES, *PEERS) if name != SAME_AS_STUDENT}
    found = {name: network for name, by_length in runs.items() if (network := _network(name, by_length)) is not None}
    size = (256, 128) if quick else SIZE
    images, calibration = frames_at(study, "val", size, 8), frames_at(study, "train", size, CALIBRATION)
    options = {"frames": 3, "seconds": 0} if quick else {"frames": 100, "seconds": 4}
    options |= {"images": images, "calibration": calibration, "anyway": anyway or quick}
    timed = bench(found, size, runtimes=RUNTIMES, precisions=PRECISIONS, **options)
    table = pd.DataFrame([_row(name, runs[name], timed[timed["model"] == name]) for name in found])
    alt = "Accuracy, temporal consistency and flicker of students and peers against the milliseconds of a frame."
    write_figure(out, "students", figures.speed_and_quality(table), alt)
    return table


def _network(name: str, by_length: list[list[Run]]) -> SegmentationModel | None:
    """The first trained seed, else the network as it is built; None where an optional package is missing."""
    here = [run for run in best(by_length) if run.folder is not None]
    try:
        return (here[0].model() if here else models.build(name, 19)).eval()
    except RuntimeError as error:
        print(f"left out: {error}")
        return None


def _scores(by_length: list[list[Run]]) -> dict[str, float]:
    """Means over the seeds of the better length, and what the longer one gained over the shorter one with the same seeds."""
    runs = best(by_length)
    names = ["miou", "tc", "flicker", "harmful_flicker"]
    scores = [{**run.metrics, "tc": run.metrics["tc"]["exact"]} for run in runs]
    row = pd.DataFrame(scores, columns=names).mean().round(5).to_dict()
    short, long = ({run.seed: run.metrics["miou"] for run in runs} for runs in (*by_length, [], [])[:2])
    both = short.keys() & long.keys()
    row["doubling"] = round(float(np.mean([long[seed] - short[seed] for seed in both])), 5) if both else np.nan
    row["train_minutes"] = (
        round(float(np.mean([run.record["cost"]["train_seconds"] for run in runs])) / 60, 2) if runs else np.nan
    )
    return row


def _row(name: str, by_length: list[list[Run]], timed: pd.DataFrame) -> dict:
    runs = best(by_length)
    whole = timed[timed["scope"] == "end_to_end"].dropna(subset=["p50_ms"])
    labels = whole["runtime"] + "_" + whole["precision"] + "_ms"
    times = dict(zip(labels, whole["p50_ms"].round(2), strict=True))
    fastest = min(times, key=times.get)
    first = timed.iloc[0]
    return {
        "model": {arch: role for role, arch in CHOSEN.items()}.get(name, name),
        "arch": name,
        "peer": name in PEERS,
        "seeds": len(runs),
        "steps": runs[0].record["recipe"]["steps"] if runs else 0,
        **_scores(by_length),
        "params_m": round(first["params_m"], 3),
        "gflop": round(first["gflop"], 3),
        **times,
        "best_ms": times[fastest],
        "best": fastest.removesuffix("_ms").replace("_", " "),
        **{key: first[key] for key in ("width", "height", "machine", "threads")},
    }
