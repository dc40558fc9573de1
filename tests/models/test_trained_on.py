"""A network sees frames at the size of its training unless told otherwise: in every command, in Python, and in what it exports."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from tcseg.bench import latency
from tcseg.cli import app, tools
from tcseg.data.procity_clips import draw_clip
from tcseg.deploy import export, torch_fusing
from tcseg.metrics.segmentation import Overlap, confusion_matrix
from tcseg.models import registry, trained_on
from tcseg.models.networks import SegmentationModel
from tcseg.models.trained_on import NATIVE, export_size, network_size, size_for
from tcseg.study import runs
from tcseg.video import pipeline, render

TRAINED = (256, 128)
FRAMES = [
    (1024, 512), (1280, 720), (3840, 2160), (640, 480), (333, 500), (500, 333), (64, 48), (31, 17), (1, 1), (257, 129), (250, 125),
    (2000, 33), (480, 360),
]  # fmt: skip


@pytest.fixture
def network() -> SegmentationModel:
    """One that says that it was trained at 64x32."""
    torch.manual_seed(0)
    model = registry.build("student", 19, False).eval()
    trained_on.note(model, [64, 32], "procity")
    return model


def film(folder: Path, size: tuple[int, int], count: int = 2) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        blocks = rng.integers(0, 256, (4, 6, 3), np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(blocks, size, interpolation=cv2.INTER_NEAREST))
    return folder


# ------------------------------------------------------------------------------------------------ the rule


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("known", [TRAINED, (1024, 512), (480, 360), (512, 256)])
def test_as_many_pixels_as_in_training_at_the_frames_aspect_ratio(frame, known) -> None:
    width, height = network_size(frame, known)
    if frame == known:
        assert (width, height) == frame
        return
    assert width % 32 == height % 32 == 0 and min(width, height) >= 32
    exact = [side * (known[0] * known[1] / (frame[0] * frame[1])) ** 0.5 for side in frame]
    for side, wanted in zip((width, height), exact, strict=True):
        assert abs(side - wanted) <= 16 or (side == 32 and wanted < 32)


def test_the_rule_on_sizes_that_people_have() -> None:
    sizes = {(1024, 512): (256, 128), (1920, 1080): (256, 128), (640, 480): (224, 160), (333, 500): (160, 224)}
    assert {frame: network_size(frame, TRAINED) for frame in sizes} == sizes
    assert network_size((2048, 1024), (1024, 512)) == (1024, 512)
    assert network_size((256, 128), (1024, 512)) == (1024, 512), "what is too small for a network is enlarged"
    assert network_size((480, 360), (480, 360)) == (480, 360), "the size of the training itself is not rounded"


def test_what_is_asked_for_comes_first(network: SegmentationModel) -> None:
    assert size_for(network, (128, 64)) == (64, 32) and size_for(network, (128, 64), (96, 96)) == (96, 96)
    assert size_for(network, (128, 64), NATIVE) is None and size_for(network, (64, 32)) is None
    untrained = registry.build("student", 19, False)
    assert size_for(untrained, (128, 64)) is None and export_size(untrained) == (1024, 512)
    assert size_for(torch.nn.Conv2d(3, 3, 1), (128, 64)) is None, "a network of anybody's"
    trained_on.note(untrained, (480, 360), "camvid")
    assert export_size(untrained) == (480, 384)


@pytest.mark.parametrize(("text", "size"), [(None, None), ("native", NATIVE), (" Native ", NATIVE), ("64x32", (64, 32))])
def test_sizes_as_people_write_them(text, size) -> None:
    assert trained_on.read_size(text) == size


@pytest.mark.parametrize("text", ["", "big", "64", "0x32", "64x-32", "natives"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="it must be WIDTHxHEIGHT, such as 1024x512, or native"):
        trained_on.read_size(text)


# ------------------------------------------------------------------------------------------------ what a network carries


@pytest.mark.parametrize("name", [*registry.SHIPPED, registry.FAST])
def test_a_shipped_student_knows_its_training(name: str) -> None:
    model, notes = registry.shipped(name), registry.shipped_notes(name)
    assert model.trained_size == tuple(notes["size"]) and model.trained_on == notes["dataset"] == "procity"
    assert trained_on.training_of(model).endswith("and has never seen a real road")


def test_it_survives_copies_and_folding(network: SegmentationModel) -> None:
    copies = [copy.deepcopy(network), pickle.loads(pickle.dumps(network)), network.to("cpu").float().train().eval()]
    for one in (*copies, torch_fusing.fold_norms(network)):
        assert (one.trained_size, one.trained_on) == ((64, 32), "procity")


def test_weights_that_say_nothing(tmp_path: Path) -> None:
    registry.save_weights(registry.build("student", 19, False), tmp_path / "w.safetensors")
    model = registry.load_weights(tmp_path / "w.safetensors")
    assert model.trained_size is None and model.trained_on is None
    line = trained_on.describe_input({"it": model}, (128, 64))
    assert line.startswith("it sees 128x64, the video's own size (change it with --size WxH)") and "unknown" in line


@pytest.mark.parametrize("size", ["256x128", [256], [256, 128, 3], [256.0, 128], [0, 128], [-256, 128], [True, True], {}])
def test_a_sidecar_with_a_wrong_size_is_named(tmp_path: Path, size: object) -> None:
    registry.save_weights(registry.build("student", 19, False), tmp_path / "w.safetensors", size=size)
    with pytest.raises(ValueError, match=r"w\.json: size is .* must be the \[width, height\]"):
        registry.load_weights(tmp_path / "w.safetensors")


def test_a_run_says_its_size_and_an_older_one_has_it_in_its_record(tmp_path: Path) -> None:
    context = {"dataset": "camvid", "profile": "smoke", "size": [96, 64]}
    made = runs.run_or_load(
        tmp_path, "r", 0, {}, [], lambda folder: (registry.build("student", 11, False), {}), lambda model: {}, context
    )
    assert (made.model().trained_size, made.model().trained_on) == ((96, 64), "camvid")
    sidecar = made.folder / "weights.json"
    notes = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps({key: notes[key] for key in ("arch", "num_classes", "run_id")}))  # as it was written before
    assert (made.model().trained_size, made.model().trained_on) == ((96, 64), "camvid")
    sidecar.write_text(json.dumps({key: notes[key] for key in ("arch", "num_classes")} | {"run_id": "of another run"}))
    assert made.model().trained_size is None


# ------------------------------------------------------------------------------------------------ video


@pytest.mark.parametrize("size", [(96, 64), (333, 500), (64, 48), (65, 33), (640, 480)])
@pytest.mark.parametrize("steady", [None, "median of three"])
def test_frames_come_out_at_their_own_size(tmp_path: Path, network: SegmentationModel, size, steady) -> None:
    maps = []
    keep = lambda i, frame, found: maps.append(found[0])  # noqa: E731
    result = render.segment(
        film(tmp_path / "in", size), None, network, on_frame=keep, progress=False, steady=steady, probs=tmp_path / "probs"
    )
    assert result["seen"] == network_size(size, (64, 32)) and {one.shape for one in maps} == {size[::-1]}
    stored = np.load(tmp_path / "probs" / "0.npz")["probs"]
    assert stored.shape[1:] == (result["seen"][1] // 4, result["seen"][0] // 4)


def test_default_native_and_a_size(tmp_path: Path, network: SegmentationModel, capsys) -> None:
    source, found = film(tmp_path / "in", (192, 96)), {}
    for size in (None, (64, 32), NATIVE, (192, 96), (128, 64)):
        maps = found[size] = []
        result = render.segment(source, None, network, size, on_frame=lambda i, f, m, keep=maps: keep.append(m[0]))
        wanted = {None: (64, 32), NATIVE: (192, 96)}.get(size, size)
        assert result["seen"] == wanted
        told = capsys.readouterr().err
        assert f"the network sees {wanted[0]}x{wanted[1]}" in told and "it was trained at 64x32 on procity" in told
        assert "never seen a real road" in told and ("--size native" in told) == (size is None)
        assert f"192x96, seen at {wanted[0]}x{wanted[1]}, " in render.summary(result)
    assert all((a == b).all() for a, b in zip(found[None], found[64, 32], strict=True))
    assert all((a == b).all() for a, b in zip(found[NATIVE], found[192, 96], strict=True))
    assert any((a != b).any() for a, b in zip(found[None], found[NATIVE], strict=True))
    with pytest.raises(ValueError, match=r"size is 'full'; it must be \(W,H\), 'native'"):
        render.segment(source, None, network, "full")


def test_side_by_side_each_network_sees_its_own_size(tmp_path: Path, network: SegmentationModel, capsys) -> None:
    other = copy.deepcopy(network)
    trained_on.note(other, (128, 64), "camvid")
    source, both = film(tmp_path / "in", (192, 96)), {"a": network, "b": other}
    result = render.side_by_side(source, tmp_path / "x.avi", both)
    assert result["seen"] == {"a": (64, 32), "b": (128, 64)} and "seen at 64x32 and 128x64" in render.summary(result)
    told = capsys.readouterr().err
    assert "a sees 64x32" in told and "b sees 128x64" in told and "trained at 128x64 on CamVid" in told
    assert told.count("never seen a real road") == 1, "which b has"
    assert render.side_by_side(source, None, both, NATIVE, progress=False)["seen"] == {"a": (192, 96), "b": (192, 96)}


@pytest.mark.slow
def test_int8_is_calibrated_on_what_the_network_sees(tmp_path: Path, network: SegmentationModel) -> None:
    pytest.importorskip("onnxruntime")
    asked = []

    def calibrate(size):
        asked.append(size)
        return export.sample_frames(size, 4)

    render.segment(
        film(tmp_path / "in", (192, 96)), None, network, runtime="onnxruntime", precision="int8", calibrate=calibrate,
        progress=False,
    )  # fmt: skip
    assert asked == [(64, 32)]


def test_what_is_enlarged_is_not_blocks() -> None:
    ramp = np.arange(0, 256, 16, dtype=np.uint8)[None, :, None].repeat(8, 0).repeat(3, 2)
    steps = np.diff(pipeline.resized(ramp, (128, 64))[32, :, 0].astype(int))
    assert (np.abs(steps) <= 3).all(), "interpolated, not repeated"
    assert (pipeline.resized(ramp, (8, 4))[0, :, 0] == ramp[0, :, 0].reshape(8, 2).mean(1)).all(), "means over areas"


def miou(model: SegmentationModel, clip, size) -> float:
    """Of every sixth frame of a drawn drive, at the frames' own size."""
    frames = clip.frames[0, ::6].transpose(0, 2, 3, 1)
    (runner,) = pipeline.open_runners([model], "pytorch", frames[0], True, size)[0]
    counts = [confusion_matrix(labels, runner(frame)[0], 19) for frame, labels in zip(frames, clip.labels[0, ::6], strict=True)]
    return 100 * float(np.nanmean(Overlap.from_confusion(sum(counts)).iou()))


