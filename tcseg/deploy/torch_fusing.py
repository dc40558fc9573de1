"""Fold batch norms and the normalisation of the frame into the convolutions of a PyTorch network.

Both become a part of a convolution, as other runtimes do it when they read a file (`onnx_rewrites` prepares it there). Who reads
what is seen on a small frame, and what would change an answer stays as it is.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from tcseg.models.peers import Peer

if TYPE_CHECKING:
    from tcseg.models.networks import SegmentationModel

FOLDED_ALIKE = 1e-3  # of the largest logit: rounding is a thousandth of it


@torch.no_grad()
def fold_norms(model: SegmentationModel) -> SegmentationModel:
    """A copy in eval mode with its batch norms folded; without, where that would change its answer or it takes no small frame."""
    plain = copy.deepcopy(model).eval()
    probe = _probe().to(next(plain.parameters()).device)
    try:
        before = plain(probe)
    except Exception:  # an encoder for one size alone, whatever it raises at another
        return plain
    network = copy.deepcopy(plain)
    fold_batch_norms(network, probe)
    return network if _alike(network(probe), before) else plain


def _probe() -> Tensor:
    """A small frame without meaning, (1,3,64,64)."""
    return torch.randint(0, 256, (1, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def _alike(after: Tensor, before: Tensor) -> bool:
    return bool((after - before).abs().max() <= FOLDED_ALIKE * before.abs().max())


@torch.inference_mode(False)  # whose tensors do not say when they were changed
@torch.no_grad()
def fold_batch_norms(network: nn.Module, frames: Tensor) -> int:
    """Move each batch norm that is given a convolution's output into that convolution; returns how many were.

    Which is given what is seen on some frames. What is called more than once stays as it is, and a convolution that two norms
    read. Whether something else reads it, too, cannot be seen: compare the answers (`fold_norms`).

    Args:
        network: in eval mode. Changed in place.
        frames: that it takes.
    """
    producers: dict[int, tuple[nn.Conv2d, Tensor, int]] = {}  # with the tensor, alive, so that no other one has its id
    pairs, calls = [], Counter()

    def after_convolution(layer: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        producers[id(output)] = layer, output, output._version
        calls[layer] += 1

    def before_norm(layer: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        conv, output, version = producers.get(id(inputs[0]), (None, None, 0))
        calls[layer] += 1
        if (
            conv is not None and output._version == version and layer.running_mean is not None
        ):  # not changed in place since
            pairs.append((conv, layer))

    hooks = []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            hooks.append(layer.register_forward_hook(after_convolution))
        if isinstance(layer, nn.BatchNorm2d):
            hooks.append(layer.register_forward_pre_hook(before_norm))
    try:
        network(frames)
    finally:
        for hook in hooks:
            hook.remove()
    paths = {layer: path for path, layer in network.named_modules()}
    readers = Counter(conv for conv, _ in pairs)
    alone = [(conv, norm) for conv, norm in pairs if calls[conv] == calls[norm] == readers[conv] == 1]
    for conv, norm in alone:
        statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
        network.set_submodule(
            paths[norm], getattr(norm, "act", nn.Identity())
        )  # timm's norms have the activation inside
    return len(alone)


class OfBytes(nn.Module):
    """A network whose first convolution has taken over the normalisation of frames.

    Where that convolution pads with zeros, which stand for the mean, it has a fourth channel that is 255 inside of the frame: its
    weights carry the mean, so that outside of it nothing is subtracted. Frames uint8 (1,3 or 4,H,W) -> logits (1,K,H/s,W/s).

    Attributes:
        stride: of the logits.
        fourth: whether there is that channel; it is added where it is missing.
    """

    def __init__(self, network: SegmentationModel, fourth: bool) -> None:
        super().__init__()
        self.network, self.fourth, self.stride = network, fourth, network.stride

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (1,K,H/s,W/s)."""
        if self.fourth and frames.shape[1] == 3:
            frames = F.pad(frames, (0, 0, 0, 0, 0, 1), value=255)
        x = frames.to(next(self.network.parameters()).dtype)
        return _after_normalisation(self.network, x.contiguous(memory_format=torch.channels_last))


def _after_normalisation(network: SegmentationModel, x: Tensor) -> Tensor:
    return network.net(x) if isinstance(network, Peer) else network.head(network.decoder(network.encoder(x)))


@torch.inference_mode(False)
@torch.no_grad()
def fold_normalisation(network: SegmentationModel) -> nn.Module:
    """A copy that takes frames as they are (`OfBytes`); the network itself where that would change its answer.

    Args:
        network: in eval mode.
    """
    copied, probe, readers = copy.deepcopy(network), _probe(), []
    try:
        before = network(probe)
        x = ((probe - copied.mean) / copied.std).contiguous(memory_format=torch.channels_last)
        convolutions = [layer for layer in copied.modules() if isinstance(layer, nn.Conv2d)]
        hooks = [
            layer.register_forward_pre_hook(lambda layer, inputs: readers.append(layer) if inputs[0] is x else None)
            for layer in convolutions
        ]
        _after_normalisation(copied, x)
        for hook in hooks:
            hook.remove()
        (first,) = readers
        output = OfBytes(copied, _take_over(first, copied.mean, copied.std))
        return output if _alike(output(probe), before) else network
    except Exception:  # a network of another kind, whatever it lacks
        return network


def _take_over(first: nn.Conv2d, mean: Tensor, std: Tensor) -> bool:
    """Move the normalisation (x - mean) / std into a convolution; returns whether that needs the channel of 255."""
    first.weight.div_(std)
    constant = -(first.weight * mean).sum(1, keepdim=True)
    fourth = type(first) is not nn.Conv2d or first.padding not in (0, (0, 0), "valid")
    if fourth:
        first.weight = nn.Parameter(
            torch.cat([first.weight, constant / 255], 1).contiguous(memory_format=torch.channels_last)
        )
        first.in_channels = 4
    else:
        bias = constant.sum((1, 2, 3))
        first.bias = nn.Parameter(bias if first.bias is None else first.bias + bias)
    return fourth
