"""`tcseg adapt` as a whole: it helps, its weights work everywhere, and what cannot be is refused in a line."""

import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
from command import run
from test_frames import drive, refused, write_folder

import tcseg
from tcseg.adaptation import run as run_module
from tcseg.adaptation.run import COLUMNS, AdaptOptions, student_size
from tcseg.data.procity_clips import draw_clip
from tcseg.errors import CannotRunError, InputError, NotFoundError
from tcseg.evaluation.label_map_values import write_meta
from tcseg.labels import CITYSCAPES
from tcseg.models.registry import load_weights
from tcseg.procity import CITIES

SIZE = (128, 64)
QUICK = {"size": SIZE, "steps": 4, "film": False, "replay": False, "progress": False, "arch": "student", "held_out": 0.3}


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """A drawn drive through two streets, seen in negative by a strange camera, and a teacher that knows it: maps of the truth."""
    folder = tmp_path_factory.mktemp("adapt")
    clips = [draw_clip(CITIES["val"][0], seed, SIZE) for seed in (0, 0)]
    for place in ("drive", "maps/drive"):
        (folder / place).mkdir(parents=True)
    for part, clip in enumerate(clips):
        for t in range(clip.frames.shape[1]):
            name = f"{t if part == 0 else 59 - t:06}.png"  # there, and back again
            cv2.imwrite(str(folder / "drive" / name), 255 - clip.frames[0, t].transpose(1, 2, 0)[..., ::-1])
            cv2.imwrite(str(folder / "maps/drive" / name), clip.labels[0, t])
    write_meta(folder / "maps", CITYSCAPES.classes, "cityscapes")
    return folder


@pytest.fixture(scope="module")
def adapted(street):
    """A finished run of a few steps."""
    out = street / "out"
    return tcseg.adapt(street / "drive", f"maps:{street / 'maps'}", out / "mine", **QUICK | {"film": True}, labels=street / "maps")


def test_what_is_written(adapted, street):
    out = adapted.weights.parent
    assert {path.name for path in out.iterdir()} == {f"mine.{end}" for end in ("safetensors", "json", "md", "mp4", "work")}
    note = json.loads((out / "mine.json").read_text())
    assert note["teacher"]["source"] == f"maps:{street / 'maps'}" and note["licence"].startswith("as its teacher (not stated")
    assert "what it started from (MIT; student)" in note["licence"]
    assert note["dataset"] == "drive" and note["size"] == list(SIZE) and note["settings"]["steps"] == 4
    card = (out / "mine.md").read_text()
    for words in ("Agreement is not truth", "not stated", "| drive | 60 |", "Truth is by the labels `maps`", "mine.safetensors"):
        assert words in card
    assert list(adapted.table.columns) == list(COLUMNS) and adapted.table["stage"].tolist() == ["before", "after", "teacher"]
    teacher = adapted.scores["teacher"]
    assert teacher.miou.value > 0.5 > adapted.scores["before"].miou.value  # its maps are the truth, at stride 4 of few pixels
    film = cv2.VideoCapture(str(out / "mine.mp4"))
    ok, picture = film.read()
    assert ok and picture.shape == (64, 256, 3) and film.get(cv2.CAP_PROP_FRAME_COUNT) == 18


@pytest.mark.slow
def test_weights_work_everywhere(adapted, street, tmp_path):
    weights = adapted.weights
    said = run("segment", street / "drive", "--weights", weights, "--labels", tmp_path / "maps").output
    assert "128x64" in said and "trained at 128x64 on drive" in said and len(list((tmp_path / "maps").glob("*.png"))) == 60
    labels = cv2.imread(str(tmp_path / "maps/000003.png"), cv2.IMREAD_UNCHANGED)
    frame = cv2.imread(str(street / "drive/000003.png"))[..., ::-1]
    np.testing.assert_array_equal(tcseg.predict(weights, frame), labels)
    np.testing.assert_array_equal(tcseg.load_model(adapted.network).predict(frame), labels)
    assert tcseg.export(weights, tmp_path / "mine.onnx").agreement > 0.999
    table = tcseg.benchmark(weights, size=SIZE, frames=2, runtimes=["pytorch"], anyway=True, progress=False)
    assert (table["p50_ms"] > 0).all()


@pytest.mark.slow
def test_int8_of_adapted_weights(adapted, street, tmp_path):
    options = ("--precision", "int8", "--calibrate", street / "drive")
    said = run("export", tmp_path / "mine.onnx", "--weights", adapted.weights, *options,
               "--frames", street / "drive").output  # fmt: skip
    assert "int8" in said and (tmp_path / "mine.onnx").exists()
    run("segment", street / "drive", "--weights", adapted.weights, "--precision", "int8", "--runtime", "onnxruntime")


