"""Export a trained network to ONNX, OpenVINO IR or torch.export, and compare it with PyTorch.

Every format takes `frames`, uint8 (B,3,H,W) RGB, because normalisation is part of the graph. What comes out is the
`scope`: "network" gives `logits` float32 (B,K,H/s,W/s), s the network's stride, to be followed by `label_map.upsample_argmax`
(faster on a CPU); "labels" gives `labels` uint8 (B,H,W), with the bilinear upsampling and the argmax inside, so that nothing of
this package is needed to run it. With `channels_last` an ONNX or OpenVINO file takes frames as cameras give them, (B,H,W,3), and
gives logits as (B,H/s,W/s,K): that is what OpenVINO is fastest with (`onnx_rewrites`). An export is compared with PyTorch before
it gets its name: a file that exists has passed.

In fp32 99.9 % of the labels must be equal. fp16 and int8 (`quantization` says how) are other networks: how many labels are equal is
measured and told, and what that costs in mIoU and steadiness is in `tcseg measure precision`.
"""

from __future__ import annotations

import copy
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from tcseg.atomic_files import explained
from tcseg.deploy import description
from tcseg.deploy.description import Contents
from tcseg.deploy.exported_files import FORMATS, note_written, open_file, require_runtime, weights_of
from tcseg.deploy.graphs import Half, graph_of, quiet
from tcseg.deploy.label_map import padded_size, to_planes, upsample_argmax
from tcseg.deploy.onnx_rewrites import fold_normalisation
from tcseg.deploy.quantization import IR_VERSION, PRECISIONS, check_calibration, convert
from tcseg.errors import CannotRunError, InputError, require_one_of, require_writable_file
from tcseg.models.trained_on import export_size

if TYPE_CHECKING:
    import onnx

    from tcseg.models.networks import SegmentationModel

SCOPES = ("network", "labels")
MIN_SIDE = 64  # below it a symbolic side could be 1 in the network's coarsest map, which the exporter treats apart
OPSET = 20
"""ONNX operators that a file is written with unless another opset is asked for."""
OPSETS = range(16, 27)
"""Those that torch's exporter and its version converter write, and ONNX Runtime reads; each was compared with PyTorch."""
LONGEST_NAME = 200  # bytes: file systems take 255, and temporary names are longer
MIN_AGREEMENT = 0.999  # of labels equal to PyTorch's; the rest are ties that another order of additions decides


@dataclass(frozen=True)
class Export:
    """Result of `export`.

    `agreement` is the share of labels equal to PyTorch's (0..1) over `frames` frames, with the settings that tcseg opens files
    with; `agreement_default` is the same without any setting, as most users open a file. `script` runs the file on a picture
    without tcseg; `sidecar` has its facts as JSON. `opset` is an .onnx file's; `bytes` are of the file, and its .bin.
    """

    path: Path
    scope: str
    precision: str
    agreement: float
    frames: int
    bytes: int
    seconds: float
    agreement_default: float
    script: Path
    sidecar: Path
    opset: int | None = None


def sample_frames(size: tuple[int, int], count: int, seed: int = 0) -> np.ndarray:
    """Random images with large smooth areas and edges, used if no real frames are available.

    Returns:
        uint8 (count,H,W,3) RGB.
    """
    generator = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        blocks = generator.integers(0, 256, (5, 9, 3), np.uint8)
        edges = cv2.resize(blocks, size, interpolation=cv2.INTER_NEAREST)
        frames.append(
            cv2.addWeighted(edges, 0.5, cv2.resize(blocks[::-1], size, interpolation=cv2.INTER_CUBIC), 0.5, 0)
        )
    return np.stack(frames)


