"""The public names: loaded late, each with an example that runs, and taking a model as people have it."""

import doctest
import subprocess
import sys
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch

import tcseg
from tcseg import procity
from tcseg.data.procity_clips import draw_clip
from tcseg.errors import InputError, NotFoundError, TcsegError, require_one_of
from tcseg.models.registry import build, save_weights, shipped

NAMES = [name for name in tcseg.__all__ if name != "__version__"]
WITH_EXAMPLES = [
    name for name in NAMES if not isinstance(getattr(tcseg, name), ModuleType | tcseg.CITYSCAPES.__class__)
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    tree = tmp_path_factory.mktemp("city") / "procity"
    return procity.generate(tree, size=(128, 64), train=2, val=2, test=0, neighbours=2, workers=1, progress=False)


@pytest.fixture(scope="module")
def given(root, tmp_path_factory):
    """What the examples stand on: frames, a video, clips, a folder, and label maps on disk."""
    folder = tmp_path_factory.mktemp("examples")
    clips = tcseg.load_clips("procity", root, "val", (128, 64), folder / "cache")
    frames = np.ascontiguousarray(np.asarray(clips.frames[0, :3]).transpose(0, 2, 3, 1))
    (folder / "video").mkdir()
    for i, frame in enumerate(frames):
        cv2.imwrite(str(folder / "video" / f"{i:06d}.png"), frame[..., ::-1])
    (folder / "drive").mkdir()
    streets = [draw_clip(procity.CITIES["val"][i], i, (128, 64)).frames[0] for i in range(2)]
    for i, frame in enumerate(np.concatenate(streets).transpose(0, 2, 3, 1)):
        cv2.imwrite(str(folder / "drive" / f"{i:06d}.png"), frame[..., ::-1])
    return {
        "drive": folder / "drive",
        "tcseg": tcseg,
        "np": np,
        "torch": torch,
        "root": root,
        "folder": folder,
        "clips": clips,
        "frames": frames,
        "video": folder / "video",
    }


def test_about_twenty_names():
    assert 18 <= len(NAMES) <= 25 and len(set(NAMES)) == len(NAMES)
    assert set(NAMES) <= set(dir(tcseg))
    with pytest.raises(AttributeError, match="no attribute 'nothing'; its public names are load_model, "):
        tcseg.nothing  # noqa: B018


def test_nothing_heavy_is_loaded_before_it_is_used():
    """So that `tcseg doctor` works where torch is broken."""
    code = "import sys, tcseg; print(sorted({'torch','numpy','cv2','numba','pandas','matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_each_has_an_example_that_runs(name, given):
    found = getattr(tcseg, name)
    (example,) = [
        test
        for test in doctest.DocTestFinder(recurse=False).find(found, name, module=False, globs=dict(given))
        if test.examples
    ] or [None]
    assert example is not None, f"tcseg.{name} has no example"
    said = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    result = runner.run(example, out=said.append)
    assert result.failed == 0 and result.attempted > 0, "".join(said)


@pytest.mark.parametrize("name", [name for name in NAMES if isinstance(getattr(tcseg, name), ModuleType)])
def test_a_public_module_says_what_it_has(name):
    module = getattr(tcseg, name)
    functions = [value for value in (getattr(module, one) for one in dir(module) if one[0] != "_") if callable(value)]
    assert module.__doc__ and len(functions) >= 3
    with pytest.raises(AttributeError):
        module.nothing  # noqa: B018


def test_predict_is_what_segment_writes(given, tmp_path):
    """Two lines in Python, or the command: the same label maps."""
    model = tcseg.load_model("student")
    done = tcseg.segment_video(given["video"], None, model, labels=tmp_path / "maps", progress=False)
    assert done["frames"] == 3
    for frame, path in zip(given["frames"], sorted((tmp_path / "maps").glob("*.png")), strict=True):
        np.testing.assert_array_equal(model.predict(frame), cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    np.testing.assert_array_equal(model.predict(given["frames"])[1], model.predict(given["frames"][1]))
    np.testing.assert_array_equal(
        tcseg.predict("student", given["frames"]), model.predict(torch.from_numpy(given["frames"]))
    )


def test_frames_of_any_size_and_a_size_of_ones_own():
    model = tcseg.load_model("student")
    frames = np.random.default_rng(0).integers(0, 255, (2, 75, 133, 3), np.uint8)
    assert model.predict(frames).shape == (2, 75, 133) == model.predict(frames, size="native").shape
    assert (
        model.predict(frames[0], size=(128, 64)).shape
        == (75, 133)
        == model.paint(frames[0], model.predict(frames[0])).shape[:2]
    )
    assert model.paint(frames, model.predict(frames)).shape == frames.shape
    with pytest.raises(InputError, match="multiples of 32"):
        model.predict(frames, size=(100, 64))


def test_a_model_is_a_name_a_file_a_network_or_what_was_loaded(tmp_path, given):
    network = shipped("student")
    save_weights(network, tmp_path / "mine.safetensors")
    wanted = tcseg.predict("student", given["frames"])
    for one in (tmp_path / "mine.safetensors", str(tmp_path / "mine.safetensors"), network, tcseg.load_model(network)):
        np.testing.assert_array_equal(tcseg.predict(one, given["frames"]), wanted)
    with pytest.raises(TcsegError, match="shipped model is 'studnet'; it must be one of student, "):
        tcseg.load_model("studnet")
    with pytest.raises(NotFoundError, match="does not exist"):
        tcseg.load_model(tmp_path / "absent.safetensors")


def test_bad_frames_and_other_classes_are_refused(given):
    model = tcseg.load_model("student")
    for frames in (given["frames"][..., 0], given["frames"].astype(float), given["frames"].transpose(0, 3, 1, 2)):
        with pytest.raises(InputError, match=r"they must be uint8 RGB, \(H,W,3\) or \(T,H,W,3\)"):
            model.predict(frames)
    with pytest.raises(InputError, match="there are no frames"):
        model.predict(given["frames"][:0])
    with pytest.raises(InputError, match=r"has the classes of camvid \(11\), but the data those of cityscapes \(19\)"):
        tcseg.evaluate(build("student-cpu", 11), given["clips"])
    with pytest.raises(InputError, match="each may occur only once"):
        tcseg.benchmark("student", "student")


@pytest.mark.parametrize(
    ("call", "known"),
    [
        (lambda given: tcseg.segment_video(given["video"], None, "student", overlays=1), "overlay, fps, runtime"),
        (lambda given: tcseg.benchmark("student", frame=3), "frames, seconds, runtimes"),
        (lambda given: tcseg.evaluate_files(given["video"], given["video"], flow="dis"), "flows, train_ids, classes"),
    ],
)
def test_an_option_that_there_is_not_is_refused_with_those_that_there_are(call, known, given):
    with pytest.raises(InputError, match=rf"there is no option '\w+'; the options are {known}"):
        call(given)


@pytest.mark.parametrize("value", ["kitti", None, 3, ["dis"], {"dis": 1}])
def test_a_value_of_any_type_that_is_not_known_is_refused(value):
    require_one_of("flow", "dis", ("exact", "dis"))
    require_one_of("flow", "dis", (name for name in ("exact", "dis")))
    with pytest.raises(InputError, match=r"^flow is .+; it must be one of exact, dis$"):
        require_one_of("flow", value, (name for name in ("exact", "dis")))
    with pytest.raises(InputError, match="it must be one of 1, 2"):
        require_one_of("threads", 3, (1, 2))
