"""Run a network in PyTorch, ONNX Runtime or OpenVINO with one interface: prepare a frame, run, finish the label map."""

from __future__ import annotations

import copy
import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from tcseg.deploy import torch_runtimes
from tcseg.deploy.export import write_onnx
from tcseg.deploy.exported_files import open_file, require_runtime, why_missing
from tcseg.deploy.label_map import pad_to_multiple, padded_size, to_planes, upsample_argmax
from tcseg.deploy.onnx_rewrites import takes_bytes
from tcseg.deploy.quantization import check_calibration, convert
from tcseg.deploy.torch_runtimes import TORCH_RUNTIMES
from tcseg.errors import CannotRunError, InputError, require_one_of
from tcseg.machine import usable_cores
from tcseg.models.trained_on import export_size

if TYPE_CHECKING:
    from tcseg.models.networks import SegmentationModel


FILE_RUNTIMES = ("onnxruntime", "openvino")
"""They read a file, and run it on the CPU."""
ENGINES = (*TORCH_RUNTIMES, *FILE_RUNTIMES)
"""All that the benchmark knows: PyTorch's ways, and the file runtimes."""
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


@dataclass(frozen=True)
class Network:
    """A network opened in a runtime, as three steps, so that each can be timed.

    `prepare(frame uint8 (H,W,3) RGB)` pads and lays out one frame; `run(prepared)` gives the logits and returns when
    they are there; `finish(logits, (W,H))` gives the label map uint8 (H,W), cropped to the frame. `content` is the ONNX
    file that it was opened from, None for PyTorch.
    """

    runtime: str
    prepare: Callable[[np.ndarray], Any]
    run: Callable[[Any], Any]
    finish: Callable[[Any, tuple[int, int]], np.ndarray]
    content: bytes | None = None

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Segment one frame: uint8 (H,W,3) RGB -> labels uint8 (H,W)."""
        return self.finish(self.run(self.prepare(frame)), (frame.shape[1], frame.shape[0]))


def unavailable(runtime: str, precision: str, device: str = "cpu") -> str | None:
    """Why a runtime cannot run a precision here, in one line; None if it can.

    Args:
        runtime: of `ENGINES`.
        precision: of `PRECISIONS`.
        device: that the network is on, "cpu" or "cuda".

    Raises:
        ValueError: an unknown runtime or precision.
    """
    for name, value, allowed in (("runtime", runtime, ENGINES), ("precision", precision, PRECISIONS)):
        require_one_of(name, value, allowed)
    if runtime in FILE_RUNTIMES:
        if precision not in ("fp32", "int8"):
            return f"{runtime} on a CPU computes in fp32 and int8; {precision} is a way to store a file"
        return why_missing(runtime)
    if precision == "int8":
        return f"{runtime} does not run int8 networks; {' and '.join(FILE_RUNTIMES)} do"
    if device == "cpu" and (runtime.endswith(("cudagraph", "tensorrt")) or precision != "fp32"):
        return f"{runtime} {precision} needs an NVIDIA GPU with the network on it"
    if runtime.startswith("compile") and device == "cpu" and not (shutil.which("g++") or shutil.which("clang++")):
        return "torch.compile on a CPU needs a C++ compiler (g++ or clang++) on the PATH"
    if runtime == "tensorrt" and importlib.util.find_spec("torch_tensorrt") is None:
        return "tensorrt needs torch_tensorrt, not installed: pip install torch-tensorrt"
    return None


def open_networks(
    model: SegmentationModel,
    runtimes: Sequence[str],
    size: tuple[int, int] | None = None,
    threads: int | None = None,
    precision: str = "fp32",
    calibration: np.ndarray | None = None,
    channels_last: bool | None = None,
) -> dict[str, Network]:
    """Open a model in several runtimes for frames of one size, batch 1.

    Runtimes other than PyTorch read one fresh ONNX export, which takes some seconds.

    Args:
        model: a trained network; PyTorch runs it in eval mode where it is (CPU or CUDA), the others on the CPU.
        runtimes: of `ENGINES`.
        size: (W,H) of the frames; any, they are padded. None = that of the training (`trained_on.export_size`), else 1024x512.
        threads: of the other runtimes; PyTorch's are the process' own (`torch.set_num_threads`).
        precision: of `PRECISIONS`; see `unavailable`.
        calibration: for int8: uint8 (N,H,W,3) RGB, real frames.
        channels_last: how `FILE_RUNTIMES` are given frames: as they come, (1,H,W,3), or in planes; None = as each is faster.

    Returns:
        Runtime -> network.

    Raises:
        ValueError: unknown runtime or precision, int8 without calibration, a precision that a runtime does not run.
        RuntimeError: one is not installed.
    """
    _require_available(model, runtimes, precision)
    exported = [runtime for runtime in runtimes if runtime in FILE_RUNTIMES]
    networks = {}
    if in_torch := [runtime for runtime in runtimes if runtime not in FILE_RUNTIMES]:
        network = torch_runtimes.ready(model, precision)
        networks = {runtime: _open_torch(network, runtime) for runtime in in_torch}
    if exported:
        check_calibration(precision, calibration)
        require_runtime("onnxruntime" if precision != "fp32" else exported[0])  # whose converters make int8
        with _exported(model, size or export_size(model), exported, precision, calibration, channels_last) as files:
            for runtime in exported:
                networks[runtime] = _open_exported(files[runtime], runtime, threads, model.stride)
    return networks


def _require_available(model: SegmentationModel, runtimes: Sequence[str], precision: str) -> None:
    device = next(model.parameters()).device.type
    for runtime in runtimes:
        if (reason := unavailable(runtime, precision, device)) is not None:
            raise (CannotRunError if "install" in reason else InputError)(reason)


@contextmanager
def _exported(
    model: SegmentationModel,
    size: tuple[int, int],
    runtimes: Sequence[str],
    precision: str,
    calibration: np.ndarray | None,
    channels_last: bool | None = None,
) -> Iterator[dict[str, Path]]:
    """Runtime -> ONNX file of a network for frames of one size, batch 1, in the layout that it is faster with; gone afterwards."""
    import onnx

    with tempfile.TemporaryDirectory(prefix="tcseg-") as folder:
        source = Path(folder) / "network.onnx"
        write_onnx(copy.deepcopy(model).cpu().float().eval(), source, padded_size(size), batch=1)
        bytes_in, files = takes_bytes(onnx.load(source).graph), {}
        for runtime in runtimes:
            # Frames as they come are faster (`tcseg measure layouts`); but ONNX Runtime makes what its kernels in float want,
            # blocks of channels, from planes.
            faster = runtime == "openvino" or (precision == "int8" and bytes_in)
            last = faster if channels_last is None else channels_last
            files[runtime] = Path(folder) / ("last.onnx" if last else "first.onnx")
            if not files[runtime].exists():
                convert(source, files[runtime], precision, calibration, last)
        yield files


def _open_exported(path: Path, runtime: str, threads: int | None, stride: int, alone: bool = True) -> Network:
    run, finish = open_file(path, threads, runtime, alone), partial(_finish, stride)
    if path.stem == "first":
        return Network(runtime, to_planes, run, finish, path.read_bytes())
    return Network(runtime, _as_it_is, lambda frame: run(frame).transpose(0, 3, 1, 2), finish, path.read_bytes())


def _as_it_is(frame: np.ndarray) -> np.ndarray:
    """A frame padded, (1,H',W',3)."""
    return np.ascontiguousarray(pad_to_multiple(frame)[0])[None]


def open_network(
    model: SegmentationModel, runtime: str = "pytorch", size: tuple[int, int] | None = None, threads: int | None = None
) -> Network:
    """Open a model in one runtime; see `open_networks`."""
    return open_networks(model, (runtime,), size, threads)[runtime]


def with_smaller_frames(network: Network, size: tuple[int, int]) -> Network:
    """The same network on frames that are made smaller first; its label map is of the frame's own size.

    Shrinking is a part of `prepare`, and the answer is upsampled once, straight to the frame's size.

    Args:
        network: opened on the CPU for frames of `size`.
        size: (W,H), positive multiples of 32.

    Raises:
        ValueError: the size is not.
    """
    if padded_size(size) != size or min(size) < 1:
        raise InputError(
            f"size is {size[0]}x{size[1]}; both must be positive multiples of 32, so that nothing is padded"
        )
    return replace(
        network,
        prepare=lambda frame: network.prepare(cv2.resize(frame, size, interpolation=cv2.INTER_AREA)),
        finish=lambda logits, whole: upsample_argmax(logits, whole)[0],
    )


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """PyTorch on so many threads, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def open_streams(
    model: SegmentationModel,
    runtime: str,
    size: tuple[int, int],
    streams: int,
    precision: str = "fp32",
    calibration: np.ndarray | None = None,
) -> list[Network]:
    """Open a model so that several frames can be answered at once, by a thread each, beside others that want the cores as well.

    Args:
        model: a trained network.
        runtime: "pytorch" or of `FILE_RUNTIMES`. PyTorch's threads are the process' own.
        size: (W,H) of the frames.
        streams: how many; each has its share of the cores, and its threads do not wait by spinning.
        precision, calibration: as `open_networks`.

    Returns:
        A network a stream.

    Raises:
        ValueError, RuntimeError: as `open_networks`.
    """
    _require_available(model, (runtime,), precision)
    if runtime not in FILE_RUNTIMES:
        return [_open_torch(torch_runtimes.ready(model, precision), runtime)] * streams
    check_calibration(precision, calibration)
    require_runtime("onnxruntime" if precision != "fp32" else runtime)  # whose converters make int8
    threads = max(1, usable_cores() // streams)
    with _exported(model, size, (runtime,), precision, calibration) as files:
        return [_open_exported(files[runtime], runtime, threads, model.stride, False) for _ in range(streams)]


def _finish(stride: int, logits: Any, size: tuple[int, int]) -> np.ndarray:
    """Full-size labels, cropped: the logits cover the padded frame, whose size is `stride` times theirs."""
    labels = upsample_argmax(logits, (logits.shape[-1] * stride, logits.shape[-2] * stride))
    return labels[0, : size[1], : size[0]]


def _open_torch(network: SegmentationModel, runtime: str) -> Network:
    prepare, run, finish_on_device = torch_runtimes.steps(network, runtime)

    def finish(logits: torch.Tensor, size: tuple[int, int]) -> np.ndarray:  # a filter's are the host's, whatever ran
        return _finish(network.stride, logits, size) if logits.device.type == "cpu" else finish_on_device(logits, size)

    return Network(runtime, prepare, run, finish)