def export(
    model: SegmentationModel,
    path: Path | str,
    frames: np.ndarray | None = None,
    size: tuple[int, int] | None = None,
    scope: str = "network",
    dynamic: bool = False,
    precision: str = "fp32",
    calibration: np.ndarray | None = None,
    channels_last: bool = False,
    opset: int | None = None,
) -> Export:
    """Export a model in the format given by the suffix of `path`, and compare it with PyTorch.

    Beside it come a sidecar (NAME.onnx.json) and a script that runs it without this package (NAME.onnx.py).

    Args:
        model: a trained network.
        path: .onnx (one file), .xml (OpenVINO IR, with its .bin) or .pt2 (torch.export). Written aside and renamed.
        frames: uint8 (N,H,W,3) RGB, any size: the real frames to compare on; None = `sample_frames`.
        size: (W,H) that the graph takes, multiples of 32; with `dynamic`, only the example's size. None = that of the training
            (`trained_on.export_size`), or 1024x512 where it is not known.
        scope: "network" or "labels".
        dynamic: the graph takes any height and width that are multiples of 32. The batch is always dynamic.
        precision: "fp32"; "fp16": half the bytes, faster only where the processor computes in fp16 (as .pt2 for GPUs: torch's fp16
            is five times slower than fp32 on a CPU); or "int8" (.onnx, .xml).
        calibration: for int8: uint8 (N,H,W,3) RGB, real frames, some 32 of the training data; not those to compare on.
        channels_last: frames (B,H,W,3) in, logits (B,H/s,W/s,K) out (.onnx, .xml).
        opset: of an .onnx file, of `OPSETS`; None = `OPSET`.

    Returns:
        The file and the measured agreement of labels at full resolution with PyTorch's in fp32.

    Raises:
        ValueError: unknown suffix, scope or precision, a side that is not a multiple of 32, int8 without calibration, a .pt2 with
            its channels last, an opset that cannot be; a script or sidecar of somebody else's would be written over.
        RuntimeError: a package is missing, the file does not run, or in fp32 less than 99.9 % of the labels are equal (no file
            is left).
    """
    started = time.perf_counter()
    path, contents = Path(path), Contents(size or export_size(model), scope, dynamic, precision, channels_last, opset)
    contents = check(path, contents)
    check_calibration(precision, calibration)
    require_writable_file("out", path)
    description.require_free(path)
    size, network = contents.size, copy.deepcopy(model).cpu().float().eval()
    images = sample_frames(size, 4) if frames is None else np.stack([cv2.resize(frame, size) for frame in frames])
    with explained(path), tempfile.TemporaryDirectory(prefix=".tcseg-export-", dir=path.parent) as folder:
        partial = Path(folder) / path.name
        WRITERS[path.suffix](network, partial, contents, calibration)
        arguments = network, partial, images, contents
        agreement = _compared(*arguments)
        by_default = agreement if path.suffix == ".pt2" else _compared(*arguments, defaults=True)
        if precision == "fp32" and agreement < MIN_AGREEMENT:
            raise CannotRunError(
                f"{path.name} agrees with PyTorch on {agreement:.2%} of the labels; it must be 99.9 % (not kept)"
            )
        measured = {"agreement": agreement, "agreement_default": by_default, "compared_frames": len(images)}
        description.write_sidecar(partial, description.facts(network, contents), measured)
        description.write_script(partial, network, contents)
        _publish(partial, path)
    parts = [weights_of(path)] if path.suffix == ".xml" else []
    size_bytes = sum(file.stat().st_size for file in {path, *parts})
    seconds, beside = time.perf_counter() - started, (description.script_of(path), description.sidecar_of(path))
    return Export(
        path, scope, precision, agreement, len(images), size_bytes, seconds, by_default, *beside, contents.opset
    )


def _publish(partial: Path, path: Path) -> None:
    """Give files their names: never is there a graph beside weights that are not its own, wherever this is stopped."""
    if path.suffix == ".xml":
        path.unlink(missing_ok=True)
        weights_of(partial).replace(weights_of(path))
    partial.replace(path)
    for of in (description.script_of, description.sidecar_of):
        of(partial).replace(of(path))


def _compared(
    network: SegmentationModel, path: Path, frames: np.ndarray, contents: Contents, defaults: bool = False
) -> float:
    try:
        return compare(network, path, frames, contents.scope, contents.channels_last, defaults)
    except Exception as error:  # ONNX Runtime's own are of no common kind
        cause = error.__cause__ or error  # the runtime's own words
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        use = "another format" if contents.precision == "fp32" else "fp32"
        use = use if contents.opset in (None, OPSET) else f"opset {OPSET}"
        raise CannotRunError(
            f"{path.name} in {contents.precision} does not run on this machine ({reason}); use {use}"
        ) from error


def check(path: Path, contents: Contents) -> Contents:
    """Check the arguments of `export` before any work; returns the contents with the opset that they will have.

    Raises:
        ValueError, RuntimeError: as `export`'s.
    """
    _check_name(path)
    size, scope, precision = contents.size, contents.scope, contents.precision
    require_one_of("scope", scope, SCOPES)
    if size != padded_size(size) or min(size) < MIN_SIDE:
        full = tuple(max(side, MIN_SIDE) for side in padded_size(size))
        raise InputError(
            f"size is {size[0]}x{size[1]}; sides must be multiples of 32, at least {MIN_SIDE}: pass {full[0]}x{full[1]}"
        )
    require_one_of("precision", precision, PRECISIONS)
    if (path.suffix, precision) == (".pt2", "int8"):
        raise InputError(f"path is {path.name!r}; int8 is written as .onnx or .xml, which is where it is fast")
    if path.suffix == ".pt2" and contents.channels_last:
        raise InputError(f"path is {path.name!r}; in PyTorch frames.permute(0, 3, 1, 2) costs nothing: pass that")
    require_runtime(FORMATS[path.suffix])
    if precision == "int8":
        require_runtime("onnxruntime")  # its quantiser makes OpenVINO's file, too
    return replace(contents, opset=_opset_of(path, contents.opset))


