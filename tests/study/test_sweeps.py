"""Sweeps: what is planned, what is missing, and that runs side by side are the runs one by one."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from threading import Lock
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tcseg.atomic_files import exclusive_lock
from tcseg.labels import CAMVID
from tcseg.models import registry
from tcseg.models.students import CHOSEN
from tcseg.study import run_ids, runs, sweeps
from tcseg.study.comparisons import effects
from tcseg.study.opening import open_rows, open_study
from tcseg.study.paths import FIGURES
from tcseg.study.recipes import ABLATION_SWEEPS, PRIMARY, RECIPES, VARIATIONS, compared, variations
from tcseg.study.sweeps import Task, sweep_tables


def test_first_seeds_come_first_and_nothing_twice():
    tasks = sweeps.plan()
    assert len(set(tasks)) == len(tasks)
    assert [task.seed for task in tasks] == sorted(task.seed for task in tasks)
    assert [task.name for task in tasks[:2]] == list(PRIMARY)
    assert {task.name for task in sweeps.plan(["pareto"])} == {v.name for v in variations("pareto")}
    with pytest.raises(ValueError, match="sweep is 'parrot'; it must be one of primary, pareto"):
        sweeps.plan(["parrot"])
    assert {task.name for task in sweeps.plan(dataset="camvid")} == set(PRIMARY)
    assert sweeps.plan(["pareto"], "camvid") == sweeps.plan(["pareto"]), (
        "what is asked for by name is asked of any data"
    )


def test_a_variation_changes_what_its_name_says_and_nothing_else(tmp_path):
    study = open_study("procity", "smoke", folder=tmp_path)
    names = {field.name for field in fields(study.recipe("student"))} - {"name"}
    for variation in VARIATIONS.values():
        here, base = study.recipe(variation.name), study.recipe(variation.base)
        changed = {name for name in names if getattr(here, name) != getattr(base, name)}
        wanted = {name for name, value in variation.change.items() if value != getattr(base, name)}
        assert changed == wanted | ({"steps"} if variation.longer != 1 else set()), variation.name
        assert here.name == variation.name and not set(variation.name) & set(" /:*?")


def test_no_variation_repeats_a_recipe_of_the_ablation(tmp_path):
    study = open_study("procity", "laptop", folder=tmp_path)
    known = [{**vars(study.recipe(name)), "name": ""} for name in ("teacher", *RECIPES)]
    for name in VARIATIONS:
        assert {**vars(study.recipe(name)), "name": ""} not in known, name


@pytest.mark.slow
def test_runs_side_by_side_are_found_again(tmp_path):
    study = open_study("procity", "smoke", folder=tmp_path)
    tasks = sweeps.plan(["pareto"])
    made = sweeps.run_sweeps(study, ["pareto"], workers=2, limit=3)
    assert made == 3 and all(study.is_finished(task.name, task.seed) for task in tasks[:3])
    assert sweeps.pending(study, tasks) == tasks[3:]
    record = study.finished_runs(tasks[0].name)[0].record
    assert record["cost"]["threads"] == 1 and record["recipe"]["temporal"] == 0.75
    path = tmp_path / "runs" / record["run_id"] / "record.json"
    path.write_text(json.dumps({**record, "recipe": {**record["recipe"], "temporal": 0.25}}))
    assert sweeps.pending(study, [Task(*t) for t in [(tasks[0].name, 0)]]), "another recipe's row does not count"


class Store:
    """A study of which only the store is real: a run is a random network, made in a moment."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made, self.busy, self.most = folder, [], 0, 0
        self.step = Lock()

    def recipe(self, name: str, seed: int) -> SimpleNamespace:
        return SimpleNamespace(steps=1)

    def run(self, name: str, seed: int, wait: bool = True) -> runs.Run | None:
        def train(_: Path) -> tuple:
            with self.step:
                self.busy += 1
                self.most = max(self.most, self.busy)
            time.sleep(0.1)
            with self.step:
                self.busy -= 1
                self.made.append(name)
            return registry.build("student-cpu", 19), {"train_seconds": 1.0}

        return runs.run_or_load(
            self.folder, name, seed, {}, "data", train, lambda _: {"metrics": {"miou": 0}}, {}, wait
        )


