"""Candidate students: small encoders, from timm and our own, with FPNs of several widths and output strides.

What makes a network fast is not its multiply-adds (`students.csv` has the measurements): on a CPU it is dense 3x3 convolutions
and ReLU, which run near the machine's peak and lose little in int8, against depthwise convolutions, hard-swish and
squeeze-and-excite, which do not. `PlainNet` is the former and nothing else, in the manner of RepVGG's deployed form (Ding et al.
2021, arXiv 2101.03697) with residual sums: convolution, batch norm (folded into it by every runtime), ReLU.

With a `patch` stem, each 4x4 pixels become one position at once, without overlap (as in ViT, Dosovitskiy et al. 2021, arXiv
2010.11929). What a padded stem of stride 2 costs on a CPU is not arithmetic but memory: its map is the largest of all. And where
nothing is padded, the normalisation of the frame is a part of the convolution (`export` folds it in, exactly), and the bytes of
the frame go straight into an int8 convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import timm
from timm.models import generate_default_cfgs, register_model
from timm.models._builder import build_model_with_cfg
from torch import Tensor, nn

from tcseg.models.networks import FPNDecoder, ModelSpec, SegmentationModel


@dataclass(frozen=True)
class StudentSpec(ModelSpec):
    """A student: also the stride of its logits. At 8 it is faster by a quarter to a half than at 4, and thin things suffer."""

    stride: int = 4


CANDIDATES: dict[str, StudentSpec] = {
    "mnv3s050-48-o4": StudentSpec("mobilenetv3_small_050", 48, "the course's student"),
    "mnv3s050-48-o8": StudentSpec("mobilenetv3_small_050", 48, "MobileNetV3-small x0.5 + FPN 48, stride 8", stride=8),
    "mnv3s100-64-o8": StudentSpec("mobilenetv3_small_100", 64, "MobileNetV3-small + FPN 64, stride 8", stride=8),
    "lcnet050-48-o8": StudentSpec("lcnet_050", 48, "PP-LCNet x0.5 + FPN 48, stride 8", stride=8),
    "mnv4s050-48-o8": StudentSpec("mobilenetv4_conv_small_050", 48, "MobileNetV4-small x0.5 + FPN 48", stride=8),
    "plain16-32-o8": StudentSpec(
        "tcseg_plain16", 32, "plain 3x3 + ReLU, 16 to 128 channels, + FPN 32, stride 8", stride=8
    ),
    "plain24-48-o8": StudentSpec(
        "tcseg_plain24", 48, "plain 3x3 + ReLU, 24 to 192 channels, + FPN 48, stride 8", stride=8
    ),
    "plain32-64-o8": StudentSpec(
        "tcseg_plain32", 64, "plain 3x3 + ReLU, 32 to 256 channels, + FPN 64, stride 8", stride=8
    ),
    "plain16-32-o4": StudentSpec("tcseg_plain16", 32, "plain 3x3 + ReLU, 16 to 128 channels, + FPN 32, stride 4"),
    "patch16-32-o8": StudentSpec(
        "tcseg_patch16", 32, "4x4 patches, plain 3x3 + ReLU, 16 to 128 channels, + FPN 32, stride 8", stride=8
    ),
    "patch16s-32-o8": StudentSpec("tcseg_patch16s", 32, "as patch16-32-o8, with five blocks for seven", stride=8),
    "patch32-48-o8": StudentSpec(
        "tcseg_patch32", 48, "4x4 patches, plain 3x3 + ReLU, 32 to 128 channels, + FPN 48, stride 8", stride=8
    ),
}
"""Name -> student. Named encoder, FPN channels, output stride."""

CHOSEN = {"student-cpu": "patch16-32-o8", "student-gpu": "plain32-64-o8"}
"""Role -> candidate: chapter 6 chose by `students.csv` (`patch16s` is faster by a third, and less accurate after each length of
training); `student-gpu` scores highest of all after twice the profile's steps, one to three seeds each, and no peer is as fast on a
GPU (`gpu.csv`; `student-cpu` is faster there, too)."""


class Student(SegmentationModel):
    """A segmentation model whose logits have the stride of its specification."""

    def __init__(self, arch: str, spec: StudentSpec, num_classes: int) -> None:
        super().__init__(arch, spec, num_classes)
        self.stride = spec.stride
        if spec.stride != 4:
            probe = timm.create_model(spec.encoder, pretrained=False, features_only=True)
            indices = [i for i, reduction in enumerate(probe.feature_info.reduction()) if reduction >= spec.stride]
            self.encoder = timm.create_model(spec.encoder, pretrained=False, features_only=True, out_indices=indices)
            self.decoder = FPNDecoder(self.encoder.feature_info.channels(), spec.channels)


# ------------------------------------------------------------------------------------------------ our own encoder


class _Block(nn.Module):
    """Convolution, batch norm, ReLU; with the input added where it has the shape of the output."""

    def __init__(self, inside: int, outside: int, stride: int = 1, side: int = 3, padding: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, side, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(outside)
        self.adds = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) -> (B,C',H/stride,W/stride)."""
        y = self.norm(self.conv(x))
        return nn.functional.relu(y + x if self.adds else y)


