"""What README and report say in figures, from tables."""

import json
import re
from itertools import product

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_notebook

from tcseg import summary


@pytest.fixture
def study(tmp_path):
    rows = [
        {
            "dataset": dataset,
            "profile": "smoke",
            "recipe": recipe,
            "seed": seed,
            "flow": flow,
            "miou": 0.3 + 0.02 * seed,
            "tc": 0.7 if flow == "exact" else 0.6,
            "tc_ceiling": 0.95,
            "flicker": None,
            "pixel_accuracy": 0.8,
        }
        for dataset, recipe, seed, flow in product(
            ("procity", "camvid"), ("student", "student+tl"), (0, 1), ("exact", "dis")
        )
    ]
    (tmp_path / "tables").mkdir()
    pd.DataFrame(rows).to_csv(tmp_path / "tables" / "ablation.csv", index=False)
    metadata = {"papermill": {"parameters": {"dataset": "procity", "profile": "smoke", "runs": "train"}}}
    (tmp_path / "notebooks").mkdir()
    nbformat.write(new_notebook(metadata=metadata), tmp_path / "notebooks" / "01_first.ipynb")
    return tmp_path


def test_result_table(study):
    assert summary.result_table(study).splitlines() == [
        "| recipe | seeds | mIoU % | TC %, exact flow | TC %, DIS flow |",
        "|---|--:|--:|--:|--:|",
        "| student | 2 | 31.0<br>(30.0–32.0) | 70.0<br>(70.0–70.0) | 60.0<br>(60.0–60.0) |",
        "| student+tl | 2 | 31.0<br>(30.0–32.0) | 70.0<br>(70.0–70.0) | 60.0<br>(60.0–60.0) |",
        "| *true labels: the ceiling of TC* | | – | 95.0 | 95.0 |",
    ]
    assert summary.result_table(study, "cityscapes", "full") == "No ablation has been run yet."


def test_named_values(study):
    values = summary.values(study)
    assert values["student_tl_tc_exact"] == "70.0" and values["student_miou"] == "31.0"
    assert values["profile"] == "smoke" and "student_flicker" not in values


def test_banner_warns_of_smoke_only(study):
    assert ":::{warning}" in summary.banner(study) and "**its numbers have no meaning.**" in summary.banner(study)
    path = study / "notebooks" / "01_first.ipynb"
    path.write_text(path.read_text().replace('"smoke"', '"laptop"').replace('"train"', '"reference"'))
    assert "no meaning" not in summary.banner(study) and "committed reference rows" in summary.banner(study)


def test_course_map_has_measured_times(study, monkeypatch):
    monkeypatch.setattr(summary, "FIGURES", study / "none")
    titles = {"01_first": "1 · First", "02_second": "2 · Second"}
    assert summary.course_map(study, titles).splitlines()[2] == "| [1 · First](01_first.ipynb) |"
    times = pd.DataFrame({"profile": ["smoke"], "notebook": ["01_first"], "seconds": [90.0]})
    times.to_csv(study / "tables" / "notebooks.csv", index=False)
    assert summary.course_map(study, titles).splitlines() == [
        "| chapter | smoke, min |",
        "|---|--:|",
        "| [1 · First](01_first.ipynb) | 1.5 |",
        "| [2 · Second](02_second.ipynb) | – |",
        "| all | – |",
    ], "what all take is not known as long as one is not"


def test_the_syllabus_has_each_chapters_question(study, monkeypatch):
    monkeypatch.setattr(summary, "FIGURES", study / "none")
    rows = [line.strip("| ").split(" | ") for line in summary.syllabus(study).splitlines()]
    assert rows[0][:3] == ["chapter", "the question", "it leaves"]
    chapters = rows[2:]
    assert [row[0].split(" · ")[0] for row in chapters] == [*"01234567"]
    assert all(row[1].endswith("?") and row[2] for row in chapters) and re.fullmatch(
        r"1 table, 1\d figures", chapters[1][2]
    )
    times = pd.DataFrame({"profile": ["smoke"], "notebook": ["01_explore_cityscapes"], "seconds": [90.0]})
    times.to_csv(study / "tables" / "notebooks.csv", index=False)
    heads, _, first, second, *_ = summary.syllabus(study).splitlines()
    assert heads.startswith("| chapter | the question | it leaves | smoke, min |")
    assert [line.strip("| ").split(" | ")[3] for line in (first, second)] == ["–", "1.5"]


