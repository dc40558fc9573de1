"""Clips from disk: procity and Cityscapes (one layout, one loader) and CamVid; decoded once, cached, kept as uint8.

A split becomes one `Clips`: N clips of T frames at the profile's size. Real data is looked for in `$TCSEG_DATA/<dataset>`, then in
`data/<dataset>`; decoded splits are cached in the study's own folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from tcseg import flow as optical_flow
from tcseg import procity
from tcseg.labels import IGNORE, LabelSet, ids_to_train_ids, label_set
from tcseg.machine import require_disk

LOADER_VERSION = 1
ANNOTATED = 19  # the labelled frame of a Cityscapes snippet of 30
SNIPPET = 30
CAMVID_BLOCK = 17  # frames of a block that stands in for a clip where there is one clip only: about a second
_MEMORY_LIMIT = 4 << 30  # bytes; larger arrays stay on disk and are memory-mapped


FlowPair = tuple[np.ndarray, np.ndarray]
"""Flow of every pair of frames, float16 (..,T-1,2,H,W), and what is visible, bool (..,T-1,H,W)."""


@dataclass(frozen=True)
class Snippet:
    """Files of one clip: frames in order; labels and (forward, backward) flow by frame index where they exist."""

    name: str
    frames: tuple[Path, ...]
    labels: dict[int, Path]
    flow: dict[int, tuple[Path, Path]] = field(default_factory=dict)


@dataclass
class Clips:
    """One split in memory.

    Attributes:
        frames: uint8 (N,T,3,H,W) RGB.
        labels: uint8 (N,T,H,W) trainIds, 255 = ignore; all 255 where a frame is not annotated.
        annotated: bool (N,T).
        flows: source ("exact", "dis") -> (flow t -> t+1, float16 (N,T-1,2,H,W) in pixels, visible in t+1, bool (N,T-1,H,W)).
            The first one is the best. Empty when T = 1.
        backward: the same for t+1 -> t, of the best source, for training splits (the trajectory teacher looks both ways).
        names: N clip names.
        key: hash of everything that decides these arrays.
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

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def label_set(self) -> LabelSet:
        """The data set's classes."""
        return label_set(self.dataset)

    @property
    def flow_source(self) -> str | None:
        """Name of the best flow there is, or None (stills)."""
        return next(iter(self.flows), None)

    @property
    def flow(self) -> np.ndarray | None:
        """The best flow t -> t+1, float16 (N,T-1,2,H,W), or None."""
        return self.flows[self.flow_source][0] if self.flows else None

    @property
    def visible(self) -> np.ndarray | None:
        """Pixels of t that are seen in t+1, bool (N,T-1,H,W), or None."""
        return self.flows[self.flow_source][1] if self.flows else None

    @property
    def size(self) -> tuple[int, int]:
        """(W,H)."""
        return self.frames.shape[-1], self.frames.shape[-2]


def data_root() -> Path:
    """The project's data folder: beside the package in a checkout, else under the current folder."""
    checkout = Path(__file__).resolve().parents[1]
    return (checkout if (checkout / "pyproject.toml").exists() else Path.cwd()) / "data"


def find_dataset(name: str) -> Path | None:
    """The folder of a real data set (`$TCSEG_DATA/<name>`, then `data/<name>`), or None."""
    candidates = [Path(os.environ["TCSEG_DATA"]) / name] if os.environ.get("TCSEG_DATA") else []
    for folder in (*candidates, data_root() / name):
        if folder.is_dir():
            return folder
    return None


# ------------------------------------------------------------------------------------------------ finding the files


def _png_index(folder: Path, suffix: str) -> dict[str, dict[int, Path]]:
    """Files `<city>_<sequence>_<frame><suffix>` below a split's folder: "city_sequence" -> frame number -> path."""
    pattern = re.compile(r"(.+_\d{6})_(\d{6})" + re.escape(suffix) + "$")
    found: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in sorted(folder.glob(f"*/*{suffix}")):
        if match := pattern.match(path.name):
            found[match[1]][int(match[2])] = path
    return found


