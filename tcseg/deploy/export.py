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
import json
import logging
import tempfile
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tcseg import __version__
from tcseg.deploy.exported_files import FORMATS, open_file, require_runtime
from tcseg.deploy.label_map import padded_size, to_planes, upsample_argmax
from tcseg.deploy.onnx_rewrites import fold_normalisation
from tcseg.deploy.quantization import IR_VERSION, PRECISIONS, check_calibration, convert
from tcseg.errors import CannotRunError, InputError, require_one_of, require_writable_file
from tcseg.models.trained_on import export_size, size_text, trained_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tcseg.models.networks import SegmentationModel

SCOPES = ("network", "labels")
MIN_SIDE = 64  # below it a symbolic side could be 1 in the network's coarsest map, which the exporter treats apart
MIN_AGREEMENT = 0.999  # of labels equal to PyTorch's; the rest are ties that another order of additions decides


@dataclass(frozen=True)
class Export:
    """Result of `export`.

    `agreement` is the share of labels equal to PyTorch's (0..1) over `frames` frames, with the settings that tcseg opens files
    with; `agreement_default` is the same without any setting, as most users open a file.
    """

    path: Path
    scope: str
    precision: str
    agreement: float
    frames: int
    bytes: int
    seconds: float
    agreement_default: float


class _Labels(nn.Module):
    """The network with upsampling and argmax: frames (B,3,H,W) -> labels uint8 (B,H,W)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> Tensor:
        logits = F.interpolate(self.network(frames), frames.shape[-2:], mode="bilinear", align_corners=False)
        return logits.argmax(1).to(torch.uint8)


class _Half(nn.Module):
    """The network in half precision: frames (B,3,H,W) -> logits float32 (B,K,H/4,W/4)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).half()

    def forward(self, frames: Tensor) -> Tensor:
        return self.network(frames).float()


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
) -> Export:
    """Export a model in the format given by the suffix of `path`, and compare it with PyTorch.

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

    Returns:
        The file and the measured agreement of labels at full resolution with PyTorch's in fp32.

    Raises:
        ValueError: unknown suffix, scope or precision, a side that is not a multiple of 32, int8 without calibration, a .pt2 with
            its channels last.
        RuntimeError: a package is missing, the file does not run, or in fp32 less than 99.9 % of the labels are equal (no file
            is left).
    """
    started = time.perf_counter()
    path, size = Path(path), size or export_size(model)
    check(path, size, scope, precision, channels_last)
    check_calibration(precision, calibration)
    require_writable_file("out", path)
    network = copy.deepcopy(model).cpu().float().eval()
    images = sample_frames(size, 4) if frames is None else np.stack([cv2.resize(frame, size) for frame in frames])
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        partial = Path(folder) / path.name
        WRITERS[path.suffix](network, partial, size, scope, dynamic, precision, calibration, channels_last)
        arguments = network, partial, images, scope, precision, channels_last
        agreement = _compared(*arguments)
        by_default = agreement if path.suffix == ".pt2" else _compared(*arguments, defaults=True)
        if precision == "fp32" and agreement < MIN_AGREEMENT:
            raise CannotRunError(
                f"{path.name} agrees with PyTorch on {agreement:.2%} of the labels; it must be 99.9 % (not kept)"
            )
        for file in sorted(Path(folder).iterdir(), key=lambda file: file.suffix == ".xml"):  # weights before the graph
            file.replace(path.with_name(file.name))
    parts = [path.with_suffix(".bin")] if path.suffix == ".xml" else []
    size_bytes = sum(file.stat().st_size for file in {path, *parts})
    seconds = time.perf_counter() - started
    return Export(path, scope, precision, agreement, len(images), size_bytes, seconds, by_default)


def _compared(
    network: SegmentationModel,
    path: Path,
    frames: np.ndarray,
    scope: str,
    precision: str,
    channels_last: bool,
    defaults: bool = False,
) -> float:
    try:
        return compare(network, path, frames, scope, channels_last, defaults)
    except Exception as error:  # ONNX Runtime's own are of no common kind
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        use = "another format" if precision == "fp32" else "fp32"
        raise CannotRunError(
            f"{path.name} in {precision} does not run on this machine ({reason}); use {use}"
        ) from error


