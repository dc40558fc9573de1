"""Losses of two frames: predictions for the same point should agree. Pure functions of tensors.

Convention: `flow_ab (B,2,H,W)` says in pixels where a pixel of frame a lies in frame b; b's answers are warped onto a's grid.
Means are over visible pixels that stay inside the frame; where there are none the loss is 0 with zero gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tcseg.errors import InputError
from tcseg.flow import pixel_grid, warp

DISTANCES = ("l2", "kl", "js")
STOPS = ("none", "a", "b")
IMAGENET_STD = (0.229, 0.224, 0.225)


def _choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{name} is {value!r}; it must be one of {', '.join(known)}")


def _kl(target: Tensor, answer: Tensor) -> Tensor:
    """KL(target || answer) of probabilities (B,K,H,W) at each pixel: (B,H,W), in nats."""
    return (target * (target.clamp(min=1e-6).log() - answer.clamp(min=1e-6).log())).sum(1)


def _distance(a: Tensor, b: Tensor, distance: str, stop: str) -> Tensor:
    """How far two probability maps (B,K,H,W) are apart at each pixel, (B,H,W)."""
    if distance == "l2":
        return (a - b).square().sum(1)
    if distance == "js":
        middle = (a + b) / 2
        return (_kl(a, middle) + _kl(b, middle)) / 2
    if stop == "none":
        return (_kl(a, b) + _kl(b, a)) / 2
    return _kl(a, b) if stop == "a" else _kl(b, a)


def temporal_consistency(
    probs_a: Tensor,
    probs_b: Tensor,
    flow_ab: Tensor,
    visible_ab: Tensor,
    distance: str = "l2",
    stop: str = "none",
    class_weights: Tensor | None = None,
) -> Tensor:
    """Change of a pixel's class probabilities along its flow, the mean over visible pixels.

    L = sum_p V(p) d(p_a(p), p_b(p + w_ab(p))) / sum_p V(p). ETC's temporal loss (Liu et al. 2020) with three repairs: probabilities
    instead of raw logits (whose scale the network can shrink), the mask once instead of squared, divided by the mask's sum.

    Args:
        probs_a, probs_b: (B,K,H,W) of frames a and b.
        flow_ab: (B,2,H,W) pixels of this grid.
        visible_ab: (B,H,W) bool or float in 0..1.
        distance: "l2", squared difference summed over classes, 0..2; "js", Jensen-Shannon divergence, 0..log 2 nats; "kl",
            KL(stopped || other), or with none stopped the mean of both directions, in nats.
        stop: the frame that is taken as given, "a" or "b"; gradients flow only into the other. "none" = into both.
        class_weights: (K,); a pixel then weighs as much as its expected class under the mean of both frames' probabilities. TC is
            a mean over classes, a mean over pixels is mostly road: this brings the loss nearer to what is measured.

    Raises:
        ValueError: distance or stop is unknown; shapes disagree.
    """
    _choice("distance", distance, DISTANCES)
    _choice("stop", stop, STOPS)
    warped, inside = warp(probs_b, flow_ab)
    here = probs_a.detach() if stop == "a" else probs_a
    there = warped.detach() if stop == "b" else warped
    weight = visible_ab.to(probs_a.dtype) * inside
    if class_weights is not None:
        weight = weight * torch.einsum("bkhw,k->bhw", (probs_a + warped).detach() / 2, class_weights.to(probs_a.dtype))
    return (_distance(here, there, distance, stop) * weight).sum() / weight.sum().clamp(min=1e-6)


def soft_tc(probs_a: Tensor, probs_b: Tensor, flow_ab: Tensor, visible_ab: Tensor, small: float = 1e-3) -> Tensor:
    """TC itself as a loss: 1 - mean over classes of sum V min(p_a, p_b) / sum V max(p_a, p_b), summed over the whole batch.

    Soft intersection over union with min and max for products (Ruzicka similarity): for certain answers it is exactly 1 - IoU,
    and 0 where both frames doubt alike. A class counts s / (s + small), where s is its share of the visible pixels: all count the
    same once they are there, and little when almost nothing speaks for them. (Counting only what is the answer somewhere, as TC
    does, lets a student without a teacher escape: it stops answering the classes that flicker.)

    Args:
        probs_a, probs_b: (B,K,H,W) of frames a and b; b is warped to a.
        flow_ab: (B,2,H,W) pixels of this grid.
        visible_ab: (B,H,W) bool or float in 0..1.
        small: share of the visible pixels at which a class counts half.
    """
    warped, inside = warp(probs_b, flow_ab)
    weight = visible_ab.to(probs_a.dtype) * inside

    def total(values: Tensor) -> Tensor:
        return torch.einsum("bkhw,bhw->k", values, weight)

    both, apart = total(probs_a) + total(warped), total((probs_a - warped).abs())  # = max + min, max - min
    mass = both.detach() / 2
    counts = mass / (mass + small * weight.sum() + 1e-6)
    return (2 * apart / (both + apart).clamp(min=1e-6) * counts).sum() / counts.sum().clamp(min=1e-6)


def _warp_replicating(x_b: Tensor, flow_ab: Tensor) -> Tensor:
    """Warp b onto a as FlowNet2's Resample2d does: what the flow takes outside is read from the border."""
    height, width = flow_ab.shape[-2:]
    grid = pixel_grid(height, width, flow_ab.device)
    last = torch.tensor([width - 1, height - 1], device=flow_ab.device).view(1, 2, 1, 1)
    target = torch.minimum((flow_ab + grid).clamp(min=0), last)
    return warp(x_b, target - grid)[0]


def photometric_mask(frame_a: Tensor, frame_b: Tensor, flow_ab: Tensor, form: str = "published") -> Tensor:
    """How well the flow explains each pixel: ETC's V = exp(-|I_a - warped I_b|), on ImageNet-normalised frames, 0..1.

    "published" sums the channels' absolute differences. "released" takes the absolute value of their sum, as ETC's code does, so
    that a pixel that turns from red to green can look unchanged. Both call a change of light an occlusion. Where the flow
    leaves the frame the border is compared: multiply by a forward-backward visibility (`flow.visibility`).

    Args:
        frame_a, frame_b: (B,3,H,W) RGB, 0..255, uint8 or float.
        flow_ab: (B,2,H,W) pixels.
        form: "published" or "released".

    Returns:
        (B,H,W) float32.

    Raises:
        ValueError: form is unknown; shapes disagree.
    """
    _choice("form", form, ("published", "released"))
    std = 255 * torch.tensor(IMAGENET_STD, device=flow_ab.device).view(1, 3, 1, 1)
    change = (frame_a.float() - _warp_replicating(frame_b.float(), flow_ab)) / std
    change = change.abs().sum(1) if form == "published" else change.sum(1).abs()
    return torch.exp(-change)


def etc_compat(logits_a: Tensor, logits_b: Tensor, flow_ab: Tensor, mask: Tensor) -> Tensor:
    """ETC's temporal loss as its released code computes it: mean over B, K, H and W of (V z_a - V warped z_b)^2.

    For comparison only: on raw logits z, so that smaller logits are a smaller loss; the mask enters squared; and the denominator is
    every pixel, so that a darker mask is a weaker loss. Gradients flow into both frames.

    Args:
        logits_a, logits_b: (B,K,H,W) of frames a and b.
        flow_ab: (B,2,H,W) pixels of this grid.
        mask: (B,H,W) 0..1; there `photometric_mask(..., form="released")`.
    """
    warped = _warp_replicating(logits_b, flow_ab)
    return ((logits_a - warped) * mask[:, None].to(logits_a.dtype)).square().mean()