def test_what_binds_the_start_binds_the_student(street, tmp_path):
    """Both as a start and as a teacher, the students for real streets pass on that they are not for commercial use."""
    options = QUICK | {"arch": "student-street"}
    done = tcseg.adapt(street / "drive", "student-street-cpu", tmp_path / "mine", **options)
    note = json.loads(done.weights.with_suffix(".json").read_text())
    assert "clause 4" in note["start_licence"] and "clause 4" in note["teacher"]["licence"]
    assert note["licence"].count("no commercial use") == 2
    assert "clause 4" in tcseg.models.provenance.of(load_weights(done.weights))["licence"]


def test_a_student_can_be_adapted_again(adapted, street, tmp_path):
    options = {key: value for key, value in QUICK.items() if key != "arch"}
    again = tcseg.adapt(street / "drive", "student", tmp_path / "again", init=adapted.weights, **options)
    assert again.table["student"].tolist() == ["mine"] * 3 and again.table["teacher"].tolist() == ["student"] * 3


@pytest.mark.slow
def test_it_helps(adapted, street, tmp_path):
    """In negative the student is lost; four hundred steps later it answers as the teacher does, and as the truth is."""
    options = QUICK | {"steps": 400, "labels": street / "maps", "seed": 1}
    done = tcseg.adapt(street / "drive", f"maps:{street / 'maps'}", tmp_path / "mine", **options)
    before, after = done.scores["before"], done.scores["after"]
    assert before.agreement.value < 0.15 and after.agreement.value > 0.3 and after.miou.value > before.miou.value + 0.15
    assert after.agreement.low > before.agreement.high
    assert adapted.scores["after"].agreement.value < after.agreement.value, "after four steps"


def test_a_run_that_goes_on_asks_nothing_and_learns_nothing_twice(adapted, street, tmp_path, capfd):
    """With weights lost but the folder of work there, the same weights come out at once."""
    out = tmp_path / "out"
    shutil.copytree(adapted.weights.with_suffix(".work"), out / "mine.work")
    note = run_module._require_free(out / "mine.safetensors", out / "mine.work", True)
    note.touch()
    (out / "mine.md").write_text("written by the run that was killed")
    again = tcseg.adapt(street / "drive", f"maps:{street / 'maps'}", out / "mine", **QUICK | {"progress": True})
    text = capfd.readouterr().err
    assert "asking" not in text and "step 4: agreement" not in text
    for one, other in zip(again.network.state_dict().values(), load_weights(adapted.weights).state_dict().values()):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_rows_are_added_to_a_table(street, tmp_path):
    table = tmp_path / "t" / "adapt.csv"
    for seed in (0, 1):
        options = QUICK | {"seed": seed, "table": table, "work": tmp_path / "work", "score": [street / "drive"]}
        tcseg.adapt(street / "drive", f"maps:{street / 'maps'}", tmp_path / f"s{seed}", **options)
    rows = pd.read_csv(table)
    assert rows["seed"].tolist() == [0] * 3 + [1] * 3 and (rows["frames"] == 60).all() and rows["miou"].isna().all()
    assert rows.loc[rows["stage"] != "teacher", "agreement"].between(0, 1).all() and rows["flicker"].between(0, 1).all()


def test_minutes_are_made_steps_once(street, tmp_path):
    options = {key: value for key, value in QUICK.items() if key != "steps"} | {"minutes": 0.03, "work": tmp_path / "work"}
    tcseg.adapt(street / "drive", "student", tmp_path / "a", **options)
    path = next((tmp_path / "work").glob("steps-*.json"))
    steps = json.loads(path.read_text())["steps"]
    assert steps >= 10 and json.loads((tmp_path / "a.json").read_text())["settings"]["steps"] == steps


def test_the_size_that_a_student_sees():
    assert student_size((1280, 720), (1024, 512)) == (960, 544) and student_size((1280, 720), (1024, 512), (640, 352)) == (640, 352)
    assert student_size((480, 360), (1024, 512)) == (480, 352) and student_size((96, 48), (1024, 512)) == (512, 256)
    assert student_size((480, 360), (1024, 512), (512, 256)) == (416, 320)  # not squashed by a half
    assert student_size((2048, 1024), (1024, 512), (512, 256)) == (512, 256)


