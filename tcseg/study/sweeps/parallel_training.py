"""Train runs side by side; training may be interrupted and resumed.

On a CPU, runs are trained side by side, one a core: a small network on small frames leaves a second thread half idle.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numba
import psutil
import torch

from tcseg.errors import one_line, require_one_of
from tcseg.machine import usable_cores
from tcseg.study.notebooks.progress import watching
from tcseg.study.opening import open_study
from tcseg.study.recipes import RECIPES
from tcseg.study.runs import Run
from tcseg.study.study import Study
from tcseg.study.sweeps.farm import Farm, Outcome, RunsFailedError, at_once, outcomes, processes, runs_of
from tcseg.study.sweeps.planning import Task, pending, plan, take_part
from tcseg.study.sweeps.ray_farm import ray_farm, require_ray

FARMS = ("auto", "local", "ray")  # auto: ray where $RAY_ADDRESS is set, else processes of this machine
WORTH_A_PROCESS = 100  # steps: a process of its own needs seconds to start
MEMORY_OF_A_RUN = 2 << 30  # bytes: a process with torch and the laptop profile's clips takes 1.7 GB


def prepare(study: Study, tasks: Sequence[Task]) -> None:
    """Make what several runs share: clips, teachers and their targets. Done once, before the runs part."""
    for split in ("train", "val"):
        study.clips(split)
    kinds = {}
    for recipe in (study.recipe(task.name, task.seed) for task in tasks):
        if recipe.teacher != "none":
            kinds |= dict.fromkeys([(recipe.teacher, recipe.labelled_share)])
        if recipe.needs_features:
            kinds |= dict.fromkeys([("features", recipe.labelled_share)])
    teachers = [Task(study.teacher_name(share), 0) for share in dict.fromkeys(share for _, share in kinds)]
    for _ in runs_of(at_once(lambda task, patient: study.run(task.name, task.seed, patient)), teachers):
        pass  # those that another sweep is at come last
    for kind, share in kinds:
        study.targets(kind, share)


def runs_of_seed(study: Study, *names: str) -> list[Run]:
    """The first seed of some recipes, in the order of the names; what is missing is trained side by side, one a core."""
    return _runs_of(study, [Task(name, 0) for name in names])


def all_runs(study: Study) -> list[Run]:
    """Every (recipe, seed) of the study's profile, recipe by recipe; trains what is missing, side by side.

    Further seeds of the same recipes, which sweeps have made, here or among the committed rows, are given too.
    """
    tasks = [Task(name, seed) for name in RECIPES for seed in study.seeds(name)]
    further = [run for name in RECIPES for run in study.finished_runs(name) if Task(name, run.seed) not in tasks]
    for run in further:
        study.count(run, run.trained_now)
    return sorted([*_runs_of(study, tasks), *further], key=lambda run: (list(RECIPES).index(run.name), run.seed))


def _runs_of(study: Study, tasks: Sequence[Task]) -> list[Run]:
    """The runs of some tasks, in order, counted for the page's footer."""
    trained = {}
    if study.runs == "train":
        missing = [task for task in tasks if not study.is_finished(task.name, task.seed)]
        counts = Counter(task.name for task in missing)
        with watching(study.runs_folder, study.recipe, counts, workers_here(), lambda: study.clips("val")):
            # The longest recipes stand last: begun first, they leave short ones to fill the cores at the end.
            trained = {Task(run.name, run.seed): run for run in side_by_side(study, missing[::-1])}
    for run in trained.values():
        study.count(run, run.trained_now)
    return [trained.get(task) or study.run(task.name, task.seed) for task in tasks]


def run_sweeps(
    study: Study,
    sweeps: Sequence[str] | None = None,
    workers: int | None = None,
    limit: int | None = None,
    part: tuple[int, int] | None = None,
    on: str = "local",
) -> int:
    """Make the runs that are neither in the study's store nor committed. Two at once on one store share the work.

    Args:
        study: whose runs.
        sweeps: which (default: all of `SWEEPS`).
        workers: as in `side_by_side`.
        limit: at most so many runs in this sitting.
        part: (I, N): every N-th run of the plan alone, see `take_part`.
        on: where, one of `FARMS`.

    Returns:
        How many runs were trained.

    Raises:
        ValueError: as `plan`.
        RunsFailedError: some failed; raised when all others are finished.
    """
    missing = pending(study, take_part(plan(sweeps, study.dataset, study.profile), part))
    total, failed = len(missing) if limit is None else min(limit, len(missing)), []
    if not total:
        return 0
    with open_farm(study, missing, workers, total, on) as farm:
        progress = Progress({task: study.recipe(task.name, task.seed).steps for task in missing}, total, farm.place)
        for outcome in outcomes(farm, missing, total):
            failed += [outcome] if outcome.run is None else []
            print(progress.line(outcome), flush=True)
    if failed:
        raise RunsFailedError(failed, total)
    return progress.trained


