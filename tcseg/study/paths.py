"""Folders and files of the study: committed figures, tables and rows, local results, and the artefacts of each notebook."""

from __future__ import annotations

import os
from pathlib import Path

from tcseg.data.folders import data_root
from tcseg.data.own.lookup import name_of
from tcseg.errors import NotFoundError
from tcseg.study.recipes import ABLATION_SWEEPS

REPOSITORY = Path(__file__).resolve().parents[2]
"""The checkout; of an installed package, the folder that it is in."""
FIGURES = data_root().parent / "figures"
"""Committed reference tables, runs and figures."""
MEASURED = data_root() / "study" / "measurements"
"""Where `tcseg measure` writes its tables and figures."""
COPIES = data_root() / "course"
"""Where `tcseg lab` keeps your copy of the chapters."""

PASS_OUT = "pass --out FOLDER, one that you can write"
"""What to do where the repository is read-only."""

NOTEBOOKS: dict[str, tuple[str, ...]] = {
    "00_start_here": (
        *(f"figures/{name}.png" for name in ("first_answer", "first_change", "first_flicker")),
        "figures/first_drive.gif",
    ),
    "01_explore_cityscapes": ("tables/dataset.csv", "figures/class_shares.png"),
    "02_train_teacher": ("figures/teacher_training.png",),
    "03_distill_student": ("figures/distillation.png",),
    "04_temporal_consistency": (
        "figures/temporal.png",
        "figures/tc_vs_flow_noise.png",
        "figures/metrics_controls.png",
        "tables/controls.csv",
        "tables/metrics_controls.csv",
    ),
    "05_ablations": (
        *(f"figures/{name}.png" for name in ("effects", "pareto", "schedule")),
        "figures/flicker.gif",
        *(f"tables/{name}.csv" for name in ("ablation", "effects")),
        *(f"tables/{name}.csv" for name in ABLATION_SWEEPS),
    ),
    "06_realtime_benchmark": (
        *(
            f"tables/{name}.csv"
            for name in ("latency_here", "latency_frames", "latency_scaling", "students", "students_vs_peers")
        ),
        *(f"figures/{name}.png" for name in ("waterfall", "roofline", "jitter", "speed_and_quality")),
        "figures/clip.gif",
    ),
    "07_your_own_video": (
        *(f"figures/{name}.png" for name in ("your_frames", "your_flicker", "your_worst_moment", "your_street")),
        "figures/your_video.gif",
    ),
}
"""The notebooks in order, and what each must leave in the study's folder."""


def study_folder(dataset: str, profile: str, runs: str = "train", size: str | None = None) -> Path:
    """Where a study writes; one of another size than the profile's has a place of its own.

    All of them lie in data/study, or in $TCSEG_STUDIES.
    """
    root = Path(os.environ.get("TCSEG_STUDIES") or data_root() / "study")
    tail = ("-reference" if runs == "reference" else "") + (f"-{size}" if size else "")
    return root / (f"{name_of(dataset)}-{profile}" + tail)


def require_checkout(command: str, *folders: str) -> None:
    """Refuse a command that needs folders of the repository, which an installed package does not have.

    Raises:
        NotFoundError: the message names the missing folders and says what to do.
    """
    roots = (REPOSITORY, FIGURES.parent)  # an installed package reads the figures of a checkout that it is run from
    if missing := [f"{folder}/" for folder in folders if not any((root / folder).is_dir() for root in roots)]:
        raise NotFoundError(
            f"{command} needs {' and '.join(missing)}, "
            "which the installed package does not have: run from a clone of the repository"
        )


def measured_table(name: str, runs: str = "train") -> Path:
    """The file of a measurement's table: your own before the committed one; with runs="reference" the other way round.

    Raises:
        FileNotFoundError: it is neither committed nor measured here.
    """
    for folder in (FIGURES, MEASURED) if runs == "reference" else (MEASURED, FIGURES):
        if (folder / "tables" / f"{name}.csv").exists():
            return folder / "tables" / f"{name}.csv"
    modules = [path.stem for path in Path(__file__).with_name("measurements").glob("*/*.py")]
    maker = min((module for module in modules if name.startswith(module)), key=len, default=name)
    raise NotFoundError(f"there is no table {name}.csv, here or committed; create it with: tcseg measure {maker}")