# ------------------------------------------------------------------------------------------------ what cannot be


def refuses(kind, words, videos, teacher, out, **options):
    with pytest.raises(kind) as error:
        tcseg.adapt(videos, teacher, out, **QUICK | options)
    refused(error, *words)


def test_what_cannot_be_is_said_before_any_work(street, tmp_path):
    drive, maps, out = street / "drive", f"maps:{street / 'maps'}", tmp_path / "x"
    (tmp_path / "there.safetensors").write_bytes(b"")
    refuses(InputError, ["exists", "--out"], drive, maps, tmp_path / "there")
    (tmp_path / "README.md").write_text("mine")
    refuses(InputError, ["README.md exists", "--out"], drive, maps, tmp_path / "README")
    assert (tmp_path / "README.md").read_text() == "mine" and not (tmp_path / "README.work").exists()
    refuses(InputError, ["table is", "folder"], drive, maps, out, table=tmp_path)
    refuses(InputError, ["per_second is 0"], drive, maps, out, per_second=0)
    refuses(InputError, ["no video"], [], maps, out)
    refuses(NotFoundError, ["nowhere.mp4", "does not exist"], tmp_path / "nowhere.mp4", maps, out)
    refuses(NotFoundError, ["no folder"], drive, f"maps:{tmp_path / 'none'}", out)
    refuses(NotFoundError, ["teacher is 'nobody'"], drive, "nobody", out)
    refuses(InputError, ["arch is 'large'", "student-cpu"], drive, maps, out, arch="large")
    refuses(InputError, ["not both"], drive, maps, out, minutes=1)
    refuses(InputError, ["held_out is 1"], drive, maps, out, held_out=1)
    refuses(InputError, ["multiples of 32"], drive, maps, out, size=(100, 64))
    refuses(InputError, ["no option 'stepps'"], drive, maps, out, stepps=3)
    refuses(NotFoundError, ["does not exist"], drive, maps, out, labels=tmp_path / "none")
    refuses(NotFoundError, ["does not exist"], drive, maps, out, score=[tmp_path / "none.mp4"])
    refuses(InputError, ["held out", "longer video"], drive, maps, out, held_out=0.05)
    assert not out.with_suffix(".safetensors").exists()


def test_a_damaged_video(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video at all")
    with pytest.raises((InputError, CannotRunError)) as error:
        tcseg.adapt(tmp_path / "bad.mp4", "student", tmp_path / "x", **QUICK)
    refused(error, "bad.mp4")


def test_a_teacher_with_other_classes(street, tmp_path):
    cats = tmp_path / "cats"
    shutil.copytree(street / "maps", cats)
    write_meta(cats, ["cat", "dog", *CITYSCAPES.classes[2:]], "pets")
    refuses(InputError, ["cat", "dog"], street / "drive", f"maps:{cats}", tmp_path / "x")


def test_too_few_frames_and_nothing_that_moves(tmp_path):
    write_folder(tmp_path / "short", drive(1, 9))
    refuses(InputError, ["9 frames", "longer video"], tmp_path / "short", "student", tmp_path / "x")
    write_folder(tmp_path / "still", drive(1, 1) * 60)
    refuses(InputError, ["nothing moves", "moving"], tmp_path / "still", "student", tmp_path / "x")


def test_two_at_work_in_one_folder(street, tmp_path):
    from tcseg.atomic_files import exclusive_lock

    with exclusive_lock(tmp_path / "work" / ".training-0.lock"):
        refuses(CannotRunError, ["in use"], street / "drive", "student", tmp_path / "x", work=tmp_path / "work")


def test_the_command_says_one_line(street, tmp_path):
    done = run("adapt", tmp_path / "no.mp4", "--teacher", "student", "--out", tmp_path / "x", code=2)
    assert done.output.startswith("error: ") and done.output.count("\n") == 1
    assert (
        "NAME=VALUE"
        in run("adapt", street / "drive", "--teacher", "student", "--out", tmp_path / "x", "--rename", "a", code=2).output
    )
    done = run("adapt", street / "drive", "--teacher", "student", "--out", tmp_path / "x", "--size", "128x64", "--steps", 2,
               "--arch", "student", "--no-replay", "--no-film", "--held-out", 0.3)  # fmt: skip
    assert "x.safetensors, x.json, x.md in" in done.output and (tmp_path / "x.safetensors").exists()


def test_options_have_defaults_that_fit():
    assert AdaptOptions().settings.steps == 2000 and AdaptOptions(replay=False).settings.replay == 0