def cityscapes_snippets(root: Path, split: str, neighbours: int) -> list[Snippet]:
    """Snippets of a tree in the Cityscapes layout.

    A snippet is anchored at an annotated frame f: train takes f-neighbours..f+neighbours, val all of f-19..f+10.

    Raises:
        FileNotFoundError: a folder is missing or empty, or a snippet lacks frames; the message counts them.
    """
    folders = {name: root / name / split for name in ("leftImg8bit_sequence", "gtFine")}
    frames = _png_index(folders["leftImg8bit_sequence"], "_leftImg8bit.png")
    labels = _png_index(folders["gtFine"], "_gtFine_labelIds.png")
    for (name, folder), files in zip(folders.items(), (frames, labels), strict=True):
        if not files:
            raise FileNotFoundError(
                f"{folder} has no {'frames' if name.startswith('left') else 'labels'}: is {name} unpacked under {root}? "
                "`tcseg data check` lists what is missing; data/README.md says how to get it"
            )
    dense = (root / "manifest.json").exists()  # procity numbers every snippet 0..29 and labels all of val
    snippets = []
    for sequence, annotated in labels.items():
        for anchor in [ANNOTATED] if dense else sorted(annotated):
            first, last = (neighbours, neighbours) if split == "train" else (ANNOTATED, SNIPPET - 1 - ANNOTATED)
            window = range(anchor - first, anchor + last + 1)
            missing = [number for number in window if number not in frames.get(sequence, {})]
            if missing:
                raise FileNotFoundError(
                    f"{sequence}: {len(missing)} of {len(window)} frames around annotated frame {anchor} are missing in "
                    f"{folders['leftImg8bit_sequence']} (first: {missing[0]:06d}); download it again, or remove its labels"
                )
            chosen = tuple(frames[sequence][number] for number in window)
            truth = {i: annotated[number] for i, number in enumerate(window) if number in annotated}
            snippets.append(Snippet(f"{sequence}_{anchor:06d}", chosen, truth, _flow_files(root, split, chosen)))
    return snippets


def _flow_files(root: Path, split: str, frames: Sequence[Path]) -> dict[int, tuple[Path, Path]]:
    """Exact flow of pair (t, t+1), where the tree has it: t's forward file and t+1's backward file."""
    files = {}
    for t, (path, following) in enumerate(zip(frames, frames[1:], strict=False)):
        here, after = (
            root / "flow" / split / p.parent.name / p.name.replace("leftImg8bit", "flow_forward")
            for p in (path, following)
        )
        if here.exists():
            files[t] = (here, after.with_name(after.name.replace("flow_forward", "flow_backward")))
    return files


def camvid_snippets(root: Path, split: str, frames: int | None = None) -> list[Snippet]:
    """CamVid in the SegNet split: train = stills at 1 Hz (T = 1), val = one clip of consecutive frames at 15 Hz.

    Raises:
        FileNotFoundError: no images, or an image without its label.
    """
    images = sorted((root / split).glob("*.png"))
    if not images:
        raise FileNotFoundError(f"{root / split} has no images; CamVid's SegNet split has 367 in train and 101 in val")
    labels = [root / f"{split}annot" / image.name for image in images]
    for label in labels:
        if not label.exists():
            raise FileNotFoundError(
                f"{label} is missing; every CamVid frame of this split has a label of the same name"
            )
    if split == "train":
        return [Snippet(image.stem, (image,), {0: label}) for image, label in zip(images, labels, strict=True)]
    images, labels = images[:frames], labels[:frames]
    return [Snippet(images[0].stem, tuple(images), dict(enumerate(labels)))]


# ------------------------------------------------------------------------------------------------ reading the files


