"""Transfer from procity to CamVid: students with and without a short fine-tuning.

They are compared with students trained on CamVid alone: for the steps of the fine-tuning, and for the steps of both trainings.
Seeds are paired: with one seed all share the initial weights, and both trainings on CamVid the order of their data. The val clip
is one street, so the intervals, over seeds, say how sure the numbers are for that street.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from tcseg.data.clips import Clips
from tcseg.evaluation import split_scores
from tcseg.labels import CAMVID, cityscapes_to_camvid
from tcseg.machine import machine_facts
from tcseg.metrics.intervals import t_interval
from tcseg.models import registry
from tcseg.models.networks import SegmentationModel
from tcseg.study.opening import open_study
from tcseg.study.runs import Run, run_or_load
from tcseg.study.study import Study
from tcseg.training import loop

PROCITY, BOTH, CAMVID_ALONE = "procity", "procity, then camvid", "camvid"
SEEDS = 3  # at most
SIZE = (256, 192)  # of CamVid's frames here: things as large as in the frames that the students were trained on
FINE_TUNE_SHARE = 0.2  # of a student's steps
FINE_TUNE_RATE = 0.25  # of its learning rate: the features are there already
GAINS = {"gain_at_equal_camvid_steps": 0, "gain_at_equal_total_steps": 1}
"""Column -> which of the two rows of CamVid alone `BOTH` is compared with."""


@dataclass(frozen=True)
class Cell:
    """One training of the table: its name, steps on CamVid, steps in all, and what `split_scores` said of each seed."""

    training: str
    fine_tune_steps: int
    steps: int
    results: list[dict]

    def miou(self) -> np.ndarray:
        """The mIoU of each seed."""
        return np.array([result["metrics"]["miou"] for result in self.results])


def measure(out: Path, quick: bool = False) -> pd.DataFrame:
    """Train, fine-tune and evaluate. Students on procity are the study's own; runs on CamVid are kept in `out/runs`.

    Args:
        out: folder.
        quick: at profile smoke.

    Returns:
        A row a training: training, fine_tune_steps (on CamVid), steps (in all), seeds, miou_11 (mean over seeds), ci_low, ci_high
        (Student's t over seeds), `GAINS` with _low and _high (paired by seed; row `BOTH` only), iou_<class> (mean over seeds).

    Raises:
        FileNotFoundError: CamVid is not on this machine.
    """
    profile = "smoke" if quick else "laptop"
    camvid = open_study("camvid", profile)  # first: it may be missing
    if not quick:
        camvid.scale = replace(camvid.scale, camvid_size=SIZE)
    return table(cells(open_study("procity", profile), camvid, out / "runs"))


def cells(city: Study, camvid: Study, store: Path) -> list[Cell]:
    """The trainings of the table, made where they are missing."""
    whole = city.scale.student_steps
    short = max(1, round(FINE_TUNE_SHARE * whole))
    students = [city.run("student", seed) for seed in city.seeds("student")[:SEEDS]]

    def alone(steps: int) -> Cell:
        return Cell(CAMVID_ALONE, steps, steps, [on_camvid(camvid, student.seed, steps, store) for student in students])

    tuned = [on_camvid(camvid, student.seed, short, store, student) for student in students]
    return [
        Cell(PROCITY, 0, whole, [as_it_is(student, _stills(camvid.clips("val"))) for student in students]),
        Cell(BOTH, short, whole + short, tuned),
        alone(short),
        alone(whole + short),
    ]


def _stills(clips: Clips) -> Clips:
    """The same clips without flow: only mIoU is measured."""
    return replace(clips, flows={}, backward=None)


def as_it_is(student: Run, val: Clips) -> dict:
    """Evaluate a student of 19 classes on CamVid's 11: best class first, then merged (see `labels.cityscapes_to_camvid`)."""
    model = student.model()
    return split_scores.evaluate_predictor(
        lambda i: cityscapes_to_camvid(split_scores.predict(model, np.asarray(val.frames[i]))), val
    )


def on_camvid(camvid: Study, seed: int, steps: int, store: Path, initial: Run | None = None) -> dict:
    """Train a student on CamVid, from scratch or from a student on procity (new head, smaller learning rate); its record."""
    recipe = replace(camvid.recipe("student", seed), name="camvid", steps=steps)
    if initial is not None:
        recipe = replace(recipe, name="procity-camvid", learning_rate=FINE_TUNE_RATE * recipe.learning_rate)
    train, val = _stills(camvid.clips("train")), _stills(camvid.clips("val"))

    def fit(folder: Path) -> tuple[SegmentationModel, dict]:
        return loop.train(recipe, train, folder, initial=initial and initial.model())

    context = {"dataset": "camvid", "profile": camvid.profile, "split": "val", "size": list(camvid.size)}
    inputs = [train.key, val.key, initial and initial.id, registry.spec_key(recipe.arch)]
    context |= {"data_key": inputs[:2], "initial": inputs[2], "machine": machine_facts()}
    run = run_or_load(
        store, recipe.name, seed, asdict(recipe), inputs, fit, lambda model: split_scores.evaluate(model, val), context
    )
    return run.record


def table(cells_measured: list[Cell]) -> pd.DataFrame:
    """The table of `measure`; `cells_measured` in the order of `cells`."""
    rows = []
    for cell in cells_measured:
        mean = t_interval(cell.miou())
        row = {"training": cell.training, "fine_tune_steps": cell.fine_tune_steps, "steps": cell.steps}
        row |= {"seeds": len(cell.results), "miou_11": mean.value, "ci_low": mean.low, "ci_high": mean.high}
        row |= _gains(cell, [other for other in cells_measured if other.training == CAMVID_ALONE])
        iou = np.array([result["per_class"]["iou"] for result in cell.results], float).mean(0)
        rows.append(row | {f"iou_{name}": value for name, value in zip(CAMVID.classes, iou, strict=True)})
    return pd.DataFrame(rows).round(5)


def _gains(cell: Cell, alone: list[Cell]) -> dict[str, float]:
    """What `BOTH` is better by than CamVid alone, paired by seed; nan for the other trainings."""
    gains = {}
    for name, index in GAINS.items():
        better = cell.miou() - alone[index].miou()
        interval = t_interval(better if cell.training == BOTH else better * np.nan)
        gains |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return gains
