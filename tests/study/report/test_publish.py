"""From a finished study to the committed results: what is copied, merged, refused, and when it is stale."""

import json
import shutil
from dataclasses import asdict

import pandas as pd
import pytest

from tcseg import procity
from tcseg.models import registry
from tcseg.study.opening import open_study
from tcseg.study.report import publish
from tcseg.study.report.publish import PublishError, merge_rows, ship_students, stale

ROW = {"split": "val", "flow": "exact", "miou": 0.3, "tc": 0.7, "tc_ceiling": 0.9, "flicker": 0.04}


STUDENT, CONSISTENT, OLD, TEACHER = "student-s0-a", "consistent-s0-b", "student-s0-old", "teacher-s0-t"


@pytest.fixture
def study(tmp_path):
    """A finished study with two runs, one that its ablation no longer names, and a teacher."""
    opened = open_study("procity", "smoke", folder=tmp_path / "study")
    made_with = {"seed": 0, "dataset": "procity", "profile": "smoke", "generator": procity.VERSION, "size": [128, 64]}
    for run_id in (STUDENT, CONSISTENT, OLD, TEACHER):
        name = run_id.split("-")[0]
        recipe = {"recipe_name": name, "recipe": asdict(opened.recipe(name))}
        record = {"run_id": run_id, **recipe, **made_with, "metrics": {"miou": 0.3}}
        (opened.runs_folder / run_id).mkdir()
        (opened.runs_folder / run_id / "record.json").write_text(json.dumps(record, indent=1))
    rows = [
        {"dataset": "procity", "profile": "smoke", "recipe": run_id.split("-")[0], "seed": 0, **ROW, "run_id": run_id}
        for run_id in (STUDENT, CONSISTENT)
    ]
    opened.write_table("ablation", pd.DataFrame(rows))
    opened.write_table("notebooks", pd.DataFrame([{"profile": "smoke", "notebook": "01", "seconds": 1.0}]))
    for name, size in (("effects.png", 10), ("effects.svg", 10), ("clips.svg", 400_000), ("effects.json", 10)):
        (opened.figures / name).write_bytes(b"x" * size)
    return opened.folder


def committed(target):
    return sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())


def test_publishes_tables_figures_and_named_runs(study, tmp_path):
    target = tmp_path / "figures"
    publish.publish(study, "procity", "smoke", target=target)
    files = ["effects.json", "effects.png", "effects.svg", "provenance.json", "runs/consistent-s0-b.json"]
    files += ["runs/student-s0-a.json", "runs/teacher-s0-t.json", "tables/ablation.csv", "tables/notebooks.csv"]
    assert committed(target) == files
    noted = json.loads((target / "provenance.json").read_text())["files"]
    assert set(noted) == set(files) - {"provenance.json"}
    assert set(noted["effects.png"]["procity-smoke"]) == {"date", "git", "versions", "machine"}

    (study / "figures" / "effects.svg").unlink()  # what the study does not have any more goes
    publish.publish(study, "procity", "smoke", target=target)
    assert committed(target) == [name for name in files if name != "effects.svg"]


def test_rows_of_other_sittings_stay_as_long_as_a_table_names_them(study, tmp_path):
    target = tmp_path / "figures"
    publish.publish(study, "procity", "smoke", target=target)
    shutil.rmtree(study / "runs" / CONSISTENT)
    publish.publish(study, "procity", "smoke", target=target)
    assert f"runs/{CONSISTENT}.json" in committed(target), "ablation.csv still names it"
    table = pd.read_csv(study / "tables" / "ablation.csv")
    table[table["run_id"] != CONSISTENT].to_csv(study / "tables" / "ablation.csv", index=False)
    publish.publish(study, "procity", "smoke", target=target)
    assert f"runs/{CONSISTENT}.json" not in committed(target)


def test_pictures_of_real_data_stay_out(study, tmp_path):
    target = tmp_path / "figures"
    publish.publish(study, "camvid", "smoke", target=target)
    runs = [f"runs/{run_id}.json" for run_id in (CONSISTENT, STUDENT, TEACHER)]
    assert committed(target) == ["provenance.json", *runs, "tables/ablation.csv"]


def test_an_unfinished_study_and_a_large_file_are_refused(study, tmp_path):
    with pytest.raises(PublishError, match=r"holds no finished study .* make study DATASET=camvid PROFILE=full"):
        publish.publish(tmp_path / "nothing", "camvid", "full", target=tmp_path / "figures")
    assert [path.name for path in publish.left_out(study)] == ["clips.svg"]
    record = study / "runs" / STUDENT / "record.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"per_clip": "x" * 1_100_000}))
    with pytest.raises(PublishError, match="student-s0-a.json has 1.1 MB; committed files stay under 1 MB"):
        publish.publish(study, "procity", "smoke", target=tmp_path / "figures")