def test_two_sweeps_of_one_store_share_the_work(tmp_path):
    """Each waited for the other's locks, and two were no faster than one."""
    store, tasks = Store(tmp_path), [Task(name, 0) for name in "abcdef"]
    with ThreadPoolExecutor(2) as pool:  # a lock is of an open file: a thread stands for a process
        found = list(pool.map(lambda _: list(sweeps.side_by_side(store, tasks, 1)), range(2)))
    assert sorted(store.made) == list("abcdef"), "each once"
    assert store.most == 2, "at the same time"
    for one in found:
        assert sorted(run.name for run in one) == list("abcdef"), "each sweep ends with all of them"
        assert sum(run.trained_now for run in one) >= 1, "and has made its part"


def test_a_run_that_another_is_at_comes_last_and_is_made_if_that_one_dies(tmp_path):
    store, tasks = Store(tmp_path), [Task(name, 0) for name in "abc"]
    lock = tmp_path / run_ids.run_id_of("a", 0, {}, "data") / ".lock"
    with ExitStack() as other:
        other.enter_context(exclusive_lock(lock))
        assert store.run("a", 0, wait=False) is None
        names = []
        for run in sweeps.side_by_side(store, tasks, 1):
            names.append(run.name)
            if len(names) == 2:
                assert store.made == ["b", "c"]
                other.close()  # it died, and left no record
    assert names == ["b", "c", "a"] == store.made


def test_a_limit_counts_what_is_trained_here(tmp_path):
    store, tasks = Store(tmp_path), [Task(name, 0) for name in "abcd"]
    store.run("a", 0)
    with exclusive_lock(tmp_path / run_ids.run_id_of("b", 0, {}, "data") / ".lock"):
        found = list(sweeps.side_by_side(store, tasks, 1, limit=2))
    assert [(run.name, run.trained_now) for run in found] == [("a", False), ("c", True), ("d", True)]


def test_a_sweep_that_asks_nothing_says_so(tmp_path):
    for named in (None, ["pareto"]):
        with pytest.raises(ValueError, match="no sweep applies to camvid at profile bench"):
            sweeps.run_sweeps(open_rows("camvid", "bench", tmp_path), named)


def test_profile_bench_asks_for_networks_and_the_others_for_training():
    networks = {task.name for task in sweeps.plan(profile="bench")}
    assert {"student", "student,steps=2x", "student,arch=fast-scnn", "student,arch=patch32-48-o8,steps=2x"} <= networks
    assert all(name.startswith("student") for name in networks)
    ours = {task.name.partition("arch=")[2] for task in sweeps.plan()} - {""}
    assert ours == set(CHOSEN.values()), "the laptop asks whether the recipe holds with another student"
    assert {task.name for task in sweeps.plan(dataset="camvid")} == {"student", "consistent"}


# ------------------------------------------------------------------------------------------------ what a sweep compares


def test_every_variation_is_compared_with_what_it_varies_trained_as_long():
    weights = set(compared("pareto").values())
    assert {("consistent,temporal=6", "consistent"), ("consistent,temporal=6", "student")} <= weights
    assert ("consistent", "student") in weights and not any(name == "student" for name, _ in weights)
    distillation = set(compared("distillation").values())
    assert ("kd,method=dist,distillation=1,steps=2x", "kd,steps=2x") in distillation
    assert ("consistent,method=dist,distillation=1", "consistent") in distillation
    assert ("kd,steps=2x", "kd") in distillation
    for sweep in ABLATION_SWEEPS:
        pairs = compared(sweep)
        varied = {v.name for v in variations(sweep) if v.base != "teacher"}
        assert varied <= {name for pair in pairs.values() for name in pair}, sweep
        assert all(name != base and {name, base} <= varied | set(RECIPES) for name, base in pairs.values()), sweep


def test_labels_and_lengths_are_compared_at_the_same_share_and_length():
    budget = set(compared("label_budget").values())
    assert {("kd", "student"), ("consistent,labelled_share=0.5", "student,labelled_share=0.5")} <= budget
    assert not any(("labelled_share" in name) != ("labelled_share" in base) for name, base in budget)
    assert ("consistent,labelled_share=0.125,temporal=0.75", "student,labelled_share=0.125") in budget
    others = set(compared("other_students").values())
    pairs = {(f"consistent,arch={arch}", f"student,arch={arch}") for arch in CHOSEN.values()}
    assert others == pairs | {("consistent", "student")}, "a network is compared with itself"
    lengths = set(compared("schedule").values())
    assert {("student", "student,steps=0.5x"), ("student,steps=8x", "student,steps=4x")} <= lengths
    assert ("consistent,steps=4x", "student,steps=4x") in lengths
    assert ("consistent,steps=4x", "student,steps=2x") not in lengths


