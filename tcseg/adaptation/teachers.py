"""Teachers of any origin behind one call: frames in, probabilities of the student's classes out.

Four kinds: a network of the Hugging Face hub or of a folder saved by transformers (`transformers_models`), an ONNX file of any
framework (`onnx_files`), label maps or probabilities that lie in a folder (`stored_maps`), and networks of this package. Classes
are matched by their names: what does not match is refused, by name. What a teacher is and under which licence is kept with it,
because a student inherits both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from tcseg.adaptation.kinds.answers import Answers, Place, digest, digest_files, resize_scores
from tcseg.adaptation.kinds.onnx_files import OnnxAnswers
from tcseg.adaptation.kinds.stored_maps import MapAnswers
from tcseg.adaptation.kinds.transformers_models import TransformersAnswers
from tcseg.data.frame_size import parse_size
from tcseg.deploy.label_map import pad_to_multiple
from tcseg.errors import InputError, NotFoundError
from tcseg.labels import CAMVID, CITYSCAPES, LabelSet
from tcseg.models import provenance, registry
from tcseg.models.networks import SegmentationModel
from tcseg.models.trained_on import size_for, size_text
from tcseg.video.pipeline import resized

STRIDE = 4
"""Pixels of the student's frame, each way, that share one answer."""
UNSTATED = "not stated"
VOID = ("background", "ignore", "ignored", "other", "unknown", "unlabeled", "unlabelled", "void")
"""Names of a teacher's classes that are nobody's: their share of a cell is given to no class."""
_NAMED = 6  # class names in a message, at most
KINDS = "hf:ORG/NAME, a folder saved by transformers, X.onnx, maps:DIR, X.safetensors or a shipped student"


@dataclass(frozen=True)
class Teacher:
    """Whoever is asked.

    Attributes:
        name: short, for tables and cards.
        source: where it comes from: the hub's id with its commit, or a path.
        licence: under which it may be used; "not stated" where nothing says.
        label_set: the student's classes, K of them, in which it answers.
        key: a hash of all that decides its answers.
        answers: the kind that it is.
        to: (K',) for each of its own classes the place among the student's, -1 = none.
    """

    name: str
    source: str
    licence: str
    label_set: LabelSet
    key: str
    answers: Answers = field(repr=False)
    to: np.ndarray = field(repr=False)

    def __str__(self) -> str:
        return f"{self.source} (licence: {self.licence}; {self.answers.seen})"

    def ask(self, frames: np.ndarray, size: tuple[int, int], places: Sequence[Place] | None = None) -> np.ndarray:
        """Probabilities at stride 4 of the size that the student sees.

        Args:
            frames: uint8 (T,H,W,3) RGB, of the video's own size.
            size: (W,H) that the student sees, multiples of 4.
            places: T of them, for teachers whose answers lie in files.

        Returns:
            uint8 (T,K,H/4,W/4), 255 = probability 1. Of a cell they sum to 255 (within rounding) where the teacher is sure of
            what it says; what is missing was said of no class.

        Raises:
            InputError: frames or size are not such.
        """
        frames = np.asarray(frames)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise InputError(f"frames are {frames.dtype} {frames.shape}; they must be uint8 (T,H,W,3) RGB")
        if min(size) < STRIDE or any(side % STRIDE for side in size):
            raise InputError(f"size is {size_text(size)}; both sides must be multiples of {STRIDE}")
        grid = size[0] // STRIDE, size[1] // STRIDE
        told = np.zeros((len(frames), self.label_set.num_classes, *grid[::-1]), np.uint8)
        for index, frame in enumerate(frames):
            scores = self.answers(np.ascontiguousarray(frame), grid, places[index] if places else None)
            told[index] = np.rint(255 * self._ours(scores))
        return told

    def _ours(self, scores: np.ndarray) -> np.ndarray:
        """Scores of its classes (K',h,w) as those of the student's (K,h,w): several of its may be one of ours."""
        ours = np.zeros((self.label_set.num_classes, *scores.shape[1:]), np.float32)
        for index, place in enumerate(self.to):
            if place >= 0:
                ours[place] += scores[index]
        return ours.clip(0, 1)

    def require(self, places: Sequence[Place]) -> None:
        """Refuse frames of which it has no answer, before anybody is asked.

        Raises:
            NotFoundError: some have none; the message counts them.
        """
        self.answers.require(places)


