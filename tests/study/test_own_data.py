"""A study of a folder of one's own: three made-up classes from the folder to the sidecar of the weights."""

import json

import numpy as np
import pytest
from trees import own_tree

from tcseg.adaptation.learning.batches import Labelled, open_labelled, truth_of
from tcseg.adaptation.learning.material import Settings
from tcseg.data.class_tables import class_table
from tcseg.data.own import open_folder
from tcseg.deploy import description
from tcseg.errors import InputError, NoRowsError, TcsegError
from tcseg.labels import CITYSCAPES
from tcseg.models import registry
from tcseg.study import run_study
from tcseg.study.opening import open_study
from tcseg.study.paths import study_folder
from tcseg.study.report import results


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return own_tree(tmp_path_factory.mktemp("own") / "mine", clips=5, length=12, labelled=(3, 8), size=(160, 64))


@pytest.mark.slow
def test_a_study_of_three_classes_from_the_folder_to_the_sidecar(tree, tmp_path):
    study = open_study(str(tree), "smoke", folder=tmp_path / "study")
    assert (study.dataset, study.source, study.name) == ("mine", str(tree), "mine-smoke")
    assert study.size == (128, 64) and study.label_set.classes == ("road", "car", "rest")  # 128x64 pixels at 160:64
    assert "your own data, `mine`" in study.banner().data and study.coverage("train").count == 8
    assert study.clips("train").frames.shape[1:] == (3, 3, 64, 128) and len(study.clips("val")) == 1
    assert study.ceilings["tc"] == {"dis": None}
    run = study.run("student")
    assert run.record["dataset"] == "mine" and len(run.record["per_class"]["iou"]) == 3
    assert 0 < run.metrics["miou"] < 1 and run.metrics["flicker"] is None and 0 < run.metrics["tc"]["dis"] <= 1
    sidecar = json.loads((run.folder / "weights.json").read_text())
    assert sidecar["classes"] == ["road", "car", "rest"] and sidecar["colors"][0] == [90, 90, 90] and sidecar["dataset"] == "mine"
    assert str(tree) not in (run.folder / "weights.json").read_text()
    network = registry.load_weights(run.folder / "weights.safetensors")
    told = description.facts(network, description.Contents((128, 64)))
    assert json.loads(told["classes"]) == ["road", "car", "rest"] and json.loads(told["colors"])[0] == [90, 90, 90]
    assert told["trained_on"] == "mine"
    again = open_study(str(tree), "smoke", folder=tmp_path / "study")
    assert not again.run("student").trained_now and [one.seed for one in again.finished_runs("student")] == [0]
    records = [run.record | {"recipe_name": name} for name in ("student", "consistent")]
    assert set(results.per_class(records).index) <= {"road", "car", "rest"}


def test_names_of_studies_and_what_is_refused(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("TCSEG_STUDIES", str(tmp_path))
    assert study_folder(str(tree), "smoke") == tmp_path / "mine-smoke"
    other = own_tree(tmp_path / "elsewhere" / "mine", clips=2)
    assert open_study(str(tree), "smoke").folder == tmp_path / "mine-smoke"
    with pytest.raises(InputError, match=r"mine-smoke holds the study of .*, and .*elsewhere/mine has the same name; pass --out"):
        open_study(str(other), "smoke")
    with pytest.raises(NoRowsError, match="no reference rows for mine-laptop"):
        open_study(str(tree), "laptop", runs="reference", folder=tmp_path / "ref")
    (other / "classes.yaml").unlink()
    with pytest.raises(InputError, match="has no classes.yaml"):
        open_study(str(other), "smoke", folder=tmp_path / "third")
    assert not (tmp_path / "third").exists()
    monkeypatch.chdir(tree.parent)
    course = run_study.course_of("mine", "smoke")
    assert course.parameters["dataset"] == str(tree) and len(course.data) == 64
    assert run_study.reference("./mine") == 2 and run_study.rows(str(tree)) == 2


def test_the_size_follows_the_frames_unless_it_is_given(tmp_path, monkeypatch):
    tall = own_tree(tmp_path / "tall", clips=2, size=(64, 128))
    assert open_study(str(tall), "smoke", folder=tmp_path / "a").size == (64, 128)
    monkeypatch.setenv("TCSEG_SIZE", "128x64")
    assert open_study(str(tall), "smoke", folder=tmp_path / "b").size == (128, 64)


def test_labelled_frames_are_learned_from_and_measured_against(tree):
    folder = open_labelled(tree, class_table(str(tree / "classes.yaml")).label_set)
    replay = Labelled(Settings(crop=(96, 64), batch=3), folder)
    frames, labels = replay.draw(0)
    assert frames.shape == (3, 3, 64, 96) and labels.shape == (3, 64, 96) and set(np.unique(labels)) <= {0, 1, 2, 255}
    assert replay.frames.shape == (8, 3, 64, 160) and np.array_equal(replay.draw(0)[1], labels)
    assert Labelled(Settings(crop=(96, 64)), open_folder(tree)).key == replay.key
    with pytest.raises(TcsegError, match=r"has the classes road, car, rest, ... \(3\), the student those of cityscapes \(19\)"):
        open_labelled(tree, CITYSCAPES)
    assert truth_of(tree, "cityscapes") == (tree / "labels", str(tree / "classes.yaml"))
    assert truth_of(tree / "labels", "camvid") == (tree / "labels", "camvid")


@pytest.mark.slow
def test_pictures_alone_can_be_trained_on_and_chapters_on_video_say_so(tmp_path, capsys):
    tree = own_tree(tmp_path / "pictures", clips=3, length=4, labelled=None, size=(64, 32))
    (tree / "split.yaml").write_text("train: [c0, c1]\nval: [c2]\nstills: [c0, c1, c2]\n")
    assert run_study.run_study(str(tree), "smoke", out=tmp_path / "s") == 2
    told = capsys.readouterr().err
    assert "has pictures but no video for validation, and 04_temporal_consistency measures video: pass --notebook 3" in told
    study = open_study(str(tree), "smoke", folder=tmp_path / "study")
    assert study.clips("train").frames.shape[:2] == (8, 1) and study.clips("val").frames.shape[:2] == (3, 1)
    run = study.run("student+tl")  # the temporal loss sees moved pictures
    assert 0 < run.metrics["miou"] < 1 and run.metrics["tc"] == {} and run.metrics["flicker"] is None