def read_frame(path: Path) -> np.ndarray:
    """Read an image as uint8 (H,W,3) RGB.

    Raises:
        ValueError: unreadable (the file is named).
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(
            f"{path} is not a readable image; delete it and get it again (`tcseg data check` finds all such)"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_labels(path: Path, dataset: str) -> np.ndarray:
    """Read a label file as trainIds, uint8 (H,W).

    Raises:
        ValueError: unreadable, or an id outside the table (the file is named).
    """
    ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if ids is None or ids.ndim != 2 or ids.dtype != np.uint8:
        raise ValueError(f"{path} is not a readable 8-bit, 1-channel label map; delete it and get it again")
    if dataset == "camvid":
        if ids.max() > 11:
            raise ValueError(f"{path} contains label {ids.max()}, outside CamVid's table (0..10, 11 = ignore)")
        return np.where(ids == 11, np.uint8(IGNORE), ids)
    try:
        return ids_to_train_ids(ids)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _load_snippet(snippet: Snippet, dataset: str, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames (T,3,H,W), labels (T,H,W) and annotated (T,) of one snippet, resized (area; nearest for labels)."""
    frames, labels = [], []
    for t, path in enumerate(snippet.frames):
        frame = read_frame(path)
        if t in snippet.labels:
            label = read_labels(snippet.labels[t], dataset)
            if label.shape != frame.shape[:2]:
                raise ValueError(
                    f"{path.name} is {frame.shape[1]}x{frame.shape[0]} but its label {snippet.labels[t].name} is "
                    f"{label.shape[1]}x{label.shape[0]}; both must have one size"
                )
        else:
            label = np.full(frame.shape[:2], IGNORE, np.uint8)
        if frame.shape[1::-1] != size:
            frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST_EXACT)
        frames.append(frame.transpose(2, 0, 1))
        labels.append(label)
    annotated = np.array([t in snippet.labels for t in range(len(snippet.frames))])
    return np.stack(frames), np.stack(labels), annotated


def _exact_flow(snippet: Snippet, size: tuple[int, int], direction: int) -> FlowPair:
    """True flow and visibility of every pair; direction 0 = t -> t+1, 1 = t+1 -> t."""
    flows, visibles = [], []
    for t in range(len(snippet.frames) - 1):
        value, valid = optical_flow.read_kitti(snippet.flow[t][direction])
        if valid.shape[::-1] != size:
            value = optical_flow.resize_flow(torch.from_numpy(value)[None], size)[0].numpy()
            valid = cv2.resize(valid.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) > 0
        flows.append(value.astype(np.float16))
        visibles.append(valid)
    return np.stack(flows), np.stack(visibles)


def estimated_flow(frames: np.ndarray, method: str) -> tuple[FlowPair, FlowPair]:
    """Estimate flow of one clip both ways, with its forward-backward visibility.

    Args:
        frames: uint8 (T,3,H,W).
        method: see `flow.estimate`.

    Returns:
        t -> t+1 and t+1 -> t, each float16 (T-1,2,H,W) and bool (T-1,H,W).
    """
    images = [np.ascontiguousarray(frame.transpose(1, 2, 0)) for frame in frames]
    pairs = list(zip(images, images[1:], strict=False))
    forward = np.stack([optical_flow.estimate(method, a, b) for a, b in pairs])
    backward = np.stack([optical_flow.estimate(method, b, a) for a, b in pairs])
    a, b = torch.from_numpy(forward), torch.from_numpy(backward)
    seen, seen_back = optical_flow.visibility(a, b).numpy(), optical_flow.visibility(b, a).numpy()
    return (forward.astype(np.float16), seen), (backward.astype(np.float16), seen_back)


# ------------------------------------------------------------------------------------------------ the cache


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _tree_key(root: Path, snippets: Sequence[Snippet]) -> object:
    """What a data set is: procity by version and parameters (bytes differ in the last bit between machines), else its files."""
    manifest = root / "manifest.json"
    if manifest.exists():
        content = json.loads(manifest.read_text())
        return {"version": content["version"], "parameters": content["parameters"]}
    files = [path for snippet in snippets for path in (*snippet.frames, *snippet.labels.values())]
    return [(path.relative_to(root).as_posix(), path.stat().st_size) for path in files]


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
    """Load a split, from the cache if it is there.

    Args:
        dataset: "procity", "cityscapes" or "camvid".
        root: the tree.
        split: "train" or "val".
        size: (W,H), multiples of 32.
        cache: folder for decoded arrays.
        neighbours: train snippets hold the annotated frame and so many on each side.
        limit: at most so many snippets, spread evenly (CamVid val: so many blocks of 17 frames).
        progress: called with a line when decoding starts.

    Raises:
        FileNotFoundError, ValueError: what is missing or broken, by name.
    """
    if dataset == "camvid":
        frames = CAMVID_BLOCK * limit if limit and split != "train" else None
        snippets = camvid_snippets(root, split, frames)
    else:
        snippets = cityscapes_snippets(root, split, neighbours)
    if limit and len(snippets) > limit:
        snippets = [snippets[i] for i in np.linspace(0, len(snippets) - 1, limit).round().astype(int)]
    key = _digest(
        [LOADER_VERSION, dataset, split, size, neighbours, _tree_key(root, snippets), [s.name for s in snippets]]
    )
    folder = cache / f"{split}-{key}"
    if not (folder / "meta.json").exists():
        progress(f"decoding {len(snippets)} {dataset} {split} clips at {size[0]}x{size[1]}")
        _write_cache(folder, dataset, split, snippets, size)
    return _open_cache(folder, dataset, split, [snippet.name for snippet in snippets], key)


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