def test_provenance_of_reference_pages_is_the_reference_run(study, monkeypatch):
    assert "| version: torch | " in summary.provenance(study)
    made = {"finished": "2026-01-01", "git": {"sha": "0123456789ab", "dirty": False}, "versions": {}, "machine": {}}
    (study / "runs" / "x-s0-1").mkdir(parents=True)
    (study / "runs" / "x-s0-1" / "record.json").write_text(json.dumps(made))
    pd.DataFrame({"run_id": [None, "x-s0-1"]}).to_csv(study / "tables" / "ablation.csv", index=False)
    assert "| results of | 2026-01-01 |" in summary.provenance(study), "not of the moment when the page is made"
    git = {"sha": "abcdef0123456789", "dirty": True}
    stamp = {"date": "2026-01-02", "git": git, "versions": {"torch": "9.9"}, "machine": {"cpu": "Z80"}}
    (study / "provenance.json").write_text(json.dumps({"files": {"tables/ablation.csv": {"procity-smoke": stamp}}}))
    monkeypatch.setattr(summary, "FIGURES", study)
    path = study / "notebooks" / "01_first.ipynb"
    path.write_text(path.read_text().replace('"train"', '"reference"'))
    text = summary.provenance(study)
    for row in (
        "results of | 2026-01-02",
        "commit | abcdef012345 with local changes",
        "machine: cpu | Z80",
        "version: torch | 9.9",
    ):
        assert f"| {row} |" in text


def test_effects_have_intervals_p_and_what_is_detectable():
    row = {"comparison": "consistent_vs_student", "metric": "flicker_relative", "difference": -0.123}
    row |= {"ci_low": -0.2, "ci_high": 0.01, "seeds": 3, "p_holm": 0.0004, "mdd": 0.055}
    row |= {"seed_difference": -0.12, "seed_low": None, "seed_high": None}
    lone = row | {"metric": "miou", "ci_low": None, "ci_high": None, "p_holm": None, "mdd": None}
    table = pd.DataFrame([row, lone, row | {"metric": "tc_dis"}, row | {"comparison": "kd_vs_student"}])
    head, _, *lines = summary.effects_table(table).splitlines()
    assert "over 3 seeds, 95 %" in head
    assert lines == [
        "| flicker, % | −12.3 (−20.0 to +1.0) | −12.0 | < 0.001 | 5.5 |",
        "| mIoU, points | −12.3 | −12.0 | – | – |",
    ]
    alone = pd.DataFrame([row | {"seeds": 1}])
    assert summary.effects_table(alone).splitlines()[2] == (
        "| flicker, % | −12.3 (−20.0 to +1.0) over clips alone | – | – | – |"
    ), "one seed gives no test"
    assert summary.effects_table(table.iloc[3:]) == "" == summary.effects_table(pd.DataFrame())
    longer = pd.concat(
        [table, pd.DataFrame([row | {"comparison": "consistent_vs_student_4x", "difference": -0.1, "seeds": 2}])]
    )
    assert (
        summary.last_doubling(pd.DataFrame()) == "" == summary.both_longer(table) == summary.both_longer(pd.DataFrame())
    )
    both = table.iloc[:2].assign(comparison="consistent_4x_vs_student_4x")
    assert summary.both_longer(both).startswith("Both trained for four times the steps: mIoU ")
    gains = {"student,steps=4x_vs_student,steps=2x": 0.017, "student,steps=8x_vs_student,steps=4x": 0.001}
    gains |= {"consistent,steps=4x_vs_student,steps=4x": 0.3, "student,steps=0.5x_vs_student": 0.3}
    changes = [(name, "miou", gain, gain - 0.01, gain + 0.01, 3) for name, gain in gains.items()]
    changes = pd.DataFrame(changes, columns=["comparison", "metric", "difference", "ci_low", "ci_high", "seeds"])
    assert "to 8 times as many, gains +0.1 (−0.9 to +1.1) points of mIoU (3 seeds): less than the 0.5 by" in (
        summary.last_doubling(changes)
    )
    assert (
        "to 4 times as many, gains +1.7" in (told := summary.last_doubling(changes.iloc[[0, 2]])) and "not less" in told
    )
    assert summary.effects_table(longer).splitlines()[4:] == [
        "",
        "| against a student of | as many steps (3 seeds) | four times the steps (2 seeds) |",
        "|---|--:|--:|",
        "| flicker, % | −12.3 (−20.0 to +1.0) | −10.0 (−20.0 to +1.0) |",
    ]


