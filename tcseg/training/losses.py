"""Losses of single frames: cross-entropy, and five kinds of distillation. Pure functions of tensors.

| function | what the student copies | balanced over classes | needs |
|---|---|---|---|
| `kl_distillation` | each pixel's probabilities | only with class_weights | probabilities |
| `channel_wise_distillation` | where in the picture each class is | yes | probabilities |
| `dist_distillation` | how classes and pixels are ranked, whatever the confidence | half of it | probabilities |
| `feature_distillation` | the teacher's features | - | features, an adapter |
| `pairwise_frame_dependency` | which places of two frames look alike | - | features of two frames |

Notation: `logits (B,K,H,W)`, `labels (B,H,W)` int64 with 255 = ignore, `probs` = softmax of the logits over K. Losses along the
flow of two frames are in `temporal_losses`. Every mean is over pixels that count: a mask's own sum is the denominator, so a
half-masked frame is not half a loss, and nothing to count gives 0 with zero gradient. The teacher comes as probabilities, since
those are what can be stored (uint8) and fused along trajectories.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tcseg.errors import InputError
from tcseg.labels import IGNORE


def cross_entropy(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Class-weighted cross-entropy: the weighted mean over labelled pixels; 0 if no pixel is labelled.

    The logits are upsampled (bilinear, align_corners=False) to the labels' size, as at evaluation.

    Args:
        logits: (B,K,h,w).
        labels: (B,H,W) int64, 255 = ignore.
        class_weights: (K,) or None.

    Raises:
        ValueError: shapes disagree.
    """
    if labels.ndim != 3 or logits.ndim != 4 or logits.shape[0] != labels.shape[0]:
        raise InputError(
            f"logits are {tuple(logits.shape)} and labels {tuple(labels.shape)}; need (B,K,h,w) and (B,H,W)"
        )
    if logits.shape[-2:] != labels.shape[-2:]:
        logits = F.interpolate(logits, labels.shape[-2:], mode="bilinear", align_corners=False)
    total = F.cross_entropy(logits, labels, class_weights, ignore_index=IGNORE, reduction="sum")
    counted = labels != IGNORE
    if class_weights is None:
        return total / counted.sum().clamp(min=1)
    return total / class_weights[labels.clamp(max=len(class_weights) - 1)][counted].sum().clamp(min=1e-6)


def _interpolation(length: int, size: int, first: int, stride: int) -> Tensor:
    """Rows first, first + stride, ... of the matrix that upsamples `length` values to `size` (align_corners=False)."""
    position = ((torch.arange(first, size, stride) + 0.5) * length / size - 0.5).clamp(0, length - 1)
    below = position.floor().long().clamp(max=max(0, length - 2))
    matrix = torch.zeros(len(position), length)
    rows, share = torch.arange(len(position)), position - below
    matrix[rows, below] = 1 - share
    matrix[rows, (below + 1).clamp(max=length - 1)] += share
    return matrix


def upsample_lattice(logits: Tensor, size: tuple[int, int], offset: tuple[int, int], stride: int) -> Tensor:
    """Some pixels of the bilinear upsampling of the logits (align_corners=False): rows and columns offset, offset + stride, ...

    A cross-entropy over every stride-th pixel with a random offset has the expectation of the one over all pixels, at a
    stride^2-th of its cost: at full resolution, it took as long as half of the student's network.

    Args:
        logits: (B,K,h,w).
        size: (H,W) of the full upsampling.
        offset: first (row, column), each below stride.
        stride: 1 = all pixels.

    Returns:
        (B,K,ceil((H - offset) / stride), ...), equal to `interpolate(logits, size)[..., offset[0]::stride, offset[1]::stride]`.
    """
    rows, columns = (
        _interpolation(logits.shape[axis], size[axis], offset[axis], stride).to(logits) for axis in (-2, -1)
    )
    return rows @ logits @ columns.T


def _check(logits: Tensor, teacher_probs: Tensor) -> None:
    if logits.shape != teacher_probs.shape:
        raise InputError(f"logits are {tuple(logits.shape)} but teacher_probs {tuple(teacher_probs.shape)}; resize one")


