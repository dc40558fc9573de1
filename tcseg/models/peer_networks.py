"""Fast-SCNN, DDRNet-23-slim and PIDNet-S, reimplemented from their papers; `peers` gives them one interface.

Fast-SCNN (Poudel et al. 2019, arXiv 1902.04502), DDRNet-23-slim (Hong et al. 2021, arXiv 2101.06085) and PIDNet-S (Xu et al.
2023, arXiv 2206.02066). Interpolation is bilinear with align_corners=False, as everywhere in this package.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# ------------------------------------------------------------------------------------------------ building blocks


def _conv(
    inside: int, outside: int, kernel: int = 3, stride: int = 1, groups: int = 1, dilation: int = 1, relu: bool = True
) -> nn.Sequential:
    """Convolution that keeps the size (but for `stride`), batch norm, ReLU."""
    conv = nn.Conv2d(inside, outside, kernel, stride, dilation * (kernel // 2), dilation, groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outside), *([nn.ReLU(inplace=True)] if relu else []))


def _preactivated(inside: int, outside: int, kernel: int = 1, groups: int = 1) -> nn.Sequential:
    """Batch norm, ReLU, convolution that keeps the size."""
    conv = nn.Conv2d(inside, outside, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(nn.BatchNorm2d(inside), nn.ReLU(inplace=True), conv)


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


def _initialise(module: nn.Module) -> None:
    """He et al.'s normal initialisation, by fan-in: by fan-out a depthwise filter would start near zero."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


# ------------------------------------------------------------------------------------------------ Fast-SCNN


def _separable(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    """Depthwise 3x3 and pointwise convolution, without a ReLU between the two (section 3.2.1)."""
    return nn.Sequential(_conv(inside, inside, 3, stride, groups=inside, relu=False), _conv(inside, outside, 1))


class _InvertedResidual(nn.Module):
    """MobileNetV2's bottleneck: expand, depthwise 3x3, project; with the input added where the shapes allow (table 2)."""

    def __init__(self, inside: int, outside: int, stride: int, expansion: int = 6) -> None:
        super().__init__()
        wide = inside * expansion
        self.branch = nn.Sequential(
            _conv(inside, wide, 1), _conv(wide, wide, 3, stride, groups=wide), _conv(wide, outside, 1, relu=False)
        )
        self.adds = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x) if self.adds else self.branch(x)


