"""Segmentation networks of the Hugging Face hub, or of a folder saved by transformers, as teachers.

Two families. *Semantic* networks give a logit a class and pixel. *Universal* ones give masks, each with a distribution over the
classes and "none": a class's score is the sum over masks of its probability times the mask's, at the masks' own size, and a cell's
scores are divided by their sum. (transformers' own post-processing of Mask2Former and MaskFormer resizes every mask to 384x384
first, which loses half the rows of a 1024x2048 frame's masks.)

What a checkpoint was trained with is read from its files: the order of its classes, how pixels are normalised, and whether it takes
frames of one size only; such a network looks through windows of that size, which cover the frame. Processors are not used to
resize: some would squash the frame to a square.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor

from tcseg.adaptation.kinds.answers import Place, digest, digest_files, resize_scores
from tcseg.errors import CannotRunError, InputError, NotFoundError
from tcseg.models.trained_on import size_text
from tcseg.video.pipeline import resized

SEMANTIC = ("beit", "data2vec-vision", "dpt", "mobilenet_v2", "mobilevit", "mobilevitv2", "segformer", "upernet")
UNIVERSAL = ("eomt", "eomt_dinov3", "mask2former", "maskformer", "oneformer")
ONE_SIZE = ("beit", "data2vec-vision", "dpt", "eomt", "eomt_dinov3")
"""Their positions are numbered: they take frames of the size of their configuration."""
BLUE_FIRST = ("mobilevit", "mobilevitv2")
"""They were trained on B, G, R, 0..1, without further normalisation."""
SHORT_SIDE = 1024
STEP = 32
CANVAS = 4  # pixels of a teacher's frame, each way, of a cell on which windows are put together
FILES = ["*.json", "*.txt", "*.model", "README.md"]  # beside the weights
_NO_LOSS = re.compile(r"auxiliary_head|criterion|num_batches_tracked|relative_position_index|position_ids")


class TransformersAnswers:
    """A network of transformers as a teacher; see `answers.Answers`.

    Args:
        source: "hf:ORG/NAME", "hf:ORG/NAME@REVISION" or a folder.
        size: at which it sees a frame: the shorter side, or (W,H); None = as its configuration says, else a shorter side of 1024.
        classes: names in the order of its outputs; None = the checkpoint's.
        device: of torch.
        mean, std: of R, G and B, 0..1; None = as its preprocessor says.

    Attributes:
        name, source: short, and with the hub's commit.
        model_type: of its configuration.

    Raises:
        NotFoundError, InputError, CannotRunError: as `teachers.open_teacher`.
    """

    by_name = False

    def __init__(
        self,
        source: str,
        size: int | tuple[int, int] | None = None,
        classes: Sequence[str] | None = None,
        device: str = "cpu",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        _require_transformers()
        folder, self.name, self.source = _locate(source)
        config = _read_config(folder)
        self.model_type = config["model_type"]
        self.scaling = _scaling(folder, self.model_type, mean, std)
        self.network, self.device = _load(folder, self.model_type).to(device), device
        own = _names(self.network.config.id2label)
        self.classes = tuple(classes) if classes else own
        if len(self.classes) != len(own):
            raise InputError(
                f"classes are {len(self.classes)}, but {self.name} has {len(own)}: name each, in its order"
            )
        self.window = _window(self.network.config) if self.model_type in ONE_SIZE else None
        self.size = _checked_size(size, self.window, self.name)
        self.tasks = _task_inputs(folder, self.network.config) if self.model_type == "oneformer" else None
        weights = [
            path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".bin") and path.is_file()
        ]
        self.key = digest("transformers", digest_files(weights), self.size, self.scaling, self.classes)
        self.licence = read_licence(folder / "README.md")
        asked = f"a shorter side of {self.size}" if isinstance(self.size, int) else size_text(self.size)
        self.seen = f"{self.model_type} sees {asked}" + (f" in windows of {size_text(self.window)}" if self.window else "")

    def require(self, places: Sequence[Place]) -> None:
        """It answers anything."""

    @torch.inference_mode()
    def __call__(self, frame: np.ndarray, grid: tuple[int, int], place: Place | None = None) -> np.ndarray:
        """As `answers.Answers`."""
        shown = resized(frame, shown_size((frame.shape[1], frame.shape[0]), self.size, self.window))
        planes = self._normalised(shown).to(self.device)
        corners = list(window_corners(shown.shape[1::-1], self.window))
        if len(corners) == 1:
            scores = resize_scores(self._scores(planes), grid)
        else:
            scores = resize_scores(self._stitched(planes, corners), grid)
        if self.model_type in UNIVERSAL:
            scores = scores / scores.sum(0).clamp(min=1e-12)  # all 0 where every mask is: of no class
        return scores.cpu().numpy()

    def _normalised(self, shown: np.ndarray) -> Tensor:
        """A frame uint8 (H,W,3) RGB as the network takes it: float32 (1,3,H,W)."""
        factor, mean, std, blue_first = self.scaling
        pixels = np.ascontiguousarray(shown[..., ::-1] if blue_first else shown)
        planes = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() * factor
        return (planes - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)

    def _scores(self, planes: Tensor) -> Tensor:
        """Scores (K,h,w) of one window (1,3,H,W), at the network's own stride."""
        if self.model_type in SEMANTIC:
            return self.network(pixel_values=planes).logits[0].float().softmax(0)
        more = {} if self.tasks is None else {"task_inputs": self.tasks.to(planes.device)}
        out = self.network(pixel_values=planes, **more)
        return mask_scores(out.class_queries_logits[0].float(), out.masks_queries_logits[0].float())

    def _stitched(self, planes: Tensor, corners: list[tuple[int, int]]) -> Tensor:
        """Mean scores (K,h,w) of windows where they overlap, at stride `CANVAS`."""
        width, height = self.window
        total: Tensor | None = None
        for x, y in corners:
            scores = self._scores(planes[..., y : y + height, x : x + width])
            scores = resize_scores(scores, (width // CANVAS, height // CANVAS))
            if total is None:
                rows, columns = planes.shape[-2] // CANVAS, planes.shape[-1] // CANVAS
                total, count = scores.new_zeros(len(scores), rows, columns), scores.new_zeros(rows, columns)
            here = slice(y // CANVAS, (y + height) // CANVAS), slice(x // CANVAS, (x + width) // CANVAS)
            total[:, *here] += scores
            count[here] += 1
        return total / count


def mask_scores(classes: Tensor, masks: Tensor) -> Tensor:
    """Scores of a universal network: sum over queries of softmax(class)[..., :-1] x sigmoid(mask).

    Args:
        classes: (Q,K+1) logits; the last is "none".
        masks: (Q,h,w) logits.

    Returns:
        (K,h,w), 0 and above; they do not sum to 1.
    """
    return torch.einsum("qk,qhw->khw", classes.softmax(-1)[:, :-1], masks.sigmoid())


# ------------------------------------------------------------------------------------------------ sizes and windows


def shown_size(frame: tuple[int, int], size: int | tuple[int, int], window: tuple[int, int] | None) -> tuple[int, int]:
    """The (W,H) that a frame is resized to for a teacher.

    Args:
        frame: (W,H).
        size: the shorter side, or (W,H).
        window: (W,H) of a network that takes one size; the frame covers at least that. None = any multiple of 32.
    """
    wanted = size
    if isinstance(size, int):
        wanted = tuple(side * size / min(frame) for side in frame)
    if window is None:
        return tuple(max(STEP, STEP * round(side / STEP)) for side in wanted)
    if isinstance(size, int):  # as small as covers the window, at the frame's own aspect ratio
        grow = max(1.0, *(least / side for least, side in zip(window, wanted, strict=True)))
        wanted = tuple(side * grow for side in wanted)
    return tuple(max(least, CANVAS * round(side / CANVAS)) for least, side in zip(window, wanted, strict=True))


def window_corners(shown: tuple[int, int], window: tuple[int, int] | None) -> Iterator[tuple[int, int]]:
    """(x,y) of the windows that cover a frame of size (W,H), as few as do, evenly spread; multiples of `CANVAS`."""
    if window is None:
        yield 0, 0
        return
    starts = []
    for side, step in zip(shown, window, strict=True):
        count = math.ceil(side / step)
        starts.append([CANVAS * round(i * (side - step) / max(count - 1, 1) / CANVAS) for i in range(count)])
    yield from ((x, y) for y in starts[1] for x in starts[0])


def _window(config: object) -> tuple[int, int]:
    """(W,H) of the one size that a network takes."""
    size = getattr(config, "image_size", None)
    if size is None and getattr(config, "backbone_config", None) is not None:
        size = config.backbone_config.image_size
    sides = (size, size) if isinstance(size, int) else tuple(size[::-1])
    if any(side % CANVAS for side in sides):
        raise InputError(
            f"the checkpoint takes frames of {size_text(sides)}; sides that are no multiples of {CANVAS} are not known"
        )
    return sides


def _checked_size(
    size: int | tuple[int, int] | None, window: tuple[int, int] | None, name: str
) -> int | tuple[int, int]:
    if window is None:
        return SHORT_SIDE if size is None else size
    if size is None:
        return min(window)
    least = (size, size) if isinstance(size, int) else size
    if any(side < own for side, own in zip(least, window, strict=True)):
        told = size if isinstance(size, int) else size_text(size)
        raise InputError(f"size of the teacher is {told}, but {name} takes frames of {size_text(window)}: give that or more")
    return size


# ------------------------------------------------------------------------------------------------ files


def _require_transformers() -> None:
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise CannotRunError(
            "a teacher of the Hugging Face hub needs transformers, not installed: pip install transformers (or -e '.[peers]')"
        ) from error


def _locate(source: str) -> tuple[Path, str, str]:
    """A source's folder on this machine, its short name, and its full one."""
    if not source.startswith("hf:"):
        folder = Path(source)
        if not (folder / "config.json").is_file():
            raise NotFoundError(
                f"{folder} has no config.json: is it the folder that transformers' save_pretrained wrote? "
                f"(label maps of another program are maps:{folder})"
            )
        return folder, folder.resolve().name, str(folder)
    repo, _, revision = source.removeprefix("hf:").partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise InputError(
            f"teacher is {source!r}; of the hub it is hf:ORG/NAME, as hf:nvidia/segformer-b5-finetuned-cityscapes-1024-1024"
        )
    folder = _download(repo, revision or None)
    return folder, repo, f"hf:{repo}@{folder.name[:12]}"


def _download(repo: str, revision: str | None) -> Path:
    """A snapshot of a repository of the hub, from its cache if it is there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=[*FILES, "*.safetensors"]))
        if not any(folder.glob("*.safetensors")):  # older repositories have pickled weights alone
            folder = Path(snapshot_download(repo, revision=revision, allow_patterns=[*FILES, "*.bin"]))
        return folder
    except GatedRepoError as error:
        raise CannotRunError(
            f"hf:{repo} is given to those who accept its terms: do so on huggingface.co/{repo}, then run: hf auth login"
        ) from error
    except RevisionNotFoundError as error:
        raise NotFoundError(f"hf:{repo} has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise NotFoundError(
            f"the hub has no model {repo!r}, or it is private: check the name, or run: hf auth login"
        ) from error
    except Exception as error:  # no network, a proxy, a time-out, a full disk: many kinds, and one remedy
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        absent = "it is not in the cache and " if isinstance(error, LocalEntryNotFoundError) else ""
        raise CannotRunError(
            f"hf:{repo} cannot be had: {absent}the hub cannot be reached ({first}); where there is a network run: "
            f"hf download {repo} --local-dir DIR, and give DIR as the teacher"
        ) from error


def _read_config(folder: Path) -> dict:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        model_type = config["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read as a model's configuration ({error}): is the folder whole?") from error
    if model_type not in (*SEMANTIC, *UNIVERSAL):
        raise InputError(
            f"{path} says model_type {model_type!r}; teachers are {', '.join((*SEMANTIC, *UNIVERSAL))} "
            "(of others make label maps, and give maps:DIR)"
        )
    return config


Scaling = tuple[float, tuple[float, ...], tuple[float, ...], bool]
"""Factor on 0..255, then mean and std of each channel, and whether blue comes first."""


def _scaling(folder: Path, model_type: str, mean: Sequence[float] | None, std: Sequence[float] | None) -> Scaling:
    """How pixels are normalised: as the preprocessor's file says, or as it is told."""
    said = _read_preprocessor(folder)
    blue_first = bool(said.get("do_flip_channel_order", model_type in BLUE_FIRST))
    factor = said.get("rescale_factor", 1 / 255) if said.get("do_rescale", True) else 1.0
    if mean is not None or std is not None:
        return factor, three("mean", mean), three("std", std), blue_first
    if not said.get("do_normalize", model_type not in BLUE_FIRST):
        return factor, (0.0,) * 3, (1.0,) * 3, blue_first
    if "image_mean" not in said or "image_std" not in said:
        raise InputError(
            f"{folder} does not say how pixels are normalised (no image_mean and image_std in preprocessor_config.json): get that "
            "file too, or pass mean and std, as (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225)"
        )
    return factor, three("image_mean", said["image_mean"]), three("image_std", said["image_std"]), blue_first


def three(what: str, values: object) -> tuple[float, ...]:
    """A number a channel.

    Raises:
        InputError: it is not three numbers (of std, above zero).
    """
    try:
        found = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        found = ()
    if len(found) != 3 or not all(map(math.isfinite, found)) or (what.endswith("std") and min(found) <= 0):
        raise InputError(
            f"{what} is {values!r}; it must be three numbers, of R, G and B" + (", above zero" if "std" in what else "")
        )
    return found


def _read_preprocessor(folder: Path) -> dict:
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        if path.is_file():
            try:
                said = json.loads(path.read_text(encoding="utf-8"))
                return said.get("image_processor", said)
            except (ValueError, AttributeError) as error:
                raise InputError(f"{path} cannot be read ({error}): is the folder whole?") from error
    return {}


@contextmanager
def _silent() -> Iterator[None]:
    """No bars and reports of transformers: what matters of them is an error here."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _load(folder: Path, model_type: str) -> torch.nn.Module:
    """The network of a folder, in eval mode and float32.

    Raises:
        InputError: weights are missing, damaged, or of another network: transformers would begin with random ones.
    """
    from transformers import AutoModelForSemanticSegmentation, AutoModelForUniversalSegmentation

    auto = AutoModelForSemanticSegmentation if model_type in SEMANTIC else AutoModelForUniversalSegmentation
    try:
        with _silent():
            network, loaded = auto.from_pretrained(
                folder, local_files_only=True, output_loading_info=True, trust_remote_code=False
            )
    except (
        Exception
    ) as error:  # OSError, RuntimeError, SafetensorError, ValueError, KeyError: a damaged folder has many faces
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{folder} cannot be loaded as a {model_type} ({first}): is the folder whole?") from error
    absent = [key for key in sorted(loaded["missing_keys"]) if not _NO_LOSS.search(key)]
    if absent:
        raise InputError(
            f"{folder} has no weights for {absent[0]}"
            + (f" and {len(absent) - 1} more" if absent[1:] else "")
            + ": it is not a whole segmentation network (an encoder alone?)"
        )
    return network.float().eval()


def _names(id2label: dict) -> tuple[str, ...]:
    return tuple(str(id2label[key]) for key in sorted(id2label, key=int))


def _task_inputs(folder: Path, config: object) -> Tensor:
    """OneFormer is told what it is for, in words: int64 (1,L) tokens, 0 where there are none.

    Raises:
        InputError: the tokenizer is not there, damaged, or knows no words (which transformers makes of an empty folder).
    """
    from transformers import AutoTokenizer

    tasks = ["the task is semantic", "the task is instance"]
    try:
        with _silent():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            told = tokenizer(tasks, padding="max_length", max_length=config.task_seq_len, truncation=True)
    except Exception as error:  # as above
        told, why = None, str(error).strip().splitlines()[0]
    if told is None or told["input_ids"][0] == told["input_ids"][1]:
        why = "it knows no words" if told else why
        raise InputError(
            f"{folder} has no tokenizer that can be read, which a oneformer needs ({why}): is the folder whole?"
        )
    return torch.tensor(told["input_ids"][:1]) * torch.tensor(told["attention_mask"][:1])


def read_licence(card: Path) -> str:
    """The licence that a model card's header states: "apache-2.0", "other (name, link)"; "" where it states none."""
    try:
        text = card.read_text(encoding="utf-8")
        header = yaml.safe_load(text.split("---")[1]) if text.startswith("---") else {}
        said = [header.get(key) for key in ("license", "license_name", "license_link")]
    except (OSError, UnicodeDecodeError, IndexError, AttributeError, yaml.YAMLError):
        return ""
    first, *rest = [", ".join(one) if isinstance(one, list) else str(one) for one in said if one] or [""]
    return f"{first} ({', '.join(rest)})" if rest else first
