"""Which network: scores after each length beside the clock."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from tcseg.models.students import CHOSEN
from tcseg.study import model_selection


def test_students_meet_peers_after_as_many_steps_and_at_their_best():
    def run(arch, times, *mious):
        name = f"student,arch={arch}" + (f",steps={times}x" if times > 1 else "")
        counts = {"intersection": [[4], [6]], "predicted": [[10], [10]], "labelled": [[10], [10]]}
        same = {"dataset": "procity", "profile": "bench", "per_clip": {"names": ["a", "b"], "miou": counts}}
        scores = {"tc": {"exact": 0.6}, "flicker": 0.1, "harmful_flicker": 0.05}
        facts = same | {"recipe": {"steps": times}, "cost": {"train_seconds": 60.0}, "metrics": scores}
        return name, [
            SimpleNamespace(name=name, seed=s, metrics=scores | {"miou": m}, record=facts) for s, m in enumerate(mious)
        ]

    cpu = CHOSEN["student-cpu"]
    runs = dict([run(cpu, 1, 0.3, 0.3), run(cpu, 2, 0.5), run("fast-scnn", 1, 0.4), run("fast-scnn", 4, 0.2)])
    table = model_selection.against_peers(SimpleNamespace(finished_runs=lambda name: runs.get(name, [])))
    assert table["comparison"].tolist() == ["student-cpu, 1x_vs_fast-scnn, 1x", "student-cpu, 2x_vs_fast-scnn, 1x"]
    assert table["seeds"].tolist() == [1, 1] and (table["difference"] == 0).all(), "the counts are the same"
    assert model_selection.against_peers(SimpleNamespace(finished_runs=lambda name: [])).empty


def test_a_network_is_shown_after_its_best_length_with_what_the_last_doubling_gained():
    def found(times, *mious):
        cost, scores = {"train_seconds": 60 * times}, {"tc": {"exact": 0.6}, "flicker": 0.1, "harmful_flicker": 0.05}
        record = {"recipe": {"steps": 10 * times}, "cost": cost}
        return [SimpleNamespace(seed=s, metrics=scores | {"miou": m}, record=record) for s, m in enumerate(mious)]

    runs = {
        "student": found(1, 0.1),
        "student,arch=x": found(1, 0.3, 0.5),
        "student,arch=x,steps=2x": found(2, 0.45),
        "student,arch=x,steps=4x": found(4, 0.44),
        "student,arch=gap": found(1, 0.2),
        "student,arch=gap,steps=4x": found(4, 0.3),
    }
    store = SimpleNamespace(finished_runs=lambda name: runs.get(name, []))
    assert list(model_selection.trained(store, "x")) == [1, 2, 4] and list(model_selection.trained(store, "student")) == [1]
    assert model_selection.best(model_selection.trained(store, "none")) == []
    speeds = pd.DataFrame({"arch": ["student", "x", "gap", "none"], "peer": False, "best_ms": 1.0})
    table = model_selection.scored(store, speeds).set_index("arch")
    assert table.loc["x", ["seeds", "steps", "miou", "doubling"]].tolist() == [1, 20, 0.45, -0.01]
    assert table.loc["x", ["miou_1x", "miou_2x", "miou_4x"]].tolist() == [0.4, 0.45, 0.44]
    assert table.loc["x", ["seeds_1x", "seeds_2x", "seeds_4x", "seeds_8x"]].tolist() == [2, 1, 1, 0]
    assert table["doubling"].isna().tolist() == [True, False, True, True], "four times against two, or nothing"
    assert table["steps"].tolist() == [10, 20, 40, 0] and np.isnan(table.loc["none", "miou_1x"])
    # A length with one seed must not decide which of two others with more is better.
    once, twice, four = found(1, 0.29), found(2, 0.389, 0.327, 0.361), found(4, 0.376, 0.385)
    assert model_selection.best({1: once, 2: twice, 4: four}) is four
