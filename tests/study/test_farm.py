"""Where runs are made: a failed run stops no other, a dead worker's run is made again, parts are disjoint and complete."""

import os
import signal
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from tcseg.errors import CannotWriteError
from tcseg.study import sweeps
from tcseg.study.runs import Run
from tcseg.study.sweeps import Task, farm, parallel_training

TASKS = [Task(name, 0) for name in "abcdef"]


def made(task: Task) -> Run:
    record = {"run_id": task.name, "recipe_name": task.name, "seed": task.seed, "metrics": {"miou": 0.5}}
    return Run(record, None, trained_now=True)


# ------------------------------------------------------------------------------------------------ parts


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 500])
def test_parts_are_disjoint_and_complete(count):
    plan = sweeps.plan()
    parts = [sweeps.take_part(plan, (i, count)) for i in range(1, count + 1)]
    assert sorted(sum(parts, []), key=plan.index) == plan
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert sweeps.take_part(plan, None) == plan


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "-1/2", "1/0", "a/b", "1/2/3", "1.5/2", "1/ 2x", "٣/٤"])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(ValueError, match="part is .*; write I/N with I from 1 to N, such as 1/8"):
        sweeps.read_part(text)


def test_a_part_is_read():
    assert sweeps.read_part("2/8") == (2, 8) and sweeps.read_part(" 8/8\n") == (8, 8)


def test_a_part_is_of_the_plan_and_not_of_what_is_missing(monkeypatch):
    """Two machines with different stores would else both leave a run to the other."""
    asked = []
    study = SimpleNamespace(dataset="procity", profile="laptop")
    monkeypatch.setattr(parallel_training, "pending", lambda study, tasks: asked.append(tasks) or [])
    assert sweeps.run_sweeps(study, part=(2, 3)) == 0
    assert asked == [sweeps.plan()[1::3]]


# ------------------------------------------------------------------------------------------------ failures


def test_a_failed_run_does_not_stop_the_others():
    def work(task, patient):
        if task.name in "bd":
            raise FloatingPointError(f"{task.name}: loss is nan at step 7")
        return made(task)

    names, place = [], farm.at_once(work)
    with pytest.raises(farm.RunsFailedError) as caught:
        for run in farm.runs_of(place, TASKS):
            names.append(run.name)
    assert names == list("acef")
    told = str(caught.value).splitlines()
    assert told[0] == "2 of 6 runs failed; the others are finished:"
    assert "b seed 0: FloatingPointError: b: loss is nan at step 7" in told[1] and "d seed 0" in told[2]


def test_what_may_heal_is_tried_again_and_what_may_not_is_not():
    tried = Counter()

    def work(task, patient):
        tried[task.name] += 1
        if task.name == "a" and tried["a"] < 3:
            raise ConnectionResetError("lost")
        if task.name == "b":
            raise FloatingPointError("loss is nan")
        if task.name == "c":
            raise CannotWriteError("the disk is full: free some space")  # an OSError too, but a person must act
        if task.name == "d":
            raise OSError("always")
        return made(task)

    ended = {one.task.name: one for one in farm.outcomes(farm.at_once(work), TASKS)}
    assert tried == {"a": 3, "b": 1, "c": 1, "d": farm.TRIES, "e": 1, "f": 1}
    assert ended["a"].run is not None and [name for name in "abcdef" if ended[name].run is None] == ["b", "c", "d"]


def test_ctrl_c_stops_everything():
    def work(task, patient):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(farm.outcomes(farm.at_once(work), TASKS))


def killed_once(folder: Path, task: Task, patient: bool) -> Run:
    """Work in another process, which kills it at the first try of "b"."""
    if task.name == "b" and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    with (folder / task.name).open("a") as file:
        file.write("x")
    return made(task)


def test_the_run_of_a_killed_worker_is_made_again(tmp_path):
    with farm.processes(1, killed_once, tmp_path) as place:
        names = [run.name for run in farm.runs_of(place, TASKS[:3])]
    assert sorted(names) == list("abc") and all((tmp_path / name).read_text() == "x" for name in "abc")


def test_a_limit_counts_runs_that_fail():
    def work(task, patient):
        raise ValueError("no")

    assert len(list(farm.outcomes(farm.at_once(work), TASKS, limit=2))) == 2


# ------------------------------------------------------------------------------------------------ progress


def test_progress_says_how_many_of_how_many_where_and_how_long(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    steps = dict(zip(TASKS[:4], (100, 100, 100, 300), strict=True))
    progress = parallel_training.Progress(steps, 4, "2 processes on node7")
    assert capsys.readouterr().out == "4 runs, 2 processes on node7\n"
    clock[0] = 600.0
    line = progress.line(farm.Outcome(TASKS[0], made(TASKS[0])))
    assert line.startswith("1/4 ") and "2 processes on node7; about 50 min left" in line
    failed = farm.Outcome(TASKS[1], None, FloatingPointError("loss is nan"))
    assert progress.line(failed).startswith("2/4 b seed 0 failed: FloatingPointError: loss is nan")
    before = made(TASKS[2])
    before.trained_now = False
    assert "trained before, or by another" in progress.line(farm.Outcome(TASKS[2], before))
    clock[0] = 1200.0
    assert progress.line(farm.Outcome(TASKS[3], made(TASKS[3]))).endswith("node7"), "nothing is left"
    assert progress.trained == 2
