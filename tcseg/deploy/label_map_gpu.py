"""Logits to a label map on a GPU in one Triton kernel: interpolation and argmax without writing the scores.

Upsampling first writes every class of every pixel, 40 times the label map in fp16 with 19 classes, to read it once. Written in
Triton, which PyTorch for NVIDIA GPUs on Linux brings along; it needs a C compiler when it is first used.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

PIXELS = 256  # of a row, to a program


@triton.jit
def _best_of_row(
    logits, labels, height, width, wide, by_class, by_row, by_column,
    STRIDE: tl.constexpr, CLASSES: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Labels of `PIXELS` pixels of a row. Bilinear as PyTorch's, align_corners=False: what lies outside is the border's."""
    row, columns = tl.program_id(0), tl.program_id(1) * PIXELS + tl.arange(0, PIXELS)
    y, x = tl.maximum((row + 0.5) / STRIDE - 0.5, 0.0), tl.maximum((columns + 0.5) / STRIDE - 0.5, 0.0)
    top, left = y.to(tl.int32), x.to(tl.int32)
    bottom, right = tl.minimum(top + 1, height - 1), tl.minimum(left + 1, width - 1)
    down, along = y - top, x - left
    here = columns < wide  # what is beyond the row reads the last column
    left, right = tl.minimum(left, width - 1), tl.minimum(right, width - 1)
    best, label = tl.full((PIXELS,), float("-inf"), tl.float32), tl.zeros((PIXELS,), tl.int32)
    for k in tl.static_range(CLASSES):
        above, below = logits + k * by_class + top * by_row, logits + k * by_class + bottom * by_row
        a, b = tl.load(above + left * by_column).to(tl.float32), tl.load(above + right * by_column).to(tl.float32)
        c, d = tl.load(below + left * by_column).to(tl.float32), tl.load(below + right * by_column).to(tl.float32)
        upper, lower = a + along * (b - a), c + along * (d - c)
        value = upper + down * (lower - upper)
        better = value > best
        best, label = tl.where(better, value, best), tl.where(better, k, label)
    tl.store(labels + row * wide + columns, label.to(tl.uint8), mask=here)


def labels_of(logits: Tensor, stride: int) -> Tensor:
    """Logits (1,K,h,w), of any strides and a floating type, on a GPU -> labels uint8 (1,h*stride,w*stride), the lowest of equals.

    Interpolates in fp32, whatever the logits' type.
    """
    _, classes, height, width = logits.shape
    tall, wide = height * stride, width * stride
    labels = torch.empty((1, tall, wide), dtype=torch.uint8, device=logits.device)
    _best_of_row[tall, triton.cdiv(wide, PIXELS)](
        logits, labels, height, width, wide, *logits.stride()[1:], STRIDE=stride, CLASSES=classes, PIXELS=PIXELS
    )
    return labels