def test_differences_are_those_of_paired_committed_runs(tmp_path):
    study = open_study("procity", "laptop", "reference", folder=tmp_path)
    found = sweeps.differences(study, ["schedule"])
    row = found[found["metric"] == "miou"].set_index("comparison").loc["student,steps=2x_vs_student"]
    short, long = ({r.seed: r.metrics["miou"] for r in study.finished_runs(n)} for n in ("student", "student,steps=2x"))
    gains = [long[seed] - short[seed] for seed in short.keys() & long.keys()]
    assert row["seeds"] == len(gains) > 1 and set(found["sweep"]) == {"schedule"}
    assert row["seed_difference"] == pytest.approx(sum(gains) / len(gains), abs=2e-6)  # records keep six digits
    assert sweeps.differences(open_study("procity", "smoke", folder=tmp_path)).empty, "nothing is trained there"


def test_what_is_missing_is_forecast_from_what_was_measured():
    def run(seconds):
        return SimpleNamespace(seed=0, record={"cost": {"train_seconds": seconds}})

    rows = {"kd": [run(60.0), run(120.0)], "kd,method=cwd,distillation=3": [run(600.0)]}
    store = SimpleNamespace(finished_runs=lambda name, codes=(): rows.get(name, []))
    names = ["kd,method=cwd,distillation=3", "kd,method=dist,distillation=1", "kd,steps=2x", "student,arch=fast-scnn"]
    found = sweeps.forecast(store, [Task(name, seed) for seed in (0, 1) for name in names]).set_index("recipe")
    assert found.loc[names[:3], "minutes_each"].tolist() == [10.0, 1.5, 3.0]
    assert pd.isna(found.loc["student,arch=fast-scnn", "minutes_each"]), "another network takes another time"
    assert found.loc[names, "runs"].tolist() == [1, 2, 2, 2] and found.loc[names[0], "seeds"] == "1"
    assert found.loc[names[1], "seeds"] == "0, 1"
    assert sweeps.forecast(store, [Task("kd", 0)]).empty


def test_what_masked_targets_change_is_held_against_the_code_before(monkeypatch):
    """Here `consistent` stands for today's rows and `student` for the earlier ones: what is known of these must come out."""
    rows = runs.find_reference(FIGURES / "runs", "camvid", "laptop")
    today, before = ([run for run in rows if run.name == name] for name in ("consistent", "student"))
    found = {None: today, "code": before}
    study = SimpleNamespace(finished_runs=lambda name, codes: found[codes[0]] if name == "kd" else [], label_set=CAMVID)
    monkeypatch.setattr(sweep_tables, "earlier", lambda: {"code": "differs"})
    table = sweeps.target_mask(study).set_index("metric")
    known = effects([*today, *before], {"both": ("consistent", "student")}, ()).set_index("metric")
    assert (
        set(table["recipe"]) == {"kd"}
        and set(table["code"]) == {"code"}
        and set(table["comparison"]) == {"kd_vs_earlier"}
        and list(table.index) == [*known.index, "thin_miou"]
    )
    for column in ("difference", "ci_low", "ci_high", "seeds", "seed_difference", "p"):
        np.testing.assert_array_equal(table[column][known.index], known[column])
    np.testing.assert_array_equal(table["p_holm"], table["p"])  # of one recipe: one test a metric

    thin = [CAMVID.classes.index(name) for name in ("pole", "sign", "pedestrian", "bicyclist")]

    def of_thin(run):
        counts = {key: np.asarray(value)[:, thin].sum(0) for key, value in run.record["per_clip"]["miou"].items()}
        return (counts["intersection"] / (counts["predicted"] + counts["labelled"] - counts["intersection"])).mean()

    wanted = np.mean([of_thin(one) - of_thin(two) for one, two in zip(today, before, strict=True)])
    assert table["difference"]["thin_miou"] == pytest.approx(wanted)
    assert len(sweeps.target_mask(SimpleNamespace(finished_runs=lambda name, codes: [], label_set=CAMVID))) == 0
