"""Which network should the student be? Accuracy and steadiness under one recipe, against the time of a frame.

The candidates of `students` and the peers of `peers`, trained by the recipe `consistent` (`tcseg sweep --only students --only
peers`), timed together at 1024x512. What is not trained yet has times and no scores. Networks are trained and scored at the
study's size, which is smaller than the one they are timed at: an output stride of 8 is coarser there than on a camera's frame.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tcseg import figures, models
from tcseg.benchmark import bench
from tcseg.measurements import write_figure
from tcseg.measurements.latency import CALIBRATION, frames_at
from tcseg.networks import SegmentationModel
from tcseg.peers import PEERS
from tcseg.recipes import SAME_AS_STUDENT
from tcseg.runs import Run
from tcseg.students import CANDIDATES
from tcseg.study import open_study

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
        model, peer, seeds, steps, miou, tc, flicker, harmful_flicker (means over seeds, 0..1), params_m, gflop (at the timed size),
        <runtime>_<precision>_ms (end to end, p50), best_ms and best (its runtime and precision), width, height, machine, threads.

    Raises:
        NoisyMachineError: something else keeps the machine busy.
    """
    study = open_study("procity", "smoke" if quick else "laptop")
    runs = {name: study.found(_run_name(name)) for name in ("student", *CANDIDATES, *PEERS) if name != SAME_AS_STUDENT}
    networks = {name: network for name, found in runs.items() if (network := _network(name, found)) is not None}
    size = (256, 128) if quick else SIZE
    images, calibration = frames_at(study, "val", size, 8), frames_at(study, "train", size, CALIBRATION)
    options = {"frames": 3, "seconds": 0} if quick else {"frames": 100, "seconds": 4}
    options |= {"images": images, "calibration": calibration, "anyway": anyway or quick}
    timed = bench(networks, size, runtimes=RUNTIMES, precisions=PRECISIONS, **options)
    table = pd.DataFrame([_row(name, runs[name], timed[timed["model"] == name]) for name in networks])
    alt = "Accuracy, temporal consistency and flicker of students and peers against the milliseconds of a frame."
    write_figure(out, "students", figures.speed_and_quality(table), alt)
    return table


def _run_name(name: str) -> str:
    return "consistent" if name == "student" else f"consistent,arch={name}"


def _network(name: str, runs: list[Run]) -> SegmentationModel | None:
    """The first trained seed, else the network as it is built; None where an optional package is missing."""
    trained = [run for run in runs if run.folder is not None]
    try:
        return (trained[0].model() if trained else models.build(name, 19)).eval()
    except RuntimeError as error:
        print(f"left out: {error}")
        return None


def _row(name: str, runs: list[Run], timed: pd.DataFrame) -> dict:
    scores = [
        {key: run.metrics[key] for key in ("miou", "flicker", "harmful_flicker")} | {"tc": run.metrics["tc"]["exact"]}
        for run in runs
    ]
    means = pd.DataFrame(scores, columns=["miou", "tc", "flicker", "harmful_flicker"]).mean().round(5)
    whole = timed[timed["scope"] == "end_to_end"].dropna(subset=["p50_ms"])
    labels = whole["runtime"] + "_" + whole["precision"] + "_ms"
    times = dict(zip(labels, whole["p50_ms"].round(2), strict=True))
    best = min(times, key=times.get)
    first = timed.iloc[0]
    return {
        "model": name,
        "peer": name in PEERS,
        "seeds": len(runs),
        "steps": runs[0].record["recipe"]["steps"] if runs else 0,
        **means,
        "params_m": round(first["params_m"], 3),
        "gflop": round(first["gflop"], 3),
        **times,
        "best_ms": times[best],
        "best": best.removesuffix("_ms").replace("_", " "),
        **{key: first[key] for key in ("width", "height", "machine", "threads")},
    }
