"""Exports: one file, equal labels, any batch, and clear errors. The slow ones run the exporter."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tcseg.deploy import description
from tcseg.deploy import export as module
from tcseg.deploy.description import Contents
from tcseg.deploy.export import compare, export, sample_frames
from tcseg.deploy.exported_files import FORMATS, RUNTIMES, open_file, why_missing
from tcseg.deploy.label_map import to_planes, upsample_argmax
from tcseg.deploy.runtimes import open_network, open_networks
from tcseg.errors import InputError
from tcseg.labels import own_classes
from tcseg.models.networks import SegmentationModel
from tcseg.models.registry import build


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    torch.manual_seed(0)
    return build("student", 19, False).eval()


def needs(runtime: str) -> None:
    if why_missing(runtime):
        pytest.skip(why_missing(runtime))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "scope", "dynamic"),
    [(".onnx", "labels", True), (".xml", "network", False)],
)
def test_exports_answer_as_pytorch(
    tmp_path: Path, model: SegmentationModel, suffix: str, scope: str, dynamic: bool
) -> None:
    needs(FORMATS[suffix])
    path = tmp_path / "deep" / f"student{suffix}"
    result = export(model, path, size=(128, 96), scope=scope, dynamic=dynamic)
    assert result.agreement >= 0.999 and result.frames == 4
    graph = {"student.onnx"} if suffix == ".onnx" else {"student.xml", "student.bin"}
    beside = {f"student{suffix}.json", f"student{suffix}.py"}
    assert {file.name for file in path.parent.iterdir()} == graph | beside  # no .data, nothing left aside
    assert result.bytes == sum((path.parent / name).stat().st_size for name in graph) < 2_500_000
    run = open_file(path, threads=1)
    planes = np.concatenate([to_planes(frame) for frame in sample_frames((128, 96), 3)])
    output = run(planes)  # the batch is dynamic
    assert output.shape == ((3, 96, 128) if scope == "labels" else (3, 19, 24, 32))
    assert output.dtype == (np.uint8 if scope == "labels" else np.float32)
    if dynamic:
        assert compare(model, path, sample_frames((160, 64), 2), scope) >= 0.999
    if suffix == ".onnx":
        _check_facts(path, scope)


def _check_facts(path: Path, scope: str) -> None:
    import onnx

    graph = onnx.load(path)
    assert graph.ir_version <= 9  # what ONNX Runtime 1.17 opens
    onnx.checker.check_model(graph)
    facts = {entry.key: entry.value for entry in graph.metadata_props}
    assert facts["channel_order"] == "RGB" and facts["layout"] == "NCHW" and "uint8" in facts["value_range"]
    assert facts["scope"] == scope and facts["arch"] == "student"
    assert json.loads(facts["classes"])[0] == "road" and json.loads(facts["colors"])[0] == [128, 64, 128]


@pytest.mark.parametrize("count", [3, 19])
def test_a_file_names_the_network_s_own_classes(count: int) -> None:
    """A network of 3 classes was exported with Cityscapes' 19 names."""
    own = own_classes([f"thing {place}" for place in range(count)])
    facts = description.facts(build("student", own, False), Contents((64, 32), "labels"))
    assert json.loads(facts["classes"]) == list(own.classes) and json.loads(facts["colors"]) == own.colors.tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "scope", "precision", "least"),
    [("x.onnx", "labels", "int8", 0.5), ("x.xml", "network", "fp16", 0.97), ("x.pt2", "labels", "fp16", 0.97)],
)
def test_few_bits_are_measured_and_not_refused(
    tmp_path: Path, model: SegmentationModel, name: str, scope: str, precision: str, least: float
) -> None:
    """Random weights: scores lie close together, and the least rounding changes labels."""
    needs("onnxruntime")
    needs(FORMATS[Path(name).suffix])
    frames = sample_frames((128, 64), 6)
    path = tmp_path / name
    result = export(model, path, frames[:2], (128, 64), scope, precision=precision, calibration=frames[2:])
    assert result.precision == precision and least <= result.agreement <= 1
    assert model.head.weight.dtype == torch.float32
    output = open_file(path, threads=1)(to_planes(frames[0]))
    assert output.dtype == (np.uint8 if scope == "labels" else np.float32)
    files = [file for file in tmp_path.iterdir() if file.suffix in (".onnx", ".xml", ".bin", ".pt2")]
    assert result.bytes == sum(file.stat().st_size for file in files) < 1_600_000
    if path.suffix == ".xml":
        assert "fp32" not in path.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arch", "scope", "dynamic"),
    [("x.onnx", "patch16-32-o8", "network", True), ("x.xml", "student", "labels", False)],
)
def test_channels_may_be_last(tmp_path: Path, name: str, arch: str, scope: str, dynamic: bool) -> None:
    needs(FORMATS[Path(name).suffix])
    torch.manual_seed(0)
    network, path = build(arch, 19, False).eval(), tmp_path / name
    result = export(network, path, size=(128, 64), scope=scope, dynamic=dynamic, channels_last=True)
    assert result.agreement >= 0.999 and result.frames == 4
    run = open_file(path, threads=1)
    for size in [(128, 64), (96, 160)] if dynamic else [(128, 64)]:
        frames = sample_frames(size, 3)
        output = run(frames)  # as a camera gives them; the batch is dynamic
        rows, columns = size[1] // network.stride, size[0] // network.stride
        assert output.shape == ((3, size[1], size[0]) if scope == "labels" else (3, rows, columns, 19))
        assert compare(network, path, frames, scope, channels_last=True) >= 0.999


