"""Long measurements whose tables are committed, and that a study need not make again each time: `tcseg measure NAME`.

Each module in a folder here has one function `measure(out, quick) -> DataFrame`, or one that yields the table so far, part by
part. It lands in `out/tables/<name>.csv`, its further tables and figures beside it, and `out/records/<name>.json` says which
files, when and on what machine. `make reference` copies them to `figures/`, notebooks read them by `study.measured(name)`.
"""

from __future__ import annotations

import importlib
import inspect
import time
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pandas as pd

from tcseg import atomic_files
from tcseg.errors import InputError, require_one_of
from tcseg.machine import machine_facts
from tcseg.procity import VERSION
from tcseg.study.measurements.parts import forget
from tcseg.study.paths import MEASURED
from tcseg.study.runs import git_state, now, versions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASUREMENTS: dict[str, str] = {
    "procity": "the embedded city: speed, memory, exactness, classes, how far val's cities are from train's",
    "transfer": "does it transfer: students trained on procity, evaluated on CamVid",
    "zero_shot": "what the students that ship are worth on real streets, as they come",
    "metrics": "what a frame's metrics cost",
    "coverage": "whether the intervals of the study cover the truth as often as they say",
    "cost": "what a training step costs, part by part",
    "latency": "what a frame costs: every network, runtime, precision and size",
    "gpu": "the same on an NVIDIA GPU",
    "speeds": "what a frame of every candidate for the student takes, and of every peer",
    "layouts": "a frame's bytes in planes, or as cameras give them: which runtime is faster with what",
    "half_resolution": "frames of a camera's size, seen whole or at half of it",
    "pipeline": "from video file to video file: the whole against its stages",
    "steadiness": "filters at inference against the student that was trained to be steady",
    "flow": "estimated flow against the exact flow",
    "precision": "what fp16 and int8 cost in accuracy and steadiness",
}
"""Name of a measurement -> what it measures, in a line."""


def measure(name: str, out: Path = MEASURED, quick: bool = False, anyway: bool = False) -> list[Path]:
    """Make a measurement and write its table.

    Args:
        name: a key of `MEASUREMENTS`.
        out: folder; gets `tables/` and `figures/`.
        quick: seconds instead of minutes; the numbers mean nothing.
        anyway: report although the machine is busy, where that is asked.

    Returns:
        The files written, the measurement's own table first.

    Raises:
        ValueError: the name is unknown (the known ones are listed), or `anyway` with what no busy machine is refused for.
    """
    require_one_of("measurement", name, MEASUREMENTS)
    make = _module_of(name).measure
    if anyway and "anyway" not in inspect.signature(make).parameters:
        raise InputError(f"measurement {name} refuses no busy machine: leave out --anyway")
    before, started = _stamps(out), time.monotonic()
    result = make(out, quick, **({"anyway": True} if anyway else {}))
    tables = [result] if isinstance(result, pd.DataFrame) else result
    for whole in tables:
        table = write_table(out, name, whole)
        written = [
            table,
            *sorted(path for path, stamp in _stamps(out).items() if path != table and before.get(path) != stamp),
        ]
        files = [path.relative_to(out).as_posix() for path in written]
        facts = {"date": now(), "git": git_state(), "versions": versions(), "machine": machine_facts()}
        facts |= {"procity": VERSION, "seconds": round(time.monotonic() - started)}
        atomic_files.write_json(out / "records" / f"{name}.json", {"quick": quick, "files": files, **facts})
    forget(out, name)
    return written


def _module_of(name: str) -> ModuleType:
    """The module of a measurement, in whichever folder it lies."""
    folder = next((path.parent.name for path in Path(__file__).parent.glob(f"*/{name}.py")), None)
    return importlib.import_module(".".join(filter(None, (__name__, folder, name))))


def _stamps(out: Path) -> dict[Path, int]:
    """Files of tables/ and figures/ and when they were written."""
    return {path: path.stat().st_mtime_ns for kind in ("tables", "figures") for path in (out / kind).glob("*.*")}


def write_table(out: Path, name: str, table: pd.DataFrame) -> Path:
    """Write `out/tables/<name>.csv`."""
    return atomic_files.write_table(out / "tables" / f"{name}.csv", table)


def write_figure(out: Path, name: str, figure: Figure, alt: str) -> Path:
    """Write `out/figures/<name>.png` and its alt text; closes the figure."""
    return atomic_files.write_figure(out / "figures" / f"{name}.png", figure, alt)
