"""Which files belong together, what is a neighbour, and what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tcseg.errors import TcsegError
from tcseg.evaluation.label_map_layouts import Matched, Pacing, find_clips

PIXELS = cv2.imencode(".png", np.zeros((4, 8), np.uint8))[1].tobytes()


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PIXELS)
    return folder


def matched(tmp_path: Path, names: list[str], layout: str, labels: list[str] | None = None, **pacing) -> Matched:
    """Frames and predictions of these names, and labels of those."""
    folders = [put(tmp_path / kind, *names) for kind in ("predictions", "frames")]
    truth = put(tmp_path / "labels", *labels) if labels is not None else None
    return find_clips(*folders, truth, layout, pacing=Pacing(**pacing))


def lengths(found: Matched) -> dict[str, int]:
    return {clip.name: len(clip.frames) for clip in found.clips}


# ------------------------------------------------------------------------------------------------ neighbours


def test_a_jump_against_the_usual_step_begins_a_clip(tmp_path):
    names = [f"drive/{number:04}.png" for number in (*range(0, 20, 2), *range(40, 50, 2))]
    found = matched(tmp_path, names, "folder")
    assert lengths(found) == {"drive+0": 10, "drive+40": 5}
    assert "2 numbers apart" in found.notes[0]


def test_camvid_s_stills_are_not_compared_over_time(tmp_path):
    names = [f"0016E5_{number:05}.png" for number in range(0, 300, 30)]
    found = matched(tmp_path, names, "camvid")
    assert all(clip.stills for clip in found.clips) and "1 s at CamVid's 30 frames per second" in found.notes[0]
    video = matched(tmp_path / "b", [f"0016E5_{number:05}.png" for number in range(0, 20, 2)], "camvid")
    assert [clip.stills for clip in video.clips] == [False]


def test_stills_and_a_video_in_one_folder_are_told_apart_by_their_names(tmp_path):
    names = [f"0001TP_{n:06}.png" for n in range(0, 300, 30)] + [f"0016E5_{n:05}.png" for n in range(0, 40, 2)]
    found = {clip.name: clip.stills for clip in matched(tmp_path, names, "folder").clips}
    assert found == {"0001TP": True, "0016E5": False}


@pytest.mark.parametrize(("step", "stills"), [(1, False), (5, False), (6, True), (30, True), (33_333_333, False)])
def test_what_is_far_apart_is_taken_for_stills(tmp_path, step, stills):
    """... but for numbers that can only be times."""
    found = matched(tmp_path, [f"{number * step:012}.png" for number in range(6)], "folder")
    assert [clip.stills for clip in found.clips] == [stills]


def test_the_user_decides(tmp_path):
    names = [f"{number:05}.png" for number in range(0, 300, 30)]
    assert all(clip.stills for clip in matched(tmp_path, names, "folder").clips)
    for pacing in ({"step": 30}, {"fps": 1.0}):
        (clip,) = matched(tmp_path, names, "folder", **pacing).clips
        assert not clip.stills and len(clip.frames) == 10
    assert len(matched(tmp_path, names, "folder", step=60).clips) == 10
    (clip,) = matched(tmp_path, names, "folder", stills=True).clips
    assert clip.stills
    with pytest.raises(TcsegError, match="--stills means that no frames are neighbours"):
        Pacing(stills=True, step=2)


def test_cityscapes_numbers_are_neighbours_by_one(tmp_path):
    names = [f"ulm/ulm_000000_{n:06}_leftImg8bit.png" for n in (0, 1, 2, 4, 5, 300)]
    found = matched(tmp_path, names, "cityscapes")
    assert lengths(found) == {"ulm_000000_000000": 3, "ulm_000000_000004": 2, "ulm_000000_000300": 1}
    assert {clip.city for clip in found.clips} == {"ulm"}
    assert lengths(matched(tmp_path, names, "cityscapes", step=2)) != lengths(found)


# ------------------------------------------------------------------------------------------------ names


def test_names_that_differ_in_leading_zeros_are_not_mixed(tmp_path):
    with pytest.raises(TcsegError, match="have the same frame number; if they belong to two clips"):
        matched(tmp_path, ["a/1.png", "a/01.png", "a/2.png", "a/02.png"], "folder")


@pytest.mark.parametrize("layout", ["folder", "camvid"])
def test_every_clip_has_a_name_of_its_own_and_every_frame_is_in_one(tmp_path, layout):
    names = [f"{folder}cam{cam}_{n:03}{end}.png" for folder in ("a1/", "a01/", "") for cam in ("1", "01") for n in range(4)
             for end in ("", "_left")]  # fmt: skip
    found = matched(tmp_path, names, layout)
    files = [path for clip in found.clips for path in clip.frames]
    assert len(files) == len(set(files)) == len(names)
    assert len({clip.name for clip in found.clips}) == len(found.clips) == 12
    for clip in found.clips:
        assert len({(path.parent, path.name.split("_")[0]) for path in clip.frames}) == 1
        assert [p.name for p in clip.frames] == [p.name for p in clip.predictions] == sorted(p.name for p in clip.frames)


@pytest.mark.parametrize(
    "pattern", ["a_000000_{:06}_leftImg8bit", "{:04}", "frame{}", "2024-07-01_{:03}_v2", "cam0-{}-of-100", "img_{:02}b3"]
)
def test_the_number_that_varies_counts_the_frames(tmp_path, pattern):
    found = matched(tmp_path, [f"d/{pattern.format(n)}.png" for n in range(12)], "folder")
    assert lengths(found) == {"d": 12}
    assert [p.stem for p in found.clips[0].frames] == [pattern.format(n) for n in range(12)]


def test_names_without_numbers_are_no_clip(tmp_path):
    found = matched(tmp_path, ["berlin.png", "ulm.png"], "folder")
    assert len(found.clips) == 2 and len({clip.name for clip in found.clips}) == 2


def test_two_files_of_one_frame_are_named(tmp_path):
    names = ["ulm/ulm_000000_000000_leftImg8bit.png", "b/ulm_000000_000000_leftImg8bit.png"]
    with pytest.raises(TcsegError, match="belong to the same frame; remove one of them"):
        matched(tmp_path, names, "cityscapes")
    with pytest.raises(TcsegError, match="belong to the same frame"):
        matched(tmp_path / "b", ["x.png", "x.jpg"], "folder")


def test_rubbish_and_links(tmp_path):
    names = [f"a/{n:03}.png" for n in range(3)]
    real = put(tmp_path / "disk", *(f"{n:03}.png" for n in range(3)))
    for kind in ("predictions", "frames"):
        put(tmp_path / kind, "__MACOSX/a/._000.png", "a/._000.png", ".thumbnails/000.png")
        (tmp_path / kind / "linked").symlink_to(real, target_is_directory=True)
    assert lengths(matched(tmp_path, names, "folder")) == {"a": 3, "linked": 3}


# ------------------------------------------------------------------------------------------------ what is missing


CITIES = [
    f"{city}/{city}_{s:06}_{n:06}" for city in ("bremen", "lindau", "ulm") for s in range(2) for n in range(17, 22)
]
FRAMES = [f"{name}_leftImg8bit.png" for name in CITIES]
DENSE = [f"{name}_gtFine_labelIds.png" for name in CITIES]


def test_all_labels_there_is_nothing_to_say(tmp_path):
    assert matched(tmp_path, FRAMES, "cityscapes", DENSE).problems == ()
    middle = [name for name in DENSE if "_000019_" in name]
    assert matched(tmp_path / "b", FRAMES, "cityscapes", DENSE).problems == ()
    long = [f"ulm/ulm_000000_{n:06}" for n in range(60)]
    sparse = [f"{long[n]}_gtFine_labelIds.png" for n in (19, 49)]
    assert matched(tmp_path / "c", [f"{name}_leftImg8bit.png" for name in long], "cityscapes", sparse).problems == ()
    assert len(middle) == 6


@pytest.mark.parametrize(
    ("left", "told"),
    [
        ([name for name in DENSE if not name.startswith("bremen")], r"2 of 6 clips have no label map .*in bremen\)"),
        (DENSE[::2], "15 of 30 frames in clips with labels have none"),
        (DENSE[1:], "1 of 30 frames in clips with labels have none .*bremen_000000_000017"),
        ([*DENSE, "ulm/ulm_000009_000019_gtFine_labelIds.png"], "1 label maps belong to no frame .*ulm_000009_000019"),
        ([*DENSE, "ulm/notes.png"], "1 pictures in --labels do not have the name of a frame .*notes.png"),
    ],
)
def test_what_is_missing_is_counted_and_named(tmp_path, left, told):
    (problem,) = matched(tmp_path, FRAMES, "cityscapes", left).problems
    import re

    assert re.search(told, problem), problem


def test_a_clip_of_a_sparse_set_without_its_label(tmp_path):
    frames = [f"ulm_{s:06}_{n:06}_leftImg8bit.png" for s in range(4) for n in range(30)]
    labels = [f"ulm_{s:06}_000019_gtFine_labelIds.png" for s in range(4)]
    assert matched(tmp_path, frames, "cityscapes", labels).problems == ()
    (problem,) = matched(tmp_path / "b", frames, "cityscapes", labels[1:]).problems
    assert problem.startswith("1 of 4 clips have no label map (first: ulm_000000_000000")


@pytest.mark.parametrize("suffix", [".PNG", ".Png"])
def test_suffixes_of_any_case(tmp_path, suffix):
    labels = [name.replace(".png", suffix) for name in DENSE]
    frames = [name.replace(".png", ".JPG") for name in FRAMES]
    put(tmp_path / "predictions", *FRAMES)
    found = find_clips(
        tmp_path / "predictions", put(tmp_path / "frames", *frames), put(tmp_path / "labels", *labels), "cityscapes"
    )
    assert found.problems == () and sum(len(clip.labels) for clip in found.clips) == 30


def test_label_ids_are_preferred_and_siblings_are_no_strangers(tmp_path):
    extra = [name.replace("labelIds", kind) for name in DENSE for kind in ("labelTrainIds", "instanceIds", "color")]
    found = matched(tmp_path, FRAMES, "cityscapes", DENSE + extra)
    assert found.problems == ()
    assert all(path.name.endswith("_labelIds.png") for clip in found.clips for path in clip.labels.values())
    shutil.rmtree(tmp_path / "labels")
    found = matched(tmp_path, FRAMES, "cityscapes", [name for name in extra if "labelTrainIds" in name])
    assert sum(len(clip.labels) for clip in found.clips) == 30


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["ulm/ulm_000000_000019_gtCoarse_labelIds.png"], "coarse annotations.*use gtFine"),
        (["ulm/ulm_000000_000019_gtFine_polygons.json"], "polygons.*csCreateTrainIdLabelImgs"),
        (["ulm/ulm_000000_000019_gtFine_color.png"], "colour images of label maps; use _gtFine_labelIds"),
        (["ulm/ulm_000000_000019_gtFine_instanceIds.png"], "these are instance maps"),
        (["ulm/x.npy"], "these are numpy arrays"),
        (["val/0001.png"], r"the folder has 1 .png \(first: 0001.png\)"),
        ([], "the folder is empty"),
    ],
)
def test_what_cannot_be_read_is_named_with_what_would_do(tmp_path, names, told):
    (tmp_path / "labels").mkdir()
    with pytest.raises(TcsegError, match=told):
        matched(tmp_path, FRAMES, "cityscapes", names)


def test_names_that_do_not_fit_are_shown_side_by_side(tmp_path):
    put(tmp_path / "frames", "a/frame_1.png")
    with pytest.raises(TcsegError, match="its names look like a/mask_1.png, the names of frames like a/frame_1.png"):
        find_clips(put(tmp_path / "predictions", "a/mask_1.png"), tmp_path / "frames", None, "folder")
