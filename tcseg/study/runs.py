"""The run store: trained models and their records, identified by content and trained only once.

What a run's id is made of is in `run_ids`. A finished run is a folder with `record.json` (written last), weights
and log; a folder without a record is an interrupted run, which goes on from its checkpoint.
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pandas as pd

from tcseg.atomic_files import exclusive_lock, read_object, write_json
from tcseg.errors import PACKAGE, InputError, NotCommittedError, NotFoundError
from tcseg.machine import package_version
from tcseg.models import registry
from tcseg.models.fingerprints import fingerprint
from tcseg.models.networks import SegmentationModel
from tcseg.study.recipes import TAUGHT
from tcseg.study.run_ids import EVALUATION_CODE, code_key, codes, other_code, run_id_of, training_code

PACKAGES = ("tcseg", "torch", "torchvision", "timm", "numpy", "opencv-python", "accelerate", "numba")
RUNTIMES = ("onnx", "onnxruntime", "openvino")
"""Packages that can move a time."""


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can move a number or a time."""
    return {
        "python": platform.python_version(),
        **{name: package_version(name) or "missing" for name in (*PACKAGES, *RUNTIMES)},
    }


@cache
def git_state() -> dict[str, object]:
    """Commit and whether the tree differs from it; "unknown" outside a checkout."""

    def git(*args: str) -> str:
        done = subprocess.run(["git", *args], cwd=PACKAGE, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return {"sha": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return {"sha": "unknown", "dirty": False}


def now() -> str:
    """UTC, to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def shipped_weights(run_id: str, folder: Path = registry.WEIGHTS) -> Path | None:
    """The weights in the package that a run trained, according to their sidecar files; None where they do not ship.

    Raises:
        ValueError: a sidecar is damaged.
    """
    for sidecar in sorted(folder.glob("*.json")):
        try:
            theirs = json.loads(sidecar.read_text()).get("run_id")
        except (ValueError, AttributeError) as error:
            raise InputError(f"{sidecar} is damaged; restore it from the repository") from error
        if theirs == run_id and (weights := sidecar.with_suffix(".safetensors")).exists():
            return weights
    return None


class Run:
    """A finished run.

    Attributes:
        record: run_id, recipe_name, recipe, seed, dataset, profile, split, data_key, generator, inputs (what else the id is made
            of); metrics, per_class, per_clip (see `split_scores`); cost, model, training_code, evaluation_code, versions, machine,
            processes (that trained it together), precision ("fp32" or "bf16"), git, started, finished.
        folder: with weights and log; None for a committed row, of which the weights may ship (see `weights`).
        trained_now: whether this process trained it.
        place: where it was trained, if not by this process or its children.
    """

    place = ""

    def __init__(self, record: dict, folder: Path | None, trained_now: bool = False) -> None:
        self.record, self.folder, self.trained_now = record, folder, trained_now

    def __repr__(self) -> str:
        return f"Run({self.record['run_id']}, miou={self.metrics['miou']})"

    @property
    def id(self) -> str:
        """Name, seed and key."""
        return self.record["run_id"]

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.record["recipe_name"]

    @property
    def seed(self) -> int:
        """The recipe's seed."""
        return self.record["seed"]

    @property
    def metrics(self) -> dict:
        """Shares in 0..1, None where the data set cannot say."""
        return self.record["metrics"]

    @property
    def weights(self) -> Path | None:
        """The file of the trained weights; of a committed row, those that ship with the package, or None."""
        return self.folder / "weights.safetensors" if self.folder else shipped_weights(self.id)

    def model(self) -> SegmentationModel:
        """The trained network, in eval mode; a committed row's in half precision, as it ships.

        Raises:
            FileNotFoundError: a committed row whose weights do not ship.
        """
        if self.weights is None:
            raise self._not_committed("weights")
        return registry.load_weights(self.weights)

    @property
    def log(self) -> pd.DataFrame:
        """Training log: step, loss and its parts, lr, seconds.

        Raises:
            FileNotFoundError: a committed row has no log.
        """
        if self.folder is None:
            raise self._not_committed("log")
        return pd.read_json(self.folder / "log.jsonl", lines=True)

    def _not_committed(self, what: str) -> NotCommittedError:
        seconds = self.record.get("cost", {}).get("train_seconds")
        takes = f" (it took {max(1, round(seconds / 60))} minutes)" if seconds else ""
        return NotCommittedError(f"{self.id} is a committed row without {what}; train it with runs='train'{takes}")


def run_or_load(
    store: Path,
    name: str,
    seed: int,
    recipe: dict,
    inputs: object,
    train: Callable[[Path], tuple[SegmentationModel, dict]],
    evaluate: Callable[[SegmentationModel], dict],
    context: dict,
    wait: bool = True,
) -> Run | None:
    """Find a run in the store, finish an interrupted one, or make it. Where another process is at it, wait, and take what it made.

    Args:
        store: folder of runs.
        name, seed, recipe: what to train; part of the key.
        inputs: anything else that decides the result (data key, teacher's run id); part of the key.
        train: folder -> model and its cost; called when there are no finished weights, resumes by itself.
        evaluate: model -> metrics, per_class, per_clip; called again when evaluation code changed, without retraining.
        context: further entries of the record (dataset, profile, split, data_key, ...).
        wait: for another process that is at it.

    Returns:
        The run; `trained_now` tells whether `train` was called. None where another process is at it and `wait` is false.
    """
    run_id = run_id_of(name, seed, recipe, inputs)
    folder = store / run_id
    if record := _finished(folder):
        return Run(record, folder)
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive_lock(folder / ".lock", wait))
        except BlockingIOError:
            return None
        if record := _finished(folder):
            return Run(record, folder)
        return _make(
            folder,
            {"run_id": run_id, "recipe_name": name, "recipe": recipe, "seed": seed, **context, "inputs": inputs},
            train,
            evaluate,
        )


def read_record(path: Path, **more: type) -> dict:
    """The record of a run.

    Args:
        path: its file.
        more: what it must have besides what every record has, and the types of these values.

    Raises:
        InputError: it is damaged.
    """
    text = dict.fromkeys(("run_id", "recipe_name", "finished", "training_code"), str)
    fix = f"remove {path.parent}, and run again" if path.name == "record.json" else "restore it from the repository"
    return read_object(path, fix, seed=int, recipe=dict, **text, **more)


OF_A_STUDY = {"dataset": str, "profile": str, "size": list}
"""What the records of a study have besides."""


def _finished(folder: Path) -> dict | None:
    """The record of a run that is finished, and evaluated by the code of today."""
    path = folder / "record.json"
    record = read_record(path, evaluation_code=str, metrics=dict) if path.exists() else None
    return record if record and record["evaluation_code"] == code_key(EVALUATION_CODE) else None


def _make(
    folder: Path,
    what: dict,
    train: Callable[[Path], tuple[SegmentationModel, dict]],
    evaluate: Callable[[SegmentationModel], dict],
) -> Run:
    """Train what is not trained, evaluate, and write the record, last of all."""
    weights, started, trained = folder / "weights.safetensors", now(), False
    if not weights.exists():
        model, cost = train(folder)
        write_json(folder / "cost.json", cost)
        training = {key: what[key] for key in ("dataset", "profile", "size") if key in what}
        registry.save_weights(model, weights, run_id=what["run_id"], **training)
        trained = True
    model = registry.load_weights(weights)
    record = {
        **what,
        **evaluate(model),
        "cost": json.loads((folder / "cost.json").read_text()),
        "architecture": fingerprint(model),
        "training_code": training_code(what["recipe"]),
        "evaluation_code": code_key(EVALUATION_CODE),
        "versions": versions(),
        "git": git_state(),
        "started": started,
        "finished": now(),
    }
    write_json(folder / "record.json", record)
    (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    return Run(record, folder, trained)


def find_reference(folder: Path, dataset: str, profile: str) -> list[Run]:
    """Committed reference rows of a data set and profile, sorted by recipe and seed: those that today's training code would give.

    Where an `EARLIER` code made more of a recipe's rows (of the ablation's with a teacher: of all together), its rows are given.

    Raises:
        FileNotFoundError: there are none; the message names those that exist, or says what other code made them.
    """
    needed, fix = dict.fromkeys(("run_id", "recipe_name", "dataset", "profile"), str), "restore it from the repository"
    records = [read_object(path, fix, **needed) for path in sorted(folder.glob("*.json"))]
    chosen = [r for r in records if (r["dataset"], r["profile"]) == (dataset, profile)]
    if not chosen:
        studies = sorted({f"{r['dataset']}-{r['profile']}" for r in records}) or ["none"]
        raise NotFoundError(
            f"no reference rows for {dataset}-{profile} in {folder} (there are: {', '.join(studies)}); use runs='train'"
        )
    current = of_one_code(chosen)
    if not current:
        raise NotFoundError(
            f"the {len(chosen)} reference rows of {dataset}-{profile} in {folder} are stale: {other_code(chosen[0])}; "
            "use runs='train'"
        )
    return [Run(record, None) for record in sorted(current, key=lambda record: record["run_id"])]


def of_one_code(records: Sequence[dict]) -> list[dict]:
    """Of a study's records those that are shown: no comparison mixes rows of two training codes (see `find_reference`)."""
    compared: dict[str, list[dict]] = {}
    for record in records:
        compared.setdefault("" if record["recipe_name"] in TAUGHT else record["recipe_name"], []).append(record)
    by_code = ([[r for r in rows if not other_code(r, code)] for code in codes()] for rows in compared.values())
    return [record for alternatives in by_code for record in max(alternatives, key=len)]
