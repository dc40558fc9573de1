"""Long measurements that are not part of a study and whose tables are committed: `tcseg measure NAME`.

Each module in a folder here has one function `measure(out, quick) -> DataFrame`, or one that yields the table so far, part by
part. It lands in `out/tables/<name>.csv`, its further tables and figures next to it, and `out/records/<name>.json` says which
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
    "procity": "procity: speed, memory, exactness, class frequencies, and the gap between training and validation cities",
    "transfer": "transfer: students trained on procity, evaluated on CamVid",
    "zero_shot": "the included students on real streets, without fine-tuning",
    "adapt": "adapting a student to CamVid without its labels, over seeds",
    "street": "students for real streets: trained on all real frames here, shown on a highway",
    "metrics": "time to compute the metrics of a frame",
    "coverage": "coverage of the confidence intervals on simulated splits",
    "cost": "time of a training step, by part",
    "latency": "latency of every network, runtime, precision and size",
    "gpu": "latency on an NVIDIA GPU",
    "speeds": "latency of every candidate student and every peer",
    "layouts": "latency with frames in channels-first or channels-last order",
    "half_resolution": "camera-sized frames, seen at full or half size",
    "pipeline": "throughput from file to file, compared with each stage",
    "steadiness": "filters at inference, compared with the consistent student",
    "flow": "estimated flow, compared with the exact flow",
    "reliability": "damaged files of every kind: which are refused by name, read wrongly, hang, or end in a traceback",
    "precision": "effect of fp16 and int8 on accuracy and consistency",
}
"""Name of a measurement -> one line about it."""


def measure(name: str, out: Path = MEASURED, quick: bool = False, anyway: bool = False) -> list[Path]:
    """Run a measurement and write its table.

    Args:
        name: a key of `MEASUREMENTS`.
        out: folder; gets `tables/` and `figures/`.
        quick: seconds instead of minutes; the numbers mean nothing.
        anyway: report timings even if the machine is busy.

    Returns:
        The files written, the measurement's own table first.

    Raises:
        ValueError: the name is unknown (the known ones are listed), or `anyway` has no meaning for this measurement.
    """
    require_one_of("measurement", name, MEASUREMENTS)
    make = _module_of(name).measure
    if anyway and "anyway" not in inspect.signature(make).parameters:
        raise InputError(f"measurement {name} also runs on a busy machine: leave out --anyway")
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
