"""One call for every kind of teacher: classes by name, ONNX files of any layout, stored maps, networks of this package."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tcseg.adaptation.kinds.answers import Place, resize_scores, shares
from tcseg.adaptation.teachers import OwnAnswers, match_classes, open_teacher, read_classes
from tcseg.data.folders import find_dataset, variable_folder
from tcseg.errors import InputError, NotFoundError, TcsegError
from tcseg.labels import CAMVID, CITYSCAPES, own_classes
from tcseg.models.registry import build, save_weights
from tcseg.video.frame_files import FrameFiles

TWO = own_classes(["road", "sky"])
THREE = own_classes(["road", "sky", "car"])


def refused(error, *words):
    text = str(error.value)
    assert isinstance(error.value, TcsegError) and "\n" not in text, text
    assert all(word in text for word in words), text


# ------------------------------------------------------------------------------------------------ classes


def test_the_same_names_in_any_order_and_spelling():
    theirs = ["SKY", "vegetation ", "traffic_light", "Traffic-Sign", *CITYSCAPES.classes]
    theirs = list(dict.fromkeys(name for name in theirs if name.lower() not in ("sky", "vegetation")))
    to = match_classes(
        ["Sky", "Vegetation", *[n for n in CITYSCAPES.classes if n not in ("sky", "vegetation")]], CITYSCAPES
    )
    assert to[0] == 10 and to[1] == 8 and sorted(to) == list(range(19))
    assert match_classes(["void", "sky", "Road"], TWO).tolist() == [-1, 1, 0]


@given(st.permutations(range(19)))
def test_a_permutation_is_found(order):
    names = [CITYSCAPES.classes[index].upper().replace(" ", "_") for index in order]
    assert match_classes(names, CITYSCAPES).tolist() == list(order)


def test_names_may_be_told():
    to = match_classes(
        ["street", "lane mark", "sky", "bridge"], TWO, {"street": "road", "Lane-Mark": "road", "bridge": "void"}
    )
    assert to.tolist() == [0, 0, 1, -1]


@pytest.mark.parametrize(
    ("theirs", "rename", "words"),
    [
        (["road"], None, ("no 'sky'", "rename")),
        (["road", "sky", "river", "boat"], None, ("'river', 'boat' are none",)),
        (["road", "heaven"], None, ("no 'sky'", "'heaven' is none")),
        (["LABEL_0", "LABEL_1"], None, ("does not name", "classes")),
        (["road", "sky"], {"heaven": "sky"}, ("'heaven'", "no such class")),
        (["road", "heaven"], {"heaven": "paradise"}, ("'paradise'", "'road', 'sky'")),
        (CAMVID.classes, None, ("CamVid",)),
    ],
)
def test_what_does_not_match_is_refused_by_name(theirs, rename, words):
    with pytest.raises(InputError) as error:
        match_classes(theirs, TWO if theirs is not CAMVID.classes else CITYSCAPES, rename)
    refused(error, *(words if words != ("CamVid",) else ("'wall'", "'pedestrian'", "19 (cityscapes)")))


def test_classes_as_they_are_given():
    assert read_classes("cityscapes") == CITYSCAPES.classes and read_classes(" CamVid ") == CAMVID.classes
    assert read_classes("road, sky") == ("road", "sky") == read_classes(["road", "sky"]) and read_classes(None) is None
    for wrong in ("road,road", "road,,sky", ["road", 3]):
        with pytest.raises(InputError):
            read_classes(wrong)


# ------------------------------------------------------------------------------------------------ cells


def test_shares_are_areas_times_confidence():
    labels = np.zeros((8, 8), np.uint8)
    labels[:, 3:] = 1
    labels[0:4, 4:] = 255
    found = shares(labels, 2, (2, 2))
    np.testing.assert_allclose(found, [[[0.75, 0], [0.75, 0]], [[0.25, 0], [0.25, 1]]], atol=0.003)
    half = shares(labels, 2, (2, 2), np.full((8, 8), 51, np.uint8))
    np.testing.assert_allclose(half, found / 5, atol=0.003)
    assert shares(labels, 2, (32, 32)).shape == (2, 32, 32)


@settings(max_examples=40, deadline=None)
@given(*[st.integers(1, 20)] * 4)
def test_scores_that_sum_to_one_do_so_on_any_grid(h, w, rows, columns):
    scores = torch.rand(3, h, w, generator=torch.Generator().manual_seed(0)).softmax(0)
    found = resize_scores(scores, (columns, rows))
    assert found.shape == (3, rows, columns)
    torch.testing.assert_close(found.sum(0), torch.ones(rows, columns))


def test_a_coarser_grid_has_means():
    """Not the scores at its cells' middles: of stripes, one in four of which is the first class, a quarter is left."""
    first = (torch.arange(64) % 4 == 0).float().expand(64, 64)
    found = resize_scores(torch.stack((first, 1 - first)), (8, 8))
    torch.testing.assert_close(found[0, 2:-2, 2:-2], torch.full((4, 4), 0.25), atol=0.02, rtol=0)


