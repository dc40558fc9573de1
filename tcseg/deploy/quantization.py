"""Convert an exported network to fp16, or to int8 by static quantisation on real frames, as ONNX or OpenVINO IR.

int8 is written as QuantizeLinear/DequantizeLinear pairs (QDQ), which ONNX Runtime and OpenVINO both turn into 8-bit kernels.
What was tried on the shipped student (72 val frames of procity, 256x128, 32 calibration frames; share of labels equal to
fp32's, ONNX Runtime): ranges from the least to the greatest value 0.967; to the 99.99th percentile 0.975 (99.9: 0.970, 99.999:
0.968: far values are worth clipping, but few of them); with the first convolution in float, too, 0.980. Hence:

- activations uint8 with a zero point, ranges from the 0.01th to the 99.99th percentile; weights int8, a scale per channel;
- weights in 7 bits: without VNNI a processor adds two products in 16 bits, which 8-bit weights can overflow. Agreement was the
  same with 8 bits on a processor that has VNNI;
- in float stay the normalisation and the first convolution (the picture is as fine as 8 bits already; where the normalisation is
  folded into that convolution, it takes the picture's bytes as they are), the last convolution and what follows it (8-bit logits
  tie), and convolutions on pooled 1x1 maps (nothing to gain);
- quantised is `Conv` and what lies between: ReLU, clip, sum. Resizing in 8 bits gained no time in either runtime, and OpenVINO
  2026.4 dies of some nets where every operator is quantised.

On training streets that it was not calibrated on, the student's labels in int8 are 98.0 to 98.7 % those of fp32, in fp16 99.97 %;
ONNX Runtime and OpenVINO round differently, and agree with each other on 99.3 % in int8. fp16 is a storage format where the
processor has no fp16 arithmetic, as most CPUs: half the bytes, at best the speed of fp32. `tcseg measure precision` says what is
lost, `tcseg bench` what is gained.
"""

from __future__ import annotations

import io
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from tcseg.atomic_files import beside
from tcseg.deploy import onnx_rewrites
from tcseg.deploy.exported_files import BIN_HASH, digest, weights_of
from tcseg.deploy.label_map import to_planes
from tcseg.errors import InputError, require_one_of

if TYPE_CHECKING:
    import onnx

PRECISIONS = ("fp32", "fp16", "int8")
CALIBRATION_FRAMES = 32  # enough: ranges are taken from every pixel of every map
PERCENTILE = 99.99  # of a map's values
IR_VERSION = 9  # at most: ONNX Runtime from 1.17 on opens it
_QUANTISED = ("Conv", "Relu", "Clip", "Add")


def check_calibration(precision: str, calibration: np.ndarray | None) -> None:
    """Refuse an unknown precision, and int8 without frames to calibrate it on.

    Raises:
        ValueError: in one line, with the fix.
    """
    require_one_of("precision", precision, PRECISIONS)
    if precision != "int8":
        return
    if calibration is None:
        raise InputError(
            "precision is 'int8', calibration is None: int8 needs real frames to take its ranges from; pass "
            f"calibration=frames, uint8 (N,H,W,3) RGB, about {CALIBRATION_FRAMES} of the training data"
        )
    if calibration.dtype != np.uint8 or calibration.ndim != 4 or calibration.shape[3] != 3 or 0 in calibration.shape:
        raise InputError(
            f"calibration is {calibration.dtype} {calibration.shape}; it must be uint8 (N,H,W,3) RGB with N at least 1"
        )


def convert(
    source: Path,
    path: Path,
    precision: str = "fp32",
    calibration: np.ndarray | None = None,
    channels_last: bool = False,
) -> None:
    """Convert an fp32 ONNX file of ours to another precision, as ONNX or OpenVINO IR, without comparing it (`export` does that).

    Args:
        source: .onnx, fp32, as `export.write_onnx` writes it.
        path: .onnx (may be the source) or .xml (its .bin comes beside it).
        precision: of `PRECISIONS`.
        calibration: for int8: uint8 (N,H,W,3) RGB, real frames; resized where the graph's size is fixed.
        channels_last: take frames as (B,H,W,3) and give logits as (B,h,w,K); see `onnx_rewrites.take_channels_last`.

    Raises:
        ValueError: unknown precision or suffix, int8 without frames.

    Example:
        >>> written = tcseg.export("student-cpu", folder / "plain.onnx", size=(128, 64))
        >>> tcseg.quantize(written.path, folder / "int8.onnx", "int8", calibration=frames)
    """
    check_calibration(precision, calibration)
    if path.suffix == ".xml":
        _to_openvino(source, path, precision, calibration, channels_last)
    elif path.suffix != ".onnx":
        raise InputError(f"path is {path.name!r}; its suffix must be .onnx or .xml")
    elif precision == "fp16":
        _save(_to_fp16(source), path, precision, channels_last)
    elif precision == "int8":
        _save(_to_int8(source, calibration), path, precision, channels_last)
    else:
        import onnx

        _save(onnx.load(source), path, precision, channels_last)


