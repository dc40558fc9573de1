"""Encoder + decoder + head: timm encoders with a light FPN, for teachers and students alike.

Decoder after Feature Pyramid Networks (Lin et al. 2017, arXiv 1612.03144): 1x1 laterals, bilinear top-down adds, one
depthwise-separable 3x3, then a 1x1 classifier at stride 4. The contract with timm is `feature_info`: channels and strides.
The input is uint8 (or float 0..255) RGB. The network normalises it, so callers must not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tcseg.errors import InputError
from tcseg.labels import default_classes

MEAN = (123.675, 116.28, 103.53)  # ImageNet, in 0..255
STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class ModelSpec:
    """A named architecture: timm encoder, decoder width, and what it is for."""

    encoder: str
    channels: int
    description: str = field(repr=False)  # prose: it does not decide what is built
    pretrained: bool = False


class FPNDecoder(nn.Module):
    """Merge the encoder's maps of stride 4..32 into one of stride 4 with `channels` channels."""

    def __init__(self, in_channels: list[int], channels: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(width, channels, 1, bias=False) for width in in_channels)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in in_channels)
        self.smooth = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps of stride 4, 8, 16, 32, each (B,C_i,h_i,w_i) -> (B,channels,H/4,W/4)."""
        merged: Tensor | None = None
        for feature, lateral, norm in zip(features[::-1], self.laterals[::-1], self.norms[::-1], strict=True):
            here = F.relu(norm(lateral(feature)))
            if merged is not None:
                here = here + F.interpolate(merged, here.shape[-2:], mode="bilinear", align_corners=False)
            merged = here
        return self.smooth(merged)


class SegmentationModel(nn.Module):
    """frames (B,3,H,W), uint8 or float 0..255 RGB -> logits (B,K,H/4,W/4).

    Attributes:
        encoder, decoder, head: the three parts.
        arch: name in `registry.REGISTRY`.
        stride: of the logits, 4.
        label_set: the classes that it answers with, K of them; see `registry.build`.
    """

    stride = 4

    def __init__(self, arch: str, spec: ModelSpec, num_classes: int) -> None:
        super().__init__()
        self.arch, self.num_classes, self.label_set = arch, num_classes, default_classes(num_classes)
        # Strides 4..32: the decoder has no use for the stem's stride 2.
        probe = timm.create_model(spec.encoder, pretrained=False, features_only=True)
        indices = [i for i, reduction in enumerate(probe.feature_info.reduction()) if reduction >= 4]
        self.encoder = timm.create_model(spec.encoder, pretrained=False, features_only=True, out_indices=indices)
        self.decoder = FPNDecoder(self.encoder.feature_info.channels(), spec.channels)
        self.head = nn.Conv2d(spec.channels, num_classes, 1)
        self.adapter: nn.Module | None = None
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, frames: Tensor, features: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Logits (B,K,H/4,W/4) of frames (B,3,H,W), uint8 or float 0..255 RGB.

        With `features`, also what the head sees, (B,C,H/4,W/4), through `adapter` where a training has set one.

        Raises:
            ValueError: a side is not a multiple of 32.
        """
        height, width = frames.shape[-2:]
        if height % 32 or width % 32:
            padded = (-(-width // 32) * 32, -(-height // 32) * 32)
            raise InputError(
                f"frame is {width}x{height}; sides must be multiples of 32: pad to {padded[0]}x{padded[1]} "
                f"(postprocess.pad_to_multiple) or pass size={padded}"
            )
        x = (frames.to(self.head.weight.dtype) - self.mean) / self.std
        x = x.contiguous(memory_format=torch.channels_last)  # 1.3-2x faster convolutions on CPU
        seen = self.decoder(self.encoder(x))
        if not features:
            return self.head(seen)
        return self.head(seen), (seen if self.adapter is None else self.adapter(seen))
