"""The run store: trained models and their records, identified by content and trained only once.

A run is keyed by its recipe, its data and the code that matters to training, so that a formatted file or an edited plot
retrains nothing and a changed loss retrains everything. A finished run is a folder with `record.json` (written last), weights
and log; a folder without a record is an interrupted run, which goes on from its checkpoint.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pandas as pd

from tcseg.atomic_files import exclusive_lock, write_json
from tcseg.errors import PACKAGE, InputError, NotCommittedError, NotFoundError, TcsegError
from tcseg.machine import package_version
from tcseg.models import registry
from tcseg.models.fingerprints import fingerprint
from tcseg.models.networks import SegmentationModel
from tcseg.study.recipes import TAUGHT

TRAINING_CODE = (
    "labels",
    "flow",
    "training.losses",
    "training.temporal_losses",
    "data.clip_files",
    "data.clips",
    "data.flow_sources",
    "data.augmentation",
    "models.networks",
    "training.teacher_targets",
    "training.recipe",
    "training.schedule training.loop",
)
EVALUATION_CODE = (
    "labels",
    "flow",
    "data.clip_files",
    "data.clips",
    "models.networks",
    "deploy.label_map",
    "metrics.segmentation",
    "metrics.temporal",
    "metrics.trajectories",
    "evaluation.split_scores",
)
"""Modules whose code decides a network, and its scores. The order counts, and names do not: modules that stand in one entry
are read as the one file that they were when the committed rows were trained."""
PACKAGES = ("tcseg", "torch", "torchvision", "timm", "numpy", "opencv-python", "accelerate", "numba")
RUNTIMES = ("onnx", "onnxruntime", "openvino")
"""Packages that can move a time."""


SAME_CODE: dict[str, str] = {}
"""Key of today's training code -> key of the code that trained the committed rows, where both train the same network.

An entry is a claim: that training the first seeds of the six recipes again gives the committed scores to the last digit.
"""
UNTAUGHT = {"fedc9e69aedd": "0b5db49ea082"}
"""The same for recipes without a teacher alone: between these two, only what a teacher says of moved stills has changed. Shown by
training `teacher` (two threads, as it was), `student` and `student+tl` (one) of procity, laptop, seed 0: all counts are equal."""
EARLIER = {
    "fedc9e69aedd": {"0b5db49ea082": "where a moved still shows nothing, the first frame's class was taught"},
}
"""Key of today's training code -> earlier codes of which committed rows are still shown -> what differs. These are rows of sweeps,
which are trained again when the method has settled. After any other edit, which has no entry, all rows are stale."""


EVALUATED = {
    "f7ccc3ea29ce": "label maps by the kernel of 24 November, in as many threads as there are cores",
    "a758bc197b6f": "label maps by a kernel in one thread",
    "274ce2cba43f": "label maps by a kernel that vectorises",
    "ca667b0bbf20": "label maps by that kernel, which finds the classes that may win a row at a time",
    "caad094b286e": "label maps by that kernel, its scratch memory one longer than a row",
    "14933a67872e": "label maps by that kernel; messages, and the files that a split leaves out",
}
"""Key of the code that scored committed rows -> what differs: of all it consists of, `label_map.py` alone, whose kernels upsample
the logits and take the best class, each faster than the one before; for the last, messages and checks of files: `student`, scored
again, has equal counts. Found with git, commit by commit of the rows."""


class _Normalised(ast.NodeTransformer):
    """Docstrings are prose, and imports say where a thing lies: both may change without making a run stale."""

    def visit_Import(self, node: ast.Import) -> None:  # noqa: N802
        """Where a name comes from decides nothing."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:  # noqa: N802
        """Where a name comes from decides nothing."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "type_params", None) == []:  # which Python 3.12 gives every function and class
            del node.type_params
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [n for n in body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))]
            node.body = kept or [ast.Pass()]
        return node


def _tree(modules: list[str]) -> ast.Module:
    """One syntax tree of modules, one after the other."""
    trees = [ast.parse((PACKAGE / f"{name.replace('.', '/')}.py").read_text()) for name in modules]
    return ast.Module([statement for tree in trees for statement in tree.body], [])


@cache
def code_key(modules: tuple[str, ...]) -> str:
    """Hash of modules' syntax trees: formatting, comments, docstrings and imports do not count, nor which Python reads them."""
    options = {"show_empty": True} if sys.version_info >= (3, 13) else {}  # as every Python before wrote them
    trees = [ast.dump(_Normalised().visit(_tree(entry.split())), **options) for entry in modules]
    key = hashlib.sha256("\n".join(trees).encode()).hexdigest()[:12]
    return SAME_CODE.get(key, key)


def digest(value: object) -> str:
    """Eight hex digits of a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]


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
            git, started, finished.
        folder: with weights and log; None for a committed row, of which the weights may ship (see `weights`).
        trained_now: whether this process trained it.
    """

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


def earlier() -> dict[str, str]:
    """Earlier training codes of which committed rows are still shown -> how their networks differ from today's."""
    return EARLIER.get(code_key(TRAINING_CODE), {})


def codes() -> tuple[str | None, ...]:
    """Training codes whose rows are looked for, one after the other: None = today's, then earlier ones."""
    return (None, *earlier())


def training_code(recipe: dict) -> str:
    """The key of the code that trains a recipe today, or of the committed code that trains the same network."""
    key = code_key(TRAINING_CODE)
    return UNTAUGHT.get(key, key) if recipe.get("teacher", "none") == "none" else key


def run_id_of(name: str, seed: int, recipe: dict, inputs: object) -> str:
    """Name, seed and a hash of all that decides the result."""
    return f"{name}-s{seed}-{digest([recipe, inputs, training_code(recipe)])}"


def id_of(record: dict) -> str:
    """The run id that a record's recipe, inputs and training code make; it is the record's own, or the record was altered."""
    key = digest([record["recipe"], record["inputs"], record["training_code"]])
    return f"{record['recipe_name']}-s{record['seed']}-{key}"


def other_code(record: dict, code: str | None = None) -> str:
    """How the code that trained a record differs from `code` (None = today's), or its network from today's; else empty."""
    expected, theirs = code or training_code(record.get("recipe", {})), record.get("training_code")
    if theirs is not None and SAME_CODE.get(theirs, theirs) != expected:
        return f"trained by code {theirs}, which is now {expected}"
    then = next((one for one in record.get("inputs") or () if isinstance(one, str) and "Spec(" in one), None)
    if then is None:
        return ""
    arch = record["recipe"]["arch"]
    try:
        same = then == registry.spec_key(arch)
    except TcsegError:  # no network of that name, or not on this machine
        return ""
    return "" if same else f"its network {arch} is another now"


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


def _finished(folder: Path) -> dict | None:
    """The record of a run that is finished, and evaluated by the code of today."""
    path = folder / "record.json"
    record = json.loads(path.read_text()) if path.exists() else None
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
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
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
