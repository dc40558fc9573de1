"""Which runs the sweeps ask for, which of them are missing, and how long they will take."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from tcseg.errors import InputError, require_one_of
from tcseg.study.recipes import ALL_SWEEPS, NETWORK_SWEEPS, PRIMARY, RECIPES, VARIATIONS, Variation, variations
from tcseg.study.study import Study

SWEEPS = ("primary", *ALL_SWEEPS)
"""The questions, in the order in which they are answered; "primary" is the six recipes at all seeds."""
PRIMARY_SEEDS, SEEDS = 5, 3


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


def read_part(text: str) -> tuple[int, int]:
    """(I, N) of "I/N", I counted from 1.

    Raises:
        InputError: it is not of this form, or I is not within 1 to N.
    """
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    part = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= part[0] <= part[1]:
        raise InputError(f"part is {text!r}; write I/N with I from 1 to N, such as 1/8")
    return part


def take_part(tasks: Sequence[Task], part: tuple[int, int] | None) -> list[Task]:
    """Every N-th run of a plan, from the I-th on; None = all. The N parts are disjoint and together the whole plan.

    A part does not depend on what is finished: machines that share no disk must agree on it.
    """
    return list(tasks) if part is None else list(tasks[part[0] - 1 :: part[1]])


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
