"""Students to choose from: small encoders, timm's and our own, under FPNs of several widths and output strides.

What makes a network fast is not its multiply-adds (`students.csv` has the measurements): on a CPU it is dense 3x3 convolutions
and ReLU, which run near the machine's peak and lose little in int8, against depthwise convolutions, hard-swish and
squeeze-and-excite, which do not. `PlainNet` is the former and nothing else, in the manner of RepVGG's deployed form (Ding et al.
2021, arXiv 2101.03697) with residual sums: convolution, batch norm (folded into it by every runtime), ReLU.
"""

from __future__ import annotations

from dataclasses import dataclass

import timm
from timm.models import generate_default_cfgs, register_model
from timm.models._builder import build_model_with_cfg
from torch import Tensor, nn

from tcseg.networks import FPNDecoder, ModelSpec, SegmentationModel


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
}
"""Name -> student. Named encoder, FPN channels, output stride."""


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
    """3x3 convolution, batch norm, ReLU; with the input added where it has the shape of the output."""

    def __init__(self, inside: int, outside: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outside)
        self.adds = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) -> (B,C',H/stride,W/stride)."""
        y = self.norm(self.conv(x))
        return nn.functional.relu(y + x if self.adds else y)


class PlainNet(nn.Module):
    """A stem of stride 2 and stages of plain blocks at strides 4 to 32, widths w, w, 2w, 4w, 8w; made as timm's extractors want it.

    Args:
        width: w.
        depths: blocks at each stride.
    """

    def __init__(self, width: int, depths: tuple[int, int, int, int] = (1, 2, 3, 2), **_: object) -> None:
        super().__init__()
        self.num_classes = 0
        self.stem = _Block(3, width, 2)
        channels, self.feature_info = width, [{"num_chs": width, "reduction": 2, "module": "stem"}]
        for index, depth in enumerate(depths):
            wide = width * 2**index
            blocks = [_Block(channels if i == 0 else wide, wide, 2 if i == 0 else 1) for i in range(depth)]
            self.add_module(f"stage{index}", nn.Sequential(*blocks))
            self.feature_info.append({"num_chs": wide, "reduction": 4 * 2**index, "module": f"stage{index}"})
            channels = wide

    def forward(self, x: Tensor) -> Tensor:
        """(B,3,H,W) -> (B,8w,H/32,W/32)."""
        for stage in self.children():
            x = stage(x)
        return x


default_cfgs = generate_default_cfgs({
    f"tcseg_plain{width}": {"num_classes": 0, "first_conv": "stem.conv", "classifier": ()} for width in (16, 24, 32)
})  # fmt: skip


def _plain(name: str, width: int, **options: object) -> nn.Module:
    return build_model_with_cfg(PlainNet, name, False, width=width, **options)


@register_model
def tcseg_plain16(pretrained: bool = False, **options: object) -> nn.Module:
    """16, 32, 64, 128 channels."""
    return _plain("tcseg_plain16", 16, **options)


@register_model
def tcseg_plain24(pretrained: bool = False, **options: object) -> nn.Module:
    """24, 48, 96, 192 channels."""
    return _plain("tcseg_plain24", 24, **options)


@register_model
def tcseg_plain32(pretrained: bool = False, **options: object) -> nn.Module:
    """32, 64, 128, 256 channels."""
    return _plain("tcseg_plain32", 32, **options)
