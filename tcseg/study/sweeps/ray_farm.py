"""A farm of machines: each run is a task of Ray (the extra `cluster`). Clips and targets travel once, into Ray's object store.

Only the process that starts the tasks writes the run store. A task gets all that it needs and gives back weights, log and scores;
so the machines share no disk and no lock. A task that is lost with its machine is begun again, elsewhere, from its first step.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from tcseg.data.clips import Clips
from tcseg.errors import PACKAGE, CannotRunError
from tcseg.machine import machine_facts
from tcseg.models import registry
from tcseg.models.networks import SegmentationModel
from tcseg.study.runs import Run
from tcseg.study.study import Study
from tcseg.study.sweeps.farm import Farm
from tcseg.training.recipe import Recipe

MEMORY = 2 << 30  # bytes that a task asks for: where less is free, Ray would kill it again and again
CORES = 1  # of a task, and threads of its training


class WorkerLostError(Exception):
    """A task ended because its process or its machine did."""


@dataclass(frozen=True)
class Setting:
    """What the tasks of a study have in common."""

    arguments: tuple
    ceilings: dict
    threads: int = CORES


class StudyOfTask(Study):
    """A study on a machine that has no data: clips and targets are given."""

    given: tuple[Tensor | None, Tensor | None] = (None, None)

    def taught(self, recipe: Recipe) -> tuple[Tensor | None, Tensor | None]:
        """The targets that were given."""
        return self.given


def make(setting: Setting, recipe: Recipe, train: Clips, val: Clips, targets: Any, features: Any) -> dict:
    """A task: train and score a recipe. Returns weights (bytes of both files), log, cost, scores and place."""
    from tcseg.study.sweeps.parallel_training import use_threads

    use_threads(setting.threads)
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        # Ray's arrays are read-only and shared by the tasks of a machine; nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        folder = Path(name)
        study = StudyOfTask(*setting.arguments, folder, None)
        study._clips, study.ceilings = {"train": train, "val": val}, setting.ceilings
        study.given = tuple(None if one is None else torch.from_numpy(one) for one in (targets, features))
        model, cost = study.fit(recipe, folder)
        weights = folder / "weights.safetensors"
        registry.save_weights(model, weights)
        scores = study.measure(recipe, registry.load_weights(weights))
        log = (folder / "log.jsonl").read_text()
        return {
            "weights": [path.read_bytes() for path in (weights, weights.with_suffix(".json"))],
            "log": log,
            "cost": cost,
            "scores": {**scores, "machine": machine_facts()},
            "place": platform.node(),
        }


class StudyOnRay(Study):
    """A study whose runs are trained and scored by tasks, while their records are written here."""

    def prepare(self, study: Study, work: Callable[..., dict]) -> None:
        """Take over what a study has made, and put its clips where the tasks find them."""
        import ray

        self._clips, self.ceilings = study._clips, study.ceilings
        self.scores: dict[Recipe, dict] = {}
        self.places: dict[tuple[str, int], str] = {}
        self.put: dict[tuple, Any] = {}
        self.putting = Lock()
        arguments = (self.dataset, self.scale, self.runs, self.label_set)
        self.setting = ray.put(Setting(arguments, self.ceilings))
        self.both = [ray.put(self.clips(split)) for split in ("train", "val")]
        self.task = ray.remote(num_cpus=CORES, memory=MEMORY, max_retries=0)(work)  # the scheduler begins lost ones again

    def fit(self, recipe: Recipe, folder: Path) -> tuple[SegmentationModel, dict]:
        """Train and score a recipe in a task."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            done = ray.get(self.task.remote(self.setting, recipe, *self.both, *self._refs(recipe)))
        except RayTaskError as error:  # what the task raised
            raise (error.cause if isinstance(error.cause, Exception) else error) from None
        except RayError as error:
            raise WorkerLostError(str(error).splitlines()[0]) from error
        self.scores[recipe] = done["scores"]
        self.places[recipe.name, recipe.seed] = done["place"]
        (folder / "log.jsonl").write_text(done["log"])
        with tempfile.TemporaryDirectory() as name:
            weights = Path(name) / "weights.safetensors"
            for path, content in zip((weights, weights.with_suffix(".json")), done["weights"], strict=True):
                path.write_bytes(content)
            return registry.load_weights(weights), done["cost"]

    def measure(self, recipe: Recipe, model: SegmentationModel) -> dict:
        """The scores that came with the network; of one that is only scored again, made here."""
        return self.scores.pop(recipe) if recipe in self.scores else super().measure(recipe, model)

    def made(self, name: str, seed: int, wait: bool) -> Run | None:
        """`run`, which says where it was trained."""
        run = self.run(name, seed, wait)
        if run is not None:
            run.place = self.places.get((name, seed), "")
        return run

    def _refs(self, recipe: Recipe) -> list:
        """References to a recipe's targets and features, each put once."""
        import ray

        key = (recipe.teacher, recipe.labelled_share, recipe.needs_features)
        with self.putting:
            if key not in self.put:
                self.put[key] = [ray.put(None if one is None else one.numpy()) for one in self.taught(recipe)]
            return self.put[key]


def require_ray() -> None:
    """Refuse what needs Ray where it is missing.

    Raises:
        CannotRunError: ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise CannotRunError("on ray needs the package ray: pip install 'tcseg[cluster]'")


@contextmanager
def ray_farm(study: Study, workers: int | None = None, work: Callable[..., dict] = make) -> Iterator[Farm]:
    """A farm of tasks on the machines of $RAY_ADDRESS, or on this one.

    Args:
        study: whose clips, teachers and targets are made (see `prepare` of parallel_training).
        workers: tasks at a time; default as many as the machines have cores.
        work: what a task does.
    """
    import ray

    own = not ray.is_initialized()
    if own:
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        elsewhere = {"runtime_env": {"py_modules": [str(PACKAGE)]}} if os.environ.get("RAY_ADDRESS") else {}
        ray.init(log_to_driver=False, include_dashboard=False if not elsewhere else None, logging_level="warning", **elsewhere)
    threads = None
    try:
        driver = StudyOnRay(study.dataset, study.scale, study.runs, study.label_set, study.folder, None, study.source)
        driver.prepare(study, work)
        machines = len([node for node in ray.nodes() if node["Alive"]])
        workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)) // CORES)
        threads = ThreadPoolExecutor(workers)
        place = f"Ray, {workers} tasks on {machines} machine{'s' if machines > 1 else ''}"
        yield Farm(workers, place, lambda task, wait: threads.submit(driver.made, task.name, task.seed, wait), (WorkerLostError,))
    finally:
        if threads:
            threads.shutdown(wait=False, cancel_futures=True)
        if own:
            ray.shutdown()