def pool_to(x: Tensor, bins: int) -> Tensor:
    """Means over `bins` x `bins` windows of equal size, (B,C,h,w) -> (B,C,min(h,bins),min(w,bins)).

    Adaptive pooling has windows of several sizes where `bins` does not divide a side, which exporters refuse. These are all of
    the size that covers the side at a stride of side // bins: the same where it divides, otherwise with more overlap.
    """
    sides = x.shape[-2:]
    strides = [max(side // bins, 1) for side in sides]
    kernels = [max(side - (bins - 1) * stride, 1) for side, stride in zip(sides, strides, strict=True)]
    return F.avg_pool2d(x, kernels, strides)


class _PyramidPooling(nn.Module):
    """PSPNet's pyramid pooling (Zhao et al. 2017, arXiv 1612.01105) over 1, 2, 3 and 6 bins: (B,C,h,w) -> (B,C,h,w)."""

    bins = (1, 2, 3, 6)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_conv(channels, channels // len(self.bins), 1) for _ in self.bins)
        self.merge = _conv(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [_resize(branch(pool_to(x, bins)), x) for branch, bins in zip(self.branches, self.bins)]
        return self.merge(torch.cat([x, *pooled], 1))


class FastSCNN(nn.Module):
    """Fast-SCNN (arXiv 1902.04502, tables 1 to 3): x (B,3,H,W) normalised -> logits (B,K,H/8,W/8).

    Both branches share three strided layers; the deep one goes on to stride 32 and is added back at stride 8. The dropout that
    implementations put before the classifier belongs to a recipe, and is left out.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.downsample = nn.Sequential(_conv(3, 32, 3, 2), _separable(32, 48, 2), _separable(48, 64, 2))
        sizes = (64, 64, 2), (64, 64, 1), (64, 64, 1), (64, 96, 2), (96, 96, 1), (96, 96, 1), (96, 128, 1)
        context = [_InvertedResidual(*size) for size in (*sizes, (128, 128, 1), (128, 128, 1))]
        self.context = nn.Sequential(*context, _PyramidPooling(128))
        # Dilated by the upsampling's factor, so that the nine taps fall on nine cells of the coarse map.
        self.deep = nn.Sequential(_conv(128, 128, 3, groups=128, dilation=4), _conv(128, 128, 1, relu=False))
        self.shallow = _conv(64, 128, 1, relu=False)
        self.classify = nn.Sequential(_separable(128, 128), _separable(128, 128))
        self.head = nn.Conv2d(128, num_classes, 1)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(B,3,H,W) -> logits (B,K,H/8,W/8)."""
        shallow = self.downsample(x)  # stride 8
        deep = self.deep(_resize(self.context(shallow), shallow))
        return self.head(self.classify(F.relu(self.shallow(shallow) + deep)))


# ------------------------------------------------------------------------------------------------ DDRNet and PIDNet


class _Residual(nn.Module):
    """ResNet's basic block or bottleneck without the last ReLU: the two branches exchange maps before it."""

    def __init__(self, inside: int, outside: int, stride: int = 1, bottleneck: bool = False) -> None:
        super().__init__()
        half = outside // 2
        if bottleneck:
            layers = _conv(inside, half, 1), _conv(half, half, 3, stride), _conv(half, outside, 1, relu=False)
        else:
            layers = _conv(inside, outside, 3, stride), _conv(outside, outside, 3, relu=False)
        self.branch = nn.Sequential(*layers)
        changes = stride != 1 or inside != outside
        self.shortcut = _conv(inside, outside, 1, stride, relu=False) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.branch(x)


def _stage(inside: int, outside: int, depth: int, stride: int = 1) -> nn.Sequential:
    """Basic blocks with ReLU between them."""
    layers: list[nn.Module] = [_Residual(inside, outside, stride)]
    for _ in range(depth - 1):
        layers += [nn.ReLU(), _Residual(outside, outside)]
    return nn.Sequential(*layers)


class _Pyramid(nn.Module):
    """What DAPPM and PAPPM share: the map itself and its means over growing windows, each with a 1x1 convolution.

    (B,inside,h,w) -> (B,outside,h,w). The padded windows are wider than a small map; they fit any.
    """

    windows = (5, 9, 17)  # with half the window as stride; and over the whole map

    def __init__(self, inside: int, branch: int, outside: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_preactivated(inside, branch) for _ in range(len(self.windows) + 2))
        self.merge = _preactivated((len(self.windows) + 2) * branch, outside)
        self.shortcut = _preactivated(inside, outside)

    def mix(self, fine: Tensor, coarse: list[Tensor]) -> list[Tensor]:
        """The coarser maps, each (B,branch,h,w), after they have seen the finer."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        pooled = [F.avg_pool2d(x, window, window // 2, window // 2) for window in self.windows]
        pooled.append(x.mean((2, 3), keepdim=True))
        fine = self.branches[0](x)
        coarse = [_resize(branch(means), x) for branch, means in zip(self.branches[1:], pooled, strict=True)]
        return self.merge(torch.cat([fine, *self.mix(fine, coarse)], 1)) + self.shortcut(x)


class _DAPPM(_Pyramid):
    """DDRNet's pyramid: one scale after the other, each added to the next finer one's result."""

    def __init__(self, inside: int, branch: int, outside: int) -> None:
        super().__init__(inside, branch, outside)
        self.process = nn.ModuleList(_preactivated(branch, branch, 3) for _ in self.branches[1:])

    def mix(self, fine: Tensor, coarse: list[Tensor]) -> list[Tensor]:
        mixed = [fine]
        for process, here in zip(self.process, coarse, strict=True):
            mixed.append(process(here + mixed[-1]))
        return mixed[1:]


class _PAPPM(_Pyramid):
    """PIDNet's pyramid: all scales at once, in one grouped convolution."""

    def __init__(self, inside: int, branch: int, outside: int) -> None:
        super().__init__(inside, branch, outside)
        scales = len(self.branches) - 1
        self.process = _preactivated(scales * branch, scales * branch, 3, groups=scales)

    def mix(self, fine: Tensor, coarse: list[Tensor]) -> list[Tensor]:
        return [self.process(torch.cat([here + fine for here in coarse], 1))]


class _TwoBranches(nn.Module):
    """What DDRNet and PIDNet share: a detail branch that stays at stride 8, a context branch that goes on to stride 64.

    Args:
        num_classes: K.
        depth: basic blocks of the context branch at strides 16 and 32.
        bottlenecks: its blocks at stride 64. The second follows without a ReLU between, as in PIDNet's code.
        middle: channels of the last hidden layer.
        pyramid: over the context branch's last map.
    """

    width = 32

    def __init__(self, num_classes: int, depth: int, bottlenecks: int, middle: int, pyramid: _Pyramid) -> None:
        super().__init__()
        w = self.width
        self.stem = nn.Sequential(_conv(3, w, 3, 2), _conv(w, w, 3, 2), _stage(w, w, 2), nn.ReLU())  # stride 4
        self.shared = nn.Sequential(_stage(w, 2 * w, 2, 2), nn.ReLU())  # stride 8
        last = [_Residual(16 * w, 16 * w, 1, bottleneck=True) for _ in range(bottlenecks - 1)]
        self.context = nn.ModuleList(
            [
                _stage(2 * w, 4 * w, depth, 2),
                _stage(4 * w, 8 * w, depth, 2),
                nn.Sequential(_Residual(8 * w, 16 * w, 2, bottleneck=True), *last, pyramid),
            ]
        )
        detail = [_stage(2 * w, 2 * w, 2), _stage(2 * w, 2 * w, 2), _Residual(2 * w, 4 * w, bottleneck=True)]
        self.detail = nn.ModuleList(detail)
        self.compress = nn.ModuleList(_conv(scale * w, 2 * w, 1, relu=False) for scale in (4, 8))
        self.classify = nn.Sequential(_preactivated(4 * w, middle, 3), nn.BatchNorm2d(middle), nn.ReLU(inplace=True))
        self.head = nn.Conv2d(middle, num_classes, 1)


class DDRNet(_TwoBranches):
    """DDRNet-23-slim (arXiv 2101.06085, table 1): x (B,3,H,W) normalised -> logits (B,K,H/8,W/8)."""

    def __init__(self, num_classes: int) -> None:
        w = self.width
        super().__init__(num_classes, depth=2, bottlenecks=1, middle=2 * w, pyramid=_DAPPM(16 * w, 128, 4 * w))
        self.down = nn.ModuleList(
            [
                _conv(2 * w, 4 * w, 3, 2, relu=False),
                nn.Sequential(_conv(2 * w, 4 * w, 3, 2), _conv(4 * w, 8 * w, 3, 2, relu=False)),
            ]
        )
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(B,3,H,W) -> logits (B,K,H/8,W/8)."""
        context = detail = self.shared(self.stem(x))
        for i in range(2):  # both ways at once: each branch sees the other's map from before the exchange
            context, detail = self.context[i](context), self.detail[i](detail)
            lifted = _resize(self.compress[i](F.relu(context)), detail)
            context = F.relu(context + self.down[i](F.relu(detail)))
            detail = F.relu(detail + lifted)
        detail = self.detail[2](detail)
        return self.head(self.classify(detail + _resize(self.context[2](context), detail)))


class _Attend(nn.Module):
    """PIDNet's pixel-attention-guided fusion: take the context where both branches agree.

    detail (B,C,H,W), context (B,C,h,w) -> (B,C,H,W).
    """

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.query = _conv(channels, inner, 1, relu=False)
        self.key = _conv(channels, inner, 1, relu=False)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        alike = self.key(detail) * _resize(self.query(context), detail)
        weight = torch.sigmoid(alike.sum(1, keepdim=True))
        return (1 - weight) * detail + weight * _resize(context, detail)


class PIDNet(_TwoBranches):
    """PIDNet-S (arXiv 2206.02066) as it runs: x (B,3,H,W) normalised -> logits (B,K,H/8,W/8).

    A third branch learns borders, which in the paper have a loss of their own; here it decides between detail and context.
    """

    def __init__(self, num_classes: int) -> None:
        w = self.width
        super().__init__(num_classes, depth=3, bottlenecks=2, middle=4 * w, pyramid=_PAPPM(16 * w, 96, 4 * w))
        self.attend = nn.ModuleList(_Attend(2 * w, w) for _ in range(2))
        borders = [_Residual(2 * w, w), _Residual(w, 2 * w, bottleneck=True), _Residual(2 * w, 4 * w, bottleneck=True)]
        self.borders = nn.ModuleList(borders)
        self.difference = nn.ModuleList([_conv(4 * w, w, 3, relu=False), _conv(8 * w, 2 * w, 3, relu=False)])
        self.merge_detail = _conv(4 * w, 4 * w, 1, relu=False)
        self.merge_context = _conv(4 * w, 4 * w, 1, relu=False)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(B,3,H,W) -> logits (B,K,H/8,W/8)."""
        context = detail = borders = self.shared(self.stem(x))
        for i in range(2):
            context = F.relu(self.context[i](context))
            detail, borders = self.detail[i](detail), self.borders[i](borders)
            detail = F.relu(self.attend[i](detail, self.compress[i](context)))
            borders = F.relu(borders + _resize(self.difference[i](context), borders))
        detail, borders = self.detail[2](detail), torch.sigmoid(self.borders[2](borders))
        context = _resize(self.context[2](context), detail)
        merged = self.merge_detail(detail + (1 - borders) * context) + self.merge_context(context + borders * detail)
        return self.head(self.classify(merged))
