"""Networks for comparison with one interface: reimplemented from their papers, or from a library.

Fast-SCNN (Poudel et al. 2019, arXiv 1902.04502), DDRNet-23-slim (Hong et al. 2021, arXiv 2101.06085) and PIDNet-S (Xu et al.
2023, arXiv 2206.02066) are in `peer_networks`. Lite R-ASPP (Howard et al. 2019, arXiv 1905.02244) and DeepLabv3 (Chen et al. 2017,
arXiv 1706.05587) over MobileNetV3-Large are torchvision's, SegFormer-B0 (Xie et al. 2021, arXiv 2105.15203) is transformers'.

Only the architecture is built: no weights are downloaded, and heads that are only used in training (the auxiliary losses of DDRNet
and PIDNet) are left out. Interpolation is bilinear with align_corners=False, as everywhere in this package.

All but Lite R-ASPP and SegFormer normalise maps pooled to 1x1, which has no variance in a batch of one: train them with
batches of at least two frames, or torch raises a ValueError ("Expected more than 1 value per channel").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torchvision.models import segmentation

from tcseg.errors import CannotRunError, InputError, require_one_of
from tcseg.labels import default_classes
from tcseg.models.networks import MEAN, STD
from tcseg.models.peer_networks import DDRNet, FastSCNN, PIDNet

# ------------------------------------------------------------------------------------------------ from libraries


class _Torchvision(nn.Module):
    """One of torchvision's networks before its upsampling; its head takes all of the encoder's maps, or the one named `key`."""

    def __init__(self, whole: nn.Module, key: str | None = None) -> None:
        super().__init__()
        self.backbone, self.classifier, self.key = whole.backbone, whole.classifier, key

    def forward(self, x: Tensor) -> Tensor:
        maps = self.backbone(x)
        return self.classifier(maps if self.key is None else maps[self.key])


def _lite_raspp(num_classes: int) -> nn.Module:
    """Logits of stride 8, the sum of two classifiers: of the encoder's maps at strides 8 and 16."""
    make = segmentation.lraspp_mobilenet_v3_large
    return _Torchvision(make(weights=None, weights_backbone=None, num_classes=num_classes))


def _deeplab(num_classes: int) -> nn.Module:
    """Logits of stride 16, without the auxiliary classifier."""
    make = segmentation.deeplabv3_mobilenet_v3_large
    return _Torchvision(make(weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=False), "out")


class _SegFormer(nn.Module):
    """transformers' SegFormer with the configuration B0: logits of stride 4."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        try:
            from transformers import SegformerConfig, SegformerForSemanticSegmentation
        except ImportError as error:
            raise CannotRunError(
                "segformer-b0 needs the package transformers, which is not installed; run: pip install transformers"
            ) from error
        config = SegformerConfig(
            num_labels=num_classes, depths=[2, 2, 2, 2], hidden_sizes=[32, 64, 160, 256], decoder_hidden_size=256
        )
        self.whole = SegformerForSemanticSegmentation(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.whole(x).logits


# ------------------------------------------------------------------------------------------------ the contract


@dataclass(frozen=True)
class PeerSpec:
    """A network from another paper or library, with its published figures.

    Attributes:
        description: name, authors, year.
        arxiv: id of the paper.
        parameters: published number in millions, without heads that are only used in training.
        miou: published value on Cityscapes val in %, at full resolution and with the authors' training (mostly with ImageNet
            weights); None if no value is reliable. It is not measured here.
        stride: stride of the logits.
        make: function that builds the network for K classes.
        head: path of the last 1x1 convolution in the network that `make` returns.
    """

    description: str
    arxiv: str
    parameters: float
    miou: float | None
    stride: int
    make: Callable[[int], nn.Module] = field(repr=False)
    head: str = field(default="head", repr=False)


_LITE, _ALL_MLP = "classifier.high_classifier", "whole.decode_head.classifier"
PEERS: dict[str, PeerSpec] = {
    "fast-scnn": PeerSpec("Fast-SCNN (Poudel et al. 2019)", "1902.04502", 1.11, 68.6, 8, FastSCNN),
    "ddrnet-23-slim": PeerSpec("DDRNet-23-slim (Hong et al. 2021)", "2101.06085", 5.7, 77.8, 8, DDRNet),
    "pidnet-s": PeerSpec("PIDNet-S (Xu et al. 2023)", "2206.02066", 7.6, 78.8, 8, PIDNet),
    "lraspp-mv3-large": PeerSpec(
        "Lite R-ASPP 128 on MobileNetV3-Large (Howard et al. 2019)", "1905.02244", 3.22, None, 8, _lite_raspp, _LITE
    ),
    "deeplabv3-mv3-large": PeerSpec(
        "DeepLabv3 on MobileNetV3-Large (Chen et al. 2017)", "1706.05587", 11.0, None, 16, _deeplab, "classifier.4"
    ),
    "segformer-b0": PeerSpec("SegFormer-B0 (Xie et al. 2021)", "2105.15203", 3.8, 76.2, 4, _SegFormer, _ALL_MLP),
}
"""Name -> network for comparison."""


class Peer(nn.Module):
    """A peer with the interface of `SegmentationModel`: frames (B,3,H,W), uint8 or float 0..255 RGB -> logits (B,K,H/s,W/s).

    Attributes:
        net: the network; its input is normalised frames.
        arch: name in `PEERS`.
        stride: stride s of the logits.
        label_set: the K predicted classes; see `registry.build`.
    """

    def __init__(self, arch: str, num_classes: int) -> None:
        super().__init__()
        self.arch, self.num_classes, self.stride = arch, num_classes, PEERS[arch].stride
        self.label_set = default_classes(num_classes)
        self.net = PEERS[arch].make(num_classes)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    @property
    def head(self) -> nn.Conv2d:
        """The last 1x1 convolution, which gives the K classes; a part of `net`, not a second copy."""
        return self.net.get_submodule(PEERS[self.arch].head)

    def forward(self, frames: Tensor, features: bool = False) -> Tensor:
        """Logits (B,K,H/s,W/s) of frames (B,3,H,W), uint8 or float 0..255 RGB.

        Raises:
            ValueError: a side is not a multiple of 32, or `features` is True.
        """
        if features:
            raise InputError(f"features is True, but {self.arch} cannot return features; use a student or the teacher")
        height, width = frames.shape[-2:]
        if height % 32 or width % 32:
            padded = (-(-width // 32) * 32, -(-height // 32) * 32)
            raise InputError(
                f"frame is {width}x{height}; both sides must be multiples of 32: pad to {padded[0]}x{padded[1]} "
                f"(deploy.label_map.pad_to_multiple) or pass size={padded}"
            )
        x = (frames.to(self.head.weight.dtype) - self.mean) / self.std
        return self.net(x.contiguous(memory_format=torch.channels_last))


def build(name: str, num_classes: int) -> Peer:
    """Build a peer with random weights, in channels_last.

    Raises:
        ValueError: the name is unknown.
        RuntimeError: the network needs a package that is not installed.
    """
    require_one_of("peer", name, PEERS)
    return Peer(name, num_classes).to(memory_format=torch.channels_last)
