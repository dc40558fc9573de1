"""Runs as tasks of Ray: the records are those of this machine's own pool, whatever dies on the way.

Ray starts in five seconds: one cluster serves all tests, on this machine (`ray.cluster_utils`).
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tcseg.study import sweeps
from tcseg.study.opening import open_study
from tcseg.study.sweeps import Task, farm, parallel_training

ray = pytest.importorskip("ray", reason="the extra cluster is not installed")
from ray.cluster_utils import Cluster  # noqa: E402

from tcseg.study.sweeps import ray_farm  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own warnings are not ours

TASKS = [Task(name, seed) for seed in (0, 1) for name in ("student", "student+tl")]
SAME = ("run_id", "recipe", "inputs", "metrics", "per_class", "per_clip", "model", "training_code", "evaluation_code", "processes")


@pytest.fixture(scope="module")
def cluster():
    """A machine for this process, and two that work; nodes may be added and removed."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False, logging_level="error")
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """What this process makes."""
    study = open_study("procity", "smoke", folder=tmp_path_factory.mktemp("local"))
    parallel_training.use_threads(1)
    return study, records(list(sweeps.side_by_side(study, TASKS, 1)))


def records(runs) -> dict[str, dict]:
    return {run.id: {name: run.record[name] for name in SAME} for run in runs}


def study_like(local, folder: Path):
    """A study with an empty store and the clips of the local one."""
    study = open_study("procity", "smoke", folder=folder)
    study._clips = local[0]._clips
    return study


def on_ray(study, work, workers=2):
    with ray_farm.ray_farm(study, workers, work) as place:
        return list(farm.outcomes(place, TASKS))


def counting(folder: Path, what):
    """A task that notes in a folder which runs it was asked for, does something first, and then makes the run."""

    def work(setting, recipe, *more):
        from tcseg.study.sweeps import ray_farm

        name = f"{recipe.name}-{recipe.seed}"
        count = len(list(folder.glob(f"{name}.*")))
        (folder / f"{name}.{count}").touch()
        what(name, count)
        return ray_farm.make(setting, recipe, *more)

    return work


def counts(folder: Path) -> Counter:
    return Counter(path.stem for path in folder.glob("*.*"))


def test_tasks_make_the_records_of_this_machine_to_the_last_digit(cluster, local, tmp_path):
    runs = [one.run for one in on_ray(study_like(local, tmp_path), ray_farm.make)]
    assert records(runs) == local[1]
    assert all(run.trained_now and run.place for run in runs)
    assert all((run.folder / "log.jsonl").read_text().count("\n") > 0 and run.record["machine"]["threads"] == 1 for run in runs)
    again = on_ray(study_like(local, tmp_path), lambda *_: 1 / 0)
    assert records([one.run for one in again]) == local[1] and not any(one.run.trained_now for one in again)


def test_a_worker_that_is_killed_costs_its_run_alone(cluster, local, tmp_path):
    def what(name, count):
        if name == "student-0" and count == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    asked = tmp_path / "asked"
    asked.mkdir()
    ended = on_ray(study_like(local, tmp_path / "study"), counting(asked, what))
    assert records([one.run for one in ended]) == local[1]
    assert counts(asked) == {"student-0": 2, "student+tl-0": 1, "student-1": 1, "student+tl-1": 1}


def test_a_machine_that_goes_away_costs_the_runs_that_it_was_at(cluster, local, tmp_path):
    asked = tmp_path / "asked"
    asked.mkdir()
    node = cluster.add_node(num_cpus=1, resources={"third": 1})

    def what(name, count):
        if name == "student+tl-0" and count == 0:
            time.sleep(1000)

    removed = []
    with ray_farm.ray_farm(study_like(local, tmp_path / "study"), 3, counting(asked, what)) as place:
        for outcome in farm.outcomes(place, TASKS):
            removed.append(outcome)
            if len(removed) == 1:  # whichever machine sleeps: all that work go, one comes back
                for one in [*cluster.worker_nodes]:
                    cluster.remove_node(one)
                cluster.add_node(num_cpus=1)
                cluster.add_node(num_cpus=1)
    assert node not in cluster.worker_nodes
    assert records([one.run for one in removed]) == local[1]
    first = removed[0].task
    assert counts(asked)[f"{first.name}-{first.seed}"] == 1, "what was finished is not trained again"
    assert counts(asked)["student+tl-0"] == 2


def test_what_heals_is_tried_again_and_what_does_not_is_told(cluster, local, tmp_path):
    def what(name, count):
        if name == "student-0" and count == 0:
            raise OSError("the disk is away")
        if name == "student-1":
            raise ValueError("never")
        if name == "student+tl-1":
            raise FloatingPointError("loss is nan at step 3")

    asked = tmp_path / "asked"
    asked.mkdir()
    ended = {one.task: one for one in on_ray(study_like(local, tmp_path / "study"), counting(asked, what))}
    assert counts(asked) == {"student-0": 2, "student+tl-0": 1, "student-1": 1, "student+tl-1": 1}
    assert type(ended[Task("student", 1)].error) is ValueError
    assert type(ended[Task("student+tl", 1)].error) is FloatingPointError
    made = records([one.run for one in ended.values() if one.run])
    assert made == {key: record for key, record in local[1].items() if key in made} and len(made) == 2


DRIVER = """
import sys, time
from pathlib import Path
from tcseg.study.opening import open_study
from tcseg.study.sweeps import Task, farm, ray_farm
import ray
ray.init(address=sys.argv[2], log_to_driver=False, logging_level="error")
study = open_study("procity", "smoke", folder=Path(sys.argv[1]))
def work(setting, recipe, *more):
    from tcseg.study.sweeps import ray_farm
    if recipe.seed == 1:
        import time
        time.sleep(1000)
    return ray_farm.make(setting, recipe, *more)
with ray_farm.ray_farm(study, 2, work) as place:
    for one in farm.outcomes(place, [Task(name, seed) for seed in (0, 1) for name in ("student", "student+tl")]):
        print("made", flush=True)
"""


def test_a_driver_that_is_killed_and_started_again_trains_only_what_is_missing(cluster, local, tmp_path):
    folder, asked = tmp_path / "study", tmp_path / "asked"
    asked.mkdir()
    with subprocess.Popen([sys.executable, "-c", DRIVER, folder, cluster.address], stdout=subprocess.PIPE, text=True) as driver:
        assert [driver.stdout.readline() for _ in range(2)] == ["made\n"] * 2
        driver.kill()
    assert len(list((folder / "runs").glob("*/record.json"))) == 2
    ended = on_ray(study_like(local, folder), counting(asked, lambda *_: None))
    assert records([one.run for one in ended]) == local[1]
    assert counts(asked) == {"student-1": 1, "student+tl-1": 1}
    assert not list(folder.rglob("*.part")) and all(json.loads(p.read_text()) for p in folder.rglob("record.json"))
