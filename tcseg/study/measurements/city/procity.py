"""Measure all claims about procity: `tcseg measure procity` writes procity.csv (name, value).

Further tables: procity_classes (class shares by split), procity_gap (one teacher in the train cities and in val's). Figure:
procity_sheet. Run `tcseg measure transfer` first, whose row on CamVid is repeated here.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tcseg import procity
from tcseg.procity import writer
from tcseg.study import figures
from tcseg.study.measurements import write_figure, write_table
from tcseg.study.measurements.city import procity_gap, procity_speed, procity_truth
from tcseg.study.opening import open_study
from tcseg.study.paths import measured_table

SHEET = {"train": (3, 12, 21, 38), "val": (0, 5, 10, 19)}
"""Snippets of the contact sheet: different cities, and weather of every kind."""


@dataclass(frozen=True)
class Extent:
    """How much is measured: (snippets, frames of each) for CPU time, snippets for exactness by width, and the data set."""

    speed: dict[int, tuple[int, int]]
    exact: dict[int, int]
    data_set: tuple[tuple[int, int], int, int, int]
    profile: str


FULL = Extent(
    {256: (8, 30), 512: (8, 30), 1024: (4, 30)}, {256: 24, 512: 24, 1024: 24}, ((256, 128), 160, 24, 6), "laptop"
)
QUICK = Extent({256: (1, 2), 512: (1, 2), 1024: (1, 2)}, {256: 1, 512: 1, 1024: 1}, ((64, 32), 2, 2, 1), "smoke")


def measure(out: Path, quick: bool = False) -> pd.DataFrame:
    """Measure speed, memory, exactness, classes and the gap between cities.

    Args:
        out: folder for the further tables and the figure.
        quick: a glance: few frames, a tiny data set, the smoke profile's teacher.

    Returns:
        Columns name, value.
    """
    extent = QUICK if quick else FULL
    values: dict[str, float] = {}
    for width, (snippets, frames) in extent.speed.items():
        _log(f"CPU time at {width}x{width // 2}")
        values |= procity_speed.frame_cost((width, width // 2), snippets, frames)
        values |= procity_speed.worker_memory((width, width // 2), min(4, snippets))
    _log("first compilation")
    values |= procity_speed.compilation()
    for width, snippets in extent.exact.items():
        _log(f"exactness at {width}x{width // 2}")
        values |= procity_truth.exactness((width, width // 2), snippets)
    values["flow_depth_max_px"] = procity_truth.depth_and_motion((512, 256), extent.exact[512])
    values |= _data_set(out, extent)
    values |= _gap(out, extent.profile)
    values |= _transfer(out)
    _log("contact sheet")
    write_figure(out, "procity_sheet", draw_sheet(), SHEET_ALT)
    return pd.DataFrame({"name": list(values), "value": [float(f"{value:.6g}") for value in values.values()]})


def _log(what: str) -> None:
    print(f"procity: {what}", file=sys.stderr, flush=True)


def _data_set(out: Path, extent: Extent) -> dict[str, float]:
    """Make the laptop data set on two cores, and count its classes."""
    _log("the laptop data set")
    with tempfile.TemporaryDirectory() as root:
        dataset = procity_speed.data_set(Path(root) / "data", *extent.data_set)
        classes = procity_truth.class_table(Path(root) / "data")
    write_table(out, "procity_classes", classes)
    return dataset | procity_truth.class_facts(classes, extent.data_set[2])


def _gap(out: Path, profile: str) -> dict[str, float]:
    """The study's teacher (trained if need be) on fresh snippets of the train cities and on val."""
    study = open_study("procity", profile)
    _log("the teacher in train's cities and in val's")
    teacher, val = study.teacher().model(), study.clips("val")
    fresh = procity_gap.fresh_clips(len(study.clips("train")), len(val), study.size)
    both = procity_gap.confusions(teacher, fresh), procity_gap.confusions(teacher, val)
    write_table(out, "procity_gap", procity_gap.class_gap(*both))
    return procity_gap.gap_facts(*both)


def _transfer(out: Path) -> dict[str, float]:
    """The row on CamVid, from `tcseg measure transfer`; nan where that has not been made (there may be no CamVid here)."""
    own = out / "tables" / "transfer.csv"
    try:
        table = pd.read_csv(own if own.exists() else measured_table("transfer"))
    except FileNotFoundError as error:
        _log(f"student_camvid_miou_from_procity is left empty: {error}")
        return {"student_camvid_miou_from_procity": np.nan}
    row = table[(table["training"] == "procity") & (table["fine_tune_steps"] == 0)]
    return {"student_camvid_miou_from_procity": float(row["miou_11"].iloc[0])}


SHEET_ALT = (
    "Contact sheet of the procedural city, four snippets of training cities and four of validation cities. Columns: the image, its "
    "class labels, depth (near is red), flow to the next frame (hue is direction) and what is visible in the next frame (white). "
    "Dusk, sun, rain and haze; narrow black rims where something is about to be covered."
)


def draw_sheet() -> Figure:
    """The contact sheet: frame 19 of `SHEET`'s snippets with its truth."""
    size, rows = (256, 128), {}
    for split, indices in SHEET.items():
        for index in indices:
            sequence = writer.SnippetTask("", split, index, size).sequence()
            frame = sequence.render(procity.ANNOTATED, flow=(True, False))
            rows[f"{split}\n{sequence.city}"] = procity.panels(frame)
    return figures.contact_sheet(rows)
