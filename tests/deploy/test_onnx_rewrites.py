"""Folding the normalisation: the same answers from fewer passes, with and without padding; frames as cameras give them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from tcseg.deploy import onnx_rewrites
from tcseg.deploy.export import sample_frames, write_onnx
from tcseg.deploy.exported_files import FORMATS, open_file, why_missing
from tcseg.deploy.quantization import convert
from tcseg.models import registry

SIZE = (128, 64)

if why_missing("onnxruntime"):
    pytest.skip(why_missing("onnxruntime"), allow_module_level=True)
import onnx  # noqa: E402


def planes(count: int = 2) -> np.ndarray:
    return np.ascontiguousarray(sample_frames(SIZE, count).transpose(0, 3, 1, 2))


def lively(name: str) -> nn.Module:
    """A network whose norms are not those of a new one, so that folding has something to get wrong."""
    torch.manual_seed(0)
    model = registry.build(name, 19)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.5, 0.5)
            layer.running_var.uniform_(0.5, 2)
            layer.bias.data.uniform_(-0.5, 0.5)
    return model.eval()


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, tuple[nn.Module, Path]]:
    """A network that pads its first convolution and one that does not, as ONNX files."""
    folder, files = tmp_path_factory.mktemp("onnx"), {}
    for name in ("mnv3s050-48-o8", "patch16-32-o8"):
        model = lively(name)
        write_onnx(model, folder / f"{name}.onnx", SIZE, batch=1)
        files[name] = model, folder / f"{name}.onnx"
    return files


def kinds(path: Path, count: int) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node][:count]


def after_the_frames(path: Path) -> list[str]:
    """Kinds of the nodes that one after the other read the frames, up to the first convolution."""
    found, name = [], "frames"
    while "Conv" not in found:
        (node,) = (node for node in onnx.load(path).graph.node if name in node.input)
        found.append(node.op_type)
        name = node.output[0]
    return found


def test_what_is_left_of_the_normalisation(written):
    assert kinds(written["mnv3s050-48-o8"][1], 3) == ["Cast", "Sub", "Conv"], "zeros are padded: the mean must stay"
    assert kinds(written["patch16-32-o8"][1], 2) == ["Cast", "Conv"]


@pytest.mark.parametrize("name", ("mnv3s050-48-o8", "patch16-32-o8"))
def test_the_logits_are_the_networks(written, name):
    model, path = written[name]
    run = open_file(path)
    for frame in planes():
        with torch.inference_mode():
            expected = model(torch.from_numpy(frame[None])).numpy()
        assert_allclose(run(frame[None]), expected, atol=2e-4 * np.abs(expected).max())


def test_a_graph_of_another_shape_is_left_alone(written):
    graph = onnx.load(written["patch16-32-o8"][1])
    before = graph.SerializeToString()
    onnx_rewrites.fold_normalisation(graph)  # done already: there is nothing to fold
    assert graph.SerializeToString() == before


def test_int8_takes_the_bytes_of_the_frame(written, tmp_path):
    _, source = written["patch16-32-o8"]
    convert(source, tmp_path / "int8.onnx", "int8", sample_frames(SIZE, 4))
    graph = onnx.load(tmp_path / "int8.onnx").graph
    (first,) = (node for node in graph.node if "frames" in node.input)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    assert first.op_type == "DequantizeLinear"
    assert constants[first.input[1]] == 1 and constants[first.input[2]] == 0
    (conv,) = (node for node in graph.node if first.output[0] in node.input)
    steps = {node.output[0]: constants[node.input[1]] for node in graph.node if node.op_type == "DequantizeLinear"}
    assert_allclose(steps[conv.input[2]], steps[conv.input[1]], err_msg="ONNX Runtime takes a bias in these steps only")
    exact, close = open_file(source), open_file(tmp_path / "int8.onnx")
    agree = [(exact(frame[None]).argmax(1) == close(frame[None]).argmax(1)).mean() for frame in planes(4)]
    assert np.mean(agree) > 0.8, "random weights, so classes lie close together; a wrong scale gives a few per cent"


@pytest.mark.parametrize("precision", ("fp32", "fp16", "int8"))
@pytest.mark.parametrize("name", ("mnv3s050-48-o8", "patch16-32-o8"))
@pytest.mark.parametrize("suffix", (".onnx", ".xml"))
def test_frames_may_come_as_cameras_give_them(written, tmp_path, name, precision, suffix):
    if why_missing(FORMATS[suffix]):
        pytest.skip(why_missing(FORMATS[suffix]))
    _, source = written[name]
    first, last = tmp_path / f"first{suffix}", tmp_path / f"last{suffix}"
    convert(source, first, precision, sample_frames(SIZE, 2))
    convert(source, last, precision, sample_frames(SIZE, 2), channels_last=True)
    frame = sample_frames(SIZE, 1)
    there = open_file(first)(np.ascontiguousarray(frame.transpose(0, 3, 1, 2)))
    ours = open_file(last)(frame)
    assert ours.shape == (1, 8, 16, 19) and not np.array_equal(there[0, 0], there[0, 1])
    # In 8 bits a value may be rounded to its neighbour where sums are added in another order.
    close = 0.1 if precision == "int8" else 1e-2 if precision == "fp16" else 1e-4
    assert_allclose(ours.transpose(0, 3, 1, 2), there, atol=close * np.abs(there).max())


@pytest.mark.parametrize("precision", ("fp32", "int8"))
def test_patches_are_read_by_rows(written, tmp_path, precision):
    _, source = written["patch16-32-o8"]
    convert(source, tmp_path / "last.onnx", precision, sample_frames(SIZE, 2), channels_last=True)
    assert after_the_frames(tmp_path / "last.onnx")[0] == "Reshape"
    changed = (
        "Cast" if precision == "fp32" else "DequantizeLinear"
    )  # first of all: OpenVINO sees bytes in the convolution
    assert after_the_frames(tmp_path / "last.onnx")[1:] == [changed, "Transpose", "Conv"]
    _, source = written["mnv3s050-48-o8"]
    convert(source, tmp_path / "padded.onnx", precision, sample_frames(SIZE, 2), channels_last=True)
    found = after_the_frames(tmp_path / "padded.onnx")
    assert found == ["Cast", "Sub", "Transpose", "Conv"], "windows that overlap are no rows"


def test_a_graph_that_begins_otherwise_is_transposed_at_its_input(tmp_path):
    """One whose frames two nodes read: nothing is known of what comes first."""
    frames = onnx.helper.make_tensor_value_info("frames", onnx.TensorProto.UINT8, [1, 3, 4, 4])
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [1, 3, 4, 4])
    nodes = [
        onnx.helper.make_node("Cast", ["frames"], ["a"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Cast", ["frames"], ["b"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Sub", ["a", "b"], ["c"]),
        onnx.helper.make_node("Add", ["c", "a"], ["logits"]),
    ]
    graph = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "g", [frames], [logits]), opset_imports=[onnx.helper.make_opsetid("", 20)]
    )
    graph.ir_version = 10
    onnx_rewrites.take_channels_last(graph)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, tmp_path / "x.onnx")
    frame = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3), np.uint8)
    assert (open_file(tmp_path / "x.onnx")(frame) == frame).all()