class PlainNet(nn.Module):
    """A stem and stages of plain 3x3 blocks, made as timm's extractors want it.

    Args:
        stem: channels after the stem.
        widths, depths: channels and blocks of each stage; each halves the resolution, down to stride 32.
        patch: a stem of stride 4 that overlaps nothing and pads nothing (three stages follow); else a 3x3 of stride 2 (four).
    """

    def __init__(
        self, stem: int, widths: tuple[int, ...], depths: tuple[int, ...], patch: bool = False, **_: object
    ) -> None:
        super().__init__()
        self.num_classes = 0
        reduction = 4 if patch else 2
        self.stem = _Block(3, stem, 4, 4, 0) if patch else _Block(3, stem, 2)
        channels, self.feature_info = stem, [{"num_chs": stem, "reduction": reduction, "module": "stem"}]
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = [_Block(channels if i == 0 else width, width, 2 if i == 0 else 1) for i in range(depth)]
            self.add_module(f"stage{index}", nn.Sequential(*blocks))
            reduction *= 2
            self.feature_info.append({"num_chs": width, "reduction": reduction, "module": f"stage{index}"})
            channels = width

    def forward(self, x: Tensor) -> Tensor:
        """(B,3,H,W) -> (B,C,H/32,W/32)."""
        for stage in self.children():
            x = stage(x)
        return x


_PLAIN = {
    f"tcseg_plain{w}": {"stem": w, "widths": (w, 2 * w, 4 * w, 8 * w), "depths": (1, 2, 3, 2)} for w in (16, 24, 32)
}
_PATCH = {
    "tcseg_patch16": {"stem": 16, "widths": (32, 64, 128), "depths": (2, 3, 2), "patch": True},
    "tcseg_patch16s": {"stem": 16, "widths": (32, 64, 128), "depths": (1, 2, 2), "patch": True},
    "tcseg_patch32": {"stem": 32, "widths": (48, 64, 128), "depths": (2, 3, 2), "patch": True},
}
default_cfgs = generate_default_cfgs({
    name: {"num_classes": 0, "first_conv": "stem.conv", "classifier": ()} for name in (*_PLAIN, *_PATCH)
})  # fmt: skip


def _register(name: str, design: dict[str, object]) -> None:
    """Make an encoder known to timm by its name."""

    def encoder(pretrained: bool = False, **options: object) -> nn.Module:
        maps = {"out_indices": tuple(range(1 + len(design["depths"])))}  # timm expects five
        return build_model_with_cfg(PlainNet, name, False, feature_cfg=maps, **design, **options)

    encoder.__name__, encoder.__module__ = name, __name__
    globals()[name] = encoder  # where timm looks for it
    register_model(encoder)


for _name, _design in (_PLAIN | _PATCH).items():
    _register(_name, _design)
