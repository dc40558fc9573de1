"""Latency of every candidate student and peer at 1024x512, in every CPU runtime and precision.

Trained networks (`tcseg sweep --profile bench`) where their weights are here, else as they are built. What they score is joined
to it by `model_selection.scored`, so that a row that is trained later needs no clock.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd

from tcseg.bench.latency import bench
from tcseg.errors import CannotRunError
from tcseg.models.peers import PEERS
from tcseg.models.students import CANDIDATES, CHOSEN
from tcseg.study.measurements.parts import Parts
from tcseg.study.measurements.quality.precision import COLUMNS, refused
from tcseg.study.measurements.speed.latency import CALIBRATION, frames_at
from tcseg.study.model_selection import networks_of
from tcseg.study.opening import open_study
from tcseg.study.paths import measured_table
from tcseg.study.recipes import SAME_AS_STUDENT

SIZE = (1024, 512)
RUNTIMES = ("onnxruntime", "openvino")
PRECISIONS = ("fp32", "int8")


def measure(out: Path, quick: bool = False, anyway: bool = False) -> pd.DataFrame:
    """Time every candidate and peer together.

    Args:
        out: folder; what a busy machine measured is kept there.
        quick: at profile smoke and 256x128, few frames.
        anyway: report although the machine is busy.

    Returns:
        arch, peer, trained (whether its weights are of a training; without one, a label map has other borders), params_m, gflop (at
        the timed size), <runtime>_<precision>_ms (end to end, p50), best_ms and best (its runtime and precision, of those that
        `precision` recommends; what it has not scored counts), int8 ("recommended",
        "not recommended" or "not scored", of the fastest int8), width,
        height, machine, threads, noise (of `latency.bench`: how unsteady the machine was).

    Raises:
        NoisyMachineError: something else keeps the machine busy.
    """
    study = open_study("procity", "smoke" if quick else "bench")
    names = [name for name in ("student", *CANDIDATES, *PEERS) if name != SAME_AS_STUDENT]
    networks, are_trained = networks_of(study, names)
    size = (256, 128) if quick else SIZE
    images, calibration = frames_at(study, "val", size, 8), frames_at(study, "train", size, CALIBRATION)
    options = {"frames": 3, "seconds": 0} if quick else {"frames": 100, "seconds": 4}
    options |= {"images": images, "calibration": calibration, "anyway": anyway or quick}
    parts = Parts(None if quick else out, "speeds", anyway, are_trained)
    timed = parts.part("all", partial(bench, networks, size, runtimes=RUNTIMES, precisions=PRECISIONS, **options))
    scored = _precision()
    rows = [_row(name, trained, timed[timed["model"] == name], scored) for name, trained in are_trained.items()]
    return pd.DataFrame(rows)


def _precision() -> pd.DataFrame:
    """What is known of precisions, of here or committed."""
    try:
        return pd.read_csv(measured_table("precision"))
    except FileNotFoundError:
        return pd.DataFrame(columns=COLUMNS)


def _row(name: str, trained: bool, timed: pd.DataFrame, scored: pd.DataFrame) -> dict:
    whole = timed[timed["scope"] == "end_to_end"].dropna(subset=["p50_ms"])
    labels = whole["runtime"] + "_" + whole["precision"] + "_ms"
    times = dict(zip(labels, whole["p50_ms"].round(2), strict=True))
    if not times:
        raise CannotRunError(f"{name} runs in none of {', '.join(RUNTIMES)} here: pip install -e '.[deploy]'")
    no = {f"{runtime}_{precision}_ms" for arch, runtime, precision in refused(scored) if arch == name}
    fastest = min({way: ms for way, ms in times.items() if way not in no} or times, key=times.get)
    first = timed.iloc[0]
    return {
        "arch": name,
        "peer": name in PEERS,
        "trained": trained,
        "params_m": round(first["params_m"], 3),
        "gflop": round(first["gflop"], 3),
        **times,
        "best_ms": times[fastest],
        "best": fastest.removesuffix("_ms").replace("_", " "),
        "int8": _int8(name, times, scored, no),
        **{key: first[key] for key in ("width", "height", "machine", "threads")},
        "noise": round(first["noise"], 3),
    }


def _int8(name: str, times: dict[str, float], scored: pd.DataFrame, no: set[str]) -> str:
    """Whether the fastest int8 keeps what it may not lose."""
    ways = [way for way in times if way.endswith("_int8_ms")]
    if not ways:
        return ""
    roles = [role for role, arch in CHOSEN.items() if arch == name]
    if not scored["model"].isin([name, *roles]).any():
        return "not scored"
    return "not recommended" if min(ways, key=times.get) in no else "recommended"
