"""The study's front door: what it refuses, where it writes, how figures and tables are kept."""

import itertools
import json
import re
from dataclasses import asdict, fields

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from tcseg import procity
from tcseg.atomic_files import write_json
from tcseg.data.own import lookup
from tcseg.errors import NotCommittedError
from tcseg.models import registry
from tcseg.study import opening, reference_rows, run_ids
from tcseg.study import runs as run_store
from tcseg.study import study as study_module
from tcseg.study.notebooks import banners, outputs
from tcseg.study.opening import open_rows, open_study
from tcseg.study.paths import NOTEBOOKS
from tcseg.study.recipes import PROFILES, RECIPES
from tcseg.study.run_ids import training_code


@pytest.fixture
def study(tmp_path):
    return open_study("procity", "smoke", notebook="04_temporal_consistency", folder=tmp_path / "study")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "kitti"}, "dataset is 'kitti'; it must be one of procity, camvid, cityscapes"),
        ({"profile": "huge"}, "profile is 'huge'; it must be one of smoke, laptop, full, bench"),
        ({"runs": "guess"}, "runs is 'guess'; it must be one of train, reference"),
        ({"notebook": "99_end"}, "notebook is '99_end'; it must be one of"),
        (
            {"profile": "bench", "notebook": "05_ablations"},
            "profile is 'bench'; it must be one of smoke, laptop, full$",
        ),
        ({"profile": "Laptop"}, "profile is 'Laptop'; it must be one of smoke, laptop, full, bench"),
        ({"runs": ["train"]}, r"runs is \['train'\]; it must be one of"),
        ({"profile": None}, "profile is None; it must be one of"),
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
    (row, *_) = usual.finished_runs("student")
    assert usual.run("student").record == row.record
    monkeypatch.setenv("TCSEG_SIZE", "512x256")
    assert open_study("procity", "laptop", folder=tmp_path).finished_runs("student") == []
    with pytest.raises(ValueError, match="of frames of 512x256: those committed are of 256x128; unset TCSEG_SIZE"):
        open_study("procity", "laptop", "reference", folder=tmp_path)
    monkeypatch.setenv("TCSEG_SIZE", "480x352")  # fine for CamVid, not for procity's camera
    with pytest.raises(
        ValueError, match=r"TCSEG_SIZE: .* multiples of 32 and W = 2 H: use size=\(\d+, \d+\), or unset it"
    ):
        open_study("procity", "laptop", folder=tmp_path)


def test_runs_of_an_old_loss_are_not_found(study):
    name, old = "student", {"recipe_name": "student", "seed": 0, "dataset": "procity", "profile": "smoke"}
    old |= {"generator": procity.VERSION, "recipe": asdict(study.recipe(name)), "size": list(study.size)}
    today = training_code(old["recipe"])
    for number, code in enumerate((today, "before", today)):
        record = old | {"run_id": f"{name}-s0-{number}", "training_code": code, "finished": f"2026-01-0{5 - number}"}
        write_json(study.runs_folder / record["run_id"] / "record.json", record)
    assert [run.id for run in study.finished_runs(name)] == [f"{name}-s0-0"], "the newest of today's code"


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
    with pytest.raises(FileNotFoundError, match="the data set camvid was not found"):
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


@pytest.fixture
def committed(tmp_path, monkeypatch):
    """A folder of committed results with one figure and one table, both of procity-laptop alone."""
    folder = tmp_path / "figures"
    (folder / "tables").mkdir(parents=True)
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 40)
    rows = [("procity", "laptop", 1), ("camvid", "laptop", 2), ("procity", "bench", 3)]
    pd.DataFrame(rows, columns=["dataset", "profile", "miou"]).to_csv(folder / "tables" / "scores.csv", index=False)
    files = {"picture.png": {"procity-laptop": {}}, "tables/scores.csv": {"procity-laptop": {}, "camvid-laptop": {}}}
    write_json(folder / "provenance.json", {"files": files})
    monkeypatch.setattr(reference_rows, "FIGURES", folder)
    return folder


def needs_weights():
    raise NotCommittedError("kd-s0 is a committed row without weights")