@pytest.fixture(scope="module")
def street():
    return draw_clip("nordhaven", seed=8003, size=(512, 256))


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.SHIPPED)
def test_a_street_twice_as_large_is_answered_far_better_by_default(name: str, street) -> None:
    model = registry.shipped(name)
    assert size_for(model, (512, 256)) == TRAINED
    assert miou(model, street, None) > miou(model, street, NATIVE) + 4
    assert miou(model, street, None) == miou(model, street, TRAINED)


@pytest.mark.slow
def test_a_street_that_is_too_small_is_answered_far_better_by_default() -> None:
    model, street = registry.shipped(registry.FAST), draw_clip("nordhaven", seed=8003, size=(256, 128))
    assert size_for(model, (256, 128)) == (1024, 512)
    assert miou(model, street, None) > miou(model, street, NATIVE) + 10


# ------------------------------------------------------------------------------------------------ export and bench


@pytest.mark.slow
def test_an_exported_file_takes_frames_as_large_as_in_training(tmp_path: Path, network: SegmentationModel) -> None:
    trained_on.note(network, (128, 64), "procity")
    made = export.export(network, tmp_path / "x.onnx")
    graph = onnx.load(made.path)
    sides = [side.dim_value for side in graph.graph.input[0].type.tensor_type.shape.dim]
    assert sides[1:] == [3, 64, 128]
    facts = {entry.key: entry.value for entry in graph.metadata_props}
    assert (facts["size"], facts["trained_size"], facts["trained_on"]) == ("128x64", "128x64", "procity")


