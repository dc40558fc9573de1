"""A network as torch.export sees it: with the label map inside or not, in half precision, for one size or any."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Labels(nn.Module):
    """The network with upsampling and argmax: frames (B,3,H,W) -> labels uint8 (B,H,W)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> Tensor:
        """See the class."""
        logits = F.interpolate(self.network(frames), frames.shape[-2:], mode="bilinear", align_corners=False)
        return logits.argmax(1).to(torch.uint8)


class Half(nn.Module):
    """The network in half precision: frames (B,3,H,W) -> logits float32 (B,K,H/4,W/4)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).half()

    def forward(self, frames: Tensor) -> Tensor:
        """See the class."""
        return self.network(frames).float()


def graph_of(
    network: nn.Module, size: tuple[int, int], scope: str, dynamic: bool, batch: int | None = None
) -> torch.export.ExportedProgram:
    """The network as torch.export sees it: a symbolic batch unless it is given, and sides 32 n if `dynamic`."""
    wrapped = (Labels(network) if scope == "labels" else network).eval()
    axes: dict[int, Any] = {} if batch else {0: torch.export.Dim("batch", max=4096)}
    if dynamic:
        axes |= {2: 32 * torch.export.Dim("rows", min=2, max=512), 3: 32 * torch.export.Dim("columns", min=2, max=512)}
    example = torch.zeros(batch or 2, 3, size[1], size[0], dtype=torch.uint8)  # 1 would be taken for a constant
    with torch.no_grad():
        return torch.export.export(wrapped, (example,), dynamic_shapes={"frames": axes})


@contextmanager
def quiet() -> Iterator[None]:
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
