"""One recipe and one seed: what can be trained, and training it as a sweep would."""

from __future__ import annotations

import difflib

import pandas as pd
import torch

from tcseg.errors import InputError
from tcseg.machine import usable_cores
from tcseg.study.recipes import RECIPES, VARIATIONS
from tcseg.study.runs import Run
from tcseg.study.study import Study
from tcseg.study.sweeps.parallel_training import WORTH_A_PROCESS, prepare, use_threads, workers_here
from tcseg.study.sweeps.planning import Task
from tcseg.study.sweeps.several_processes import StudyOfSeveral, require_same_number
from tcseg.training import together


def require_recipe(name: str) -> None:
    """Refuse a recipe that the study does not have.

    Raises:
        InputError: the message names those that are written alike.
    """
    known = ("teacher", *RECIPES, *VARIATIONS)
    if name not in known:
        alike = difflib.get_close_matches(name, known, 3, 0.5) or list(RECIPES)
        raise InputError(f"recipe is {name!r}; did you mean {' or '.join(alike)}? tcseg train --list names all {len(known)}")


def list_recipes(study: Study) -> pd.DataFrame:
    """What can be trained: recipe, sweep ("" for the six and the teacher), steps, finished (seeds, here or committed: "0, 1")."""
    rows = []
    for name in ("teacher", *RECIPES, *VARIATIONS):
        sweep = VARIATIONS[name].sweep if name in VARIATIONS else ""
        seeds = ", ".join(str(run.seed) for run in study.finished_runs(name, [None]))
        rows.append((name, sweep, study.recipe(name).steps, seeds))
    return pd.DataFrame(rows, columns=["recipe", "sweep", "steps", "finished"])


def train_one(study: Study, name: str, seed: int, threads: int | None = None) -> Run:
    """Train a recipe, or find it finished: the same run, with the same digits, as a sweep on this machine makes.

    Args:
        study: whose run.
        name, seed: which.
        threads: of the training; by default as many as a sweep gives each of its runs; all for a teacher, which others wait for.

    Raises:
        InputError: there is no such recipe, or another number of processes has begun it.
    """
    require_recipe(name)
    recipe = study.recipe(name, seed)
    require_same_number(study, name, seed)
    prepare(study, [Task(name, seed)])
    own = torch.get_num_threads()
    if threads is None and recipe.arch != "teacher" and recipe.steps >= WORTH_A_PROCESS:
        threads = max(1, usable_cores() // workers_here())
    try:
        use_threads(threads or own)
        return study.run(name, seed)
    finally:
        use_threads(own)


def train_together(study: Study, name: str, seed: int) -> Run | None:
    """`train_one` in each of the processes that torchrun has started; the run in the first, None in the others.

    Raises:
        InputError: as `train_one`, or there are too many processes for the recipe's batch.
    """
    require_recipe(name)
    recipe = study.recipe(name, seed)
    together.require_divisible(recipe, together.processes())
    several = StudyOfSeveral.of(study)
    together.connect()
    run = None
    if together.is_first():
        run = train_one(several, name, seed, torch.get_num_threads())
        together.tell(None)
    else:
        several.follow()
    together.leave()
    return run