@pytest.mark.slow
def test_the_benchmark_measures_at_the_size_of_the_training(network: SegmentationModel) -> None:
    options = {"frames": 2, "runtimes": ("pytorch",), "progress": False, "anyway": True}
    table = latency.bench({"a": network}, **options)
    assert set(zip(table["width"], table["height"], strict=True)) == {(64, 32)}
    with pytest.raises(ValueError, match="trained at different sizes .*a 64x32, b 1024x512.*; pass size"):
        latency.bench({"a": network, "b": registry.build("student", 19, False)}, **options)


def test_the_command_times_each_network_at_its_own_size() -> None:
    networks = {"student": registry.shipped("student"), "student-cpu": registry.shipped("student-cpu")}
    networks["untrained"] = registry.build("student", 19, False)
    (first, some), (second, others) = tools._by_size(networks, [])
    assert (first, list(some)) == (TRAINED, ["student"])
    assert (second, list(others)) == ((1024, 512), ["student-cpu", "untrained"])
    assert "student-cpu at the training size; untrained untrained" in tools._whose(others)
    assert tools._by_size(networks, [(64, 32)]) == [((64, 32), networks)]


@pytest.mark.slow
def test_the_commands_follow_the_sidecar(tmp_path: Path, network: SegmentationModel) -> None:
    weights, clip = tmp_path / "mine.safetensors", film(tmp_path / "clip", (192, 96))
    registry.save_weights(network, weights, size=[128, 64], dataset="cityscapes")
    ask = lambda *words: CliRunner().invoke(app, [*map(str, words), "--weights", str(weights)])  # noqa: E731
    plain, native = ask("segment", clip), ask("segment", clip, "--size", "native")
    assert "the network sees 128x64 (--size native: the video's own 192x96)" in plain.output
    assert "it was trained at 128x64 on Cityscapes" in plain.output and "seen at 128x64" in plain.output
    assert "the network sees 192x96, the video's own size" in native.output and "seen at 192x96" in native.output
    made = ask("export", tmp_path / "x.pt2")
    assert made.exit_code == 0 and "takes frames of 128x64; it was trained at 128x64 on Cityscapes" in made.output
    assert "it must be WIDTHxHEIGHT" in ask("export", tmp_path / "y.pt2", "--size", "native").output