def _softened(logits: Tensor, teacher_probs: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The student's log-probabilities and the teacher's probabilities at a temperature, both (B,K,h,w).

    Probabilities raised to 1/T and renormalised are softmax(z/T) of the logits z behind them.
    """
    _check(logits, teacher_probs)
    target = teacher_probs.clamp(min=1e-6)
    if temperature != 1.0:
        target = target.pow(1 / temperature)
    return F.log_softmax(logits / temperature, dim=1), target / target.sum(1, keepdim=True)


def _counted(mask: Tensor | None, like: Tensor) -> Tensor:
    """A mask (B,h,w) as weights of `like`'s (B,K,h,w) dtype; all ones where there is none."""
    return torch.ones_like(like[:, 0]) if mask is None else mask.to(like.dtype)


def kl_distillation(
    logits: Tensor,
    teacher_probs: Tensor,
    temperature: float = 1.0,
    mask: Tensor | None = None,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Hinton et al. 2015, eq. 3-4, per pixel: T^2 KL(p_teacher || p_student), the mean over masked pixels.

    Args:
        logits: (B,K,h,w), the student's.
        teacher_probs: (B,K,h,w), sum 1 over K.
        temperature: T >= 1 softens both.
        mask: (B,h,w) bool or float, pixels that count; None = all.
        class_weights: (K,); a pixel then weighs as much as its expected class under the teacher ("class-balanced").

    Raises:
        ValueError: shapes disagree.
    """
    log_student, target = _softened(logits, teacher_probs, temperature)
    pointwise = (target * (target.log() - log_student)).sum(1) * temperature**2  # (B,h,w)
    weight = _counted(mask, logits)
    if class_weights is not None:
        weight = weight * torch.einsum("bkhw,k->bhw", target, class_weights)
    return (pointwise * weight).sum() / weight.sum().clamp(min=1e-6)


def channel_wise_distillation(
    logits: Tensor,
    teacher_probs: Tensor,
    temperature: float = 4.0,
    mask: Tensor | None = None,
    floor: float = 1e-3,
) -> Tensor:
    """CWD, Shu et al. 2021 (their softmax over space and KL): T^2/K sum_k KL(phi_teacher,k || phi_student,k), mean over frames.

    phi_k(i) = exp(y_k(i) / T) / sum_j exp(y_k(j) / T) says where in the picture class k is, so a small class counts as much as
    a large one, and how much of the picture it takes is not part of the loss: a factor on a class's probabilities changes nothing.
    The paper takes logits for y; here y = log p for both, as probabilities are what is stored. At T = 1 phi_k is then a class's
    probability map divided by its sum, and pixels of small classes are heard most. A larger T brings in the places where the class
    is unlikely: at T = 4 a place at the floor weighs 0.18 of one where the class is certain, and most places are at the floor.

    Args:
        logits: (B,K,h,w), the student's.
        teacher_probs: (B,K,h,w), sum 1 over K.
        temperature: T; the paper's 4.
        mask: (B,h,w) bool, pixels that count; None = all. Frames without any count for nothing.
        floor: what the teacher's probabilities are raised to at least. Stored as uint8 they cannot tell less than 1/510 from 0;
            there a student below the floor is not corrected.

    Raises:
        ValueError: shapes disagree.
    """
    _check(logits, teacher_probs)
    log_target = teacher_probs.clamp(min=floor).log()
    untold = log_target.masked_fill(teacher_probs > floor, -torch.inf)
    log_student = torch.maximum(F.log_softmax(logits, dim=1), untold)
    frames = torch.ones_like(log_target[:, 0, 0, 0])
    if mask is not None:  # finite, so that a frame with nothing to count has two equal maps
        unseen = ~mask[:, None]
        log_student, log_target = log_student.masked_fill(unseen, -1e4), log_target.masked_fill(unseen, -1e4)
        frames = mask.flatten(1).any(1)
    phi_student, phi_target = ((maps / temperature).flatten(2).log_softmax(-1) for maps in (log_student, log_target))
    divergence = (phi_target.exp() * (phi_target - phi_student)).sum(-1).mean(1)  # (B,)
    return temperature**2 * divergence.sum() / frames.sum().clamp(min=1)


def _pearson(a: Tensor, b: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Pearson's correlation over the last axis, and the variance of b there; weight 0 = not counted."""
    total = weight.sum(-1, keepdim=True).clamp(min=1e-6)
    share = weight / total
    a = a - (a * share).sum(-1, keepdim=True)
    b = b - (b * share).sum(-1, keepdim=True)
    variance_a, variance_b = (a.square() * share).sum(-1), (b.square() * share).sum(-1)
    tiny = 1e-8  # keeps the gradient finite where the student is undecided everywhere
    return (a * b * share).sum(-1) / ((variance_a + tiny) * (variance_b + tiny)).sqrt(), variance_b


def dist_distillation(
    logits: Tensor,
    teacher_probs: Tensor,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """DIST, Huang et al. 2022: T^2 (beta (1 - r_inter) + gamma (1 - r_intra)), with Pearson's correlation r of probabilities.

    r_inter: over the classes of a pixel, then the mean over pixels. r_intra: over the pixels of a class, all frames together,
    then the mean over classes. A correlation asks for the teacher's ranking, not for its values: scaling or shifting the teacher's
    probabilities of a pixel (inter) or of a class (intra) changes nothing, so a student may be less sure than its teacher.

    Args:
        logits: (B,K,h,w), the student's.
        teacher_probs: (B,K,h,w), sum 1 over K.
        beta, gamma: weights of the two parts; 1 and 1 in the paper.
        temperature: T.
        mask: (B,h,w) bool or float, pixels that count; None = all.

    Classes that the teacher hardly moves (a standard deviation below 0.001, less than uint8 can store) have no ranking and are
    left out of r_intra.

    Raises:
        ValueError: shapes disagree.
    """
    log_student, target = _softened(logits, teacher_probs, temperature)
    student = log_student.exp()
    weight = _counted(mask, logits)
    rows = (student.movedim(1, -1), target.movedim(1, -1))  # (B,h,w,K)
    inter, _ = _pearson(*rows, torch.ones_like(rows[0]))
    inter_loss = ((1 - inter) * weight).sum() / weight.sum().clamp(min=1e-6)
    columns = (student.transpose(0, 1).flatten(1), target.transpose(0, 1).flatten(1))  # (K,B*h*w)
    intra, variance = _pearson(*columns, weight.flatten())
    ranked = (variance > 1e-6).to(intra.dtype)
    intra_loss = ((1 - intra) * ranked).sum() / ranked.sum().clamp(min=1)
    return temperature**2 * (beta * inter_loss + gamma * intra_loss)


def feature_distillation(
    features: Tensor, teacher_features: Tensor, adapter: nn.Module, mask: Tensor | None = None
) -> Tensor:
    """FitNets, Romero et al. 2015, eq. 3, as a mean: squared distance of adapted features to the teacher's, normalised.

    The adapter (a 1x1 convolution, trained with the student and thrown away) brings the student's channels to the teacher's; then
    they are resized to the teacher's grid. The teacher's channels are brought to mean 0 and standard deviation 1 over this
    batch, so that no loud channel drowns the others and the value can be read: 0 = copied, 1 = as good as saying 0 everywhere.

    Args:
        features: (B,C,h,w), the student's, of any stride.
        teacher_features: (B,D,H,W), of any stride; no gradient flows into them.
        adapter: takes (B,C,h,w) to (B,D,h,w), e.g. `torch.nn.Conv2d(C, D, 1)`.
        mask: (B,H,W) bool, which pixels of the teacher enter the mean and the statistics; None = all.

    Raises:
        ValueError: the batches differ, or the adapter gives another number of channels than the teacher has.
    """
    adapted = adapter(features)
    if adapted.shape[:2] != teacher_features.shape[:2]:
        raise InputError(
            f"adapted features are {tuple(adapted.shape)} but teacher_features {tuple(teacher_features.shape)}; batch and "
            f"channels must agree: use an adapter with {teacher_features.shape[1]} output channels"
        )
    if adapted.shape[-2:] != teacher_features.shape[-2:]:
        adapted = F.interpolate(adapted, teacher_features.shape[-2:], mode="bilinear", align_corners=False)
    teacher = teacher_features.detach()
    weight = _counted(mask, teacher)[:, None]
    total = weight.sum().clamp(min=1)
    mean = (teacher * weight).sum((0, 2, 3), keepdim=True) / total
    spread = ((teacher - mean).square() * weight).sum((0, 2, 3), keepdim=True).div(total).sqrt()
    error = (adapted - (teacher - mean) / (spread + 1e-6)).square().mean(1, keepdim=True)
    return (error * weight).sum() / total


def _similarities(features_a: Tensor, features_b: Tensor, nodes: tuple[int, int]) -> Tensor:
    """Cosine of every place of a with every place of b, on a coarse grid: (B,C,h,w) twice -> (B,N,N)."""
    a, b = (
        F.normalize(F.adaptive_avg_pool2d(features, nodes).flatten(2), dim=1) for features in (features_a, features_b)
    )
    return a.transpose(1, 2) @ b


def pairwise_frame_dependency(
    features_a: Tensor,
    features_b: Tensor,
    teacher_a: Tensor,
    teacher_b: Tensor,
    nodes: tuple[int, int] = (8, 16),
    mask_b: Tensor | None = None,
) -> Tensor:
    """PF of ETC (Liu et al. 2020): 1/N^2 sum_ij (cos(f_a^i, f_b^j) - cos(g_a^i, g_b^j))^2, mean over pairs of frames.

    The student f copies which places i of frame a look like which places j of frame b in the teacher's features g. Similarities
    have no channels, so no adapter is needed. Each feature is divided by its own length; the released code divides the
    product f_i.f_j by the transposed table of lengths |f_j||f_i|, which is right only where both frames are one.

    Args:
        features_a, features_b: (B,C,h,w), the student's, of frames a and b.
        teacher_a, teacher_b: (B,D,H,W), the teacher's; no gradient flows into them.
        nodes: (rows, columns) of the grid that all are averaged to; N = rows x columns, and the table has N^2 numbers.
        mask_b: (B,H,W) bool, places of frame b that count; a node counts if all of its places do. None = all.

    Raises:
        ValueError: the batches differ.
    """
    if len({features.shape[0] for features in (features_a, features_b, teacher_a, teacher_b)}) > 1:
        shapes = [tuple(features.shape) for features in (features_a, features_b, teacher_a, teacher_b)]
        raise InputError(f"features and teacher have shapes {shapes}; the first number, the batch, must agree")
    wanted = _similarities(teacher_a.detach(), teacher_b.detach(), nodes)
    error = (_similarities(features_a, features_b, nodes) - wanted).square().mean(1)  # (B,N), over the places of a
    if mask_b is None:
        return error.mean()
    counted = F.adaptive_avg_pool2d(mask_b[:, None].to(error.dtype), nodes).flatten(1) > 0.999
    return (error * counted).sum() / counted.sum().clamp(min=1)


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