class Progress:
    """Says how many of how many runs are made, where, and how long the others take: as long a step as those so far."""

    def __init__(self, steps: dict[Task, int], total: int, place: str) -> None:
        self.steps, self.total, self.place = steps, total, place
        self.began, self.trained, self.ended, self.done, self.left = time.monotonic(), 0, 0, 0, sum(list(steps.values())[:total])
        print(f"{total} runs, {place}", flush=True)

    def line(self, outcome: Outcome) -> str:
        """One line on a run that has ended."""
        task, run, steps = outcome.task, outcome.run, self.steps[outcome.task]
        self.ended, self.left = self.ended + 1, max(0, self.left - steps)
        counted = f"{self.ended}/{self.total}"
        if run is None:
            return f"{counted} {task.name} seed {task.seed} failed: {one_line(outcome.error)}"
        if not run.trained_now:
            return f"{counted} {run} was trained before, or by another"
        self.trained, self.done = self.trained + 1, self.done + steps
        minutes = (time.monotonic() - self.began) / self.done * self.left / 60
        return f"{counted} {run}, {run.place or self.place}" + (f"; about {minutes:.0f} min left" if self.left else "")


def workers_here() -> int:
    """Runs that fit side by side: one a core as long as memory lasts; one where there is a GPU."""
    if torch.cuda.is_available():
        return 1
    fit = psutil.virtual_memory().available // MEMORY_OF_A_RUN
    return max(1, min(usable_cores(), fit))


@contextmanager
def open_farm(
    study: Study, tasks: Sequence[Task], workers: int | None = None, limit: int | None = None, on: str = "local"
) -> Iterator[Farm]:
    """Where a study's runs are made; what they share (clips, teachers, targets) is made before they part.

    Args:
        study, tasks, workers, limit: as in `side_by_side`.
        on: one of `FARMS`.

    Raises:
        CannotRunError: ray is asked for, and not installed.
    """
    require_one_of("on", on, FARMS)
    if on == "ray" or (on == "auto" and os.environ.get("RAY_ADDRESS")):
        require_ray()
        prepare(study, tasks[:limit])
        with ray_farm(study, workers) as farm:
            yield farm
        return
    short = all(study.recipe(task.name, task.seed).steps < WORTH_A_PROCESS for task in tasks)
    workers = min(workers or (1 if short else workers_here()), len(tasks) if limit is None else limit)
    if workers < 2:
        yield at_once(lambda task, patient: study.run(task.name, task.seed, patient))
        return
    prepare(study, tasks[:limit])
    arguments = study.source, study.profile, study.folder, max(1, usable_cores() // workers)
    with processes(workers, _make, *arguments) as farm:
        yield farm


def side_by_side(
    study: Study, tasks: Sequence[Task], workers: int | None = None, limit: int | None = None
) -> Iterator[Run]:
    """Make runs in processes of their own, and yield each when it is finished. Stopped ones continue from their checkpoints.

    A run that another process is at is put off: the next one is made first, so that two sweeps of one store share the work. At the
    end it is waited for, and made here if the other has died.

    Args:
        study: whose runs.
        tasks: which.
        workers: runs at a time; default as many as cores and memory allow, one where there is a GPU.
        limit: train at most so many.

    Raises:
        RunsFailedError: some failed; raised when all others are finished. Of a single one, its own error.
    """
    with open_farm(study, tasks, workers, limit) as farm:
        yield from runs_of(farm, tasks, limit)


def use_threads(count: int) -> None:
    """Let torch and numba compute in so many threads. On two cores, two processes of two each are four times slower."""
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(count)


def _make(dataset: str, profile: str, folder: Path, threads: int, task: Task, patient: bool) -> Run | None:
    use_threads(threads)  # for each task: numba's kernels in the evaluation set OpenMP's thread count back to all cores
    return open_study(dataset, profile, folder=folder).run(task.name, task.seed, patient)
