"""Train many runs: the six recipes of the ablation, and its sweeps, which may be interrupted and resumed.

On a CPU, runs are trained side by side, one a core: a small network on small frames leaves a second thread half idle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numba
import numpy as np
import pandas as pd
import psutil
import torch

from tcseg.errors import InputError, require_one_of
from tcseg.machine import usable_cores, worker_pool
from tcseg.metrics.intervals import holm
from tcseg.study.comparisons import PAIRS, ablation, effects
from tcseg.study.recipes import (
    ABLATION_SWEEPS,
    ALL_SWEEPS,
    NETWORK_SWEEPS,
    PRIMARY,
    RECIPES,
    VARIATIONS,
    Variation,
    compared,
    variations,
)
from tcseg.study.runs import Run, codes, earlier
from tcseg.study.study import Study, open_study

SWEEPS = ("primary", *ALL_SWEEPS)
"""The questions, in the order in which they are answered; "primary" is the six recipes at all seeds."""
PRIMARY_SEEDS, SEEDS = 5, 3
IDENTITY = ["dataset", "profile", "recipe", "base", "seed", "targets"]
MEASURED = ["miou", "tc", "tc_ceiling", "flicker", "harmful_flicker", "train_seconds", "threads", "run_id"]
WORTH_A_PROCESS = 100  # steps: a process of its own needs seconds to start
MEMORY_OF_A_RUN = 2 << 30  # bytes: a process with torch and the laptop profile's clips takes 1.7 GB


@dataclass(frozen=True)
class Task:
    """One run to be made."""

    name: str
    seed: int


def plan(sweeps: Sequence[str] | None = None, dataset: str = "procity", profile: str = "laptop") -> list[Task]:
    """The runs of some sweeps (default: all of the profile), first seeds first: a stopped sweep has something to say on everything.

    A real data set gets the two recipes of the primary comparison, and more only where `sweeps` names it: the questions of the
    sweeps are asked of procity. Profile `bench` asks for the network, of procity alone; the
    others for its training.

    Raises:
        ValueError: an unknown sweep (the message lists the known ones), or none that asks anything of this data at this profile.
    """
    networks = profile == "bench"
    chosen = tuple(sweeps or [sweep for sweep in SWEEPS if (sweep in NETWORK_SWEEPS) == networks])
    for sweep in chosen:
        require_one_of("sweep", sweep, SWEEPS)
    applicable = dataset == "procity" or (sweeps is not None and not networks)
    names = [v.name for v in variations(*chosen) if v.base != "teacher" and applicable]
    others = [name for name in RECIPES if name not in PRIMARY and applicable]
    primary = [*PRIMARY, *others] if "primary" in chosen else []
    names = [
        *(("student", "student,steps=2x") if applicable and "students" in chosen else ()),
        *names,
    ]  # the student is a candidate, too
    whole = [(name, PRIMARY_SEEDS) for name in primary] + [(name, SEEDS) for name in dict.fromkeys(names)]
    if not whole:
        raise InputError(f"no sweep applies to {dataset} at profile {profile}: try --profile laptop")
    most = max(PRIMARY_SEEDS, SEEDS)
    return [Task(name, seed) for seed in range(most) for name, seeds in whole if seed < seeds]


def pending(study: Study, tasks: Sequence[Task]) -> list[Task]:
    """Those that are neither in the study's store nor among the committed rows."""
    done = {Task(name, run.seed) for name in {task.name for task in tasks} for run in study.finished_runs(name, [None])}
    return [task for task in tasks if task not in done]


def forecast(study: Study, tasks: Sequence[Task]) -> pd.DataFrame:
    """What is missing of some runs, and how long it took others: recipe, runs, seeds ("1, 2"), minutes_each (nan: nobody knows).

    Minutes are those of the recipe's other seeds, else those of the profile's steps or of what it varies, times its length.
    """
    seeds: dict[str, list[int]] = {}
    for task in pending(study, tasks):
        seeds.setdefault(task.name, []).append(task.seed)
    rows = [(name, len(s), ", ".join(map(str, s)), round(_minutes(study, name), 1)) for name, s in seeds.items()]
    return pd.DataFrame(rows, columns=["recipe", "runs", "seeds", "minutes_each"])


def _minutes(study: Study, name: str) -> float:
    one = VARIATIONS.get(name, Variation("", name))
    as_long = [] if "arch" in one.change else [one.base]
    for compared_names, longer in ((name, 1.0), *((other, one.longer) for other in (replace(one, longer=1.0).name, *as_long))):
        seconds = [run.record["cost"]["train_seconds"] for run in study.finished_runs(compared_names)]
        if seconds:
            return longer * sum(seconds) / len(seconds) / 60
    return float("nan")