# ------------------------------------------------------------------------------------------------ ONNX files


def onnx_file(path, shape, out="logits", dtype=1, metadata=None):
    """A graph whose class 0, 1, 2 is as bright as R, G and B (so the brightest channel wins), as another framework may write it."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    nodes, now = [], "pixels"
    last = shape[3] == 3
    if dtype != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [now], ["floats"], to=TensorProto.FLOAT))
        now = "floats"
    if last and out != "nhwc":
        nodes.append(helper.make_node("Transpose", [now], ["planes"], perm=[0, 3, 1, 2]))
        now = "planes"
    if out in ("logits", "nhwc"):
        nodes.append(helper.make_node("Identity", [now], ["out"]))
    elif out == "probs":
        nodes.append(helper.make_node("Softmax", [now], ["out"], axis=1))
    else:
        nodes.append(helper.make_node("ArgMax", [now], ["out"], axis=1, keepdims=int(out == "labels4")))
    kind = TensorProto.INT64 if out.startswith("labels") else TensorProto.FLOAT
    takes = helper.make_tensor_value_info("pixels", dtype, shape)
    gives = helper.make_tensor_value_info("out", kind, [None] * (3 if out == "labels" else 4))
    graph = helper.make_graph(nodes, "g", [takes], [gives])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path


NAMED = {"classes": json.dumps(["sky", "car", "road"])}
UNIT = {"mean": (0, 0, 0), "std": (1 / 255,) * 3}
RED, GREEN, BLUE = (np.full((1, 64, 96, 3), color, np.uint8) for color in ((200, 10, 10), (10, 200, 10), (10, 10, 200)))


@pytest.mark.parametrize("shape", [(1, 3, 64, 96), (1, 64, 96, 3), (1, 3, "h", "w"), ("n", "h", "w", 3)])
@pytest.mark.parametrize("out", ["logits", "probs", "labels", "labels4"])
@pytest.mark.parametrize("dtype", [1, 2])
def test_onnx_graphs_of_any_layout(shape, out, dtype, tmp_path):
    path = onnx_file(tmp_path / "t.onnx", shape, out, dtype, NAMED)
    teacher = open_teacher(path, THREE, size=None if 64 in shape else 64, **({} if dtype == 2 else UNIT))
    for frames, theirs in ((RED, "sky"), (GREEN, "car"), (BLUE, "road")):
        told = teacher.ask(frames, (96, 64))
        assert told.shape == (1, 3, 16, 24)
        assert (told[0, THREE.classes.index(theirs)] >= 250).all() and (told.sum(1, dtype=int) >= 253).all()


def test_onnx_scores_with_the_classes_last(tmp_path):
    path = onnx_file(tmp_path / "t.onnx", (1, 64, 96, 3), "nhwc", 2, {"names": "{0: 'sky', 1: 'car', 2: 'road'}"})
    told = open_teacher(path, THREE).ask(GREEN, (96, 64))
    assert (told[0].argmax(0) == THREE.classes.index("car")).all()


def test_several_of_its_classes_may_be_one_of_ours(tmp_path):
    path = onnx_file(tmp_path / "t.onnx", (1, 3, 64, 96), "probs", 2, NAMED)
    picture = np.full((1, 64, 96, 3), (1, 2, 2), np.uint8)  # sky, car, road: e, e^2, e^2
    told = open_teacher(path, TWO, rename={"car": "road"}).ask(picture, (96, 64))[0]
    share = 1 / (1 + 2 * np.e)
    assert (told[1] == round(255 * share)).all() and (told[0] == round(255 * (1 - share))).all()
    alone = open_teacher(path, TWO, rename={"car": "void"}).ask(picture, (96, 64))[0]
    assert (alone[1] == told[1]).all() and (alone[0] == round(255 * (1 - share) / 2)).all()  # the rest is of no class


def test_onnx_floats_are_normalised_as_told(tmp_path):
    """(200/255 - mean) / std of the three channels are the logits."""
    noted = NAMED | {"mean": "0.5,0.4,0.3", "std": "[0.1, 0.2, 0.4]", "license": "MIT"}
    path = onnx_file(tmp_path / "t.onnx", (1, 3, 64, 96), metadata=noted)
    logits = (np.array([200, 10, 10]) / 255 - [0.5, 0.4, 0.3]) / [0.1, 0.2, 0.4]
    teacher = open_teacher(path, own_classes(["sky", "car", "road"]))
    np.testing.assert_allclose(
        teacher.answers(RED[0], (24, 16), None)[:, 0, 0], np.exp(logits) / np.exp(logits).sum(), rtol=1e-3
    )
    assert teacher.licence == "MIT" and open_teacher(path, THREE, licence="mine").licence == "mine"
    assert open_teacher(path, THREE, **UNIT).key != open_teacher(path, THREE).key


@pytest.mark.parametrize(
    ("shape", "metadata", "options", "words"),
    [
        ((1, 3, 64, 96), {}, UNIT, ("name its classes", "classes")),
        ((1, 3, 64, 96), NAMED, {}, ("floats", "mean and std")),
        ((1, 3, 64, 96), NAMED, UNIT | {"mean": (0, 0)}, ("mean", "three numbers")),
        ((1, 3, 64, 96), NAMED, UNIT | {"std": (0, 1, 1)}, ("std", "above zero")),
        ((1, 3, 64, 96), NAMED, UNIT | {"size": 128}, ("128", "96x64")),
        ((4, 3, 64, 96), NAMED, UNIT, ("4 frames at once",)),
        ((1, 3, 64, 3), NAMED, UNIT, ("layout", "nchw or nhwc")),
        ((1, "c", "h", "w"), NAMED, UNIT, ("layout",)),
        ((1, 3, 64, 96), NAMED, UNIT | {"layout": "hwc"}, ("'hwc'", "nchw, nhwc")),
        ((1, 3, 64, 96), NAMED, UNIT | {"output": "masks"}, ("'masks'", "out")),
    ],
)
def test_what_a_graph_does_not_say_must_be_told(shape, metadata, options, words, tmp_path):
    path = onnx_file(tmp_path / "t.onnx", shape, metadata=metadata)
    with pytest.raises(InputError) as error:
        open_teacher(path, THREE, **options)
    refused(error, *words)


def test_other_onnx_files_are_told_in_a_line(tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(NotFoundError) as error:
        open_teacher(tmp_path / "absent.onnx")
    refused(error, "absent.onnx does not exist")
    (tmp_path / "half.onnx").write_bytes(b"\x08\x07")
    with pytest.raises(InputError) as error:
        open_teacher(tmp_path / "half.onnx")
    refused(error, "half.onnx", "whole")
    path = onnx_file(tmp_path / "t.onnx", (1, 3, 64, 96), metadata={"classes": "road,sky"})
    with pytest.raises(InputError) as error:
        open_teacher(path, TWO, **UNIT).ask(RED, (96, 64))
    refused(error, "classes are 2", "(1, 3, 64, 96)")


# ------------------------------------------------------------------------------------------------ stored maps


def write_map(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), values)


def stripes(left, right):
    values = np.full((64, 96), left, np.uint8)
    values[:, 48:] = right
    return values


@pytest.mark.parametrize("at", ["labels/drive", "drive", "labels", ".", "labels/train/drive"])
@pytest.mark.parametrize("name", ["000007", "7", "07"])
def test_label_maps_are_found_by_name(at, name, tmp_path):
    write_map(tmp_path / at / f"{name}.png", stripes(0, 10))
    teacher = open_teacher(f"maps:{tmp_path}")
    teacher.require([Place("drive", "000007")])
    told = teacher.ask(np.zeros((1, 64, 96, 3), np.uint8), (96, 64), [Place("drive", "000007")])[0]
    assert (told[0, :, :12] == 255).all() and (told[10, :, 12:] == 255).all() and told.sum() == 255 * 16 * 24


def test_confidence_is_a_share(tmp_path):
    write_map(tmp_path / "labels" / "drive" / "0.png", stripes(0, 255))
    write_map(tmp_path / "confidence" / "drive" / "0.png", stripes(128, 255))
    told = open_teacher(f"maps:{tmp_path}").ask(np.zeros((1, 8, 8, 3), np.uint8), (96, 64), [Place("drive", "000000")])[
        0
    ]
    assert (told[0, :, :12] == 128).all() and told[:, :, 12:].sum() == 0 and told[1:].sum() == 0


def test_probabilities_of_segment_are_a_teacher(tmp_path):
    probs = np.random.default_rng(0).dirichlet(np.ones(19), (16, 24)).transpose(2, 0, 1)
    stored = np.rint(255 * probs).astype(np.uint8)
    files = FrameFiles(tmp_path / "probs", "probs")
    files.write(stored)
    files.close(keep=True)
    told = open_teacher(f"maps:{tmp_path / 'probs'}").ask(
        np.zeros((1, 8, 8, 3), np.uint8), (96, 64), [Place("any", "000000")]
    )
    np.testing.assert_array_equal(told[0], stored)


def test_meta_says_what_values_mean(tmp_path):
    """As `tcseg segment --labels` writes it."""
    files = FrameFiles(tmp_path / "maps", "labels", None, own_classes(["sky", "road"]))
    files.write(stripes(0, 1))
    files.close(keep=True)
    told = open_teacher(f"maps:{tmp_path / 'maps'}", TWO).ask(
        np.zeros((1, 8, 8, 3), np.uint8), (96, 64), [Place("v", "0")]
    )[0]
    assert (told[1, :, :12] == 255).all() and (told[0, :, 12:] == 255).all()


def test_where_nothing_says_what_values_mean_it_is_told(tmp_path):
    write_map(tmp_path / "0.png", stripes(0, 1))
    assert "taken for the student's classes" in str(open_teacher(f"maps:{tmp_path}"))
    assert "taken" not in str(open_teacher(f"maps:{tmp_path}", classes="cityscapes"))
    (tmp_path / "meta.json").write_text('{"values": "ids"}')  # 7 = road, 23 = sky
    write_map(tmp_path / "0.png", stripes(7, 23))
    teacher = open_teacher(f"maps:{tmp_path}")
    told = teacher.ask(np.zeros((1, 8, 8, 3), np.uint8), (96, 64), [Place("v", "0")])[0]
    assert (told[0, :, :12] == 255).all() and (told[10, :, 12:] == 255).all() and "taken" not in str(teacher)


def test_pictures_are_no_maps(tmp_path):
    write_map(tmp_path / "frames" / "0.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InputError) as error:
        open_teacher(f"maps:{tmp_path}")
    refused(error, "colours")


def absent_frames(folder):
    for index in range(4):
        write_map(folder / "labels" / "drive" / f"{index:06}.png", stripes(0, 1))


MAPS = {
    "lacking": (absent_frames, ("lacks 6 of the 10", "000004", "4 in all"), NotFoundError),
    "another video": (lambda f: write_map(f / "labels" / "other" / "0.png", stripes(0, 1)), ("'drive'", "other"), NotFoundError),
    "nothing": (lambda f: f.mkdir(exist_ok=True), ("no maps",), NotFoundError),
    "no folder": (lambda f: shutil.rmtree(f), ("no folder",), NotFoundError),
    "two alike": (
        lambda f: [write_map(f / one / "drive" / "0.png", stripes(0, 1)) for one in "ab"], ("several folders 'drive'",), InputError,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", list(MAPS))
def test_maps_that_lack_frames_are_counted_before_anything_is_asked(what, tmp_path):
    make, words, kind = MAPS[what]
    make(tmp_path)
    with pytest.raises(kind) as error:
        open_teacher(f"maps:{tmp_path}").require([Place("drive", f"{index:06}") for index in range(10)])
    refused(error, *words)


def test_maps_in_no_folder_are_of_one_video(tmp_path):
    write_map(tmp_path / "0.png", stripes(0, 1))
    teacher = open_teacher(f"maps:{tmp_path}")
    teacher.require([Place("a", "0")])
    with pytest.raises(InputError) as error:
        teacher.require([Place("b", "0")])
    refused(error, "'a' and 'b'", "folder of its name")


def damaged(folder):
    write_map(folder / "v" / "0.png", stripes(0, 1))
    path = folder / "v" / "0.png"
    path.write_bytes(path.read_bytes()[:-20])


def with_confidence(name, rows):
    def make(folder):
        write_map(folder / "labels" / "v" / "0.png", stripes(0, 1))
        write_map(folder / "confidence" / "v" / name, stripes(0, 1)[:rows])

    return make


VALUES = {
    "a class beyond": (lambda f: write_map(f / "v" / "0.png", stripes(0, 19)), ("[19]", "0..18")),
    "colours": (lambda f: write_map(f / "v" / "0.png", np.zeros((4, 4, 3), np.uint8)), ("colours",)),
    "damage": (damaged, ("0.png",)),
    "half the confidence": (with_confidence("1.png", 64), ("missing",)),
    "a small confidence": (with_confidence("0.png", 9), ("(9, 96)",)),
    "other probs": (lambda f: np.savez(f / "0.npz", probs=np.zeros((3, 4, 4), np.uint8)), ("(3, 4, 4)", "19")),
    "no probs": (lambda f: np.savez(f / "0.npz", answers=np.zeros(3)), ("probabilities",)),
    "half an npz": (lambda f: (f / "0.npz").write_bytes(b"PK\x03\x04"), ("probabilities",)),
}


@pytest.mark.parametrize("what", list(VALUES))
def test_a_map_that_cannot_be_is_named(what, tmp_path):
    make, words = VALUES[what]
    make(tmp_path)
    with pytest.raises(TcsegError) as error:
        open_teacher(f"maps:{tmp_path}").ask(np.zeros((1, 8, 8, 3), np.uint8), (96, 64), [Place("v", "0")])
    refused(error, str(tmp_path), *words)


def test_stored_maps_need_names(tmp_path):
    write_map(tmp_path / "0.png", stripes(0, 1))
    with pytest.raises(InputError) as error:
        open_teacher(f"maps:{tmp_path}").ask(np.zeros((1, 8, 8, 3), np.uint8), (96, 64))
    refused(error, "places")


# ------------------------------------------------------------------------------------------------ networks of this package


def test_a_student_that_ships_answers_as_it_does_alone():
    teacher = open_teacher("student")
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (1, 128, 256, 3), dtype=np.uint8)  # the size of its training: nothing is resized
    network = teacher.answers.network
    with torch.no_grad():
        probs = network(torch.from_numpy(frames).permute(0, 3, 1, 2)).softmax(1)
    told = teacher.ask(frames, (256, 128))
    assert np.abs(told.astype(int) - 255 * probs.numpy()).max() <= 0.51
    assert teacher.licence == "MIT" and teacher.name == "student" and "size of its training" in str(teacher)


def test_weights_of_ones_own_are_a_teacher(tmp_path):
    network = build("student", TWO, pretrained=False)
    save_weights(network, tmp_path / "own.safetensors", licence="CC BY 4.0")
    teacher = open_teacher(tmp_path / "own.safetensors", TWO, size="64x32")
    assert teacher.licence == "CC BY 4.0" and teacher.ask(RED, (96, 64)).shape == (1, 2, 16, 24)
    odd = np.zeros((50, 70, 3), np.uint8)  # no size is known: padded, and cut again
    answers = OwnAnswers(network, None, "cpu", tmp_path / "own.safetensors")
    assert answers(odd, (24, 16)).shape == (2, 16, 24) and np.allclose(answers(odd, (24, 16)).sum(0), 1, atol=1e-5)
    with pytest.raises(InputError) as error:
        open_teacher(tmp_path / "own.safetensors")
    refused(error, "'sidewalk'")


# ------------------------------------------------------------------------------------------------ what is asked


@pytest.mark.parametrize("source", ["", "nobody", "drive.mp4", "x.pth", "weights.safetensors", "maps:"])
def test_an_unknown_teacher_is_told_in_a_line(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TcsegError) as error:
        open_teacher(source)
    refused(error)


@pytest.mark.parametrize("size", [0, 31, "0", "12", "64x", "ten", (64,), (64, 16), (64, 64, 64), 64.5])
def test_a_size_is_a_side_or_two(size):
    with pytest.raises(InputError) as error:
        open_teacher("student", size=size)
    refused(error, "size")


def test_frames_and_size_are_checked():
    teacher = open_teacher("student")
    for frames in (np.zeros((64, 64, 3), np.uint8), np.zeros((1, 64, 64, 3)), np.zeros((1, 3, 64, 64), np.uint8)):
        with pytest.raises(InputError) as error:
            teacher.ask(frames, (64, 64))
        refused(error, "frames")
    for size in ((63, 64), (0, 64)):
        with pytest.raises(InputError) as error:
            teacher.ask(RED, size)
        refused(error, "multiples of 4")


def test_options_of_other_kinds_are_refused(tmp_path):
    with pytest.raises(InputError) as error:
        open_teacher("student", mean=(0, 0, 0))
    refused(error, "mean")


def real_maps():
    """The stored maps of CamVid beside its frames, where they are."""
    given, camvid = variable_folder(), find_dataset("camvid")
    folder = given.folder / "teacher_maps" / "camvid" if given else None
    if camvid is None or folder is None or not folder.is_dir():
        pytest.skip("no teacher_maps/camvid in $TCSEG_DATA")
    return folder, camvid / "val"


def test_real_maps_of_camvid():
    folder, frames = real_maps()
    teacher = open_teacher(f"maps:{folder}", licence="MIT")
    names = sorted(path.stem for path in frames.glob("*.png"))
    teacher.require([Place("val", name) for name in names])
    told = teacher.ask(np.zeros((1, 360, 480, 3), np.uint8), (480, 352), [Place("val", names[0])])[0]
    assert told.shape == (19, 88, 120) and told.sum(0, dtype=int).max() <= 264
    assert told[0, -20:].mean() > 100 and told[10, :5, 40:80].mean() > 100  # road below, sky above
