"""The ablation's comparisons: paired by seed and clip, every ratio on its own sums, one family for Holm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from tcseg.metrics import intervals, seed_clip_effects
from tcseg.study import comparisons
from tcseg.study.measurements.quality.worlds import World

COLUMNS = """dataset profile comparison metric difference ci_low ci_high seeds clips p_holm p seed_difference seed_low seed_high
    mdd""".split()


@dataclass
class Made:
    """A run without a network."""

    name: str
    seed: int
    record: dict


def records(seeds=3, clips=24, flows=("exact", "dis"), flicker=True):
    """Runs of `student` and `consistent`, with counts as `World` makes them."""
    rng = np.random.default_rng(0)
    overlaps = [World("miou", 0.05).split(rng, seeds, clips) for _ in range(3)]
    shares = World("flicker", 0.05).split(rng, seeds, clips)
    runs = []
    for model, name in enumerate(("student", "consistent")):
        for seed in range(seeds):
            counts = {"miou": overlaps[0][model][seed]}
            counts |= {f"tc_{flow}": overlaps[1 + i][model][seed] for i, flow in enumerate(flows)}
            if flicker:
                counts |= dict.fromkeys(("flicker", "harmful_flicker"), shares[model][seed])
            per_clip = {"names": [f"clip{i}" for i in range(clips)], **counts}
            metrics = {"tc_ceiling": dict.fromkeys(flows, 0.95 if flicker else None)}
            record = {"dataset": "procity", "profile": "laptop", "per_clip": per_clip, "metrics": metrics}
            runs.append(Made(name, seed, record))
    return runs


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return comparisons.effects(records())


def row(table: pd.DataFrame, metric: str) -> pd.Series:
    return table.set_index("metric").loc[metric]


def test_columns_and_metrics(table):
    assert table.columns.tolist() == COLUMNS
    assert table["metric"].tolist() == [
        "miou", "tc", "tc_dis", "flicker", "harmful_flicker", "flicker_relative", "harmful_flicker_relative", "tc_gap_closed",
    ]  # fmt: skip
    assert set(table["comparison"]) == {"consistent_vs_student"} and set(table["seeds"]) == {3}
    assert set(table["clips"]) == {24} and table.notna().all(axis=None)
    assert ((table["ci_low"] < table["difference"]) & (table["difference"] < table["ci_high"])).all()
    assert table["seed_difference"].tolist() == pytest.approx(table["difference"].tolist())


def test_ratios_are_ratios_of_the_same_runs(table):
    runs = records()
    flicker = {
        name: [float(np.sum(r.record["per_clip"]["flicker"]["count"]) / np.sum(r.record["per_clip"]["flicker"]["total"]))
               for r in runs if r.name == name]
        for name in ("student", "consistent")
    }  # fmt: skip
    expected = np.mean([b / a - 1 for a, b in zip(flicker["student"], flicker["consistent"], strict=True)])
    assert row(table, "flicker_relative")["difference"] == pytest.approx(expected) and expected < -0.2
    ones = np.ones((1, 24))
    tc = [[intervals.metric_of(r.record["per_clip"]["tc_exact"], ones)[0] for r in runs if r.name == n] for n in flicker]
    expected = np.mean([(b - a) / (0.95 - a) for a, b in zip(*tc, strict=True)])
    assert row(table, "tc_gap_closed")["difference"] == pytest.approx(expected)


def test_a_ratio_is_the_same_hypothesis_as_its_difference(table):
    for name, base in (("flicker_relative", "flicker"), ("tc_gap_closed", "tc")):
        assert row(table, name)[["p", "p_holm"]].tolist() == row(table, base)[["p", "p_holm"]].tolist()
    quantities = table[table["metric"].isin(["miou", "tc", "tc_dis", "flicker", "harmful_flicker"])]
    assert quantities["p_holm"].tolist() == pytest.approx(intervals.holm(quantities["p"]).tolist())
    assert (table["p_holm"] >= table["p"]).all()


def test_the_primary_comparison_is_a_family_of_its_own():
    runs = records()
    others = {"student": ["kd", "student,steps=2x"], "consistent": ["kd+tl", "student+tl"]}
    copies = [Made(name, run.seed, run.record) for run in runs for name in others[run.name]]
    table = comparisons.effects([*runs, *copies])
    counted = table[table["metric"].isin(["miou", "tc", "tc_dis", "flicker", "harmful_flicker"])]
    primary = counted["comparison"].isin(["consistent_vs_student", "consistent_vs_student_2x"])
    assert 0 < primary.sum() < len(counted)
    for family in (counted[primary], counted[~primary]):
        assert family["p_holm"].tolist() == pytest.approx(intervals.holm(family["p"]).tolist())


def test_seeds_that_both_have_are_compared():
    runs = [run for run in records() if (run.name, run.seed) != ("consistent", 1)]
    table = comparisons.effects(runs)
    assert set(table["seeds"]) == {2}
    by = {(run.name, run.seed): run.record["per_clip"]["miou"] for run in runs}
    expected = seed_clip_effects.effect(*([by[name, seed] for seed in (0, 2)] for name in ("student", "consistent")))
    assert row(table, "miou")["difference"] == expected.value and row(table, "miou")["mdd"] == expected.mdd
    assert comparisons.effects(runs, {"kd_vs_student": ("kd", "student")}).empty


def test_one_seed_has_no_interval_over_seeds():
    table = comparisons.effects(records(seeds=1))
    assert table["ci_low"].notna().all() and table[["seed_low", "seed_high"]].isna().all(axis=None)


def test_what_cityscapes_cannot_say_is_left_out():
    table = comparisons.effects(records(flows=("dis",), flicker=False))
    assert table["metric"].tolist() == ["miou", "tc", "tc_dis"]
    assert row(table, "tc")["difference"] == row(table, "tc_dis")["difference"]
    assert row(table, "tc")["p_holm"] == pytest.approx(intervals.holm(table["p"][:2])[1])  # counted once


@pytest.mark.parametrize(("step", "rows"), [(17, 6), (1, 101)])
def test_one_street_is_six_blocks_whatever_its_rows_are(step, rows):
    runs = records(seeds=2, clips=rows, flows=("dis",))
    for run in runs:
        run.record["per_clip"]["names"] = [f"street+{i * step:03d}" for i in range(rows)]
    assert comparisons.block_of(runs[0].record["per_clip"]) == 17 // step
    assert set(comparisons.effects(runs)["clips"]) == {6}


def test_a_plus_in_a_clips_name_is_no_frame():
    assert comparisons.block_of({"names": ["a+1", "b+2"]}) == 1 == comparisons.block_of({"names": ["only+000"]})


def test_score_of_a_recipe_adds_its_seeds():
    runs = [run for run in records() if run.name == "student"]
    found = comparisons.score_interval(runs, "flicker")
    counts = [run.record["per_clip"]["flicker"] for run in runs]
    assert found.value == pytest.approx(
        sum(np.sum(c["count"]) for c in counts) / sum(np.sum(c["total"]) for c in counts)
    )
    assert found.low < found.value < found.high


def test_committed_runs_make_a_table():
    from tcseg.study.paths import FIGURES
    from tcseg.study.runs import find_reference

    table = comparisons.effects(find_reference(FIGURES / "runs", "procity", "laptop"))
    assert set(table["comparison"]) <= set(comparisons.PAIRS)
    assert row(table[table["comparison"] == "consistent_vs_student"], "flicker_relative")["ci_high"] < 0


def test_the_ablation_has_a_row_a_run_and_flow():
    scores = {"miou": 0.4, "flicker": None, "harmful_flicker": None, "pixel_accuracy": 0.8}
    scores |= {"tc": {"dis": 0.7, "exact": None}, "tc_ceiling": {"dis": None, "exact": None}}
    record = {"dataset": "cityscapes", "profile": "full", "split": "val", "run_id": "kd-s1-a"}
    record |= {"metrics": scores, "cost": {"train_seconds": 60.0}}
    table = comparisons.ablation([Made("kd", 1, record)])
    assert table.columns.tolist() == list(comparisons.ABLATION) and table["flow"].tolist() == ["exact", "dis"]
    assert table["tc"].isna().tolist() == [True, False] and table["miou"].tolist() == [0.4, 0.4]
    assert comparisons.ablation([]).columns.tolist() == list(comparisons.ABLATION)


def test_clips_in_which_nothing_was_counted_change_no_table_and_no_score(table):
    runs = records()
    for run in runs:
        per_clip = run.record["per_clip"]
        for name, counts in per_clip.items():
            if name != "names":
                per_clip[name] = {key: [*np.zeros_like(rows)[:9], *rows] for key, rows in counts.items()}
        per_clip["names"] = [f"unlabelled{i}" for i in range(9)] + per_clip["names"]
    pd.testing.assert_frame_equal(comparisons.effects(runs), table, rtol=1e-9)
    for counts in ("miou", "tc_exact", "flicker"):
        plain, more = (comparisons.score_interval(some[:3], counts) for some in (records(), runs))
        assert more == pytest.approx(plain) and plain.low < plain.value < plain.high


def test_what_the_clips_of_a_record_are_other_clips_of():
    def of(*names):
        return comparisons.scope_of({"names": names})

    assert "of these 2 cities" in of("korvin_000000_000019", "korvin_000001_000019", "lystra_000000_000019")
    assert "of this one city" in of("frankfurt_000000_000294", "frankfurt_000000_000576")
    assert of("0016E5_07959+000", "0016E5_07959+017").startswith("The intervals speak of this one street")
    assert of("drive1", "drive2") == "", "each clip a place of its own"