def _save(model: onnx.ModelProto, path: Path, precision: str, channels_last: bool) -> None:
    """Check and write an ONNX file, with our facts in it and none of the quantiser's."""
    import onnx

    if channels_last:
        onnx_rewrites.take_channels_last(model)
    onnx.checker.check_model(model)
    model.ir_version = min(model.ir_version, IR_VERSION)  # the quantiser and the fp16 converter write their own
    onnx.helper.set_model_props(model, _facts(model, precision, channels_last))
    partial = beside(path)
    onnx.save(model, partial)
    partial.replace(path)


def _facts(model: onnx.ModelProto, precision: str, channels_last: bool) -> dict[str, str]:
    noted = {entry.key: entry.value for entry in model.metadata_props if not entry.key.startswith("onnx.")}
    return noted | {"precision": precision} | ({"layout": "NHWC"} if channels_last else {})


def _to_openvino(source: Path, path: Path, precision: str, calibration: np.ndarray | None, channels_last: bool) -> None:
    import onnx
    import openvino

    with tempfile.TemporaryDirectory(prefix="tcseg-") as folder:
        model, plain = onnx.load(source), Path(folder) / "network.onnx"
        facts = _facts(model, precision, channels_last)
        facts.pop("opset", None)  # of the ONNX file that this was
        if precision == "int8" or channels_last:
            ours = "int8" if precision == "int8" else "fp32"  # OpenVINO makes fp16 itself, of the weights alone
            convert(source, plain, ours, calibration, channels_last)
            model = onnx.load(plain)
        del model.metadata_props[:]  # OpenVINO would note them a second time, as they were
        onnx.save(model, plain)
        graph = openvino.convert_model(plain)
        graph.set_rt_info(facts, "tcseg")
        half = precision == "fp16"
        openvino.save_model(graph, path, compress_to_fp16=half)
        graph.set_rt_info(digest(weights_of(path)), ["tcseg", BIN_HASH])  # `open_file` looks whether the two belong together
        openvino.save_model(graph, path, compress_to_fp16=half)


# ------------------------------------------------------------------------------------------------ fp16


def _to_fp16(source: Path) -> onnx.ModelProto:
    """Weights and arithmetic in fp16, logits float32 as before.

    The converter is ONNX Runtime's, because it works on the graph whose batch norms are folded already, in fp32.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return convert_float_to_float16(onnx.load(source), keep_io_types=True)


# ------------------------------------------------------------------------------------------------ int8


class _Frames:
    """Calibration frames one by one, as ONNX Runtime's quantiser asks for them."""

    def __init__(self, frames: np.ndarray) -> None:
        self._frames, self._remaining = frames, iter(frames)

    def __len__(self) -> int:
        return len(self._frames)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Go on with these frames."""
        self._remaining = iter(self._frames[start_index:end_index])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The network's input, or None after the last."""
        frame = next(self._remaining, None)
        return None if frame is None else {"frames": to_planes(frame)}


def _to_int8(source: Path, calibration: np.ndarray) -> onnx.ModelProto:
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="tcseg-") as folder, redirect_stdout(io.StringIO()):  # it prints progress
        shaped, path = Path(folder) / "shaped.onnx", Path(folder) / "int8.onnx"
        # Shapes only: torch's exporter has folded the batch norms, and what else there is to fold the runtimes fold.
        quant_pre_process(str(source), str(shaped), skip_optimization=True, skip_symbolic_shape=True)
        graph = onnx.load(shaped).graph
        quantize_static(
            str(shaped),
            str(path),
            _Frames(_fitted(graph, calibration)),
            QuantFormat.QDQ,
            list(_QUANTISED),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=float_nodes(graph),
            calibrate_method=CalibrationMethod.Percentile,
            # One frame at a time: the quantiser keeps every map of a stride in memory, 0.1 GB a frame at 1024x512.
            extra_options={"CalibPercentile": PERCENTILE, "CalibStridedMinMax": 1},
        )
        quantised = onnx.load(path)
        onnx_rewrites.quantise_by_itself(quantised)
        return quantised


def _fitted(graph: onnx.GraphProto, frames: np.ndarray) -> np.ndarray:
    """Frames at the graph's size, where that is fixed."""
    height, width = (side.dim_value for side in graph.input[0].type.tensor_type.shape.dim[2:])
    if not (height and width) or frames.shape[1:3] == (height, width):
        return frames
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames])


def float_nodes(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that int8 leaves alone: up to the first convolution, from the last one on, and on pooled maps.

    The first convolution is quantised where it takes the frame's bytes.

    Args:
        graph: in the order of execution, with inferred shapes.
    """
    first = next(index for index, node in enumerate(graph.node) if node.op_type == "Conv")
    names = [node.name for node in graph.node[: first if onnx_rewrites.takes_bytes(graph) else first + 1]]
    producers = {name: node for node in graph.node for name in node.output}
    above = [graph.output[0].name]
    while above:  # up from the output: argmax, upsampling, the last convolution, or those whose answers are added
        if (node := producers.get(above.pop())) is not None:
            names.append(node.name)
            above += [] if node.op_type == "Conv" else node.input if node.op_type == "Add" else node.input[:1]
    shapes = {value.name: [side.dim_value for side in value.type.tensor_type.shape.dim] for value in graph.value_info}
    pooled = (node for node in graph.node if node.op_type == "Conv" and shapes.get(node.output[0], ())[2:] == [1, 1])
    return [*names, *(node.name for node in pooled)]
