"""The chapters: titles, questions, and how long they take."""

import json
import re

import pandas as pd
import pytest

from tcseg.study.report import chapters


@pytest.fixture
def study(tmp_path):
    (tmp_path / "tables").mkdir()
    return tmp_path


def cells(markdown: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()]


def test_the_syllabus_has_each_chapters_question(study, monkeypatch):
    monkeypatch.setattr(chapters, "FIGURES", study / "none")
    rows = cells(chapters.syllabus(study))
    assert rows[0][:3] == ["chapter", "the question", "it makes"]
    lines = rows[2:]
    assert [row[0].split(" · ")[0] for row in lines] == [*"01234567"]
    assert all(row[1].endswith("?") and row[2] for row in lines) and re.fullmatch(
        r"1 table, 1\d figures", lines[1][2]
    )
    times = pd.DataFrame({"profile": ["smoke"], "notebook": ["01_explore_cityscapes"], "seconds": [90.0]})
    times.to_csv(study / "tables" / "notebooks.csv", index=False)
    heads, _, first, second, *_ = cells(chapters.syllabus(study))
    assert heads == ["chapter", "the question", "it makes", "smoke, min"]
    assert (first[3], second[3]) == ("–", "1.5")


def test_costs_are_those_of_the_cold_study(study, monkeypatch):
    monkeypatch.setattr(chapters, "titles", lambda: {"01_first": "First", "02": "Second"})
    times = {"profile": "smoke", "notebook": "01_first", "seconds": 90.0, "runs_trained": 3, "runs_loaded": 0}
    table = pd.DataFrame([times, times | {"notebook": "02", "seconds": 150.0}])
    table.to_csv(study / "tables" / "notebooks.csv", index=False)
    stamp = {"machine": {"cpu": "Z80", "cores": 1, "gpu": None}}
    noted = {"files": {"tables/notebooks.csv": {"procity-smoke": stamp}}, "disk_mb": {"procity-smoke": 12.4}}
    (study / "provenance.json").write_text(json.dumps(noted))
    assert chapters.costs(study) == {
        "smoke": {"seconds": 240.0, "chapter": {"01_first": 90.0, "02": 150.0}, "disk_mb": 12.4, "machine": "Z80, 1 cores"}
    }
    monkeypatch.setattr(chapters, "titles", lambda: {"01_first": "First", "02": "Second", "03": "Third"})
    assert chapters.costs(study)["smoke"]["seconds"] is None, "made in several sittings"
