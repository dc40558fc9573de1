"""The three losses of the study: cross-entropy, distillation, temporal consistency. Pure functions of tensors.

Notation: `logits (B,K,H,W)`, `labels (B,H,W)` int64 with 255 = ignore, `probs` = softmax of the logits over K.
Every mean is over pixels that count: a mask's own sum is the denominator, so a half-masked frame is not half a loss.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tcseg.flow import warp
from tcseg.labels import IGNORE


def cross_entropy(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Class-weighted cross-entropy, the weighted mean over labelled pixels; 0 where no pixel is labelled.

    The logits are upsampled (bilinear, align_corners=False) to the labels' size, as at evaluation.

    Args:
        logits: (B,K,h,w).
        labels: (B,H,W) int64, 255 = ignore.
        class_weights: (K,) or None.

    Raises:
        ValueError: shapes disagree.
    """
    if labels.ndim != 3 or logits.ndim != 4 or logits.shape[0] != labels.shape[0]:
        raise ValueError(
            f"logits are {tuple(logits.shape)} and labels {tuple(labels.shape)}; need (B,K,h,w) and (B,H,W)"
        )
    if logits.shape[-2:] != labels.shape[-2:]:
        logits = F.interpolate(logits, labels.shape[-2:], mode="bilinear", align_corners=False)
    total = F.cross_entropy(logits, labels, class_weights, ignore_index=IGNORE, reduction="sum")
    counted = labels != IGNORE
    if class_weights is None:
        return total / counted.sum().clamp(min=1)
    return total / class_weights[labels.clamp(max=len(class_weights) - 1)][counted].sum().clamp(min=1e-6)


def kl_distillation(
    logits: Tensor,
    teacher_probs: Tensor,
    temperature: float = 1.0,
    mask: Tensor | None = None,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Hinton et al. 2015, eq. 3-4, per pixel: T^2 KL(p_teacher || p_student), the mean over masked pixels.

    The teacher comes as probabilities, since those are what can be stored and fused; they are raised to 1/T and renormalised,
    which equals softmax(z/T) of the teacher's logits.

    Args:
        logits: (B,K,h,w), the student's.
        teacher_probs: (B,K,h,w), sum 1 over K.
        temperature: T >= 1 softens both.
        mask: (B,h,w) bool or float, pixels that count; None = all.
        class_weights: (K,); a pixel then weighs as much as its expected class under the teacher ("class-balanced").

    Raises:
        ValueError: shapes disagree.
    """
    if logits.shape != teacher_probs.shape:
        raise ValueError(f"logits are {tuple(logits.shape)} but teacher_probs {tuple(teacher_probs.shape)}; resize one")
    target = teacher_probs.clamp(min=1e-6)
    if temperature != 1.0:
        target = target.pow(1 / temperature)
    target = target / target.sum(1, keepdim=True)
    log_student = F.log_softmax(logits / temperature, dim=1)
    pointwise = (target * (target.log() - log_student)).sum(1) * temperature**2  # (B,h,w)
    weight = torch.ones_like(pointwise) if mask is None else mask.to(pointwise.dtype)
    if class_weights is not None:
        weight = weight * torch.einsum("bkhw,k->bhw", target, class_weights)
    return (pointwise * weight).sum() / weight.sum().clamp(min=1e-6)


def temporal_consistency(probs_a: Tensor, probs_b: Tensor, flow_ab: Tensor, visible_ab: Tensor) -> Tensor:
    """Squared change of a pixel's class probabilities along its flow, the mean over visible pixels.

    L = sum_p V(p) |p_a(p) - p_b(p + w_ab(p))|^2 / sum_p V(p). ETC (Liu et al. 2020, eq. 4) with three repairs: probabilities
    instead of raw logits (whose scale the network can shrink), the mask once instead of squared, divided by the mask's sum.
    Gradients flow into both frames.

    Args:
        probs_a, probs_b: (B,K,H,W) of frames a and b.
        flow_ab: (B,2,H,W) pixels of this grid.
        visible_ab: (B,H,W) bool or float in 0..1.
    """
    warped, inside = warp(probs_b, flow_ab)
    weight = visible_ab.to(probs_a.dtype) * inside
    return ((probs_a - warped).square().sum(1) * weight).sum() / weight.sum().clamp(min=1.0)


def class_weights(labels: Tensor, num_classes: int, power: float = 0.5) -> Tensor:
    """Weights (share of the class)^-power, clipped to 10x the smallest and scaled to mean 1 over pixels.

    Args:
        labels: uint8 of any shape, 255 = ignore.
        num_classes: K.
        power: 0 = no balancing, 1 = every class counts the same in sum.

    Returns:
        (K,) float32; a class that never occurs has the largest weight.
    """
    counts = torch.bincount(labels.reshape(-1).long(), minlength=256)[:num_classes].double()
    share = (counts / counts.sum().clamp(min=1)).clamp(min=1e-6)
    weights = share.pow(-power)
    weights = weights.clamp(max=10 * weights.min())
    return (weights / (weights * share).sum()).float()