def _write_cache(folder: Path, dataset: str, split: str, snippets: Sequence[Snippet], size: tuple[int, int]) -> None:
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

    def fill(i: int) -> None:
        frames, arrays["labels"][i], arrays["annotated"][i] = _load_snippet(snippets[i], dataset, size)
        arrays["frames"][i] = frames
        for source in sources:
            if source == "exact":
                both = [_exact_flow(snippets[i], size, direction) for direction in (0, 1)]
            else:
                both = estimated_flow(frames, source)
            for kind, (value, visible) in zip((source, "back"), both, strict=True):
                if f"flow_{kind}" in arrays:
                    arrays[f"flow_{kind}"][i], arrays[f"visible_{kind}"][i] = value, visible

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # OpenCV decodes outside the interpreter's lock
        list(pool.map(fill, range(len(snippets))))
    for values in arrays.values():
        values.flush()
    (aside / "meta.json").write_text(json.dumps({"sources": sources}))
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def _open_cache(folder: Path, dataset: str, split: str, names: list[str], key: str) -> Clips:
    def array(name: str) -> np.ndarray:
        path = folder / f"{name}.npy"
        return np.load(path, mmap_mode="r" if path.stat().st_size > _MEMORY_LIMIT else None)

    sources = json.loads((folder / "meta.json").read_text())["sources"]

    def pair(kind: str) -> FlowPair:
        return array(f"flow_{kind}"), array(f"visible_{kind}")

    backward = pair("back") if (folder / "flow_back.npy").exists() else None
    flows = {source: pair(source) for source in sources}
    return Clips(dataset, split, array("frames"), array("labels"), array("annotated"), flows, names, key, backward)


# ------------------------------------------------------------------------------------------------ choosing, checking


def labelled_subset(clips: Clips, share: float) -> list[int]:
    """A fixed, class-stratified choice of the snippets whose labels may be used; the rest is unlabelled video.

    Greedy: take, again and again, the snippet that brings most pixels of the classes that are rarest among those taken.

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
    """Index of the frame that every clip of the split has labels for (the middle one of a training snippet)."""
    return int(np.flatnonzero(clips.annotated.all(0))[0])


def as_tensor(array: np.ndarray, index: Tensor | np.ndarray | list) -> Tensor:
    """Copy the chosen clips of an array into a tensor."""
    return torch.from_numpy(np.ascontiguousarray(array[np.asarray(index)]))


def check(root: Path, dataset: str) -> list[str]:
    """What is missing or broken in a tree: one line each, empty when all is well."""
    if not root.is_dir():
        return [f"{root} does not exist"]
    if dataset == "procity":
        return procity.check(root)
    if dataset == "camvid":
        return _check_counts(
            {(root / f"{s}{a}"): n for s, n in (("train", 367), ("val", 101)) for a in ("", "annot")}, "*.png"
        )
    problems = _check_counts(
        {root / "gtFine" / s: n for s, n in (("train", 2975), ("val", 500))}, "*/*_gtFine_labelIds.png"
    )
    counts = {root / "leftImg8bit_sequence" / s: n * SNIPPET for s, n in (("train", 2975), ("val", 500))}
    return problems + _check_counts(counts, "*/*_leftImg8bit.png")


def _check_counts(expected: dict[Path, int], pattern: str) -> list[str]:
    found = {folder: sum(1 for _ in folder.glob(pattern)) for folder in expected}
    return [f"{folder}: {found[folder]} of {n} files" for folder, n in expected.items() if found[folder] != n]
