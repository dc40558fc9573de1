"""Clips in memory: a split of procity, Cityscapes or CamVid, decoded once (by `clip_files`), cached, stored as uint8.

A split becomes one `Clips`: N clips of T frames at the profile's size. Real data is looked for in `$TCSEG_DATA/<dataset>`, then in
`data/<dataset>` (folders.py); decoded splits are cached in the study's own folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tcseg.data.clip_files import (
    Snippet,
    camvid_split,
    cityscapes_split,
    exact_flow,
    load_snippet,
    read_manifest,
    require_plausible,
)
from tcseg.data.splits import Coverage
from tcseg.errors import NotFoundError
from tcseg.flow import FlowPair, estimated_flow
from tcseg.labels import LabelSet, label_set
from tcseg.machine import require_disk

LOADER_VERSION = 1
CAMVID_BLOCK = 17  # frames of a block that stands in for a clip where there is one clip only: about a second
_MEMORY_LIMIT = 4 << 30  # bytes; larger arrays stay on disk and are memory-mapped


@dataclass
class Clips:
    """The clips of one split, in memory.

    Attributes:
        frames: uint8 (N,T,3,H,W) RGB.
        labels: uint8 (N,T,H,W) trainIds, 255 = ignore; all 255 where a frame is not annotated.
        annotated: bool (N,T).
        flows: source ("exact", "dis") -> (flow t -> t+1, float16 (N,T-1,2,H,W) in pixels, visible in t+1, bool (N,T-1,H,W)).
            The first one is the best. Empty when T = 1.
        backward: the same for t+1 -> t, of the best source, for training splits (the trajectory teacher looks both ways).
        names: N clip names.
        key: hash of everything that decides these arrays.
        coverage: how much of the split is on this machine, before `limit`, and what of it cannot be used.
    """

    dataset: str
    split: str
    frames: np.ndarray
    labels: np.ndarray
    annotated: np.ndarray
    flows: dict[str, FlowPair]
    names: list[str]
    key: str
    backward: tuple[np.ndarray, np.ndarray] | None = None
    coverage: Coverage | None = None

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def label_set(self) -> LabelSet:
        """The data set's classes."""
        return label_set(self.dataset)

    @property
    def flow_source(self) -> str | None:
        """Name of the best available flow, or None for single images."""
        return next(iter(self.flows), None)

    @property
    def flow(self) -> np.ndarray | None:
        """The best flow t -> t+1, float16 (N,T-1,2,H,W), or None."""
        return self.flows[self.flow_source][0] if self.flows else None

    @property
    def visible(self) -> np.ndarray | None:
        """Pixels of t that are visible in t+1, bool (N,T-1,H,W), or None."""
        return self.flows[self.flow_source][1] if self.flows else None

    @property
    def size(self) -> tuple[int, int]:
        """(W,H) of the frames."""
        return self.frames.shape[-1], self.frames.shape[-2]


# ------------------------------------------------------------------------------------------------ the cache


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _tree_key(root: Path, snippets: Sequence[Snippet]) -> object:
    """What a data set is: procity by version and parameters (bytes differ in the last bit between machines), else its files."""
    if manifest := read_manifest(root):
        return {"version": manifest["version"], "parameters": manifest["parameters"]}
    files = [path for snippet in snippets for path in (*snippet.frames, *snippet.labels.values())]
    return [(path.relative_to(root).as_posix(), _stat(path).st_size) for path in files]


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError:
        raise NotFoundError(f"{path} is a link to nothing; repair it, or remove it") from None


def _stamp(root: Path, snippets: Sequence[Snippet]) -> str:
    """Digest of the names, sizes and modification times of all files, so that a replaced file is decoded again."""
    flow = [path for snippet in snippets for both in snippet.flow.values() for path in both]
    files = [path for snippet in snippets for path in (*snippet.frames, *snippet.labels.values())]
    found = {path: _stat(path) for path in (*files, *flow)}
    return _digest([(path.relative_to(root).as_posix(), one.st_size, one.st_mtime_ns) for path, one in found.items()])