def test_a_sweep_leaves_its_rows_without_a_finished_study(study, tmp_path):
    target = tmp_path / "figures"
    publish.publish(study, "procity", "smoke", target=target)
    before = committed(target)
    shutil.copytree(study / "runs" / OLD, study / "runs" / "kd-s1-c")
    record = json.loads((study / "runs" / OLD / "record.json").read_text())
    opened = open_study("procity", "smoke", folder=study)
    kd = {"run_id": "kd-s1-c", "recipe_name": "kd", "seed": 1, "recipe": asdict(opened.recipe("kd", 1))}
    (study / "runs" / "kd-s1-c" / "record.json").write_text(json.dumps(record | kd))
    other = record | kd | {"run_id": "kd-s1-d", "recipe": kd["recipe"] | {"steps": 1}}
    (study / "runs" / "kd-s1-d").mkdir()
    (study / "runs" / "kd-s1-d" / "record.json").write_text(json.dumps(other))

    written = publish.publish_rows("procity", "smoke", study / "runs", target)
    names = sorted(path.relative_to(target).as_posix() for path in written)
    assert names == ["runs/kd-s1-c.json", f"runs/{OLD}.json"], (
        "a stale row stays out, what is there already is not written"
    )
    assert committed(target) == sorted([*before, *names]), "nothing else is touched"
    assert publish.publish_rows("procity", "smoke", study / "runs", target) == []
    assert publish.publish_rows("procity", "laptop", study / "runs", target) == []


def test_some_tables_and_figures_of_a_study_of_committed_rows(study, tmp_path):
    target = tmp_path / "figures"
    publish.publish(study, "procity", "smoke", target=target)
    before = committed(target)
    (study / "figures" / "effects.png").write_bytes(b"new")
    (study / "figures" / "clips.png").write_bytes(b"another chapter's")
    files = publish.publish_parts(study, {"effects", "ablation"}, "procity", "smoke", target)
    assert {path.name for path in files} == {"ablation.csv", "effects.json", "effects.png", "effects.svg"}
    assert (target / "effects.png").read_bytes() == b"new" and committed(target) == before

    (study / "tables" / "notebooks.csv").write_text("profile,notebook,seconds\nsmoke,00_start_here,9\n")
    (study / "checkpoint.pt").write_bytes(bytes(3_000_000))
    publish.publish_parts(study, {"notebooks"}, "procity", "smoke", target)
    noted = json.loads((target / "provenance.json").read_text())
    assert noted["disk_mb"]["procity-smoke"] >= 3, "a cold study's times come with the disk that it takes"


def test_rows_of_other_studies_stay():
    old = pd.DataFrame({"dataset": ["procity", "camvid"], "profile": ["laptop", "laptop"], "miou": [0.1, 0.2]})
    new = pd.DataFrame({"dataset": ["procity"], "profile": ["laptop"], "miou": [0.3]})
    merged = merge_rows(old, new)
    assert merged.values.tolist() == [["camvid", "laptop", 0.2], ["procity", "laptop", 0.3]]
    assert merge_rows(merged, new).equals(merged)
    without = pd.DataFrame({"class": ["road"], "share": [0.4]})
    assert merge_rows(without, without.assign(share=0.5))["share"].tolist() == [0.5]


def test_shipped_students_are_small_and_carry_their_record(study, tmp_path):
    for folder in ("student-s0-a", "consistent-s0-b"):
        registry.save_weights(registry.build("student", 19), study / "runs" / folder / "weights.safetensors")
    ship_students(study, tmp_path / "weights")
    assert committed(tmp_path / "weights") == [
        "student-consistent.json", "student-consistent.safetensors", "student.json", "student.safetensors",
    ]  # fmt: skip
    sidecar = json.loads((tmp_path / "weights" / "student-consistent.json").read_text())
    assert sidecar["run_id"] == "consistent-s0-b" and sidecar["metrics"] == {"miou": 0.3}
    assert (tmp_path / "weights" / "student.safetensors").stat().st_size < 1_000_000
    registry.load_weights(tmp_path / "weights" / "student.safetensors")


def test_stale_is_what_the_code_of_today_would_not_give(study, tmp_path, monkeypatch):
    target = tmp_path / "figures"
    publish.publish(study, "procity", "smoke", target=target)
    assert stale(target) == []

    monkeypatch.setattr(procity, "VERSION", "another")
    (line,) = stale(target)
    assert "made with procity" in line and "which is now another" in line
    assert line.endswith("make study reference DATASET=procity PROFILE=smoke")
    monkeypatch.undo()

    path = target / "runs" / "student-s0-a.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"recipe": record["recipe"] | {"temporal": 0.123}}))
    assert "student-s0-a: its recipe has changed (temporal)" in stale(target)[0]

    path.unlink()
    assert "student-s0-a: a row of ablation.csv without a record in runs/" in stale(target)[0]


def test_the_committed_results_are_current():
    assert stale() == []