def test_latency_is_each_networks_fastest_way(tmp_path):
    (tmp_path / "tables").mkdir()
    assert summary.latency_table(tmp_path) == "No latency has been measured yet."
    same = {"machine": "CPU", "threads": 2, "width": 1024, "height": 512, "gflop": 1.5}
    rows = [
        {"arch": "fast-scnn", "peer": True, "best": "a fp32", "best_ms": 40.0, **same},
        {"arch": "patch16-32-o8", "peer": False, "best": "b int8", "best_ms": 4.0, **same},
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "tables" / "speeds.csv", index=False)
    lines = summary.latency_table(tmp_path).splitlines()
    assert lines[2:4] == [
        "| `student-cpu` | b int8 | 4.0 | 250 | 1.50 |",
        "| `fast-scnn` (peer) | a fp32 | 40.0 | 25 | 1.50 |",
    ]
    assert lines[-1] == "1024x512, CPU, 2 threads, batch 1."


# ------------------------------------------------------------------------------------------------ differences in words


@pytest.mark.parametrize(
    ("comparison", "words"),
    [
        ("consistent_vs_student", "consistent − student"),
        ("consistent_2x_vs_student_2x", "consistent 2x − student 2x"),
        ("kd,method=cwd,distillation=3_vs_kd", "kd: method=cwd, distillation=3"),
        ("kd,steps=2x_vs_student,steps=2x", "steps=2x: kd − student"),
        ("student,steps=4x_vs_student,steps=2x", "student: steps=4x − steps=2x"),
        ("student_vs_student,steps=0.5x", "student: as it is − steps=0.5x"),
        ("consistent,temporal=6_vs_student", "consistent, temporal=6 − student"),
        ("kd+tl,form=soft_tc,temporal=3,gap=2_vs_kd+tl", "kd+tl: form=soft_tc, temporal=3, gap=2"),
    ],
)
def test_a_comparison_is_said_once_for_what_both_sides_share(comparison, words):
    assert summary.in_words(comparison) == words


def test_differences_stand_in_order_with_intervals_and_dashes():
    rows = [("b_vs_a", "miou", 0.012, -0.003, 0.027, 0.2, 3), ("b_vs_a", "tc", 0.1, None, None, None, 3)]
    rows.append(("a_vs_0", "miou", -0.5, -0.6, -0.4, 0.01, 1))
    table = pd.DataFrame(rows, columns=["comparison", "metric", "difference", "ci_low", "ci_high", "p_holm", "seeds"])
    found = summary.intervals(table, {"miou": "mIoU", "tc": "TC", "flicker": "flicker"})
    assert found.loc["b − a"].tolist() == [3, "+1.2 (−0.3 to +2.7)", "+10.0", "–"]
    assert found.loc["a − 0"].tolist() == [1, "−50.0 (−60.0 to −40.0) *", "–", "–"]
    assert found.index.tolist() == ["b − a", "a − 0"]
    assert summary.intervals(pd.DataFrame()).empty
