"""Answers on disk: asked once, whatever happens meanwhile; what decides them decides the folder."""

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_frames import drive, refused, video, write_folder

from tcseg.adaptation import store
from tcseg.adaptation.frames import Sampling, make_plan
from tcseg.adaptation.kinds.answers import Place
from tcseg.adaptation.store import collect, describe
from tcseg.adaptation.teachers import Teacher, open_teacher
from tcseg.atomic_files import exclusive_lock
from tcseg.errors import CannotRunError, CannotWriteError, InputError, NotFoundError
from tcseg.labels import own_classes

CLASSES = own_classes(["dark", "bright"])
SIZE = (96, 64)


class Brightness:
    """Says "bright" with as much confidence as a cell is bright; counts what it is asked, and may be killed."""

    classes, licence, seen, by_name = CLASSES.classes, "MIT", "sees all", False

    def __init__(self, key="b", dies_after=None):
        self.key, self.asked, self.dies_after = key, [], dies_after

    def require(self, places):
        pass

    def __call__(self, frame, grid, place):
        if len(self.asked) == self.dies_after:
            raise KeyboardInterrupt
        self.asked.append(place)
        bright = cv2.resize(frame, grid, interpolation=cv2.INTER_AREA).mean(2) / 255
        return np.stack((1 - bright, bright)).astype(np.float32)


def teacher_of(answers):
    return Teacher("brightness", "a formula", answers.licence, CLASSES, answers.key, answers, np.array([0, 1]))


def gather(source, folder, answers, size=SIZE, **options):
    return collect([source], teacher_of(answers), lambda frame: size, folder, progress=False, **options)[0]


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("videos") / "street", drive(1, 36) + drive(2, 9))


def test_what_is_stored_is_what_was_seen_and_said(street, tmp_path):
    answers = Brightness()
    targets = gather(street, tmp_path / "s", answers)
    assert len(targets) == 15 and len(answers.asked) == 45 and targets.missing() == []
    for index in (0, 7, 14):
        stored, one = targets[index], targets.plan.snippets[index]
        assert stored.frames.shape == (3, 64, 96, 3) and stored.probs.shape == (3, 2, 16, 24)
        assert stored.frames.dtype == stored.probs.dtype == np.uint8
        assert np.abs(stored.probs.sum(1, dtype=int) - 255).max() <= 1
        original = cv2.cvtColor(cv2.imread(str(street / f"f{one.first + 1:04}.png")), cv2.COLOR_BGR2RGB)
        np.testing.assert_array_equal(stored.frames[1], cv2.resize(original, SIZE, interpolation=cv2.INTER_AREA))
        bright = cv2.resize(original, (24, 16), interpolation=cv2.INTER_AREA).mean(2)
        assert np.abs(stored.probs[1, 1] - bright).max() <= 1
    assert answers.asked[:2] == [Place("street", "f0000"), Place("street", "f0001")]
    told = describe([targets])
    assert told["videos"] == 1 and told["frames"] == 45 and told["scenes"] == 2 and told["snippets"] == 15
    assert told["bytes"] == sum(path.stat().st_size for path in targets.folder.glob("*.zip")) > 0
    assert "MIT" in targets.teacher and '"licence": "MIT"' in (targets.folder / "about.json").read_text()


def test_nothing_is_asked_twice(street, tmp_path):
    gather(street, tmp_path / "s", Brightness())
    again = Brightness()
    assert len(gather(street, tmp_path / "s", again)) == 15 and again.asked == []
    moved = shutil.copytree(street, tmp_path / "elsewhere")  # the same video under another name
    assert len(gather(moved, tmp_path / "s", again)) == 15 and again.asked == []
    assert gather(moved, tmp_path / "s", again).plan.name == "elsewhere"


def test_a_video_is_read_once(street, tmp_path, monkeypatch):
    """For its cuts: afterwards the plan is there, and where all is answered nothing is decoded."""
    gather(street, tmp_path / "s", Brightness())
    monkeypatch.setattr("tcseg.adaptation.frames.open_source", lambda path: pytest.fail("read again"))
    assert gather(street, tmp_path / "s", Brightness()).missing() == []


