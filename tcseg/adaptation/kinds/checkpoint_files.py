"""The files of a checkpoint of transformers: its place or download, configuration, normalisation, weights and licence."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import yaml
from torch import Tensor

from tcseg.errors import CannotRunError, InputError, NotFoundError

SEMANTIC = ("beit", "data2vec-vision", "dpt", "mobilenet_v2", "mobilevit", "mobilevitv2", "segformer", "upernet")
UNIVERSAL = ("eomt", "eomt_dinov3", "mask2former", "maskformer", "oneformer")
BLUE_FIRST = ("mobilevit", "mobilevitv2")
"""They were trained on B, G, R, 0..1, without further normalisation."""
FILES = ["*.json", "*.txt", "*.model", "README.md"]  # beside the weights
_NO_LOSS = re.compile(r"auxiliary_head|criterion|num_batches_tracked|relative_position_index|position_ids")


def require_transformers() -> None:
    """Check that transformers is installed.

    Raises:
        CannotRunError: it is not; the message says how to install it.
    """
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise CannotRunError(
            "a teacher of the Hugging Face hub needs transformers, not installed: pip install transformers (or -e '.[peers]')"
        ) from error


def locate(source: str) -> tuple[Path, str, str]:
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


def read_config(folder: Path) -> dict:
    """The configuration of a network of a known type.

    Raises:
        InputError: it cannot be read, or the network is of another type.
    """
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


def read_scaling(folder: Path, model_type: str, mean: Sequence[float] | None, std: Sequence[float] | None) -> Scaling:
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


def load_network(folder: Path, model_type: str) -> torch.nn.Module:
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


def class_names(id2label: dict) -> tuple[str, ...]:
    """The names of a network's outputs, in their order."""
    return tuple(str(id2label[key]) for key in sorted(id2label, key=int))


def task_inputs(folder: Path, config: object) -> Tensor:
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