def _code(study: Study, names: Iterable[str]) -> str | None:
    """By which training code the compared rows are: the one that has trained most variations with a teacher; None = today's.

    Rows of two codes differ by more than what a sweep varies.
    """
    taught = [name for name in names if name in VARIATIONS and study.recipe(name).teacher != "none"]
    return max(codes(), key=lambda code: sum(len(study.finished_runs(name, [code])) for name in taught))


def earlier_targets(study: Study, names: Sequence[str] = ABLATION_SWEEPS) -> str:
    """A sentence on the sweeps whose rows an earlier code has trained; empty where there are none."""
    used = {sweep: _code(study, [one.name for one in variations(sweep)]) for sweep in names}
    lines = []
    for code, differs in earlier().items():
        if concerned := [sweep for sweep, one in used.items() if one == code]:
            lines.append(
                f"In {', '.join(concerned)}, rows with a teacher were trained with earlier targets (in the tables: *everywhere*): "
                f"{differs}. The six recipes above have today's targets. The sweeps are trained again when the method has settled."
            )
    return "\n".join(lines)


def table(study: Study, sweep: str) -> pd.DataFrame:
    """One row a finished run of a sweep: its variations, and the recipes that they vary as they are, all trained by one code.

    Returns:
        `IDENTITY` (targets: "none" without a teacher; "where shown"; of an earlier code "everywhere", also where a moved still
        shows nothing), what is varied (a column a field of the recipe, and `steps`), `MEASURED`. TC is with exact flow where there
        is one, else with DIS.
    """
    chosen = variations(sweep)
    bases = dict.fromkeys(variation.base for variation in chosen)
    varied = dict.fromkeys(["steps", *(field for variation in chosen for field in variation.change)])
    names = [*bases, *(variation.name for variation in chosen)]
    bases_of = {name: VARIATIONS[name].base if name in VARIATIONS else name for name in names}
    code = _code(study, names)
    rows = [_row(run, bases_of[name], varied) for name in names for run in study.finished_runs(name, [code])]
    return pd.DataFrame(rows, columns=[*IDENTITY, *varied, *MEASURED])


def differences(study: Study, names: Sequence[str] = ABLATION_SWEEPS) -> pd.DataFrame:
    """What each variation of some sweeps changes, with intervals: `comparisons.effects` of `recipes.compared`, a family a sweep.

    Returns:
        sweep, and the columns of `comparisons.effects`; no rows where nothing can be compared yet.
    """
    tables = []
    for sweep in names:
        pairs = compared(sweep)
        compared_names = {name for pair in pairs.values() for name in pair}
        code = _code(study, compared_names)
        runs = [run for name in compared_names for run in study.finished_runs(name, [code])]
        rows = effects(runs, pairs, primary=())
        if len(rows):
            rows.insert(2, "sweep", sweep)
            tables.append(rows)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


THIN = (
    "pole",
    "traffic light",
    "traffic sign",
    "sign",
    "person",
    "pedestrian",
    "rider",
    "bicycle",
    "bicyclist",
    "motorcycle",
)
"""Classes that a driver needs and a mean hides: few pixels each."""


def target_mask(
    study: Study, names: Sequence[str] = ("kd", "kd+tl", "trajectory", "consistent", "consistent,temporal=0.75")
) -> pd.DataFrame:
    """What masked targets change: recipes as today's code trains them against the same seeds by the earlier code, a row a metric.

    Returns:
        recipe, code (the earlier one), and the columns of `comparisons.effects`, differences today - earlier; p_holm is corrected
        for the number of recipes; `thin_miou` is the mean IoU of `THIN`. No rows where there is nothing to compare.
    """
    tables = []
    for code in earlier():
        for name in names:
            sides = {"today": study.finished_runs(name, [None]), "earlier": study.finished_runs(name, [code])}
            rows = effects(_sides(sides, lambda record: record), {name: ("today", "earlier")}, ())
            if len(rows):
                classes = study.label_set.classes
                thin = effects(
                    _sides(sides, lambda record, of=classes: _of_thin(record, of)), {name: ("today", "earlier")}, ()
                )
                thin = thin[thin["metric"] == "miou"].assign(metric="thin_miou")
                both = pd.concat([rows, thin], ignore_index=True)
                tables.append(both.assign(recipe=name, code=code, comparison=f"{name}_vs_earlier"))
    if not tables:
        return pd.DataFrame()
    table = pd.concat(tables, ignore_index=True)
    return table.assign(p_holm=table.groupby("metric")["p"].transform(holm))


