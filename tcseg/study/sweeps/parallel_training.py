"""Train runs side by side; training may be interrupted and resumed.

On a CPU, runs are trained side by side, one a core: a small network on small frames leaves a second thread half idle.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path

import numba
import psutil
import torch

from tcseg.machine import usable_cores, worker_pool
from tcseg.study.notebooks.progress import watching
from tcseg.study.opening import open_study
from tcseg.study.recipes import RECIPES
from tcseg.study.runs import Run
from tcseg.study.study import Study
from tcseg.study.sweeps.planning import Task, pending, plan

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
    for _ in _all_of(teachers, 1, None, lambda task, patient: _done(study.run(task.name, task.seed, patient))):
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
        with watching(study.runs_folder, study.recipe, counts, _workers(), lambda: study.clips("val")):
            # The longest recipes stand last: begun first, they leave short ones to fill the cores at the end.
            trained = {Task(run.name, run.seed): run for run in side_by_side(study, missing[::-1])}
    for run in trained.values():
        study.count(run, run.trained_now)
    return [trained.get(task) or study.run(task.name, task.seed) for task in tasks]


def run_sweeps(
    study: Study, sweeps: Sequence[str] | None = None, workers: int | None = None, limit: int | None = None
) -> int:
    """Make the runs that are neither in the study's store nor committed. Two at once on one store share the work.

    Args:
        study: whose runs.
        sweeps: which (default: all of `SWEEPS`).
        workers: as in `side_by_side`.
        limit: at most so many runs in this sitting.

    Returns:
        How many runs were trained.

    Raises:
        ValueError: as `plan`.
    """
    missing = pending(study, plan(sweeps, study.dataset, study.profile))
    trained, total = 0, len(missing) if limit is None else min(limit, len(missing))
    for run in side_by_side(study, missing, workers, total):
        trained += run.trained_now
        print(f"{trained}/{total} {run}" if run.trained_now else f"{run} was trained before, or by another", flush=True)
    return trained


def _workers() -> int:
    """Runs that fit side by side: one a core as long as memory lasts; one where there is a GPU."""
    if torch.cuda.is_available():
        return 1
    fit = psutil.virtual_memory().available // MEMORY_OF_A_RUN
    return max(1, min(usable_cores(), fit))


def side_by_side(
    study: Study, tasks: Sequence[Task], workers: int | None = None, limit: int | None = None
) -> Iterator[Run]:
    """Make runs in processes of their own, and yield each when it is finished. Stopped ones continue from their checkpoints.

    A run that another process is at is put off: the next one is made first, so that two sweeps of one store share the work. At the
    end it is waited for, and made here if the other has died.

    Args:
        study: whose runs; what they share (clips, teachers, targets) is made before they part.
        tasks: which.
        workers: runs at a time; default as many as cores and memory allow, one where there is a GPU.
        limit: train at most so many.
    """
    short = all(study.recipe(task.name, task.seed).steps < WORTH_A_PROCESS for task in tasks)
    workers = min(workers or (1 if short else _workers()), len(tasks) if limit is None else limit)
    if workers < 2:
        yield from _all_of(tasks, 1, limit, lambda task, patient: _done(study.run(task.name, task.seed, patient)))
        return
    prepare(study, tasks[:limit])
    threads = max(1, usable_cores() // workers)
    with worker_pool(workers) as pool:
        arguments = study.dataset, study.profile, study.folder, threads
        try:
            yield from _all_of(
                tasks, workers, limit, lambda task, patient: pool.submit(_make, *arguments, task, patient)
            )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _all_of(
    tasks: Sequence[Task], workers: int, limit: int | None, begin: Callable[[Task, bool], Future[Run | None]]
) -> Iterator[Run]:
    """Runs as they are finished, `workers` at a time; those that are taken elsewhere last.

    Args:
        tasks, workers, limit: as in `side_by_side`.
        begin: (task, whether to wait where it is taken) -> its run to come, or None where it is taken.
    """
    queue, busy, trained = deque(tasks), deque(), 0
    going: dict[Future[Run | None], Task] = {}
    while True:
        while (queue or busy) and len(going) < workers and (limit is None or trained + len(going) < limit):
            patient = not queue
            task = (queue or busy).popleft()
            going[begin(task, patient)] = task
        if not going:
            return
        for future in wait(going, return_when=FIRST_COMPLETED).done:
            task, run = going.pop(future), future.result()
            if run is None:
                busy.append(task)
                continue
            trained += run.trained_now
            yield run


def _done(run: Run | None) -> Future[Run | None]:
    future: Future[Run | None] = Future()
    future.set_result(run)
    return future


def _make(dataset: str, profile: str, folder: Path, threads: int, task: Task, patient: bool) -> Run | None:
    # For each task: numba's kernels in the evaluation set OpenMP's thread count, and with it torch's, back to all cores.
    # Two processes of two threads on two cores train four times slower than two of one.
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(threads)
    return open_study(dataset, profile, folder=folder).run(task.name, task.seed, patient)
