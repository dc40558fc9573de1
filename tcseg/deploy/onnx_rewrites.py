"""Rewrite exported ONNX graphs: fold the normalisation, remove conversions, take frames in channels-last order.

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
    users, name, nodes = _users(graph), FRAMES, []
    for kind in kinds:
        after = users[name]
        if len(after) != 1 or after[0].op_type != kind:
            return None
        nodes.append(after[0])
        name = after[0].output[0]
    return nodes


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

    The frame is 8 bits already: no range has to be found for it and nothing is rounded. A bias is counted in steps of the input's
    times the weight's, and is counted anew; otherwise ONNX Runtime would compute this layer in float.
    """
    from onnx import numpy_helper

    graph = model.graph
    chain = _chain(graph, "Cast", "QuantizeLinear", "DequantizeLinear", "Conv")
    if chain is None:
        return
    cast, quantize, dequantize, conv = chain
    _count_bias_anew(graph, conv)
    scale, zero = numpy_helper.from_array(np.float32(1), "byte"), numpy_helper.from_array(np.uint8(0), "byte_zero")
    graph.initializer.extend([scale, zero])
    dequantize.input[:] = [FRAMES, scale.name, zero.name]
    graph.node.remove(cast)
    graph.node.remove(quantize)
    _forget_unused(graph)


def _count_bias_anew(graph: onnx.GraphProto, conv: onnx.NodeProto) -> None:
    """Write a convolution's bias in steps of the weight's, for an input whose step is 1."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    weight, bias = (producers.get(name) for name in (*conv.input[1:], "")[:2])
    if weight is None or bias is None or bias.op_type != "DequantizeLinear":
        return
    count, before, step = (numpy_helper.to_array(constants[name]) for name in (*bias.input[:2], weight.input[1]))
    anew = np.rint(count.astype(float) * before / step).astype(count.dtype)
    for name, value in zip(bias.input[:2], (anew, step), strict=True):
        constants[name].CopyFrom(numpy_helper.from_array(value, name))


def take_channels_last(model: onnx.ModelProto) -> None:
    """Let the graph take frames as cameras give them, uint8 (B,H,W,3), and give its logits as (B,h,w,K); labels stay (B,H,W).

    The two transpositions stand where a runtime whose convolutions want the channels last anyway drops them: right before the
    first convolution, after the frame's type has changed, and right after the last one. OpenVINO copies nothing there; of planes it
    makes two copies, more than a quarter of what a frame takes `student-cpu` in int8.

    A first convolution of patches of s x s pixels, without overlap, sees a patch's row as 3 s channels of one pixel: the same bytes
    in the same order, so nothing moves, and a convolution of 12 channels runs faster than one of 3.
    """
    from onnx import helper

    graph = model.graph
    _reorder(graph.input[0], (0, 2, 3, 1))
    *before, conv = _up_to_the_first_convolution(graph) or [None]
    for node in before:
        _constants_last(graph, node)
    input_name, readers = (before[-1].output[0], [conv]) if before else (FRAMES, list(graph.node))
    for node in readers:
        node.input[:] = ["planes" if name == input_name else name for name in node.input]
    place = list(graph.node).index(conv) if before else 0
    graph.node.insert(place, helper.make_node("Transpose", [input_name], ["planes"], "planes", perm=[0, 3, 1, 2]))
    if {node.op_type for node in before}.isdisjoint(("Sub", "Div")) and before and not pads(conv):
        _read_rows(graph, before[0], conv)
    if len(graph.output[0].type.tensor_type.shape.dim) == 4:
        _reorder(graph.output[0], (0, 2, 3, 1))
        out = graph.output[0].name
        for node in graph.node:
            node.output[:] = [f"{out}_planes" if name == out else name for name in node.output]
        graph.node.append(helper.make_node("Transpose", [f"{out}_planes"], [out], "last", perm=[0, 2, 3, 1]))
    del graph.value_info[:]  # shapes of what is another way round now
    _forget_unused(graph)


def _reorder(value: onnx.ValueInfoProto, order: tuple[int, ...]) -> None:
    """Declare the sides of an input or output in another order."""
    sides = value.type.tensor_type.shape.dim
    original = [type(side).FromString(side.SerializeToString()) for side in sides]
    for side, source in zip(sides, order, strict=True):
        side.CopyFrom(original[source])


def _up_to_the_first_convolution(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that read the frame, each the only user of the one before: what treats every value by itself, then a convolution.

    Empty where the graph begins otherwise.
    """
    sides = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    users, name, nodes = _users(graph), FRAMES, []
    while len(users[name]) == 1 and users[name][0].input[0] == name:
        node = users[name][0]
        nodes.append(node)
        if node.op_type == "Conv":
            return nodes if len(nodes) > 1 else []
        constant = all(sides.get(other) in (0, 4) for other in node.input[1:])
        if node.op_type not in ("Cast", "Sub", "Div", "QuantizeLinear", "DequantizeLinear") or not constant:
            break
        name = node.output[0]
    return []


def _constants_last(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """Put the channels of a node's constants last, as the mean's."""
    from onnx import numpy_helper

    for index, name in enumerate(node.input[1:], 1):
        constant = numpy_helper.to_array(next(tensor for tensor in graph.initializer if tensor.name == name))
        if constant.ndim == 4:
            node.input[index] = f"{name}_last"
            last = np.ascontiguousarray(constant.transpose(0, 2, 3, 1))
            graph.initializer.append(numpy_helper.from_array(last, node.input[index]))


def _read_rows(graph: onnx.GraphProto, first: onnx.NodeProto, conv: onnx.NodeProto) -> None:
    """Give a convolution of patches a patch's rows as channels; nothing from `first`, which reads the frames, knows channels."""
    from onnx import helper, numpy_helper

    options = {attribute.name: helper.get_attribute_value(attribute) for attribute in conv.attribute}
    side = options.get("strides", [1])[0]
    if side == 1 or not options.get("kernel_shape") == options["strides"] == [side, side]:
        return
    producers = {name: node for node in graph.node for name in node.output}
    name = producers[conv.input[1]].input[0] if conv.input[1] in producers else conv.input[1]
    weight = next(tensor for tensor in graph.initializer if tensor.name == name)
    rows = numpy_helper.to_array(weight).transpose(0, 3, 1, 2)  # (K,3,s,s) -> (K,column,3,row)
    rows = np.ascontiguousarray(rows.reshape(len(rows), -1, side, 1))
    weight.CopyFrom(numpy_helper.from_array(rows, name))
    for attribute in conv.attribute:
        if attribute.name in ("kernel_shape", "strides"):
            attribute.ints[:] = [side, 1]
    graph.initializer.append(numpy_helper.from_array(np.array([0, 0, -1, rows.shape[1]]), "rows_shape"))
    first.input[0] = "rows"
    graph.node.insert(0, helper.make_node("Reshape", [FRAMES, "rows_shape"], ["rows"], "rows"))


def _forget_unused(graph: onnx.GraphProto) -> None:
    """Drop constants that no node reads any more."""
    used = set(_users(graph))
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