# ------------------------------------------------------------------------------------------------ classes


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def match_classes(theirs: Sequence[str], ours: LabelSet, rename: Mapping[str, str] | None = None) -> np.ndarray:
    """Match a teacher's classes with the student's by name (case, blanks, - and _ do not count).

    Args:
        theirs: K' names.
        ours: the student's classes.
        rename: teacher's name -> student's name, or "void"; several may go to one.

    Returns:
        (K',) the place of each among the student's, -1 = void.

    Raises:
        InputError: a class of either has no counterpart; the message names it.
    """
    places = {_plain(name): index for index, name in enumerate(ours.classes)}
    renamed = {_plain(name): _plain(new) for name, new in (rename or {}).items()}
    for given, (name, new) in zip(rename or {}, renamed.items(), strict=True):
        if name not in map(_plain, theirs):
            raise InputError(f"rename says {given!r}, but the teacher has no such class; it has {_some(theirs)}")
        if new not in places and new not in VOID:
            raise InputError(
                f"rename says {given!r} is {rename[given]!r}; the student's classes are {_some(ours.classes)}"
            )
    if all(re.fullmatch(r"(LABEL|class)[ _]?\d+", name) for name in theirs) and not renamed:
        raise InputError(
            f"the teacher does not name its {len(theirs)} classes ({theirs[0]}, ...): pass classes, in its order"
        )
    called = [renamed.get(_plain(name), _plain(name)) for name in theirs]
    to = np.array([places.get(name, -1 if name in VOID else -2) for name in called], np.int64)
    unknown = [name for name, place in zip(theirs, to, strict=True) if place == -2]
    lacking = [name for index, name in enumerate(ours.classes) if index not in to]
    if unknown or lacking:
        wrong = [
            *([f"it has no {_some(lacking)}"] if lacking else []),
            *(
                [f"its {_some(unknown)} {'is' if len(unknown) == 1 else 'are'} none of the student's"]
                if unknown
                else []
            ),
        ]
        raise InputError(
            f"the teacher's {len(theirs)} classes are not the student's {ours.num_classes} ({ours.name}): {'; '.join(wrong)}; "
            "rename says which of its classes is which of the student's, or void"
        )
    return to


def _some(names: Sequence[str]) -> str:
    told = ", ".join(map(repr, names[:_NAMED]))
    return f"{told} and {len(names) - _NAMED} more" if len(names) > _NAMED else told


