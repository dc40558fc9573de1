"""The roofline of this machine (Williams et al. 2009), measured, and the arithmetic and memory traffic of a network.

A network cannot be faster than its multiply-adds at the rate of a large matrix product, nor faster than its memory traffic at the
rate of a long stream. The larger of the two times is its roof. Its share of the measured time shows how much faster the same
architecture could run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

SIDE = 1024  # of the matrices; their product reaches the peak rate and fits into the cache
GPU_SIDE = 8192
STREAM = 64 << 20  # bytes of each array of the triad; larger than any cache
GPU_STREAM = 1 << 30


class Roof(NamedTuple):
    """Peak rates of a machine in a precision: 10^9 floating point operations and 10^9 bytes per second."""

    gflops: float
    gbytes: float


class Work(NamedTuple):
    """Work for one frame: parameters (10^6), floating point operations (10^9; a multiply-add is two), memory traffic (10^6 B)."""

    params_m: float
    gflop: float
    mbytes: float


def _best(step: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of several repeats."""
    step()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return min(times)


def measure_cpu(repeats: int = 20) -> Roof:
    """Measure the roof of the CPU with torch's number of threads, in about a second."""
    a = torch.ones(SIDE, SIDE)
    out = torch.empty_like(a)
    # Two libraries, because torch's MKL does not reach the peak on processors of other vendors.
    b, numpy_out = a.numpy(), out.numpy()
    with threadpool_limits(torch.get_num_threads(), user_api="blas"):  # numpy's has as many threads as there are cores
        product = min(
            _best(lambda: torch.mm(a, a, out=out), repeats), _best(lambda: np.matmul(b, b, out=numpy_out), repeats)
        )
    x, y, z = (torch.ones(STREAM // 4) for _ in range(3))
    triad = _best(lambda: torch.add(x, y, alpha=3.0, out=z), repeats)
    return Roof(2 * SIDE**3 / product / 1e9, 3 * STREAM / triad / 1e9)


def measure_gpu(dtype: torch.dtype, repeats: int = 10) -> Roof:
    """Measure the roof of the CUDA GPU for a data type, with random numbers: products of zeros use less power and run faster."""
    a = torch.randn(GPU_SIDE, GPU_SIDE, device="cuda").to(dtype)
    out = torch.empty_like(a)
    product = _best(lambda: (torch.mm(a, a, out=out), torch.cuda.synchronize()), repeats)
    x, y, z = (torch.ones(GPU_STREAM // dtype.itemsize, device="cuda", dtype=dtype) for _ in range(3))
    triad = _best(lambda: (torch.add(x, y, alpha=3.0, out=z), torch.cuda.synchronize()), repeats)
    return Roof(2 * GPU_SIDE**3 / product / 1e9, 3 * GPU_STREAM / triad / 1e9)


@torch.no_grad()
def work(model: nn.Module, size: tuple[int, int]) -> Work:
    """Count the work of a network for one frame of size (W,H).

    Operations are counted by torch: convolutions, linear layers and attention. For the traffic, each convolution and linear layer
    reads its input and weights and writes its output once, in float32, and all other layers are fused into them. A runtime that
    keeps maps in the cache moves less; one that fuses nothing moves more.
    """
    from torch.utils.flop_counter import FlopCounterMode  # a second to import

    moved, hooks = 0, []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved
        moved += inputs[0].numel() + output.numel() + layer.weight.numel()

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            hooks.append(layer.register_forward_hook(count))
    device = next(model.parameters()).device
    try:
        with FlopCounterMode(display=False) as counter:
            model.eval()(torch.zeros(1, 3, size[1], size[0], dtype=torch.uint8, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return Work(sum(p.numel() for p in model.parameters()) / 1e6, counter.get_total_flops() / 1e9, 4 * moved / 1e6)


def roof_ms(roof: Roof, task: Work, bytes_each: int = 4) -> float:
    """Lower bound in milliseconds for a frame, with numbers of `bytes_each` bytes."""
    return max(task.gflop / roof.gflops, task.mbytes * bytes_each / 4 / 1e3 / roof.gbytes) * 1e3
