"""Networks opened in the runtimes that people deploy with, in one shape: prepare a frame, run, finish the label map."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tcseg.export import open_file, require, write_onnx
from tcseg.postprocess import pad_to_multiple, padded_size, to_planes, upsample_argmax

if TYPE_CHECKING:
    from tcseg.networks import SegmentationModel


@dataclass(frozen=True)
class Network:
    """A network opened in a runtime, as three steps, so that each can be timed.

    `prepare(frame uint8 (H,W,3) RGB)` pads and lays out one frame; `run(prepared)` gives the logits and returns when
    they are there; `finish(logits, (W,H))` gives the label map uint8 (H,W), cropped to the frame.
    """

    runtime: str
    prepare: Callable[[np.ndarray], Any]
    run: Callable[[Any], Any]
    finish: Callable[[Any, tuple[int, int]], np.ndarray]

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Segment one frame: uint8 (H,W,3) RGB -> labels uint8 (H,W)."""
        return self.finish(self.run(self.prepare(frame)), (frame.shape[1], frame.shape[0]))


def open_networks(
    model: SegmentationModel, runtimes: Sequence[str], size: tuple[int, int] = (1024, 512), threads: int | None = None
) -> dict[str, Network]:
    """Open a model in several runtimes for frames of one size, batch 1.

    Runtimes other than PyTorch read one fresh ONNX export, which takes some seconds.

    Args:
        model: a trained network; PyTorch runs it in eval mode where it is (CPU or CUDA), the others on the CPU.
        runtimes: of `tcseg.export.RUNTIMES`.
        size: (W,H) of the frames; any, they are padded.
        threads: of the other runtimes; PyTorch's are the process' own (`torch.set_num_threads`).

    Returns:
        Runtime -> network.

    Raises:
        ValueError: unknown runtime.
        RuntimeError: one is not installed.
    """
    for runtime in runtimes:
        require(runtime)
    exported = [runtime for runtime in runtimes if runtime != "pytorch"]
    networks = {} if len(exported) == len(runtimes) else {"pytorch": _open_pytorch(model)}
    if exported:
        with tempfile.TemporaryDirectory(prefix="tcseg-") as folder:
            path = Path(folder) / "network.onnx"
            write_onnx(copy.deepcopy(model).cpu().float().eval(), path, padded_size(size), batch=1)
            finish = partial(_finish, model.stride)
            for runtime in exported:
                networks[runtime] = Network(runtime, to_planes, open_file(path, threads, runtime), finish)
    return networks


def open_network(
    model: SegmentationModel, runtime: str = "pytorch", size: tuple[int, int] = (1024, 512), threads: int | None = None
) -> Network:
    """Open a model in one runtime; see `open_networks`."""
    return open_networks(model, (runtime,), size, threads)[runtime]


def _finish(stride: int, logits: Any, size: tuple[int, int]) -> np.ndarray:
    """Full-size labels, cropped: the logits cover the padded frame, whose size is `stride` times theirs."""
    labels = upsample_argmax(logits, (logits.shape[-1] * stride, logits.shape[-2] * stride))
    return labels[0, : size[1], : size[0]]


@torch.inference_mode()
def _finish_on_device(stride: int, logits: Tensor, size: tuple[int, int]) -> np.ndarray:
    """As `_finish` where a GPU has the logits: it upsamples faster than it sends them to the host."""
    full = F.interpolate(logits, scale_factor=stride, mode="bilinear", align_corners=False)
    return full.argmax(1).to(torch.uint8)[0, : size[1], : size[0]].cpu().numpy()


def _open_pytorch(model: SegmentationModel) -> Network:
    model = model.eval()
    device = model.head.weight.device

    def prepare(frame: np.ndarray) -> Tensor:
        padded, _ = pad_to_multiple(frame)
        # (H,W,3) in memory is channels_last already: no copy, no transposing
        return torch.from_numpy(np.ascontiguousarray(padded)).permute(2, 0, 1)[None].to(device)

    @torch.inference_mode()
    def run(frames: Tensor) -> Tensor:
        logits = model(frames)
        if device.type != "cpu":
            getattr(torch, device.type).synchronize()
        return logits

    finish = _finish if device.type == "cpu" else _finish_on_device
    return Network("pytorch", prepare, run, partial(finish, model.stride))
