"""Files of clips: which frames, labels and flow belong together, and how each is read.

Two layouts: that of Cityscapes (which procity has too) and that of CamVid's SegNet split. What is missing, broken or of another
size is said with the file's name.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from tcseg import flow as optical_flow
from tcseg.errors import InputError, NotFoundError
from tcseg.flow import FlowPair
from tcseg.labels import IGNORE, ids_to_train_ids

ANNOTATED = 19  # the labelled frame of a Cityscapes snippet of 30
SNIPPET = 30


@dataclass(frozen=True)
class Snippet:
    """Files of one clip: frames in order; labels and (forward, backward) flow by frame index where they exist."""

    name: str
    frames: tuple[Path, ...]
    labels: dict[int, Path]
    flow: dict[int, tuple[Path, Path]] = field(default_factory=dict)


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
            raise NotFoundError(
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
                raise NotFoundError(
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
        raise NotFoundError(f"{root / split} has no images; CamVid's SegNet split has 367 in train and 101 in val")
    labels = [root / f"{split}annot" / image.name for image in images]
    for label in labels:
        if not label.exists():
            raise NotFoundError(
                f"{label} is missing; every CamVid frame of this split has a label of the same name"
            )
    if split == "train":
        return [Snippet(image.stem, (image,), {0: label}) for image, label in zip(images, labels, strict=True)]
    images, labels = images[:frames], labels[:frames]
    return [Snippet(images[0].stem, tuple(images), dict(enumerate(labels)))]


def read_frame(path: Path) -> np.ndarray:
    """Read an image as uint8 (H,W,3) RGB.

    Raises:
        ValueError: unreadable (the file is named).
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(
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
        raise InputError(f"{path} is not a readable 8-bit, 1-channel label map; delete it and get it again")
    if dataset == "camvid":
        if ids.max() > 11:
            raise InputError(f"{path} contains label {ids.max()}, outside CamVid's table (0..10, 11 = ignore)")
        return np.where(ids == 11, np.uint8(IGNORE), ids)
    try:
        return ids_to_train_ids(ids)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def load_snippet(snippet: Snippet, dataset: str, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames (T,3,H,W), labels (T,H,W) and annotated (T,) of one snippet, resized (area; nearest for labels)."""
    frames, labels = [], []
    for t, path in enumerate(snippet.frames):
        frame = read_frame(path)
        if t in snippet.labels:
            label = read_labels(snippet.labels[t], dataset)
            if label.shape != frame.shape[:2]:
                raise InputError(
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


def exact_flow(snippet: Snippet, size: tuple[int, int], direction: int) -> FlowPair:
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
