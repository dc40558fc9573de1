"""An exported graph without the work that a frame's preparation does twice: normalisation, types, the order of channels.

A network normalises the frame that it is given, (x - mean) / std, in float32 at full size: on a CPU three passes through the
largest array there is, which cost as much as a third of a fast network (`students`). A convolution is linear, so they are a part
of it:

    conv(w, b)((x - mean) / std) = conv(w / std, b - sum(w mean / std))(x)      where nothing is padded.

Where the first convolution pads with zeros, only 1 / std can go into it: a padded zero stands for the mean. Both are exact but for
rounding. In int8, the first convolution then takes the frame's bytes as they are: scale 1, zero point 0, nothing lost.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

FRAMES = "frames"  # the graph's input, uint8 (B,3,H,W)


def _users(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    users: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            users[name].append(node)
    return users


def _chain(graph: onnx.GraphProto, *kinds: str) -> list[onnx.NodeProto] | None:
    """The nodes after the input, if they are of these kinds, each the only user of the one before."""
    users, name, found = _users(graph), FRAMES, []
    for kind in kinds:
        after = users[name]
        if len(after) != 1 or after[0].op_type != kind:
            return None
        found.append(after[0])
        name = after[0].output[0]
    return found


def pads(conv: onnx.NodeProto) -> bool:
    """Whether a convolution pads."""
    options = {attribute.name: attribute for attribute in conv.attribute}
    automatic = "auto_pad" in options and options["auto_pad"].s not in (b"NOTSET", b"VALID")
    return automatic or ("pads" in options and any(options["pads"].ints))


def fold_normalisation(model: onnx.ModelProto) -> None:
    """Move frames -> Cast -> Sub(mean) -> Div(std) -> Conv into the convolution, as far as that is exact; else change nothing."""
    from onnx import numpy_helper

    graph = model.graph
    chain = _chain(graph, "Cast", "Sub", "Div", "Conv")
    if chain is None:
        return
    cast, sub, div, conv = chain
    constants = {tensor.name: tensor for tensor in graph.initializer}
    if not {sub.input[1], div.input[1], conv.input[1]} <= constants.keys():
        return
    mean, std, weight = (numpy_helper.to_array(constants[node.input[1]]) for node in (sub, div, conv))
    weight = weight / std.reshape(1, -1, 1, 1)
    constants[conv.input[1]].CopyFrom(numpy_helper.from_array(weight.astype(np.float32), conv.input[1]))
    conv.input[0] = sub.output[0]
    graph.node.remove(div)
    if not pads(conv):
        _subtract(graph, conv, (weight * mean.reshape(1, -1, 1, 1)).sum((1, 2, 3)))
        conv.input[0] = cast.output[0]
        graph.node.remove(sub)
    _forget_unused(graph)


def _subtract(graph: onnx.GraphProto, conv: onnx.NodeProto, shift: np.ndarray) -> None:
    """Make a convolution's bias smaller by `shift`."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    before = numpy_helper.to_array(constants[conv.input[2]]) if len(conv.input) > 2 else np.zeros_like(shift)
    name = f"{conv.input[1]}_folded_bias"
    graph.initializer.append(numpy_helper.from_array((before - shift).astype(np.float32), name))
    del conv.input[2:]
    conv.input.append(name)


def takes_bytes(graph: onnx.GraphProto) -> bool:
    """Whether the first convolution sees the frame's own values, 0..255."""
    return _chain(graph, "Cast", "Conv") is not None


def quantise_by_itself(model: onnx.ModelProto) -> None:
    """In a quantised graph, frames -> Cast -> Quantize -> Dequantize -> Conv becomes frames -> Dequantize(1, 0) -> Conv.

    The frame is 8 bits already: no range has to be found for it and nothing is rounded.
    """
    from onnx import numpy_helper

    graph = model.graph
    chain = _chain(graph, "Cast", "QuantizeLinear", "DequantizeLinear", "Conv")
    if chain is None:
        return
    cast, quantize, dequantize, _ = chain
    scale, zero = numpy_helper.from_array(np.float32(1), "byte"), numpy_helper.from_array(np.uint8(0), "byte_zero")
    graph.initializer.extend([scale, zero])
    dequantize.input[:] = [FRAMES, scale.name, zero.name]
    graph.node.remove(cast)
    graph.node.remove(quantize)
    _forget_unused(graph)


def take_channels_last(model: onnx.ModelProto) -> None:
    """Let the graph take frames as cameras give them, uint8 (B,H,W,3): one transposition, which a runtime may do without."""
    from onnx import helper

    graph = model.graph
    sides = graph.input[0].type.tensor_type.shape.dim
    batch, channels, height, width = (type(side).FromString(side.SerializeToString()) for side in sides)
    for side, wanted in zip(sides, (batch, height, width, channels), strict=True):
        side.CopyFrom(wanted)
    for node in graph.node:
        node.input[:] = ["planes" if name == FRAMES else name for name in node.input]
    graph.node.insert(0, helper.make_node("Transpose", [FRAMES], ["planes"], "planes", perm=[0, 3, 1, 2]))


def _forget_unused(graph: onnx.GraphProto) -> None:
    """Drop constants that no node reads any more."""
    used = set(_users(graph))
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
