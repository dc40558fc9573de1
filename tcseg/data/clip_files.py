"""The files of a clip: which frames, labels and flow belong together, and how to read them.

There are two layouts: that of Cityscapes, as in procity, and that of CamVid's SegNet split. Messages about missing or damaged
files and wrong sizes name the file; files that cannot be used are counted in the `Coverage` of the split.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from tcseg import flow as optical_flow
from tcseg.data.images import files_below, read_rgb, read_values, require_whole
from tcseg.data.splits import (
    CAMVID_FRAMES,
    FRAME_ENDING,
    LABEL_ENDINGS,
    Coverage,
    Index,
    city_of,
    cityscapes_coverage,
    counted,
    gaps,
    index_camvid,
    index_cityscapes,
    named,
)
from tcseg.errors import InputError, NotFoundError
from tcseg.flow import FlowPair
from tcseg.labels import CITYSCAPES, IGNORE, ids_to_train_ids

ANNOTATED = 19  # the labelled frame of a Cityscapes snippet of 30
SNIPPET = 30


@dataclass(frozen=True)
class Snippet:
    """Files of one clip: frames in order; labels and (forward, backward) flow by frame index where they exist."""

    name: str
    frames: tuple[Path, ...]
    labels: dict[int, Path]
    flow: dict[int, tuple[Path, Path]] = field(default_factory=dict)


# ------------------------------------------------------------------------------------------------ Cityscapes' layout


def read_manifest(root: Path) -> dict | None:
    """Read procity's `manifest.json`; None if the file does not exist (another data set).

    Raises:
        InputError: the file is not valid JSON.
    """
    path = root / "manifest.json"
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise InputError(f"{path} is damaged; remove it, and run: tcseg data procity --out {root}") from None


def cityscapes_split(root: Path, split: str, neighbours: int) -> tuple[list[Snippet], Coverage]:
    """Snippets of a tree in the Cityscapes layout, and how much of the split they are.

    A snippet is anchored at an annotated frame f: train takes f-neighbours..f+neighbours, val all of f-19..f+10. A label without
    any frame, and frames without a label, are left out and counted.

    Raises:
        NotFoundError: a folder is missing or empty, or a snippet lacks some frames; the message counts them. procity: anything.
        InputError: two files of one frame.
    """
    frames = index_cityscapes(root / "leftImg8bit_sequence" / split, FRAME_ENDING).require_single()
    labels = index_cityscapes(root / "gtFine" / split, *LABEL_ENDINGS).require_single()
    _require_some(root, split, frames, labels)
    manifest = read_manifest(root)
    dense = manifest is not None  # procity numbers every snippet 0..29 and labels all of val
    flow = _flow_index(root, split)
    snippets, bare = [], []
    for sequence, annotated in labels.files.items():
        have = frames.files.get(sequence, {})
        for anchor in [ANNOTATED] if dense else sorted(annotated):
            name = f"{sequence}_{anchor:06d}"
            if not dense and not any(number in have for number in window_of(anchor)):
                bare.append(name)
                continue
            first, last = (neighbours, neighbours) if split == "train" else (ANNOTATED, SNIPPET - 1 - ANNOTATED)
            window = range(anchor - first, anchor + last + 1)
            _require_frames(sequence, anchor, window, have, root / "leftImg8bit_sequence" / split)
            truth = {i: annotated[number] for i, number in enumerate(window) if number in annotated}
            chosen = tuple(have[number] for number in window)
            snippets.append(Snippet(name, chosen, truth, _flow_files(flow, sequence, window)))
    if not snippets:
        raise NotFoundError(f"no label in {root / 'gtFine' / split} has its frames (first: {named(bare)})")
    _require_all_flow(root, split, snippets)
    if dense:
        return snippets, _procity_coverage(root, split, manifest, snippets)
    left_out = [*_without_frames(bare, frames), *_without_label(frames, labels), *_strangers(frames, labels)]
    return snippets, cityscapes_coverage(split, (snippet.name for snippet in snippets), left_out)


def window_of(anchor: int) -> range:
    """The frames of the whole snippet around an annotated one."""
    return range(anchor - ANNOTATED, anchor - ANNOTATED + SNIPPET)


def _require_some(root: Path, split: str, frames: Index, labels: Index) -> None:
    for name, index in (("leftImg8bit_sequence", frames), ("gtFine", labels)):
        if not index:
            what = "frames" if name.startswith("left") else "labels"
            raise NotFoundError(
                f"{root / name / split} has no {what}: is {name} unpacked under {root}? "
                f"{_what_is_there(root, split, what)}`tcseg data check` lists what is missing; data/README.md says how to get it"
            )


def _what_is_there(root: Path, split: str, what: str) -> str:
    """A sentence about the files that were found instead of frames or labels, and about the files that are needed; or ""."""
    if what == "frames":
        if index_cityscapes(root / "leftImg8bit" / split, FRAME_ENDING):
            return "leftImg8bit has the annotated frames alone, and a clip needs those around them. "
        strange = index_cityscapes(root / "leftImg8bit_sequence" / split, FRAME_ENDING).strangers
        wanted = "<city>_<sequence>_<frame>_leftImg8bit.png with six digits each"
        return f"There is {strange[0]}, but names must be {wanted}. " if strange else ""
    places = [place for name in ("gtFine", "gtCoarse") if (place := root / name / split).is_dir()]
    files = [path.name for place in places for path in files_below(place, ("",))]
    told = {
        "_gtCoarse_": "There are coarse labels (gtCoarse), which leave most of a frame open: get gtFine. ",
        "_polygons.json": "There are polygons alone: csCreateTrainIdLabelImgs of cityscapesscripts (pip install tcseg[data]) makes "
        "labelTrainIds of them, which can be read. ",
        "_color.": "There are colours and no ids: get gtFine with its _labelIds.png. ",
        "_instance": "There are instanceIds alone: get gtFine with its _labelIds.png. ",
    }
    fits = (text for part, text in told.items() if any(part in name for name in files))
    return next(fits, f"There is {files[0]}, but names must be <city>_<sequence>_<frame>_gtFine_labelIds.png. " if files else "")


def _require_frames(
    sequence: str, anchor: int, window: range, have: Mapping[int, Path], folder: Path
) -> None:
    missing = [number for number in window if number not in have]
    if missing:
        raise NotFoundError(
            f"{sequence}: {len(missing)} of {len(window)} frames around annotated frame {anchor} are missing in "
            f"{folder} (first: {missing[0]:06d}); download it again, or remove its labels"
        )


def _flow_index(root: Path, split: str) -> tuple[Index, Index]:
    folder = root / "flow" / split
    forward, backward = (index_cityscapes(folder, f"_flow_{way}").require_single() for way in ("forward", "backward"))
    return forward, backward


def _flow_files(flow: tuple[Index, Index], sequence: str, window: range) -> dict[int, tuple[Path, Path]]:
    """Exact flow of pair (t, t+1), where the tree has it: t's forward file and t+1's backward file."""
    forward, backward = (index.files.get(sequence, {}) for index in flow)
    return {
        t: (forward[number], backward[number + 1])
        for t, number in enumerate(window[:-1])
        if number in forward and number + 1 in backward
    }


def _require_all_flow(root: Path, split: str, snippets: Sequence[Snippet]) -> None:
    """All pairs of a split have exact flow, or none has: with a part of it the whole split would get another flow."""
    without = [snippet.name for snippet in snippets if len(snippet.flow) < len(snippet.frames) - 1]
    if without and any(snippet.flow for snippet in snippets):
        raise NotFoundError(
            f"{len(without)} of {counted(len(snippets), 'snippet')} lack exact flow in {root / 'flow' / split} "
            f"(first: {without[0]}); `tcseg data check --mend` makes it again"
        )


def _procity_coverage(root: Path, split: str, manifest: dict, snippets: Sequence[Snippet]) -> Coverage:
    """Coverage of a procity split. Any difference from the manifest is an error, since results would be of another data set."""
    expected = manifest.get("parameters", {}).get(split)
    labels = 1 if split == "train" else SNIPPET
    lost = [snippet.name for snippet in snippets if len(snippet.labels) < labels]
    if lost or expected not in (None, len(snippets)):
        what = f"labels of {named(lost)}" if lost else f"{len(snippets)} of {counted(expected, 'snippet')} are there"
        raise NotFoundError(
            f"{root} is not what its manifest says ({split}: {'some are missing: ' if lost else ''}{what}); "
            "`tcseg data check --mend` makes it again"
        )
    return Coverage(split, "snippet", len(snippets), expected)


def _without_frames(bare: Sequence[str], frames: Index) -> Iterator[str]:
    filmed = {city_of(sequence) for sequence in frames.files}
    cities = sorted({city_of(name) for name in bare} - filmed)
    if cities:
        number = sum(city_of(name) not in filmed for name in bare)
        yield f"{counted(number, 'label')} of {counted(len(cities), 'city')} without frames ({named(cities)})"
    rest = [name for name in bare if city_of(name) in filmed]
    if rest:
        yield f"{counted(len(rest), 'label')} without frames ({named(rest)})"


def unlabelled(frames: Index, labels: Index) -> dict[str, list[int]]:
    """Frames that lie around no annotated one: sequence -> numbers."""
    found = {}
    for sequence, have in frames.files.items():
        near = {number for anchor in labels.files.get(sequence, {}) for number in window_of(anchor)}
        if alone := sorted(set(have) - near):
            found[sequence] = alone
    return found


def _without_label(frames: Index, labels: Index) -> Iterator[str]:
    found = unlabelled(frames, labels)
    if found:
        first = [f"{sequence}_{numbers[0]:06d}" for sequence, numbers in found.items()]
        cities = sorted({city_of(sequence) for sequence in found} - {city_of(sequence) for sequence in labels.files})
        of = f" (no label at all in {counted(len(cities), 'city')}: {named(cities)})" if cities else ""
        yield f"{counted(sum(map(len, found.values())), 'frame')} without a label: {named(first)}{of}"


def _strangers(*indices: Index) -> Iterator[str]:
    strange = [path.name for index in indices for path in index.strangers]
    if strange:
        yield f"{counted(len(strange), 'picture')} with names of another form ({named(strange)})"


# ------------------------------------------------------------------------------------------------ CamVid's layout


def camvid_snippets(root: Path, split: str, frames: int | None = None) -> list[Snippet]:
    """As `camvid_split`, without the coverage."""
    return camvid_split(root, split, frames)[0]


def camvid_split(root: Path, split: str, frames: int | None = None) -> tuple[list[Snippet], Coverage]:
    """CamVid in the SegNet split: train = stills at 1 Hz (T = 1), val = one clip of consecutive frames at 15 Hz.

    Raises:
        NotFoundError: no images, an image without its label, or a gap in the clip.
        InputError: two files of one name, or whose names sort as equal.
    """
    images = index_camvid(root / split).require_single().files[""]
    if not images:
        raise NotFoundError(f"{root / split} has no images; CamVid's SegNet split has 367 in train and 101 in val")
    labels = index_camvid(root / f"{split}annot").require_single().files[""]
    missing = [path for name, path in images.items() if name not in labels]
    if missing:
        raise NotFoundError(
            f"{root / f'{split}annot' / missing[0].name} is missing ({len(missing)} of {counted(len(images), 'label')} are); every "
            f"CamVid frame of this split has a label of the same name{_camvid_hint(labels)}"
        )
    if split != "train" and (broken := gaps(list(images))):
        raise NotFoundError(
            f"{root / split} is no clip of consecutive frames: between {broken[0][0]} and {broken[0][1]} some are missing "
            f"({counted(len(broken), 'gap')}); get them again, or keep one part"
        )
    orphans = [name for name in labels if name not in images]
    left_out = [f"{counted(len(orphans), 'label')} without frames ({named(orphans)})"] if orphans else []
    coverage = Coverage(split, "frame", len(images), CAMVID_FRAMES.get(split), left_out=tuple(left_out))
    if split == "train":
        return [Snippet(path.stem, (path,), {0: labels[name]}) for name, path in images.items()], coverage
    names = list(images)[:frames]
    clip = Snippet(names[0], tuple(images[n] for n in names), {t: labels[n] for t, n in enumerate(names)})
    return [clip], coverage


def _camvid_hint(labels: Mapping[str, Path]) -> str:
    if any(name.endswith("_L") for name in labels):
        return "; names in _L are CamVid's original colour labels: get the SegNet split, whose labels hold 0..11"
    return ""


# ------------------------------------------------------------------------------------------------ reading


def read_frame(path: Path) -> np.ndarray:
    """Read an image as uint8 (H,W,3) RGB, upright.

    Raises:
        InputError: missing, damaged or no picture (the file is named).
    """
    return read_rgb(path)


def read_labels(path: Path, dataset: str) -> np.ndarray:
    """Read a label file as trainIds, uint8 (H,W): CamVid's classes (11 or 255 = void), Cityscapes' ids, or `_labelTrainIds`.

    Raises:
        InputError: damaged, colours instead of ids, or a value outside the table (the file is named).
    """
    ids = read_values(path)
    if ids.ndim != 2:
        raise InputError(f"{path} holds colours; a label map holds one id a pixel (grey, or a palette's index): write ids")
    if ids.max() > 255 or ids.min() < 0:
        raise InputError(f"{path} holds values in {ids.min()}..{ids.max()}; label ids fit 8 bits: is it one of instanceIds?")
    ids = ids.astype(np.uint8)
    if dataset == "camvid":
        return _only(path, np.where(ids == 11, np.uint8(IGNORE), ids), 11, "CamVid's table (0..10; 11 or 255 = ignore)")
    if path.stem.endswith("_labelTrainIds"):
        return _only(path, ids, CITYSCAPES.num_classes, "the trainIds (0..18; 255 = ignore)")
    try:
        return ids_to_train_ids(ids)
    except ValueError as error:
        hint = "; if these are trainIds, name the file _gtFine_labelTrainIds.png" if IGNORE in ids else ""
        raise InputError(f"{path}: {error}{hint}") from error


def _only(path: Path, ids: np.ndarray, classes: int, table: str) -> np.ndarray:
    wrong = np.unique(ids[(ids >= classes) & (ids != IGNORE)])
    if len(wrong):
        raise InputError(f"{path} contains label {named(wrong.tolist())}, outside {table}")
    return ids


def require_plausible(shares: np.ndarray, where: str) -> None:
    """Check for trainIds in files that are named as ids: read as ids, they have six classes and are mostly void.

    Args:
        shares: (256,) pixels of each trainId over all label maps of a split.
        where: name of the split, for the message.

    Raises:
        InputError: the labels seem to hold trainIds, or all pixels are void.
    """
    void = shares[IGNORE] / max(1, shares.sum())
    if shares[:IGNORE].sum() == 0:
        raise InputError(f"{where}: every pixel of every label is void; a split needs labels")
    if void > 0.5 and shares[6:IGNORE].sum() == 0:
        raise InputError(
            f"{where}: read as ids, {void:.0%} of the pixels are void, and there is neither sky nor car; if the files hold "
            "trainIds, name them _gtFine_labelTrainIds.png"
        )


def _require_size(path: Path, shape: tuple[int, ...], other: Path, wanted: tuple[int, ...], what: str) -> None:
    if shape[:2] != wanted[:2]:
        raise InputError(
            f"{other.name} is {wanted[1]}x{wanted[0]} but {what} {path.name} is {shape[1]}x{shape[0]}; "
            "both must have one size"
        )


def load_snippet(snippet: Snippet, dataset: str, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames (T,3,H,W), labels (T,H,W) and annotated (T,) of one snippet, resized (area; nearest for labels).

    Raises:
        InputError: a file is damaged, or of another size than the others; it is named.
    """
    frames, labels, first = [], [], None
    for t, path in enumerate(snippet.frames):
        frame = read_frame(path)
        first = first or frame.shape
        _require_size(path, frame.shape, snippet.frames[0], first, "the frame")
        if t in snippet.labels:
            label = read_labels(snippet.labels[t], dataset)
            _require_size(snippet.labels[t], label.shape, path, frame.shape, "its label")
        else:
            label = np.full(frame.shape[:2], IGNORE, np.uint8)
        if frame.shape[1::-1] != size:
            frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST_EXACT)
        frames.append(frame.transpose(2, 0, 1))
        labels.append(label)
    annotated = np.array([t in snippet.labels for t in range(len(snippet.frames))])
    return np.stack(frames), np.stack(labels), annotated


def exact_flow(snippet: Snippet, size: tuple[int, int], direction: int) -> FlowPair:
    """True flow and visibility of every pair; direction 0 = t -> t+1, 1 = t+1 -> t."""
    flows, visibles = [], []
    for t in range(len(snippet.frames) - 1):
        require_whole(snippet.flow[t][direction])
        value, valid = optical_flow.read_kitti(snippet.flow[t][direction])
        if valid.shape[::-1] != size:
            value = optical_flow.resize_flow(torch.from_numpy(value)[None], size)[0].numpy()
            valid = cv2.resize(valid.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) > 0
        flows.append(value.astype(np.float16))
        visibles.append(valid)
    return np.stack(flows), np.stack(visibles)
