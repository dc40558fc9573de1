"""What README and report say in figures, from tables."""

import json
import re
from itertools import product

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_notebook

from tcseg.study.report import summary
from tcseg.study.runs import TRAINING_CODE, code_key


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


def test_provenance_tells_the_codes_that_made_the_rows(study, monkeypatch):
    """Five codes scored the committed rows, and nothing said so."""
    path = study / "notebooks" / "01_first.ipynb"
    path.write_text(path.read_text().replace('"train"', '"reference"'))
    text = summary.provenance(study)
    for code in ("f7ccc3ea29ce", "a758bc197b6f", "274ce2cba43f", "ca667b0bbf20", "caad094b286e"):
        assert re.search(rf"\| `0b5db49ea082` \| `{code}` \| \d+ \| 2026-11-\d\d \| 2026-11-\d\d \| label maps by ", text)
    assert f"5 codes of evaluation; today trains `{code_key(TRAINING_CODE)}` and scores `" in text
    assert text.index("f7ccc3ea29ce") < text.index("a758bc197b6f") < text.index("274ce2cba43f") < text.index("ca667b0bbf20")
    assert re.search(r"; (\d+) of \1 runs were not scored again by that\.$", text)
    record = {"evaluation_code": "0", "finished": "2026-01-02T03:04:05"}
    assert "| `not noted` | `0` | 1 | 2026-01-02 | 2026-01-02 | not noted |\n\n1 code of evaluation;" in summary.codes([record])
    assert summary.codes([]) == ""


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
