"""PyTorch for deployment: batch norms folded, a fixed precision, eager or compiled, or a CUDA graph.

Batch norms become parts of convolutions (`torch_fusing`), and so does the normalisation of frames on a CPU, where three passes
over a frame take a fifth of `student-cpu`'s time. On a GPU a frame goes through page-locked memory in parts: the host fills one
with several threads while the device reads the last by itself. The label map is made where the logits are, in one kernel, and
comes back as bytes.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tcseg.deploy.label_map import pad_to_multiple
from tcseg.deploy.torch_fusing import fold_normalisation, fold_norms

if TYPE_CHECKING:
    from tcseg.models.networks import SegmentationModel

log = logging.getLogger(__name__)

TORCH_RUNTIMES = ("pytorch", "compile", "cudagraph", "compile+cudagraph", "tensorrt")
"""Eager and channels_last; `torch.compile`; either recorded as a CUDA graph; TensorRT. The last three need an NVIDIA GPU."""
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
PART = 1 << 21  # bytes of a frame that are sent while the next are copied
MOST_COMPILED = 1024  # Dynamo compiles one function eight times, then runs it in eager mode without a word


def ready(model: SegmentationModel, precision: str) -> nn.Module:
    """A copy of a network for inference where it is: in eval mode, folded, in a precision of `DTYPES`."""
    if next(model.parameters()).device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32; torch's default would round convolutions to 10 bits
        torch.backends.cudnn.benchmark = True  # one size, again and again: the fastest kernel is looked for once
        return fold_norms(model).to(DTYPES[precision])
    return fold_normalisation(fold_norms(model).to(DTYPES[precision]))


def steps(
    network: SegmentationModel, runtime: str
) -> tuple[Callable[[np.ndarray], Tensor], Callable[[Tensor], Tensor], Callable[[Tensor, tuple[int, int]], np.ndarray]]:
    """A frame's three steps, each of which returns when it is done: prepare, run, finish, as of `runtimes.Network`.

    Args:
        network: of `ready`.
        runtime: of `TORCH_RUNTIMES`.
    """
    device = next(network.parameters()).device
    forward = _as_runtime_does(network, runtime)
    label = _labels_as_runtime_does(network.stride, runtime, device)

    def prepare(frame: np.ndarray) -> Tensor:
        padded, _ = pad_to_multiple(frame)
        if getattr(network, "fourth", False):
            padded = cv2.cvtColor(padded, cv2.COLOR_RGB2RGBA)
        sent = _send(torch.from_numpy(np.ascontiguousarray(padded)), device)
        return sent.permute(2, 0, 1)[None]  # (H,W,3) in memory is channels_last already: no copy, no transposing

    @torch.inference_mode()
    def run(frames: Tensor) -> Tensor:
        with _current(device):
            logits = forward(frames)
        _wait(device)
        return logits

    @torch.inference_mode()
    def finish(logits: Tensor, size: tuple[int, int]) -> np.ndarray:
        with _current(device):
            return _fetch(label(logits)[0, : size[1], : size[0]])

    return prepare, run, finish


class _Labels(nn.Module):
    """Logits (1,K,h,w) -> labels uint8 (1,H,W) where they are: a GPU upsamples faster than it sends planes to the host."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, logits: Tensor) -> Tensor:
        """Bilinear upsampling by the stride, then the best class."""
        planes = logits.contiguous()  # four times faster than what convolutions leave
        full = F.interpolate(planes, scale_factor=self.stride, mode="bilinear", align_corners=False)
        return full.argmax(1).to(torch.uint8)


@cache
def _kernel(device: torch.device) -> Callable[[Tensor, int], Tensor] | None:
    """What makes label maps on a GPU, `label_map_gpu.labels_of`; tried once, as Triton is not everywhere, nor a C compiler."""
    try:
        from tcseg.deploy.label_map_gpu import labels_of

        labels_of(torch.zeros(1, 2, 1, 1, device=device), 8)
    except Exception as error:  # whatever a compiler raises
        log.info("label maps without their kernel, which is slower: %s", error)
        return None
    return labels_of


def _labels_as_runtime_does(stride: int, runtime: str, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Logits -> label map: by its kernel where there is one, recorded where the network is; TensorRT has no bytes."""
    if device.type != "cuda" or (kernel := _kernel(device)) is None:
        return _as_runtime_does(_Labels(stride), "pytorch" if runtime == "tensorrt" else runtime)
    label = partial(kernel, stride=stride)
    return _Graphed(label) if runtime.endswith("cudagraph") else label


def _current(device: torch.device) -> AbstractContextManager:
    """Of several GPUs the one that new streams and graphs are of."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type != "cpu":
        getattr(torch, device.type).synchronize()


def _send(host: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on the device."""
    if device.type != "cuda":
        return host.to(device)
    locked = torch.empty(host.shape, dtype=host.dtype, pin_memory=True)  # of torch's own store: allocated once
    sent = torch.empty(host.shape, dtype=host.dtype, device=device)
    count = -(-host.nbytes // PART)
    for on_device, between, rows in zip(sent.chunk(count), locked.chunk(count), host.chunk(count), strict=True):
        on_device.copy_(between.copy_(rows), non_blocking=True)
    _wait(device)
    return sent


def _fetch(on_device: Tensor) -> np.ndarray:
    """A tensor as an array of the host."""
    if on_device.device.type != "cuda":
        return on_device.cpu().numpy()
    locked = torch.empty(on_device.shape, dtype=on_device.dtype, pin_memory=True)
    locked.copy_(on_device.contiguous(), non_blocking=True)
    _wait(on_device.device)
    return locked.clone().numpy()  # who keeps it should not keep locked memory; torch copies with several threads


def _as_runtime_does(module: nn.Module, runtime: str) -> Callable[[Tensor], Tensor]:
    """A module's forward pass as a runtime does it."""
    if runtime == "tensorrt":
        importlib.import_module("torch_tensorrt")  # registers the backend
        options = {"pass_through_build_failures": True}  # else it runs in eager mode without a word
        return torch.compile(module, backend="torch_tensorrt", dynamic=False, options=options)
    if runtime.startswith("compile"):
        for limit in ("recompile_limit", "accumulated_recompile_limit"):
            setattr(torch._dynamo.config, limit, max(MOST_COMPILED, getattr(torch._dynamo.config, limit)))
        module = torch.compile(module, dynamic=False, fullgraph=True)
    return _Graphed(module) if runtime.endswith("cudagraph") else module


class _Graphed:
    """A forward pass recorded once as a CUDA graph, then replayed: Python launches no kernel. The answer is the graph's memory."""

    def __init__(self, module: Callable[[Tensor], Tensor]) -> None:
        self.module = module
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, frames: Tensor) -> Tensor:
        if self.graph is None:
            self._record(frames)
        self.static_input.copy_(frames)
        self.graph.replay()
        return self.static_output

    def _record(self, frames: Tensor) -> None:
        self.static_input = frames.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # capture wants warm kernels, run on another stream
            for _ in range(3):
                self.module(self.static_input)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        # The stream is of this device, whichever was current at the first capture; other threads may ask for memory meanwhile.
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            self.static_output = self.module(self.static_input)
