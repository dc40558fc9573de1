"""The run store: made once, found by content, never half."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch

from tcseg.atomic_files import exclusive_lock, write_json
from tcseg.models import registry
from tcseg.study import run_ids, runs
from tcseg.study.paths import FIGURES


def make(store, recipe=None, inputs="data", fail=False, calls=None):
    calls = [] if calls is None else calls

    def train(folder):
        calls.append(folder)
        if fail:
            raise KeyboardInterrupt
        return registry.build("student", 19), {"train_seconds": 1.0, "steps": 1, "seconds_per_step": 1.0}

    def evaluate(model):
        return {"metrics": {"miou": 0.5}, "per_class": {}, "per_clip": {}}

    context = {"dataset": "procity", "profile": "smoke"}
    run = runs.run_or_load(store, "student", 0, recipe or {"steps": 1}, inputs, train, evaluate, context)
    return run, len(calls)


def test_a_run_is_made_once(tmp_path):
    first, made = make(tmp_path)
    again, loaded = make(tmp_path)
    assert (made, loaded) == (1, 0) and first.trained_now and not again.trained_now
    assert first.record == again.record and again.model().arch == "student"
    assert first.record["versions"]["torch"] and first.record["git"]["sha"]


def test_recipe_and_data_decide(tmp_path):
    assert (
        len({make(tmp_path, *key)[0].id for key in (({"steps": 1}, "a"), ({"steps": 2}, "a"), ({"steps": 1}, "b"))})
        == 3
    )


def test_an_interrupted_run_goes_on(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, fail=True)
    assert not list(tmp_path.glob("*/record.json"))
    run, made = make(tmp_path)
    assert made == 1 and run.metrics["miou"] == 0.5
    assert not list(tmp_path.rglob("*.part"))


def test_a_run_that_another_process_makes_is_waited_for(tmp_path):
    made, going = [], Event()

    def other():
        def train(folder):
            going.set()
            time.sleep(0.3)
            made.append(folder)
            return registry.build("student", 19), {"train_seconds": 1.0, "steps": 1, "seconds_per_step": 1.0}

        empty = {"metrics": {"miou": 0.7}, "per_class": {}, "per_clip": {}}
        runs.run_or_load(tmp_path, "student", 0, {"steps": 1}, "data", train, lambda model: empty, {})

    with ThreadPoolExecutor(1) as pool:  # a lock is of an open file: a thread stands for a process
        first = pool.submit(other)
        assert going.wait(10)
        run, trained = make(tmp_path)
        first.result()
    assert (trained, len(made), run.metrics["miou"]) == (0, 1, 0.7), "what the other made is taken"


def test_a_file_is_held_by_one(tmp_path):
    with (
        exclusive_lock(tmp_path / "deep" / ".lock"),
        pytest.raises(BlockingIOError),
        exclusive_lock(tmp_path / "deep" / ".lock", wait=False),
    ):
        pytest.fail("two hold it")
    with exclusive_lock(tmp_path / "deep" / ".lock", wait=False):
        pass


def test_changed_evaluation_measures_again_without_training(tmp_path):
    run, _ = make(tmp_path)
    record = json.loads((run.folder / "record.json").read_text())
    write_json(run.folder / "record.json", {**record, "evaluation_code": "old", "metrics": {"miou": 0.1}})
    again, made = make(tmp_path)
    assert made == 0 and again.metrics["miou"] == 0.5 and not again.trained_now


def test_reference_rows(tmp_path):
    row = {"run_id": "student-s0-x", "recipe_name": "student", "seed": 0, "dataset": "procity", "profile": "laptop"}
    write_json(tmp_path / "a.json", {**row, "metrics": {"miou": 0.4}})
    (run,) = runs.find_reference(tmp_path, "procity", "laptop")
    assert (run.name, run.seed, run.metrics["miou"]) == ("student", 0, 0.4)
    with pytest.raises(
        FileNotFoundError, match="student-s0-x is a committed row without weights; train it with runs='train'$"
    ):
        run.model()
    with pytest.raises(FileNotFoundError, match="student-s0-x is a committed row without log"):
        _ = run.log
    with pytest.raises(FileNotFoundError, match=r"no reference rows for camvid-full .*procity-laptop"):
        runs.find_reference(tmp_path, "camvid", "full")


@pytest.mark.parametrize("name", (*registry.SHIPPED, registry.FAST))
def test_a_committed_row_finds_the_network_that_ships(name):
    """By the run id in the sidecar: `student` at procity-laptop has a network, the very same recipe on CamVid has none."""
    note = registry.shipped_notes(name)
    rows = runs.find_reference(FIGURES / "runs", note["dataset"], note["profile"])
    (row,) = (run for run in rows if run.id == note["run_id"])
    assert row.folder is None and row.weights == registry.WEIGHTS / f"{name}.safetensors"
    for mine, theirs in zip(row.model().parameters(), registry.shipped(name).parameters(), strict=True):
        assert torch.equal(mine, theirs)
    others = [run for run in rows if run.name == row.name and run.seed != row.seed]
    assert others and all(run.weights is None for run in others)


def test_committed_rows_of_other_data_have_no_network():
    rows = runs.find_reference(FIGURES / "runs", "camvid", "laptop")
    assert rows and all(run.weights is None for run in rows)


def test_shipped_weights_are_told_by_the_run_not_by_the_file(tmp_path):
    (tmp_path / "renamed.json").write_text('{"run_id": "student-s0-x"}')
    (tmp_path / "student-s1-y.json").write_text('{"arch": "student"}')
    assert runs.shipped_weights("student-s0-x", tmp_path) is None, "a sidecar alone"
    (tmp_path / "renamed.safetensors").touch()
    assert runs.shipped_weights("student-s0-x", tmp_path) == tmp_path / "renamed.safetensors"
    assert runs.shipped_weights("student-s1-y", tmp_path) is None
    (tmp_path / "damaged.json").write_text("{")
    with pytest.raises(ValueError, match=r"damaged\.json is damaged; restore it from the repository"):
        runs.shipped_weights("student-s0-x", tmp_path)


def test_a_row_without_weights_says_how_long_training_took(tmp_path):
    run = runs.Run({"run_id": "kd-s0-x", "cost": {"train_seconds": 260.0}}, None)
    with pytest.raises(FileNotFoundError, match=r"train it with runs='train' \(it took 4 minutes\)"):
        run.model()


def test_a_record_holds_what_its_id_is_made_of(tmp_path):
    run, _ = make(tmp_path, {"steps": 3, "shares": (1, 2)}, ["data", ("a", 1), None])
    record = json.loads((run.folder / "record.json").read_text())
    assert run_ids.id_of(record) == run.id and record["inputs"] == ["data", ["a", 1], None]
