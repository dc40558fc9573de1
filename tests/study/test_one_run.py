"""`tcseg train`: one recipe, one seed, the run that a sweep would make."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from tcseg.cli import app
from tcseg.study import run_ids, sweeps
from tcseg.study.opening import open_rows, open_study
from tcseg.study.recipes import RECIPES, VARIATIONS
from tcseg.study.sweeps import Task, one_run, parallel_training, several_processes


def test_every_recipe_is_listed_with_its_finished_seeds(tmp_path):
    table = sweeps.list_recipes(open_rows("procity", "laptop", tmp_path)).set_index("recipe")
    assert list(table.index) == ["teacher", *RECIPES, *VARIATIONS]
    assert table.loc["student", "finished"].startswith("0, 1") and table.loc["student", "steps"] == 2000
    assert table.loc["consistent,temporal=6", "sweep"] == "pareto"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["studnt"], "recipe is 'studnt'; did you mean student"),
        (["consistent,temporal=5"], "did you mean consistent,temporal="),
        (["zzz"], "did you mean student or student\\+tl"),
        ([], "give the name of a recipe; tcseg train --list"),
        (["student", "--dataset", "camvd"], "dataset is 'camvd'; it must be one of"),
        (["student", "--profile", "big"], "profile is 'big'; it must be one of"),
        (["student", "--seed", "-1"], "--seed"),
    ],
)
def test_what_cannot_be_trained_is_told_before_work_starts(arguments, told, tmp_path, monkeypatch):
    monkeypatch.setattr(one_run, "train_one", lambda *_: pytest.fail("it trained"))
    done = CliRunner().invoke(app, ["train", *arguments, "--out", str(tmp_path)])
    assert done.exit_code == 2
    with pytest.raises(AssertionError, match=told):
        raise AssertionError(" ".join(done.output.replace("\n", " ").split()))


@pytest.mark.parametrize(("name", "steps", "expected"), [("student", 2000, 2), ("student", 8, 6), ("teacher", 600, 6)])
def test_a_run_has_the_threads_that_a_sweep_gives_it(name, steps, expected, monkeypatch):
    """Six cores, three runs side by side: a student gets two; what a sweep makes in its own process, all."""

    class Watched:
        def recipe(self, name, seed):
            from tcseg.training.recipe import Recipe

            return Recipe(name, name, steps=steps)

        def clips(self, split):
            pass

        def run(self, name, seed):
            return list(seen)

    seen = []
    monkeypatch.setattr(one_run, "require_same_number", lambda *_: None)
    monkeypatch.setattr(one_run, "usable_cores", lambda: 6)
    monkeypatch.setattr(one_run, "workers_here", lambda: 3)
    monkeypatch.setattr(one_run, "use_threads", seen.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    assert one_run.train_one(Watched(), name, 0) == [expected]
    assert seen == [expected, 6], "and the caller keeps its own"


@pytest.mark.slow
def test_train_makes_the_run_of_a_sweep_to_the_last_digit(tmp_path):
    """Same id, same weights, same counts; and what `train` made, a sweep finds."""
    one, two = (open_study("procity", "smoke", folder=tmp_path / name) for name in "ab")
    trained = sweeps.train_one(one, "student", 1)
    (swept,) = sweeps.side_by_side(two, [Task("student", 1)], 1)
    assert trained.id == swept.id and trained.trained_now
    weights = [load_file(run.weights) for run in (trained, swept)]
    assert all(np.array_equal(weights[0][key], weights[1][key]) for key in weights[0])
    same = ("metrics", "per_class", "per_clip", "inputs", "training_code")
    assert all(trained.record[key] == swept.record[key] for key in same)
    assert not sweeps.train_one(one, "student", 1).trained_now
    assert parallel_training.pending(one, [Task("student", 1)]) == []


def torchrun(folder, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tcseg", "train"]
    command += [*arguments, "--profile", "smoke", "--out", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


@pytest.mark.slow
def test_torchrun_trains_a_run_of_its_own_and_its_teacher(tmp_path):
    """The teacher first, then the student; one record, one log; the number of processes is in record and id."""
    done = torchrun(tmp_path, "kd")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("kd-s0-") == 2, "one process speaks: the run's id, and the path of its weights"
    study = open_study("procity", "smoke", folder=tmp_path)
    records = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("runs/*/record.json")}
    assert sorted(record["recipe_name"] for record in records.values()) == ["kd", "teacher"]
    for run_id, record in records.items():
        assert record["processes"] == record["cost"]["processes"] == 2 and record["precision"] == "fp32"
        assert record["inputs"][-1] == "2 processes, fp32" and run_ids.id_of(record) == run_id
        recipe = study.recipe(record["recipe_name"], 0)
        assert several_processes.run_id_with(study, recipe, 2) == run_id != several_processes.run_id_with(study, recipe, 1)
        rows = (tmp_path / "runs" / run_id / "log.jsonl").read_text().splitlines()
        assert [json.loads(row)["step"] for row in rows] == [0, 7]
    assert study.finished_runs("kd", [None]) == [], "it is no run of a study of one process"

    begun = tmp_path / "runs" / several_processes.run_id_with(study, study.recipe("student", 0), 2)
    begun.mkdir()
    (begun / "checkpoint.safetensors").touch()
    with pytest.raises(ValueError, match="processes are 1, but student seed 0 was begun with 2: start 2, or remove"):
        sweeps.train_one(study, "student", 0)