@pytest.mark.slow
def test_torch_export_opens_again(tmp_path: Path, model: SegmentationModel) -> None:
    result = export(model, tmp_path / "student.pt2", size=(96, 64), scope="labels")
    assert result.agreement >= 0.999


@pytest.mark.slow
def test_networks_of_all_runtimes_agree_on_odd_frames(model: SegmentationModel) -> None:
    present = [runtime for runtime in RUNTIMES if not why_missing(runtime)]
    frame = sample_frames((101, 43), 1)[0]
    planes = to_planes(frame)
    with torch.inference_mode():
        expected = upsample_argmax(model(torch.from_numpy(planes)), (128, 64))[0, :43, :101]
    networks = open_networks(model, present, (101, 43), threads=1)
    assert list(networks) == present
    for runtime, network in networks.items():
        labels = network(frame)
        assert labels.shape == (43, 101) and labels.dtype == np.uint8, runtime
        assert (labels == expected).mean() >= 0.999, runtime


def test_pytorch_network_leaves_the_model_and_frame_alone(model: SegmentationModel) -> None:
    frame = sample_frames((64, 32), 1)[0]
    before = frame.copy()
    network = open_network(model)
    assert network(frame).shape == (32, 64) and (frame == before).all()
    assert network(frame[:, ::-1]).shape == (32, 64)  # negative strides


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("x.tflite", {}, "suffix must be one of"),
        ("x", {}, "suffix must be one of"),
        ("x.ONNX", {}, "path is 'x.ONNX'; .* pass x.onnx"),
        ("x.Xml", {}, "pass x.xml"),
        (f"{'x' * 250}.onnx", {}, "its name has 255 bytes: use 200 at most"),
        ("\udcff.onnx", {}, "has bytes that are not UTF-8, which runtimes do not open"),
        ("x.onnx", {"opset": 15}, r"opset is 15; it must be 16 to 26 \(20 if it is left out\)"),
        ("x.onnx", {"opset": 27}, "opset is 27; it must be 16 to 26"),
        ("x.onnx", {"opset": True}, "opset is True"),
        ("x.xml", {"opset": 17}, "opset is 17; only .onnx files have one, and path is 'x.xml'"),
        ("x.pt2", {"opset": 20}, "opset is 20; only .onnx files have one"),
        ("x.onnx", {"scope": "all"}, "scope is 'all'"),
        ("x.onnx", {"size": (500, 333)}, "size is 500x333; .* pass 512x352"),
        ("x.onnx", {"size": (32, 32)}, "at least 64: pass 64x64"),
        ("x.onnx", {"precision": "int4"}, "precision is 'int4'"),
        ("x.onnx", {"precision": "int8"}, "calibration is None: int8 needs real frames"),
        ("x.pt2", {"precision": "int8"}, "path is 'x.pt2'; int8 is written as .onnx or .xml"),
        ("x.pt2", {"channels_last": True}, r"path is 'x.pt2'; in PyTorch frames.permute\(0, 3, 1, 2\) costs nothing"),
    ],
)
def test_wrong_arguments(tmp_path: Path, model: SegmentationModel, name: str, options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        export(model, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_fix(
    tmp_path: Path, model: SegmentationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    with pytest.raises(RuntimeError, match=r"needs onnxscript, not installed: pip install onnxscript"):
        export(model, tmp_path / "x.onnx")
    assert why_missing("pytorch") is None
    with pytest.raises(ValueError, match="runtime is 'tensorrt'"):
        why_missing("tensorrt")


def test_a_graph_that_disagrees_is_not_kept(
    tmp_path: Path, model: SegmentationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("onnxruntime")
    monkeypatch.setitem(module.WRITERS, ".onnx", lambda network, path, *_: path.write_bytes(b"graph"))
    monkeypatch.setattr(module, "compare", lambda *_: 0.97)
    old = tmp_path / "x.onnx"
    old.write_text("of yesterday")
    with pytest.raises(RuntimeError, match=r"agrees with PyTorch on 97.00% of the labels"):
        export(model, old)
    assert old.read_text() == "of yesterday" and [file.name for file in tmp_path.iterdir()] == ["x.onnx"]
    fp16 = export(model, old.with_name("y.onnx"), precision="fp16")  # which promises nothing, but says it
    assert fp16.agreement == 0.97 and fp16.path.exists()
    monkeypatch.setattr(module, "compare", lambda *_: 1.0)
    assert export(model, old).agreement == 1 and old.read_bytes() == b"graph"


def test_sample_frames_are_repeatable_pictures() -> None:
    frames = sample_frames((64, 48), 3)
    assert frames.shape == (3, 48, 64, 3) and frames.dtype == np.uint8 and frames.std() > 20
    assert (frames == sample_frames((64, 48), 3)).all() and (frames[0] != frames[1]).any()


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "precision"), [(".onnx", "fp32"), (".onnx", "int8"), (".xml", "fp32")])
def test_a_file_is_compared_as_users_open_it(
    tmp_path: Path, model: SegmentationModel, suffix: str, precision: str
) -> None:
    """Without settings OpenVINO computes in bf16 on some processors, and ONNX Runtime 1.17 refuses IR 10."""
    needs(FORMATS[suffix])
    path, frames = tmp_path / f"a b{suffix}", sample_frames((128, 96), 2)
    result = export(model, path, frames, (128, 96), precision=precision, calibration=frames, channels_last=True)
    assert result.agreement_default == compare(model, path, frames, "network", True, defaults=True) > 0.5
    if suffix == ".xml":
        import openvino

        graph = openvino.Core().read_model(path)
        noted = {key: graph.get_rt_info(["tcseg", key]).astype(str) for key in ("layout", "channel_order")}
        assert noted == {"layout": "NHWC", "channel_order": "RGB"}
    else:
        import onnx

        graph = onnx.load(path)
        assert graph.ir_version <= 9
        assert {entry.key: entry.value for entry in graph.metadata_props}["layout"] == "NHWC"


@pytest.mark.parametrize("name", ["x.onnx", "x.xml", "x.pt2"])
def test_a_folder_is_no_output_file(tmp_path: Path, model: SegmentationModel, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"out is .*{name}, which is a folder; give a file name"):
        export(model, tmp_path / name, size=(64, 64))
    assert [path.name for path in tmp_path.iterdir()] == [name] and not any((tmp_path / name).iterdir())
