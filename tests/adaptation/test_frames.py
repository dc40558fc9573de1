"""Which frames are asked about: cuts, spacing, what stands still, and one reading of the video."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcseg.adaptation import frames as module
from tcseg.adaptation.frames import (
    Plan,
    Sampling,
    Snippet,
    choose,
    content_of,
    find_scenes,
    make_plan,
    named,
    plan_key,
    read_snippets,
)
from tcseg.data.folders import find_dataset, variable_folder
from tcseg.errors import InputError, NotFoundError, TcsegError


def panorama(seed, width=640, height=96):
    """A smooth wide picture with detail, uint8 RGB."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(
        rng.uniform(0, 255, (6, 20, 3)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    fine = cv2.resize(
        rng.normal(0, 25, (48, 160, 3)).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR
    )
    return np.clip(coarse + fine, 0, 255).astype(np.uint8)


def drive(seed, count, step=2, width=160):
    """A camera that pans over a panorama, `step` pixels a frame."""
    wide = panorama(seed, width + step * count)
    return [wide[:, step * t : step * t + width] for t in range(count)]


def write_folder(folder, frames, first=0):
    folder.mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"f{first + index:04}.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    return folder


def refused(error, *words):
    text = str(error.value)
    assert isinstance(error.value, TcsegError) and "\n" not in text, text
    assert all(word in text for word in words), text


# ------------------------------------------------------------------------------------------------ scenes


def test_scenes_end_at_cuts_and_nowhere_else():
    stretches = [drive(1, 12), drive(2, 7), drive(3, 1), drive(4, 9, step=5)]
    assert find_scenes(iter(sum(stretches, []))) == ((0, 12), (12, 19), (19, 20), (20, 29))
    assert find_scenes(iter([])) == ()


def test_a_dark_film_has_cuts_too():
    dark = [(frame // 12).astype(np.uint8) for frame in drive(1, 8) + drive(2, 8)]
    assert find_scenes(iter(dark)) == ((0, 8), (8, 16))


def test_a_brighter_exposure_alone_is_no_cut():
    frames = drive(1, 6)
    frames[3:] = [np.clip(frame.astype(int) + 10, 0, 255).astype(np.uint8) for frame in frames[3:]]
    assert find_scenes(iter(frames)) == ((0, 6),)


# ------------------------------------------------------------------------------------------------ choosing


SCENES = st.lists(st.integers(1, 400), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(SCENES, st.floats(1, 60), st.floats(0.2, 10), st.integers(0, 3), st.integers(1, 300))
def test_snippets_lie_within_scenes_and_do_not_overlap(lengths, fps, per_second, neighbours, at_least):
    ends = np.cumsum(lengths)
    scenes = [(int(stop - length), int(stop)) for stop, length in zip(ends, lengths)]
    sampling = Sampling(per_second, neighbours, at_least)
    length = sampling.length if fps >= module.STILLS else 1
    chosen = choose(scenes, fps, sampling)
    assert {one.scene for one in chosen} == set(range(len(scenes)))  # each scene is asked about
    for one in chosen:
        start, stop = scenes[one.scene]
        assert start <= one.first and one.first + one.length <= stop
        assert one.length == (length if stop - start >= length else 1)
    for one, after in zip(chosen, chosen[1:]):
        assert one.first + one.length <= after.first


def test_two_a_second_of_a_long_video():
    chosen = choose([(0, 18000)], 30, Sampling())
    assert len(chosen) == 1200 and {b.first - a.first for a, b in zip(chosen, chosen[1:])} == {15}
    assert {one.length for one in chosen} == {3}


def test_a_short_video_is_taken_more_densely():
    assert len(choose([(0, 700)], 25, Sampling())) == 233  # side by side
    assert len(choose([(0, 700)], 25, Sampling(at_least=20))) == 59  # every twelfth frame


def test_stills_are_all_taken_alone():
    assert choose([(0, 4)], 1.0, Sampling()) == [Snippet(at, 1, 0) for at in range(4)]


@pytest.mark.parametrize(
    "wrong", [{"per_second": 0}, {"per_second": float("nan")}, {"neighbours": -1}, {"at_least": 0}]
)
def test_a_sampling_that_cannot_be(wrong):
    with pytest.raises(InputError) as error:
        Sampling(**wrong)
    refused(error, next(iter(wrong)))


# ------------------------------------------------------------------------------------------------ the plan


def test_a_plan_of_a_folder_and_back(tmp_path):
    folder = write_folder(tmp_path / "street", drive(1, 20) + drive(2, 13))
    plan = make_plan(folder, "street", Sampling(neighbours=1))
    assert plan.scenes == ((0, 20), (20, 33)) and plan.frames == 33 and plan.size == (160, 96) and plan.fps == 17
    assert len(plan.snippets) == 6 + 4 and plan.still == 0
    assert plan.names[:2] == ("f0000", "f0001") and plan.places([0])[0] == (
        "street",
        plan.frame_name(plan.snippets[0].first),
    )
    assert len(plan.places()) == 30
    plan.write(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json") == plan
    (tmp_path / "plan.json").write_text("{")
    assert Plan.read(tmp_path / "plan.json") is None and Plan.read(tmp_path / "absent") is None


def test_what_stands_still_is_asked_once(tmp_path):
    """A red light: noise of the sensor is no motion, a car that passes is."""
    rng = np.random.default_rng(0)
    moving, still = drive(1, 15), [drive(1, 15)[-1]] * 15
    noisy = [np.clip(frame + rng.normal(0, 3, frame.shape), 0, 255).astype(np.uint8) for frame in moving + still]
    passing = [frame.copy() for frame in noisy[-1:] * 6]
    for t, frame in enumerate(passing):
        frame[40:60, 20 * t : 20 * t + 24] = (250, 0, 0)
    plan = make_plan(write_folder(tmp_path / "light", noisy + passing), "light")
    middles = [one.first + 1 for one in plan.snippets]
    assert plan.still == 4 and sum(15 <= middle < 30 for middle in middles) == 1
    assert sum(middle >= 30 for middle in middles) == 2


def test_frames_of_snippets_are_the_videos_own(tmp_path):
    frames = drive(1, 30)
    plan = make_plan(write_folder(tmp_path / "a", frames), "a")
    seen = dict(read_snippets(plan, range(len(plan.snippets))))
    assert list(seen) == list(range(10))
    for index, one in enumerate(plan.snippets):
        np.testing.assert_array_equal(seen[index], frames[one.first : one.first + one.length])
    assert [index for index, _ in read_snippets(plan, [7, 2])] == [2, 7] and list(read_snippets(plan, [])) == []


def test_a_video_that_became_shorter_is_told(tmp_path):
    folder = write_folder(tmp_path / "a", drive(1, 30))
    plan = make_plan(folder, "a")
    for path in sorted(folder.iterdir())[20:]:
        path.unlink()
    with pytest.raises(InputError) as error:
        list(read_snippets(plan, [9]))
    refused(error, "20 frames", "had 30", "changed")


def test_a_video_file(tmp_path):
    path = tmp_path / "drive.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30, (160, 96))
    for frame in drive(1, 40):
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    plan = make_plan(path, "drive", fps=None)
    assert plan.frames == 40 and plan.fps == pytest.approx(30) and plan.names is None and plan.frame_name(7) == "000007"
    assert len(plan.snippets) == 13 and all(len(frames) == 3 for _, frames in read_snippets(plan, [0, 12]))


def test_a_plans_key_and_a_videos_content(tmp_path):
    one, same = (write_folder(tmp_path / name, drive(1, 3)) for name in ("one", "same"))
    other = write_folder(tmp_path / "other", drive(2, 3))
    (one / ".DS_Store").write_text("x")
    (one / "notes.txt").write_text("x")
    assert content_of(one) == content_of(same) != content_of(other)
    usual = plan_key("c", Sampling(), None)
    assert (
        len({usual, plan_key("d", Sampling(), None), plan_key("c", Sampling(3), None), plan_key("c", Sampling(), 5.0)})
        == 4
    )


# ------------------------------------------------------------------------------------------------ sources


def test_names_of_sources(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for at in ("a/drive.mp4", "b/drive.mp4", "night.v2.avi"):
        (tmp_path / at).write_bytes(b"x")
    assert named([tmp_path / "a/drive.mp4", tmp_path / "night.v2.avi"]) == ["drive", "night.v2"]
    assert named([tmp_path / "a/drive.mp4", tmp_path / "b/drive.mp4", tmp_path / "a"]) == ["a/drive", "b/drive", "a"]


@pytest.mark.parametrize(
    ("sources", "kind", "words"),
    [
        ([], InputError, ("no video",)),
        (["absent.mp4"], NotFoundError, ("absent.mp4", "does not exist")),
        (["0"], InputError, ("record",)),
        (["rtsp://camera/1"], InputError, ("as it comes",)),
        (["drive/%04d.png"], InputError, ("folder of pictures",)),
        (["x.mp4", "./x.mp4"], InputError, ("twice",)),
    ],
)
def test_sources_that_cannot_be(sources, kind, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x.mp4").write_bytes(b"x")
    with pytest.raises(kind) as error:
        named(sources)
    refused(error, *words)


def test_videos_that_cannot_be_read(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for name in ("empty.mp4", "folder", "absent"):
        with pytest.raises(TcsegError) as error:
            make_plan(tmp_path / name, name)
        refused(error, name)
    folder = write_folder(tmp_path / "ok", drive(1, 3))
    for fps in (0, -1, float("nan")):
        with pytest.raises(InputError) as error:
            make_plan(folder, "ok", fps=fps)
        refused(error, "fps")


# ------------------------------------------------------------------------------------------------ real roads


def video(name):
    given = variable_folder()
    path = given.folder / "videos" / name if given else None
    if path is None or not path.is_file():
        pytest.skip(f"no videos/{name} in $TCSEG_DATA")
    return path


def test_a_real_drive_has_no_cut():
    plan = make_plan(video("highway_1280x720.mp4"), "highway")
    assert plan.frames == 38 and plan.scenes == ((0, 38),) and len(plan.snippets) == 12 and plan.still == 0


@pytest.mark.slow
def test_consecutive_frames_of_camvid_are_one_scene_and_its_stills_are_many():
    camvid = find_dataset("camvid")
    if camvid is None:
        pytest.skip("no camvid")
    val, train = make_plan(camvid / "val", "val"), make_plan(camvid / "train", "train")
    assert len(val.scenes) == 1 and len(val.snippets) == 33
    assert len(train.scenes) > 100 and len(train.snippets) > 150


def test_a_cut_between_real_scenes(tmp_path):
    frames = []
    for name in ("highway_1280x720.mp4", "fixed_camera_cars.mp4"):
        capture = cv2.VideoCapture(str(video(name)))
        frames += [cv2.resize(capture.read()[1], (160, 90), interpolation=cv2.INTER_AREA) for _ in range(6)]
        capture.release()
    assert find_scenes(iter(frames)) == ((0, 6), (6, 12))