def _sides(sides: Mapping[str, Sequence[Run]], record_of: Callable[[dict], dict]) -> list[SimpleNamespace]:
    """Runs under the name of their side."""
    return [
        SimpleNamespace(name=name, seed=run.seed, record=record_of(run.record))
        for name, runs in sides.items()
        for run in runs
    ]


def _of_thin(record: dict, classes: Sequence[str]) -> dict:
    """A record whose counts of IoU are those of `THIN` alone."""
    columns = [k for k, name in enumerate(classes) if name in THIN]
    counts = {key: np.asarray(value)[:, columns].tolist() for key, value in record["per_clip"]["miou"].items()}
    return record | {"per_clip": {"names": record["per_clip"]["names"], "miou": counts}}


def _row(run: Run, base: str, varied: Iterable[str]) -> dict:
    record, metrics, cost = run.record, run.metrics, run.record["cost"]
    flow = "exact" if metrics["tc"].get("exact") is not None else "dis"
    return {
        **{key: record[key] for key in ("dataset", "profile")},
        "recipe": run.name,
        "base": base,
        "targets": "none" if record["recipe"]["teacher"] == "none" else _targets(record),
        **{name: record["recipe"][name] for name in varied},
        "seed": run.seed,
        "miou": metrics["miou"],
        "tc": metrics["tc"].get(flow),
        "tc_ceiling": metrics["tc_ceiling"].get(flow),
        **{key: metrics[key] for key in ("flicker", "harmful_flicker")},
        "train_seconds": cost["train_seconds"],
        "threads": cost.get("threads"),
        "run_id": run.id,
    }


def _targets(record: dict) -> str:
    return "everywhere" if record.get("training_code") in earlier() else "where shown"


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


def runs_of_seed(study: Study, *names: str, seed: int = 0) -> list[Run]:
    """One seed of some recipes, in the order of the names; what is missing is trained side by side, one a core."""
    return _runs_of(study, [Task(name, seed) for name in names])


def all_runs(study: Study, workers: int | None = None) -> list[Run]:
    """Every (recipe, seed) of the study's profile, recipe by recipe; trains what is missing, side by side.

    Further seeds of the same recipes, which sweeps have made, here or among the committed rows, are given too.
    """
    tasks = [Task(name, seed) for name in RECIPES for seed in study.seeds(name)]
    further = [run for name in RECIPES for run in study.finished_runs(name) if Task(name, run.seed) not in tasks]
    for run in further:
        study.count(run, run.trained_now)
    return sorted([*_runs_of(study, tasks, workers), *further], key=lambda run: (list(RECIPES).index(run.name), run.seed))


def _runs_of(study: Study, tasks: Sequence[Task], workers: int | None = None) -> list[Run]:
    """The runs of some tasks, in order, counted for the page's footer."""
    trained = {}
    if study.runs == "train":
        missing = [task for task in tasks if not study.is_finished(task.name, task.seed)]
        # The longest recipes stand last: begun first, they leave short ones to fill the cores at the end.
        trained = {Task(run.name, run.seed): run for run in side_by_side(study, missing[::-1], workers)}
    for run in trained.values():
        study.count(run, run.trained_now)
    return [trained.get(task) or study.run(task.name, task.seed) for task in tasks]


def tables(study: Study) -> dict[str, pd.DataFrame]:
    """`ablation`, `effects`, the sweeps that have runs and their `sweep_effects`, without controls.

    Of all finished runs of a study, here or committed. For real data, whose rows come from sweeps alone.
    """
    by_sweep = {name: table(study, name) for name in ABLATION_SWEEPS}
    swept = {name: rows for name, rows in by_sweep.items() if rows["recipe"].isin(list(VARIATIONS)).any()}
    names = dict.fromkeys(["teacher", *RECIPES, *(name for pair in PAIRS.values() for name in pair)])
    runs = [run for name in names for run in study.finished_runs(name)]
    six = [run for run in runs if run.name in ("teacher", *RECIPES)]
    changes = differences(study, list(swept))
    masked = target_mask(study)
    more_tables = {name: rows for name, rows in (("sweep_effects", changes), ("target_mask", masked)) if len(rows)}
    return {"ablation": ablation(six), "effects": effects(runs), **swept, **more_tables}


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
            yield from _all_of(tasks, workers, limit, lambda task, patient: pool.submit(_make, *arguments, task, patient))
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