def check(path: Path, size: tuple[int, int], scope: str, precision: str = "fp32", channels_last: bool = False) -> None:
    """Check the arguments of `export` before any work.

    Raises:
        ValueError, RuntimeError: as `export`'s.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"path is {path.name!r}; its suffix must be one of {', '.join(FORMATS)}")
    require_one_of("scope", scope, SCOPES)
    if size != padded_size(size) or min(size) < MIN_SIDE:
        full = tuple(max(side, MIN_SIDE) for side in padded_size(size))
        raise InputError(
            f"size is {size[0]}x{size[1]}; sides must be multiples of 32, at least {MIN_SIDE}: pass {full[0]}x{full[1]}"
        )
    require_one_of("precision", precision, PRECISIONS)
    if (path.suffix, precision) == (".pt2", "int8"):
        raise InputError(f"path is {path.name!r}; int8 is written as .onnx or .xml, which is where it is fast")
    if path.suffix == ".pt2" and channels_last:
        raise InputError(f"path is {path.name!r}; in PyTorch frames.permute(0, 3, 1, 2) costs nothing: pass that")
    require_runtime(FORMATS[path.suffix])
    if precision == "int8":
        require_runtime("onnxruntime")  # its quantiser makes OpenVINO's file, too


def _graph(
    network: nn.Module, size: tuple[int, int], scope: str, dynamic: bool, batch: int | None = None
) -> torch.export.ExportedProgram:
    """The network as torch.export sees it: a symbolic batch unless it is given, and sides 32 n if `dynamic`."""
    wrapped = (_Labels(network) if scope == "labels" else network).eval()
    axes: dict[int, Any] = {} if batch else {0: torch.export.Dim("batch", max=4096)}
    if dynamic:
        axes |= {2: 32 * torch.export.Dim("rows", min=2, max=512), 3: 32 * torch.export.Dim("columns", min=2, max=512)}
    example = torch.zeros(batch or 2, 3, size[1], size[0], dtype=torch.uint8)  # 1 would be taken for a constant
    with torch.no_grad():
        return torch.export.export(wrapped, (example,), dynamic_shapes={"frames": axes})


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' remarks about their own innards; errors still come as exceptions."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def write_onnx(
    network: SegmentationModel,
    path: Path,
    size: tuple[int, int],
    scope: str = "network",
    dynamic: bool = False,
    batch: int | None = None,
) -> None:
    """Write one ONNX file without comparing it (`export` does that). A fixed batch size makes it twice as fast."""
    import onnx

    with _quiet():
        program = torch.onnx.export(
            _graph(network, size, scope, dynamic, batch),
            input_names=["frames"],
            output_names=["labels" if scope == "labels" else "logits"],
            dynamo=True,
            verbose=False,
        )
        program.save(str(path), external_data=False)  # torch's default splits off a NAME.onnx.data
    graph = onnx.load(path)
    for key, value in _facts(network, size, scope, dynamic).items():
        graph.metadata_props.add(key=key, value=value)
    fold_normalisation(graph)
    graph.ir_version = min(graph.ir_version, IR_VERSION)
    onnx.checker.check_model(graph)
    onnx.save(graph, path)


def _facts(network: SegmentationModel, size: tuple[int, int], scope: str, dynamic: bool) -> dict[str, str]:
    """What a reader of the file needs besides the graph."""
    return {
        "tcseg": __version__,
        "arch": network.arch,
        "classes": json.dumps(network.label_set.classes),
        "colors": json.dumps(network.label_set.colors.tolist()),
        "scope": scope,
        "precision": "fp32",
        "layout": "NCHW",
        "channel_order": "RGB",
        "value_range": "uint8, 0 to 255; normalisation is inside",
        "size": "dynamic, multiples of 32" if dynamic else size_text(size),
    } | _of_training(network)


def _of_training(network: SegmentationModel) -> dict[str, str]:
    """What is known of it: a reader of a dynamic file must choose a size."""
    size, dataset = trained_size(network), getattr(network, "trained_on", None)
    return ({"trained_size": size_text(size)} if size else {}) | ({"trained_on": dataset} if dataset else {})


def _write_onnx(
    network: SegmentationModel, path: Path, size: tuple[int, int], scope: str, dynamic: bool, *bits: Any
) -> None:
    """An ONNX file in a precision; `bits`: the precision, what int8 is calibrated on, and whether the channels are last."""
    write_onnx(network, path, size, scope, dynamic)
    convert(path, path, *bits)


def _write_openvino(
    network: SegmentationModel, path: Path, size: tuple[int, int], scope: str, dynamic: bool, *bits: Any
) -> None:
    source = path.with_suffix(".onnx")
    write_onnx(network, source, size, scope, dynamic)
    with _quiet():
        convert(source, path, *bits)
    source.unlink()


def _write_torch(
    network: SegmentationModel, path: Path, size: tuple[int, int], scope: str, dynamic: bool, precision: str, *_: Any
) -> None:
    facts = _facts(network, size, scope, dynamic) | {"precision": precision}
    with _quiet():
        graph = _graph(_Half(network) if precision == "fp16" else network, size, scope, dynamic)
        torch.export.save(graph, path, extra_files=facts)


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