@pytest.mark.parametrize("dies_after", [0, 1, 3, 22, 44])
def test_a_run_that_was_stopped_goes_on(street, tmp_path, dies_after):
    first = Brightness(dies_after=dies_after)
    with pytest.raises(KeyboardInterrupt):
        gather(street, tmp_path / "s", first)
    second = Brightness()
    targets = gather(street, tmp_path / "s", second)
    assert len(second.asked) == 45 - dies_after // 3 * 3
    whole = gather(street, tmp_path / "whole", Brightness())
    for index in range(15):
        np.testing.assert_array_equal(targets[index].probs, whole[index].probs)
        np.testing.assert_array_equal(targets[index].frames, whole[index].frames)


SCRIPT = """
import sys, time
sys.path[:0] = {path!r}
import test_store as t
class Slow(t.Brightness):
    def __call__(self, *args):
        time.sleep(0.03)
        return super().__call__(*args)
t.gather({street!r}, {folder!r}, Slow())
"""


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on(street, tmp_path):
    path = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    script = SCRIPT.format(path=path, street=str(street), folder=str(tmp_path / "s"))
    process = subprocess.Popen([sys.executable, "-c", script])
    while len(list((tmp_path / "s").glob("*/*.zip"))) < 3:
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = len(list((tmp_path / "s").glob("*/*.zip")))
    rest = Brightness()
    assert gather(street, tmp_path / "s", rest).missing() == [] and len(rest.asked) == 45 - 3 * there


def test_a_file_that_a_power_cut_left_empty_is_asked_anew(street, tmp_path):
    targets = gather(street, tmp_path / "s", Brightness())
    targets.file(4).write_bytes(b"")
    targets.file(5).write_bytes(targets.file(5).read_bytes()[:100])
    again = Brightness()
    gather(street, tmp_path / "s", again)
    assert len(again.asked) == 6 and len(targets[4].frames) == 3


def test_a_damaged_file_is_named(street, tmp_path):
    targets = gather(street, tmp_path / "s", Brightness())
    data = bytearray(targets.file(2).read_bytes())
    data[len(data) // 3] ^= 255
    targets.file(2).write_bytes(data)
    with pytest.raises(InputError) as error:
        targets[2]
    refused(error, "000002.zip", "remove it")
    with zipfile.ZipFile(targets.file(2), "w") as archive:
        archive.writestr("other", "x")
    with pytest.raises(InputError) as error:
        targets[2]
    refused(error, "000002.zip")
    with pytest.raises(IndexError):
        targets[15]


def test_what_decides_the_answers_decides_the_folder(street, tmp_path):
    usual = gather(street, tmp_path / "s", Brightness()).folder
    others = [
        gather(street, tmp_path / "s", Brightness("c")).folder,
        gather(street, tmp_path / "s", Brightness(), size=(64, 64)).folder,
        gather(street, tmp_path / "s", Brightness(), sampling=Sampling(neighbours=0)).folder,
        gather(street, tmp_path / "s", Brightness(), sampling=Sampling(at_least=11)).folder,
    ]
    changed = shutil.copytree(street, tmp_path / "street")
    cv2.imwrite(str(changed / "f0003.png"), np.zeros((96, 160, 3), np.uint8))
    others.append(gather(changed, tmp_path / "s", Brightness()).folder)
    assert len({usual, *others}) == 6


def test_several_videos_of_several_sizes(street, tmp_path):
    tall = write_folder(tmp_path / "tall", [frame.transpose(1, 0, 2) for frame in drive(3, 30)])
    answers = Brightness()
    size_of = lambda frame: (96, 64) if frame[0] > frame[1] else (64, 96)  # noqa: E731
    found = collect([street, tall], teacher_of(answers), size_of, tmp_path / "s", progress=False)
    assert [one.size for one in found] == [(96, 64), (64, 96)] and [len(one) for one in found] == [15, 10]
    assert found[1][0].frames.shape == (3, 96, 64, 3) and describe(found)["snippets"] == 25


def test_the_end_of_the_video_is_held_out(street, tmp_path):
    targets = gather(street, tmp_path / "s", Brightness())
    learned, kept = targets.split()
    first = [one.first for one in targets.plan.snippets]
    assert set(learned).isdisjoint(kept) and len(kept) == 3 and len(learned) == 12
    assert max(first[index] + 3 for index in learned) <= 36 <= min(first[index] for index in kept)


def test_progress_tells_the_time_left(street, tmp_path, capfd):
    with pytest.raises(KeyboardInterrupt):
        gather(street, tmp_path / "s", Brightness(dies_after=21))
    collect([street], teacher_of(Brightness()), lambda frame: SIZE, tmp_path / "s")
    told = capfd.readouterr().err
    assert "asking brightness" in told and "45/45" in told and "21/45" in told and "<" in told


# ------------------------------------------------------------------------------------------------ what is refused before work


def test_the_same_video_twice(street, tmp_path):
    copy = shutil.copytree(street, tmp_path / "copy")
    with pytest.raises(InputError) as error:
        collect([street, copy], teacher_of(Brightness()), lambda frame: SIZE, tmp_path / "s", progress=False)
    refused(error, "street", "copy", "same video")


def test_too_few_frames(tmp_path):
    answers = Brightness()
    with pytest.raises(InputError) as error:
        gather(write_folder(tmp_path / "short", drive(1, 20)), tmp_path / "s", answers)
    refused(error, "short", "20 frames", "6 moments", "at least 10")
    assert answers.asked == []


def test_a_still_camera_without_motion(tmp_path):
    with pytest.raises(InputError) as error:
        gather(write_folder(tmp_path / "wall", drive(1, 1) * 60), tmp_path / "s", Brightness())
    refused(error, "nothing moves in wall", "of 20 moments", "1 differ")


def test_no_disk(street, tmp_path, monkeypatch):
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 10**12, 100_200_000))
    answers = Brightness()
    with pytest.raises(CannotWriteError) as error:
        gather(street, tmp_path / "s", answers)
    refused(error, "15 snippets", "MB free")
    assert answers.asked == []