def test_reference_mode_shows_the_committed_figure_of_this_study_alone(committed, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(outputs, "display", said.append)
    study = open_rows("procity", "laptop", tmp_path / "procity")
    study.figure("picture", needs_weights, alt="x")
    assert (study.figures / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert said.pop().data.startswith("<p") and said.pop().data.startswith(b"\x89PNG"), "the caption stands beneath"
    assert "Figure from the reference run" in said.pop().data

    other = open_rows("camvid", "laptop", tmp_path / "camvid")  # whose committed figure there is none
    other.figure("picture", needs_weights, alt="x")
    assert said.pop().data == "*Not shown: kd-s0 is a committed row without weights.*" and said == []
    assert not (other.figures / "picture.png").exists()


def test_what_else_goes_wrong_in_a_figure_is_no_want_of_weights(committed, tmp_path, study):
    def broken():
        raise FileNotFoundError("frame 7 is missing")

    with pytest.raises(FileNotFoundError, match="frame 7"):  # a fault, not a row without weights
        open_rows("procity", "laptop", tmp_path / "procity").figure("picture", broken, alt="x")
    with pytest.raises(NotCommittedError):  # nothing to fall back on in training
        study.figure("picture", needs_weights, alt="x")


def test_a_committed_table_is_read_as_far_as_it_is_of_the_study(committed, tmp_path):
    for dataset, miou in (("procity", 1), ("camvid", 2)):
        study = open_rows(dataset, "laptop", tmp_path / dataset)
        assert study.read_table("scores")["miou"].tolist() == [miou]
    with pytest.raises(FileNotFoundError, match=r"table scores\.csv is not in"):
        open_rows("procity", "bench", tmp_path / "bench").read_table("scores")


def test_banner_warns_of_smoke(study):
    text = study.banner().data
    assert "not** Cityscapes" in text and "numbers have no meaning" in text


def test_the_chapters_that_show_the_shipped_students_say_so(tmp_path):
    """Their numbers are those of the students that ship, whatever the parameters: no banner may call them meaningless."""
    for notebook in banners.SHOW_SHIPPED:
        told = {
            open_study("procity", profile, runs, notebook, folder=tmp_path).banner().data.split("<details>")[0]
            for profile, runs in (("smoke", "train"), ("laptop", "reference"))
        }
        assert len(told) == 1
        (text,) = told
        assert "no meaning" not in text and "CamVid" not in text
        assert ("nothing is trained here" in text) == (not notebook.startswith("07"))
        for name in registry.SHIPPED:
            notes = registry.shipped_notes(name)
            assert f"`{notes['recipe']}`, trained on procity at 256x128" in text
            assert f"{100 * notes['metrics']['miou']:.1f} %" in text
    assert set(banners.SHOW_SHIPPED) < set(NOTEBOOKS)


# ------------------------------------------------------------------------------------------------ what cannot be


def test_each_chapter_says_what_it_needs_of_the_committed_results():
    assert tuple(reference_rows.NEEDS) == tuple(NOTEBOOKS)
    for notebook, need in reference_rows.NEEDS.items():
        assert set(need.rows) <= {"teacher", *RECIPES} and set(need.weights) <= set(need.rows), notebook


def settings_of(way, asked):
    """The parameters that an advice such as "use profile='laptop' and unset TCSEG_SIZE" leaves of those that were asked for."""
    changed = dict(re.findall(r"(dataset|profile|runs)='(\w+)'", way))
    dropped = {name.lower(): None for name in re.findall(r"TCSEG_(SIZE|SEEDS)", way)}
    assert changed or dropped, f"no advice in {way!r}"
    return asked | changed | dropped


@pytest.fixture
def try_open(tmp_path, monkeypatch):
    """Open a study with what is asked for; (study, "") or (None, the message)."""
    rows = reference_rows.committed_rows()  # read once: there are hundreds
    monkeypatch.setattr(reference_rows, "committed_rows", lambda: rows)

    def opens(asked):
        for name in ("size", "seeds"):
            if asked[name]:
                monkeypatch.setenv(f"TCSEG_{name.upper()}", asked[name])
            else:
                monkeypatch.delenv(f"TCSEG_{name.upper()}", raising=False)
        try:
            given = (asked[name] for name in ("dataset", "profile", "runs", "notebook"))
            return open_study(*given, folder=tmp_path / asked["runs"]), ""
        except (ValueError, FileNotFoundError) as error:
            return None, str(error)

    return opens


SITES = [(), ("camvid",), ("camvid", "cityscapes")]
SLOW = [(chapter, site) for chapter in ("03_distill_student", "05_ablations") for site in SITES]
QUICK = [(chapter, site) for chapter in (None, "00_start_here") for site in SITES] + SLOW[1:2]


@pytest.mark.parametrize(
    ("notebook", "here"),
    [*QUICK, *(pytest.param(*one, marks=pytest.mark.slow) for one in SLOW if one not in QUICK)],
    ids=lambda value: "+".join(value) or "no-data" if isinstance(value, tuple) else str(value),
)
def test_a_study_is_whole_or_refused_with_advice_that_works(notebook, here, try_open, monkeypatch, tmp_path):
    for module, name in ((opening, "find_dataset"), (lookup, "find_root"), (reference_rows, "find_root")):
        monkeypatch.setattr(module, name, lambda dataset: tmp_path if dataset in here else None)
    values = itertools.product(
        ("procity", "camvid", "cityscapes"),
        PROFILES if notebook is None else reference_rows.STUDIES,
        ("train", "reference"),
        (None, "256x128", "512x256"),
        (None, "6"),
    )
    for dataset, profile, runs, size, seeds in values:
        asked = {
            "dataset": dataset,
            "profile": profile,
            "runs": runs,
            "size": size,
            "seeds": seeds,
            "notebook": notebook,
        }
        study, said = try_open(asked)
        if study is None:
            check_refusal(said, asked, try_open)
        elif runs == "reference":
            check_whole(study, notebook)


def check_refusal(said, asked, try_open):
    assert "\n" not in said and len(said) < 400
    if asked["runs"] == "reference":
        assert "runs is 'reference', but " in said and asked["dataset"] in said, said
        for way in said.rsplit("; ", 1)[1].split(", or "):
            study, again = try_open(settings_of(way, asked))
            assert study is not None, f"{asked}: {said!r} is answered with {again!r}"
    elif "controls.csv" in said:
        assert "run 04_temporal_consistency first" in said
        if "or use" in said:
            assert try_open(asked | {"runs": "reference"})[0] is not None, said
    else:
        assert said.startswith(f"the data set {asked['dataset']} was not found: ") and "procity needs no download" in said
        study, again = try_open(settings_of("dataset='procity'", asked))
        assert study is not None or "controls.csv" in again, again


def check_whole(study, notebook):
    need = reference_rows.NEEDS[notebook] if notebook else reference_rows.ROWS_ALONE
    for name in need.rows:
        seeds = study.seeds(name) if need.every_seed and name != "teacher" else (0,)
        assert [study.run(name, seed).seed for seed in seeds] == list(seeds)
    assert all(study.run(name).weights.exists() for name in need.weights)
    assert all(len(study.read_table(name)) for name in need.tables)


def test_without_a_clone_there_are_no_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(reference_rows, "FIGURES", tmp_path / "none")
    with pytest.raises(ValueError, match=r"procity-laptop are committed \(there are: none\); runs='train'$"):
        open_study("procity", "laptop", "reference", folder=tmp_path)
    monkeypatch.setattr(reference_rows, "has_data", lambda dataset: False)
    with pytest.raises(ValueError, match="run from a clone of the repository, which has figures/runs$"):
        open_study("procity", "laptop", "reference", "05_ablations", folder=tmp_path)


def test_a_chapter_that_reads_an_earlier_one_asks_for_it_before_it_trains(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no tables/controls\.csv; run 04_temporal_consistency first, with the same"
    ):
        open_study("procity", "smoke", "train", "05_ablations", folder=tmp_path)
    (tmp_path / "tables").mkdir(exist_ok=True)
    (tmp_path / "tables" / "controls.csv").write_text("control,miou\n")
    assert open_study("procity", "smoke", "train", "05_ablations", folder=tmp_path).notebook == "05_ablations"


def test_recipes_that_are_compared_come_from_one_training_code(study, monkeypatch):
    """While rows are made again, those of the code before stand as long as there are more of them."""
    monkeypatch.setattr(run_ids, "EARLIER", {run_ids.code_key(run_ids.TRAINING_CODE): {"before": "another loss"}})
    monkeypatch.setattr(study_module, "FIGURES", study.folder / "no figures")

    def add(name, seed, code):
        recipe = asdict(study.recipe(name, seed))
        record = {"run_id": f"{name}-s{seed}-{code or 'today'}", "recipe_name": name, "seed": seed, "recipe": recipe}
        record |= {"training_code": code or run_ids.training_code(recipe), "generator": procity.VERSION, "finished": "2026"}
        record |= {"dataset": "procity", "profile": "smoke", "size": list(study.size)}
        write_json(study.runs_folder / record["run_id"] / "record.json", record)

    def found(name, *codes):
        return [run.id.rsplit("-", 1)[1] for run in study.finished_runs(name, *codes)]

    for name, seed in (("kd", 0), ("kd", 1), ("consistent", 0), ("kd,steps=2x", 0)):
        add(name, seed, "before")
    for seed in range(2):
        add("kd", seed, None)
    assert found("kd") == ["before", "before"] and found("consistent") == ["before"], "three of before, two of today"
    assert found("kd", [None]) == ["today", "today"], "what is missing of today's is asked for by name"
    add("consistent", 0, None)
    assert found("kd") == ["today", "today"] and found("consistent") == ["today"], "of as many, today's"
    assert found("kd,steps=2x") == ["before"], "a variation stands for itself"
    for path in study.runs_folder.glob("*/record.json"):
        record = json.loads(path.read_text())
        (study.folder / f"{record['run_id']}.json").write_text(json.dumps(record))
    rows = run_store.find_reference(study.folder, "procity", "smoke")
    assert sorted(run.id for run in rows) == ["consistent-s0-today", "kd,steps=2x-s0-before", "kd-s0-today", "kd-s1-today"]
    (study.folder / "consistent-s0-today.json").unlink()
    rows = run_store.find_reference(study.folder, "procity", "smoke")
    assert {run.id.rsplit("-", 1)[1] for run in rows} == {"before"}
