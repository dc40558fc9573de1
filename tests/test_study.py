"""The study's front door: what it refuses, where it writes, how figures and tables are kept."""

import json
from dataclasses import asdict, fields

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from tcseg import procity
from tcseg import study as study_module
from tcseg.artefacts import write_json
from tcseg.runs import TRAINING_CODE, code_key
from tcseg.study import PROFILES, RECIPES, open_study


@pytest.fixture
def study(tmp_path):
    return open_study("procity", "smoke", notebook="05_ablations", folder=tmp_path / "study")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "kitti"}, "dataset is 'kitti'; it must be one of procity, camvid, cityscapes"),
        ({"profile": "huge"}, "profile is 'huge'; it must be one of smoke, laptop, full, bench"),
        ({"runs": "guess"}, "runs is 'guess'; it must be one of train, reference"),
        ({"notebook": "99_end"}, "notebook is '99_end'; it must be one of"),
    ],
)
def test_unknown_values_name_the_known(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        open_study(**options, folder=tmp_path)


@pytest.mark.parametrize("seeds", ["x", "0", "-1"])
def test_a_bad_number_of_seeds_is_named(seeds, monkeypatch, tmp_path):
    monkeypatch.setenv("TCSEG_SEEDS", seeds)
    with pytest.raises(ValueError, match=f"TCSEG_SEEDS is '{seeds}'; give the number of seeds"):
        open_study("procity", "smoke", folder=tmp_path)


def test_a_study_of_another_size_takes_no_rows_of_the_usual_one(monkeypatch, tmp_path):
    usual = open_study("procity", "laptop", "reference", folder=tmp_path)
    (row, *_) = usual.found("student")
    assert usual.run("student").record == row.record
    monkeypatch.setenv("TCSEG_SIZE", "512x256")
    other = open_study("procity", "laptop", "reference", folder=tmp_path)
    assert other.found("student") == []
    with pytest.raises(FileNotFoundError, match="no reference row for student seed 0 of procity-laptop at 512x256"):
        other.run("student")
    monkeypatch.setenv("TCSEG_SIZE", "480x352")  # fine for CamVid, not for procity's camera
    with pytest.raises(ValueError, match=r"multiples of 32 and W = 2 H: use size=\(\d+, \d+\)"):
        open_study("procity", "laptop", folder=tmp_path)


def test_runs_of_an_old_loss_are_not_found(study):
    name, old = "student", {"recipe_name": "student", "seed": 0, "dataset": "procity", "profile": "smoke"}
    old |= {"generator": procity.VERSION, "recipe": asdict(study.recipe(name)), "size": list(study.size)}
    for number, code in enumerate((code_key(TRAINING_CODE), "before", code_key(TRAINING_CODE))):
        record = old | {"run_id": f"{name}-s0-{number}", "training_code": code, "finished": f"2026-01-0{5 - number}"}
        write_json(study.runs_folder / record["run_id"] / "record.json", record)
    assert [run.id for run in study.found(name)] == [f"{name}-s0-0"], "the newest of today's code"


def test_missing_data_says_where_it_was_looked_for(tmp_path, data_root, monkeypatch, capsys):
    with pytest.raises(FileNotFoundError, match=r"TCSEG_DATA is not set and there is no folder .*camvid; .*data/README.md"):
        open_study("camvid", "smoke", folder=tmp_path)
    monkeypatch.setenv("TCSEG_DATA", f"{tmp_path}/absent")
    with pytest.raises(FileNotFoundError, match="absent does not exist"):
        open_study("camvid", "smoke", folder=tmp_path)
    (data_root / "camvid").mkdir()  # found, though not where it was meant to be
    study = open_study("camvid", "smoke", folder=tmp_path)
    assert "absent does not exist" in (said := capsys.readouterr().err) and str(data_root / "camvid") in said
    (data_root / "camvid").rmdir()
    with pytest.raises(FileNotFoundError, match="camvid is not there"):
        study.data_folder()


def test_the_banner_tells_a_part_from_the_whole(tmp_path, data_root):
    for name in ("train", "trainannot", "val", "valannot"):
        for number in range(3):
            path = data_root / "camvid" / name / f"s_{number:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.zeros((32, 64), np.uint8))
    study = open_study("camvid", "smoke", folder=tmp_path)
    text = study.banner().data
    assert "train: 3 of 367 frames" in text and "val: 3 of 101 frames" in text
    assert study.coverage("val").count == 3
    (data_root / "camvid/valannot/s_00001.png").unlink()
    assert "s_00001.png is missing (1 of 3 labels are)" in study.banner().data


def test_the_design_is_two_by_three():
    pairs = {(recipe.teacher, recipe.temporal > 0) for recipe in RECIPES.values()}
    assert len(RECIPES) == len(pairs) == 6
    assert (RECIPES["consistent"].teacher, RECIPES["consistent"].temporal > 0) == ("trajectory", True)
    # One thing at a time: recipes differ in nothing but name, teacher, and the temporal loss (its weight, and how that grows).
    for field in fields(RECIPES["student"]):
        if field.name not in ("name", "teacher", "temporal", "ramp"):
            assert len({getattr(recipe, field.name) for recipe in RECIPES.values()}) == 1


def test_profiles_scale_a_recipe_and_pair_the_seeds(study):
    recipe = study.recipe("consistent", 1)
    assert (recipe.steps, recipe.seed, recipe.batch) == (PROFILES["smoke"].student_steps, 1, PROFILES["smoke"].batch)
    assert study.recipe("teacher").arch == "teacher"
    assert set(study.seeds("kd")) <= set(study.seeds("student")) == set(study.seeds("consistent"))
    with pytest.raises(ValueError, match="recipe is 'distilled'; it must be one of teacher, student"):
        study.recipe("distilled")


def test_tables(study):
    table = pd.DataFrame({"recipe": ["student"], "miou": [0.5]})
    study.write_table("ablation", table)
    assert study.read_table("ablation").equals(table)
    assert not list(study.tables.glob("*.part"))
    with pytest.raises(FileNotFoundError, match="table latency.csv is not in .*run the notebook that writes it first"):
        study.read_table("latency")


def draw():
    figure, axes = plt.subplots()
    axes.plot([0, 1], [0, 1])
    return figure


def test_a_figure_is_kept_with_its_alt_text(study):
    study.figure("line", draw, alt="a rising line")
    assert (study.figures / "line.png").stat().st_size > 1000 and (study.figures / "line.svg").exists()
    assert json.loads((study.figures / "line.json").read_text())["alt"] == "a rising line"
    assert not plt.get_fignums()
    first = (study.figures / "line.svg").read_bytes()
    study.figure("line", draw, alt="a rising line")
    assert (study.figures / "line.svg").read_bytes() == first, "the same figure again is another file"


def test_reference_mode_shows_the_committed_figure(tmp_path, monkeypatch, study, capsys):
    def needs_weights():
        raise FileNotFoundError("no weights")

    with pytest.raises(FileNotFoundError, match="no weights"):  # nothing to fall back on in training
        study.figure("picture", needs_weights, alt="x")
    committed = tmp_path / "figures"
    committed.mkdir()
    (committed / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 40)
    monkeypatch.setattr(study_module, "FIGURES", committed)
    study.runs = "reference"
    monkeypatch.setattr(study_module, "Image", lambda *args, **kwargs: "shown")
    study.figure("picture", needs_weights, alt="x")
    assert (study.figures / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_banner_warns_of_smoke(study):
    text = study.banner().data
    assert "not** Cityscapes" in text and "numbers have no meaning" in text
