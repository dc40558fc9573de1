"""What made each committed file, and whether the same came out."""

import json

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_notebook

from tcseg.study.paths import FIGURES
from tcseg.study.reference_rows import compare
from tcseg.study.report import reproduction
from tcseg.study.report.documents import reproduced


def record(seed, miou, finished, threads=1):
    metrics = {"miou": miou, "flicker": 0.05, "tc": {"dis": 0.7}}
    return {
        "dataset": "procity",
        "profile": "laptop",
        "recipe_name": "student",
        "seed": seed,
        "run_id": f"student-s{seed}-code",
        "finished": finished,
        "machine": {"cpu": "Z80"},
        "cost": {"threads": threads},
        "metrics": metrics,
    }


def test_a_study_is_compared_with_the_committed_rows_to_the_last_digit(tmp_path):
    ours = [record(0, 0.4, "then"), record(1, 0.4, "then"), record(2, 0.4, "then")]
    theirs = [record(0, 0.4, "now"), record(1, 0.41, "now", 2), record(2, 0.4, "then"), record(3, 0.4, "now")]
    ours.append(record(4, 0.4, "then"))
    theirs.append(record(4, 0.5, "now") | {"run_id": "student-s4-other"})  # of another code, or of larger frames
    (tmp_path / "figures" / "runs").mkdir(parents=True)
    for one in ours:
        (tmp_path / "figures" / "runs" / f"student-s{one['seed']}.json").write_text(json.dumps(one))
    for one in theirs:
        folder = tmp_path / "study" / "runs" / f"student-s{one['seed']}"
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(one))
    table = compare(tmp_path / "study", tmp_path / "figures")
    assert table["seed"].tolist() == [0, 1], "not with itself, with what is not committed, or with another run id"
    assert table["equal"].tolist() == [True, False]
    assert reproduced(table) == (
        "1 of 2 networks trained on Z80 score exactly as the committed ones. The largest difference in mIoU is 1.0 points "
        "(student, seed 1: 2 threads here; 1 threads of Z80 for the committed one)."
    )
    assert reproduced(table[table["equal"]]) == "1 of 1 networks trained on Z80 score exactly as the committed ones."
    both = pd.concat([table, table.assign(machine="6502", equal=True)])
    assert reproduced(both).endswith("2 of 2 networks trained on 6502 score exactly as the committed ones.")
    assert reproduced(compare(tmp_path, tmp_path / "figures")) == ""


# ------------------------------------------------------------------------------------------------ what made each file


@pytest.fixture
def study(tmp_path):
    (tmp_path / "tables").mkdir()
    return tmp_path


def executed(study, runs: str) -> None:
    """A notebook as papermill leaves it."""
    metadata = {"papermill": {"parameters": {"dataset": "procity", "profile": "smoke", "runs": runs}}}
    (study / "notebooks").mkdir(exist_ok=True)
    nbformat.write(new_notebook(metadata=metadata), study / "notebooks" / "01_first.ipynb")


def test_each_file_is_ascribed_to_the_command_that_makes_it():
    assert reproduction.command_of("procity-laptop") == "make study reference DATASET=procity PROFILE=laptop"
    assert reproduction.command_of("camvid-laptop") == "make sweeps rows DATASET=camvid PROFILE=laptop"
    assert reproduction.command_of("measure flow") == "tcseg measure flow"
    noted = json.loads((FIGURES / "provenance.json").read_text())["files"]
    files = set(reproduction.made_by(FIGURES)["file"])
    assert "tables/ablation.csv" in files and {name for name in noted if name.endswith(".png")} <= files


def test_the_stamp_of_reference_pages_is_that_of_the_reference_run(study, monkeypatch):
    executed(study, "train")
    assert reproduction.stamp(study)["versions"]["torch"]
    made = {"finished": "2026-01-01", "git": {"sha": "0123456789ab", "dirty": False}, "versions": {}, "machine": {}}
    (study / "runs" / "x-s0-1").mkdir(parents=True)
    (study / "runs" / "x-s0-1" / "record.json").write_text(json.dumps(made))
    pd.DataFrame({"run_id": [None, "x-s0-1"]}).to_csv(study / "tables" / "ablation.csv", index=False)
    assert reproduction.stamp(study)["date"] == "2026-01-01", "not of the moment when the page is made"
    stamp = {"date": "2026-01-02", "git": {"sha": "abc", "dirty": True}, "versions": {"torch": "9.9"}, "machine": {}}
    (study / "provenance.json").write_text(json.dumps({"files": {"tables/ablation.csv": {"procity-smoke": stamp}}}))
    monkeypatch.setattr(reproduction, "FIGURES", study)
    executed(study, "reference")
    assert reproduction.stamp(study) == stamp | {"records": []}


def test_the_codes_that_made_the_rows_are_told():
    records = [json.loads(path.read_text()) for path in sorted((FIGURES / "runs").glob("*.json"))]
    found = reproduction.codes(records)
    assert {"f7ccc3ea29ce", "a758bc197b6f", "274ce2cba43f", "ca667b0bbf20", "caad094b286e"} <= set(found["evaluation"])
    assert found["min"].is_monotonic_increasing and found["size"].sum() == len(records)
    assert found["differs"].str.startswith("label maps by ").sum() >= 5
    assert found["today"].tolist() == [code == reproduction.today()[1] for code in found["evaluation"]]
    record = {"evaluation_code": "0", "finished": "2026-01-02T03:04:05"}
    row = reproduction.codes([record]).iloc[0]
    assert [row[name] for name in ("training", "evaluation", "size", "min", "differs")] == [
        "not noted", "0", 1, "2026-01-02", "not noted",
    ]  # fmt: skip
    assert reproduction.codes([]).empty
