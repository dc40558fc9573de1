"""The model card: committed as made, and made from records and tables alone."""

import json
import re
import shutil

import pandas as pd
import pytest

from tcseg.models import registry
from tcseg.study.paths import FIGURES
from tcseg.study.report import model_card


def test_the_committed_card_is_what_the_records_say():
    committed = (FIGURES.parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert committed == model_card.card(), "run: make reference (or make rows)"


def test_a_page_of_the_report_can_show_its_sections():
    for text in model_card.sections().values():
        assert text and not re.search(r"^#|\]\(", text, re.MULTILINE), (
            "no headings, no links: they belong to another page"
        )


def test_its_numbers_are_those_of_sidecars_and_tables(tmp_path):
    for name in (*registry.SHIPPED, registry.FAST):
        run_id = registry.shipped_notes(name)["run_id"]
        record = json.loads((FIGURES / "runs" / f"{run_id}.json").read_text())
        record["per_class"]["iou"] = [0.1 * (k % 9) for k in range(18)] + [None]
        (tmp_path / "runs").mkdir(exist_ok=True)
        (tmp_path / "runs" / f"{run_id}.json").write_text(json.dumps(record))
    made = model_card.sections(tmp_path)
    assert made["On a real street"].startswith("Not measured yet") and made["How fast"].startswith("Not measured yet")
    classes = made["Class by class"].splitlines()[2:]
    assert classes[0].endswith("| 80.0 | 80.0 |") and classes[-1] == "| bicycle | – | – |"
    scores = registry.shipped_notes("student")["metrics"]
    assert f"| flicker, % | {100 * scores['flicker']:.1f} |" in made["How good they are on drawn streets"]

    shutil.copytree(FIGURES / "tables", tmp_path / "tables")
    latency = pd.read_csv(tmp_path / "tables" / "latency.csv")
    latency.assign(p50_ms=4.5, p99_ms=6.5, fps=222).to_csv(tmp_path / "tables" / "latency.csv", index=False)
    assert "| 4.5 | 6.5 | 222 |" in model_card.sections(tmp_path)["How fast"]


def test_weights_without_their_record_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="published together: make reference"):
        model_card.card(tmp_path)


def test_only_students_that_ship_have_notes():
    assert registry.shipped_notes("student")["recipe"] == "student"
    with pytest.raises(ValueError, match="shipped model is 'teacher'; it must be one of student, student-consistent"):
        registry.shipped_notes("teacher")