def find_snippets(
    dataset: str, root: Path, split: str, neighbours: int = 2, limit: int | None = None
) -> tuple[list[Snippet], Coverage]:
    """Find the files of a split, and how much of the published split they are; arguments as `load_clips`.

    Raises:
        NotFoundError, InputError: what is missing or twice, by name.
    """
    if dataset != "camvid":
        snippets, coverage = cityscapes_split(root, split, neighbours)
    else:
        snippets, coverage = camvid_split(root, split, CAMVID_BLOCK * limit if limit and split != "train" else None)
    if limit and len(snippets) > limit:
        snippets = [snippets[i] for i in np.linspace(0, len(snippets) - 1, limit).round().astype(int)]
    return snippets, coverage


def split_key(
    dataset: str, root: Path, split: str, size: tuple[int, int], neighbours: int, snippets: Sequence[Snippet]
) -> str:
    """Hash of what decides a split's arrays: part of the key of every run that is trained on it."""
    names = [snippet.name for snippet in snippets]
    return _digest([LOADER_VERSION, dataset, split, size, neighbours, _tree_key(root, snippets), names])


def load_clips(
    dataset: str,
    root: Path,
    split: str,
    size: tuple[int, int],
    cache: Path,
    neighbours: int = 2,
    limit: int | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Clips:
    """Load a split, from the cache if possible.

    Args:
        dataset: "procity", "cityscapes" or "camvid".
        root: the tree.
        split: "train" or "val".
        size: (W,H), multiples of 32.
        cache: folder for decoded arrays.
        neighbours: train snippets hold the annotated frame and so many on each side.
        limit: at most so many snippets, spread evenly (CamVid val: so many blocks of 17 frames).
        progress: called with a line when decoding starts, and with one about what is not there or left out.

    Raises:
        NotFoundError, InputError: a file is missing, duplicate, damaged or of another size; the message names it.

    Example:
        >>> clips = tcseg.load_clips("procity", root, "val", size=(128, 64), cache=folder)
        >>> len(clips), clips.frames.shape[2:], clips.label_set.name
        (2, (3, 64, 128), 'cityscapes')
    """
    snippets, coverage = find_snippets(dataset, root, split, neighbours, limit)
    if not coverage.whole:
        progress(f"{dataset} {coverage}")
    key = split_key(dataset, root, split, size, neighbours, snippets)
    folder, stamp = cache / f"{split}-{key}", _stamp(root, snippets)
    if _cached(folder).get("files") != stamp:
        progress(f"decoding {len(snippets)} {dataset} {split} clips at {size[0]}x{size[1]}")
        _write_cache(folder, dataset, split, snippets, size, stamp)
    clips = _open_cache(folder, dataset, split, [snippet.name for snippet in snippets], key)
    clips.coverage = coverage
    return clips


def _cached(folder: Path) -> dict:
    """The content of a cache's meta.json; empty if the cache is incomplete."""
    meta = folder / "meta.json"
    return json.loads(meta.read_text()) if meta.exists() else {}


def _layout(
    snippets: Sequence[Snippet], split: str, size: tuple[int, int]
) -> tuple[list[str], dict[str, tuple[tuple[int, ...], type]]]:
    """Which flow a split gets, and shape and type of each array in its cache."""
    count, length, (width, height) = len(snippets), len(snippets[0].frames), size
    sources = ["exact"] if all(len(s.flow) == length - 1 for s in snippets) and length > 1 else []
    if length > 1 and (not sources or split != "train"):
        sources.append("dis")
    arrays: dict[str, tuple[tuple[int, ...], type]] = {
        "frames": ((count, length, 3, height, width), np.uint8),
        "labels": ((count, length, height, width), np.uint8),
        "annotated": ((count, length), np.bool_),
    }
    for kind in [*sources, "back"] if split == "train" and sources else sources:
        arrays[f"flow_{kind}"] = ((count, length - 1, 2, height, width), np.float16)
        arrays[f"visible_{kind}"] = ((count, length - 1, height, width), np.bool_)
    return sources, arrays


def _write_cache(
    folder: Path, dataset: str, split: str, snippets: Sequence[Snippet], size: tuple[int, int], stamp: str
) -> None:
    """Decode all snippets into one .npy per array, in a folder that is renamed when complete."""
    sources, layout = _layout(snippets, split, size)
    need = sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in layout.values())
    require_disk(folder, need, f"the decoded {split} split")
    aside = folder.with_name(folder.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    arrays = {
        name: np.lib.format.open_memmap(aside / f"{name}.npy", "w+", dtype, shape)
        for name, (shape, dtype) in layout.items()
    }

    def fill(i: int) -> np.ndarray:
        frames, arrays["labels"][i], arrays["annotated"][i] = load_snippet(snippets[i], dataset, size)
        arrays["frames"][i] = frames
        for source in sources:
            if source == "exact":
                both = [exact_flow(snippets[i], size, direction) for direction in (0, 1)]
            else:
                both = estimated_flow(frames, source)
            for kind, (value, visible) in zip((source, "back"), both, strict=True):
                if f"flow_{kind}" in arrays:
                    arrays[f"flow_{kind}"][i], arrays[f"visible_{kind}"][i] = value, visible
        return np.bincount(arrays["labels"][i][arrays["annotated"][i]].reshape(-1), minlength=256)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # OpenCV decodes outside the interpreter's lock
        shares = list(pool.map(fill, range(len(snippets))))
    if dataset != "camvid":
        require_plausible(np.sum(shares, axis=0), f"{split} of {dataset}")
    for values in arrays.values():
        values.flush()
    (aside / "meta.json").write_text(json.dumps({"sources": sources, "files": stamp}))
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def _open_cache(folder: Path, dataset: str, split: str, names: list[str], key: str) -> Clips:
    def array(name: str) -> np.ndarray:
        path = folder / f"{name}.npy"
        return np.load(path, mmap_mode="r" if path.stat().st_size > _MEMORY_LIMIT else None)

    sources = _cached(folder)["sources"]

    def pair(kind: str) -> FlowPair:
        return array(f"flow_{kind}"), array(f"visible_{kind}")

    backward = pair("back") if (folder / "flow_back.npy").exists() else None
    flows = {source: pair(source) for source in sources}
    return Clips(dataset, split, array("frames"), array("labels"), array("annotated"), flows, names, key, backward)


# ------------------------------------------------------------------------------------------------ choosing


def labelled_subset(clips: Clips, share: float) -> list[int]:
    """A fixed, class-stratified subset of the snippets whose labels may be used; the others are unlabelled video.

    A greedy algorithm repeatedly adds the snippet with the most classes that are rare in the snippets chosen so far.

    Args:
        clips: a training split.
        share: of the snippets, in 0..1.

    Returns:
        Sorted clip indices, at least one.
    """
    count = max(1, round(share * len(clips)))
    if count >= len(clips):
        return list(range(len(clips)))
    num_classes = clips.label_set.num_classes
    pixels = np.stack([
        np.bincount(labels.reshape(-1), minlength=256)[:num_classes] for labels in clips.labels.reshape(len(clips), -1)
    ])  # fmt: skip
    present = (pixels / pixels.sum(1, keepdims=True).clip(1) > 1e-3).astype(float)
    taken: list[int] = []
    seen = np.zeros(num_classes)
    while len(taken) < count:
        gain = (present / (1 + seen)).sum(1)
        gain[taken] = -1
        taken.append(int(gain.argmax()))
        seen += present[taken[-1]]
    return sorted(taken)


def annotated_frame(clips: Clips) -> int:
    """Index of the frame that is labelled in every clip of the split (the middle one of a training snippet)."""
    return int(np.flatnonzero(clips.annotated.all(0))[0])


def as_tensor(array: np.ndarray, index: Tensor | np.ndarray | list) -> Tensor:
    """Copy the chosen clips of an array into a tensor."""
    return torch.from_numpy(np.ascontiguousarray(array[np.asarray(index)]))
