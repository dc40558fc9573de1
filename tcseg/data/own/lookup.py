"""Data sets by name or folder: what `--dataset`, `open_study` and `load_clips` take, and what they mean."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from tcseg.data import clips as named_clips
from tcseg.data import folders
from tcseg.data.clips import Clips
from tcseg.data.own.clips import find_windows, load_own_clips
from tcseg.data.own.films import FILMS
from tcseg.data.own.layout import CLASSES, SPLIT, TRAIN, VAL, OwnFolder, open_folder
from tcseg.data.splits import Coverage, fingerprint, list_pictures
from tcseg.errors import InputError, NotFoundError
from tcseg.labels import DATASETS, LabelSet, label_set

_seen: dict[str, OwnFolder] = {}
"""Folders that this process has opened, by their names."""


def is_folder(dataset: str) -> bool:
    """Whether a data set is given as a folder: no known name, and with a slash, or a folder that exists."""
    text = str(dataset)
    return text not in DATASETS and (os.sep in text or os.path.isdir(os.path.expanduser(text)))


def absolute(dataset: str) -> str:
    """A data set as it can be given to other processes: a name as it is, a folder as its absolute path."""
    return str(Path(dataset).expanduser().absolute()) if is_folder(dataset) else dataset


def require_dataset(dataset: str) -> None:
    """Check a data set: one of the known names, or a folder of one's own without problems.

    Raises:
        InputError: neither; or the folder's first problem.
    """
    if is_folder(dataset):
        own_folder(dataset)
    elif dataset not in DATASETS:
        known = ", ".join(DATASETS)
        raise InputError(f"dataset is {dataset!r}; it must be one of {known}, or a folder with frames, labels and {CLASSES}")


def own_folder(dataset: str) -> OwnFolder | None:
    """The folder that a data set is; None for a known name. It is read again when a file has changed.

    Raises:
        NotFoundError: there is no such folder. InputError: its first problem.
    """
    if not is_folder(dataset):
        return None
    root = Path(absolute(dataset))
    if not root.is_dir():
        raise NotFoundError(f"dataset is {dataset!r}, and there is no such folder; `tcseg data new {dataset}` makes one")
    if (kind := folders.kind_of(root)) in DATASETS:
        place = folders.data_root() / kind
        raise InputError(f"{root} has the layout of {kind}; link or move it to {place}, and use --dataset {kind}")
    folder = _opened(root, stamp(root))
    _seen[name_of(dataset)] = folder
    return folder


@lru_cache(maxsize=4)
def _opened(root: Path, state: str) -> OwnFolder:
    return open_folder(root)


def stamp(root: Path) -> str:
    """Digest of all files of a folder of one's own: names, sizes and times of change."""
    texts = [path for name in (CLASSES, SPLIT) if (path := root / name).is_file()]
    films = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in list_pictures(root / "frames", FILMS)]
    listed = [fingerprint(root), *films, *((path.name, path.read_bytes()) for path in texts)]
    return hashlib.sha256(repr(listed).encode()).hexdigest()


def name_of(dataset: str) -> str:
    """The name that tables, records and sidecars have for a data set: of a folder its last part, in plain characters."""
    if not is_folder(dataset):
        return dataset
    plain = re.sub(r"[^\w.-]+", "-", Path(absolute(dataset)).name).strip("-.") or "own"
    return f"own-{plain}" if plain in DATASETS else plain


def label_set_of(dataset: str) -> LabelSet | None:
    """The classes of a data set; of a name that is none, those of the folder that this process opened under it, or None."""
    if folder := own_folder(dataset):
        return folder.label_set
    if dataset in DATASETS:
        return label_set(dataset)
    return _seen[dataset].label_set if dataset in _seen else None


def find_root(dataset: str) -> Path | None:
    """The folder of a data set, or None: see `folders.find_dataset`."""
    folder = own_folder(dataset)
    return folder.root if folder else folders.find_dataset(dataset)


def trains_on_stills(dataset: str) -> bool:
    """Whether the training split holds single pictures: CamVid's, or those of a folder whose training clips are all stills."""
    folder = own_folder(dataset)
    return folder.stills.issuperset(folder.split[TRAIN]) if folder else dataset == "camvid"


def measures_stills(dataset: str) -> bool:
    """Whether validation has single pictures alone, and no video to measure consistency on."""
    folder = own_folder(dataset)
    return folder is not None and folder.stills.issuperset(folder.split[VAL])


def coverage_of(dataset: str, root: Path, split: str, neighbours: int = 2) -> Coverage:
    """How much of a split there is; nothing is decoded."""
    if folder := own_folder(dataset):
        return find_windows(folder, split, neighbours)[1]
    return named_clips.find_snippets(dataset, root, split, neighbours)[1]


def load_clips(
    dataset: str,
    root: Path | None,
    split: str,
    size: tuple[int, int],
    cache: Path,
    neighbours: int = 2,
    limit: int | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Clips:
    """Load a split of a data set, from the cache if possible.

    Args:
        dataset: "procity", "cityscapes", "camvid", or a folder of your own (see `tcseg.data.own`).
        root: the tree; not used for a folder of your own.
        split: "train" or "val".
        size: (W,H), multiples of 32.
        cache: folder for decoded arrays.
        neighbours: train snippets hold the annotated frame and so many on each side.
        limit: at most so many snippets, spread evenly (one labelled clip for val: so many blocks of 17 frames).
        progress: called with a line when decoding starts, and with one about what is not there or left out.

    Raises:
        NotFoundError, InputError: a file is missing, duplicate, damaged or of another size; the message names it.

    Example:
        >>> clips = tcseg.load_clips("procity", root, "val", size=(128, 64), cache=folder)
        >>> len(clips), clips.frames.shape[2:], clips.label_set.name
        (2, (3, 64, 128), 'cityscapes')
    """
    if folder := own_folder(dataset):
        return load_own_clips(folder, split, size, cache, neighbours, limit, progress)
    return named_clips.load_clips(dataset, root, split, size, cache, neighbours, limit, progress)