def test_the_disk_fills_up_meanwhile(street, tmp_path, monkeypatch):
    real, written = store._write, []

    def full(path, stored):
        if len(written) == 4:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        written.append(path)
        real(path, stored)

    monkeypatch.setattr(store, "_write", full)
    with pytest.raises(CannotWriteError) as error:
        gather(street, tmp_path / "s", Brightness())
    refused(error, "no space left", "what is finished is kept")
    assert not list((tmp_path / "s").glob("*/.*"))
    monkeypatch.setattr(store, "_write", real)
    rest = Brightness()
    gather(street, tmp_path / "s", rest)
    assert len(rest.asked) == 45 - 12


@pytest.mark.skipif(os.name != "posix", reason="nothing is held elsewhere")
def test_one_run_at_a_time(street, tmp_path):
    with exclusive_lock(tmp_path / "s" / ".lock"), pytest.raises(CannotRunError) as error:
        gather(street, tmp_path / "s", Brightness())
    refused(error, "in use by another run")


def test_a_folder_that_is_a_file(street, tmp_path):
    (tmp_path / "s").write_text("x")
    with pytest.raises(CannotWriteError) as error:
        gather(street, tmp_path / "s", Brightness())
    refused(error, "another folder")


@pytest.mark.parametrize("size", [(100, 64), (0, 64), (96, 16)])
def test_the_students_size_is_in_steps(street, tmp_path, size):
    with pytest.raises(InputError) as error:
        gather(street, tmp_path / "s", Brightness(), size=size)
    refused(error, "multiples of 32")


def test_estimated_disk_is_enough_for_a_real_road(tmp_path):
    targets = gather(video("highway_1280x720.mp4"), tmp_path / "s", Brightness(), size=(640, 352))
    largest = max(path.stat().st_size for path in targets.folder.glob("*.zip"))
    assert targets.bytes_each(2) / 2 < largest <= targets.bytes_each(2)


# ------------------------------------------------------------------------------------------------ with stored maps


def test_maps_are_found_by_the_videos_name(street, tmp_path):
    for index in range(45):
        path = tmp_path / "maps" / "labels" / "street" / f"f{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((96, 160), index % 2, np.uint8))
    teacher = open_teacher(f"maps:{tmp_path / 'maps'}", CLASSES)
    (targets,) = collect([street], teacher, lambda frame: SIZE, tmp_path / "s", progress=False)
    first = targets.plan.snippets[3].first
    for t in range(3):
        assert (targets[3].probs[t, (first + t) % 2] == 255).all()
    renamed = shutil.copytree(street, tmp_path / "other")
    with pytest.raises(NotFoundError) as error:
        collect([renamed], teacher, lambda frame: SIZE, tmp_path / "s", progress=False)
    refused(error, "'other'", "street")
    (tmp_path / "maps" / "labels" / "street" / "f0007.png").unlink()
    with pytest.raises(NotFoundError) as error:
        collect(
            [street],
            open_teacher(f"maps:{tmp_path / 'maps'}", CLASSES),
            lambda frame: SIZE,
            tmp_path / "t",
            progress=False,
        )
    refused(error, "lacks 1 of the 45", "f0007")
    assert len(make_plan(street, "street").snippets) == 15