def read_classes(classes: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Names of classes as they are given: "cityscapes", "camvid", "road,sidewalk,..." or a list; None stays None.

    Raises:
        InputError: a name is there twice, or empty.
    """
    if classes is None:
        return None
    if isinstance(classes, str):
        known = {one.name: one.classes for one in (CITYSCAPES, CAMVID)}
        classes = known.get(classes.strip().lower()) or [name.strip() for name in classes.split(",")]
    names = tuple(classes)
    if len(set(names)) < len(names) or not all(isinstance(name, str) and name for name in names):
        raise InputError(f"classes are {names!r}; they must be different names, in the order of the teacher's outputs")
    return names


# ------------------------------------------------------------------------------------------------ opening


def open_teacher(
    source: str | Path,
    label_set: LabelSet = CITYSCAPES,
    *,
    size: int | str | tuple[int, int] | None = None,
    licence: str | None = None,
    classes: str | Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    device: str | None = None,
    **onnx: object,
) -> Teacher:
    """Open a teacher.

    Args:
        source: "hf:ORG/NAME" (also "hf:ORG/NAME@REVISION"), a folder saved by transformers, a file .onnx, "maps:DIR", weights of
            this package (.safetensors), or the name of a student that ships.
        label_set: the student's classes.
        size: at which the teacher sees a frame: the shorter side, or (W,H), also as text. None = the checkpoint's own where that is
            fixed, the size of its training for a network of this package, else a shorter side of 1024.
        licence: under which it may be used, where nothing beside it says, or what does is wrong.
        classes: names of its classes in the order of its outputs, where it does not name them: a list, "a,b,c", "cityscapes",
            "camvid".
        rename: its names -> the student's, where they differ; "void" = no class.
        device: of torch; None = the first GPU, if there is one.
        onnx: `layout`, `mean`, `std`, `output` of an ONNX file that does not say; see `OnnxAnswers`. `mean` and `std` are taken by
            folders of transformers too.

    Raises:
        NotFoundError: there is no such file, folder or model.
        InputError: it is damaged, of a kind that is not known, or has other classes than the student.
        CannotRunError: a package is not installed, or the hub cannot be reached.
    """
    text, names = str(source), read_classes(classes)
    seen = _read_size(size)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    answers, name, where = _open(text, label_set, seen, names, device, onnx)
    to = match_classes(answers.classes, label_set, rename)
    said = (licence or answers.licence or UNSTATED).strip()
    return Teacher(name, where, said, label_set, digest(answers.key, to.tolist(), label_set.classes), answers, to)


def _open(
    text: str,
    label_set: LabelSet,
    size: int | tuple[int, int] | None,
    names: tuple[str, ...] | None,
    device: str,
    onnx: dict,
) -> tuple[Answers, str, str]:
    """The kind that a source is, with its name and where it comes from."""
    path = Path(text)
    if text.startswith("maps:"):
        _refuse(onnx, "maps")
        folder = Path(text.removeprefix("maps:"))
        return MapAnswers(folder, label_set.classes, names), folder.name, text
    if text.startswith("hf:") or path.is_dir():
        answers = TransformersAnswers(text, size, names, device, **onnx)
        return answers, answers.name, answers.source
    if path.suffix.lower() == ".onnx":
        return OnnxAnswers(path, size, names, **onnx), path.stem, text
    _refuse(onnx, "weights of tcseg")
    if path.suffix == ".safetensors":
        return OwnAnswers(registry.load_weights(path), size, device, path), path.stem, text
    if text in registry.shipped_names():
        return OwnAnswers(registry.shipped(text), size, device, registry.shipped_file(text)), text, text
    if re.fullmatch(r"[\w.-]+/[\w.-]+", text) and not path.exists():
        raise NotFoundError(
            f"teacher is {text!r}, and there is no such folder; of the Hugging Face hub it is hf:{text}"
        )
    raise NotFoundError(f"teacher is {text!r}; it must be {KINDS}")


def _refuse(given: Mapping, what: str) -> None:
    if given:
        raise InputError(f"{next(iter(given))} is for networks of other programs; {what} need none")


def _read_size(size: int | str | tuple[int, int] | None) -> int | tuple[int, int] | None:
    given = size
    if isinstance(size, str):
        size = int(size) if size.strip().isdigit() else parse_size(size)
    sides = [size] if isinstance(size, int) else list(size) if isinstance(size, tuple | list) else []
    right = len(sides) == (1 if isinstance(size, int) else 2) and all(
        type(side) is int and side >= 32 for side in sides
    )
    if size is not None and not right:
        raise InputError(
            f"size of the teacher is {given!r}; it must be a shorter side, or width x height, each 32 or more"
        )
    return tuple(size) if isinstance(size, list) else size


class OwnAnswers:
    """A network of this package as a teacher; see `Answers`.

    Args:
        network: a trained one.
        size: (W,H) or shorter side; None = as many pixels as in its training.
        device: of torch.
        weights: the file that it was loaded from.
    """

    by_name = False

    def __init__(
        self, network: SegmentationModel, size: int | tuple[int, int] | None, device: str, weights: Path
    ) -> None:
        self.network, self.device, self.size = network.to(device).eval(), device, size
        self.classes = network.label_set.classes
        self.key = digest("tcseg", digest_files([weights, weights.with_suffix(".json")]), size)
        self.licence = _noted_licence(weights)
        self.seen = f"sees {size if isinstance(size, int) else size_text(size)}" if size else "sees the size of its training"

    def require(self, places: Sequence[Place]) -> None:
        """It answers anything."""

    @torch.inference_mode()
    def __call__(self, frame: np.ndarray, grid: tuple[int, int], place: Place | None = None) -> np.ndarray:
        """As `Answers`."""
        own = frame.shape[1], frame.shape[0]
        size = size_for(self.network, own) if self.size is None else self.size
        if isinstance(size, int):
            size = tuple(max(32, 32 * round(side * size / min(own) / 32)) for side in own)
        shown = frame if size is None else resized(frame, size)
        padded, (height, width) = pad_to_multiple(shown)[0], shown.shape[:2]
        planes = torch.from_numpy(np.ascontiguousarray(padded)).permute(2, 0, 1)[None].to(self.device)
        scores = self.network(planes)[0].float().softmax(0).cpu()
        rows, columns = -(-height // self.network.stride), -(-width // self.network.stride)
        return resize_scores(scores[:, :rows, :columns], grid).numpy()


def _noted_licence(weights: Path) -> str:
    """What the sidecar of weights says of a licence, which `load_weights` has read."""
    noted = json.loads(weights.with_suffix(".json").read_text())
    return provenance.licence_of(weights, noted)
