"""`tcseg train`: one recipe, one seed, the run that a sweep would make."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from tcseg.cli import app
from tcseg.study import sweeps
from tcseg.study.opening import open_rows, open_study
from tcseg.study.recipes import RECIPES, VARIATIONS
from tcseg.study.sweeps import Task, one_run, parallel_training


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
            return torch.get_num_threads()

    before = torch.get_num_threads()
    monkeypatch.setattr(one_run, "usable_cores", lambda: 6)
    monkeypatch.setattr(one_run, "workers_here", lambda: 3)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: seen.append(count))
    seen = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: seen[-1] if seen else 6)
    assert one_run.train_one(Watched(), name, 0) == expected
    assert seen[-1] == 6, "and the caller keeps its own"
    monkeypatch.undo()
    assert torch.get_num_threads() == before


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