def _check_name(path: Path) -> None:
    if path.suffix not in FORMATS:
        lower = f": pass {path.with_suffix(path.suffix.lower()).name}" if path.suffix.lower() in FORMATS else ""
        raise InputError(f"path is {path.name!r}; its suffix must be one of {', '.join(FORMATS)}{lower}")
    try:
        length = len(path.name.encode())
        str(path).encode()
    except UnicodeEncodeError:
        name = str(path).encode(errors="replace").decode()
        raise InputError(f"path is {name}; it has bytes that are not UTF-8, which runtimes do not open: rename it") from None
    if length > LONGEST_NAME:
        raise InputError(f"path is {path.name[:30]}...; its name has {length} bytes: use {LONGEST_NAME} at most")


def _opset_of(path: Path, opset: int | None) -> int | None:
    """The ONNX opset that a file will have; None where it has none."""
    if path.suffix != ".onnx":
        if opset is not None:
            raise InputError(f"opset is {opset}; only .onnx files have one, and path is {path.name!r}: leave it out")
        return None
    if opset is None:
        return OPSET
    if isinstance(opset, bool) or opset not in OPSETS:
        raise InputError(f"opset is {opset}; it must be {OPSETS[0]} to {OPSETS[-1]} ({OPSET} if it is left out)")
    return int(opset)


def write_onnx(
    network: SegmentationModel,
    path: Path,
    size: tuple[int, int],
    scope: str = "network",
    dynamic: bool = False,
    batch: int | None = None,
    opset: int = OPSET,
) -> None:
    """Write one ONNX file without comparing it (`export` does that). A fixed batch size makes it twice as fast.

    Raises:
        RuntimeError: torch's exporter cannot write this opset.
    """
    import onnx

    with quiet():
        program = torch.onnx.export(
            graph_of(network, size, scope, dynamic, batch),
            input_names=["frames"],
            output_names=["labels" if scope == "labels" else "logits"],
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
        program.save(str(path), external_data=False)  # torch's default splits off a NAME.onnx.data
    graph = onnx.load(path)
    _require_opset(graph, opset)
    for key, value in description.facts(network, Contents(size, scope, dynamic, opset=opset)).items():
        graph.metadata_props.add(key=key, value=value)
    fold_normalisation(graph)
    graph.ir_version = min(graph.ir_version, IR_VERSION)
    onnx.checker.check_model(graph)
    onnx.save(graph, path)


def _require_opset(graph: onnx.ModelProto, wanted: int) -> None:
    """Torch's version converter keeps a graph as it is, without a word, where it knows no other way to write it."""
    found = next((one.version for one in graph.opset_import if one.domain in ("", "ai.onnx")), None)
    if found != wanted:
        raise CannotRunError(f"opset is {wanted}, but this network's graph comes out with opset {found}: use {OPSET}")


def _write_onnx(network: SegmentationModel, path: Path, contents: Contents, calibration: np.ndarray | None) -> None:
    import onnx

    write_onnx(network, path, contents.size, contents.scope, contents.dynamic, opset=contents.opset)
    convert(path, path, contents.precision, calibration, contents.channels_last)
    _require_opset(onnx.load(path), contents.opset)  # the quantiser may want another


def _write_openvino(network: SegmentationModel, path: Path, contents: Contents, calibration: np.ndarray | None) -> None:
    source = path.with_suffix(".onnx")
    write_onnx(network, source, contents.size, contents.scope, contents.dynamic)
    with quiet():
        convert(source, path, contents.precision, calibration, contents.channels_last)
    source.unlink()


def _write_torch(network: SegmentationModel, path: Path, contents: Contents, _: np.ndarray | None) -> None:
    with quiet():
        wrapped = Half(network) if contents.precision == "fp16" else network
        graph = graph_of(wrapped, contents.size, contents.scope, contents.dynamic)
        torch.export.save(graph, path, extra_files=description.facts(network, contents))
    note_written(path)


WRITERS = {".onnx": _write_onnx, ".xml": _write_openvino, ".pt2": _write_torch}


def compare(
    model: SegmentationModel,
    path: Path | str,
    frames: np.ndarray,
    scope: str,
    channels_last: bool = False,
    defaults: bool = False,
) -> float:
    """Share of pixels with the same label from an exported file and from PyTorch, over all frames, at full size.

    Args:
        model: the network that was exported, on the CPU.
        path: the exported file.
        frames: uint8 (N,H,W,3) RGB, sides multiples of 32.
        scope, channels_last: of the file.
        defaults: open the file without any setting, as most users do.

    Returns:
        0..1.
    """
    exported = open_file(path, defaults=defaults)
    size = (frames.shape[2], frames.shape[1])
    equal = []
    for frame in frames:
        planes = to_planes(frame)
        with torch.inference_mode():
            expected = upsample_argmax(model(torch.from_numpy(planes)), size)
        output = exported(frame[None] if channels_last else planes)
        if scope == "network":
            output = upsample_argmax(output.transpose(0, 3, 1, 2) if channels_last else output, size)
        equal.append(output == expected)
    return float(np.mean(equal))
