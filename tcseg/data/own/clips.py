"""The splits of a folder of one's own as `Clips`: windows of equal length around or over the labels, decoded once and cached.

For training there is a window around every labelled frame, the same number of frames on each side; at the ends of a clip its first
or last frame is repeated, without a visible pixel, so that nothing is learned from that pair. For validation clips are cut into
windows of 30 frames, or of the shortest clip's length; the last windows of a clip overlap where its length is no multiple. One
clip with labels on every frame stays whole, as CamVid's. Stills are windows of one frame.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np

from tcseg.data import clips as decoded
from tcseg.data.clip_files import SNIPPET, read_frame
from tcseg.data.clips import CAMVID_BLOCK, Clips
from tcseg.data.images import read_values
from tcseg.data.own.films import Film
from tcseg.data.own.layout import TRAIN, VAL, Clip, OwnFolder
from tcseg.data.splits import Coverage, counted, named
from tcseg.errors import InputError, NotFoundError
from tcseg.flow import estimated_flow
from tcseg.labels import IGNORE, LabelSet
from tcseg.machine import require_disk, usable_cores

VERSION = 1
SHORT = 6  # frames; shorter clips do not decide how long windows are (TC is also measured over a gap of five)
AWAY = 3e4  # pixels: the flow of a repeated frame leaves every picture


@dataclass
class OwnClips(Clips):
    """The clips of a folder of one's own; see `Clips`.

    Attributes:
        classes: the folder's.
    """

    classes: LabelSet | None = None

    @property
    def label_set(self) -> LabelSet:
        """The folder's classes."""
        return self.classes


@dataclass(frozen=True)
class Window:
    """Frames of a clip that become one entry of `Clips`.

    Attributes:
        name: clip and first (validation) or labelled (training) frame.
        clip: whose frames.
        at: index of each frame; one outside the clip stands for its first or last frame.
        labels: place in the window -> label map.
        flow: as `clip_files.Snippet`; there is no exact flow.
    """

    name: str
    clip: Clip
    at: range
    labels: dict[int, Path]
    flow: dict = field(default_factory=dict)

    @property
    def frames(self) -> range:
        """The frames' indices: `clips` asks for their number."""
        return self.at

    def files(self) -> list[Path]:
        """All files that are read."""
        shown = {min(max(i, 0), self.clip.length - 1) for i in self.at}
        pictures = list(self.clip.frames) if self.clip.film else [self.clip.frames[i] for i in sorted(shown)]
        return [*pictures, *self.labels.values()]


# ------------------------------------------------------------------------------------------------ windows


def find_windows(
    folder: OwnFolder, split: str, neighbours: int = 2, limit: int | None = None
) -> tuple[list[Window], Coverage]:
    """The windows of a split, and what of it is not used; arguments as `load_clips`."""
    if split not in (TRAIN, VAL):
        raise NotFoundError(f"split is {split!r}; a data set of your own has {TRAIN} and {VAL}")
    clips = [folder.clips[name] for name in folder.split[split]]
    labelled = [clip for clip in clips if clip.labels]
    if split == TRAIN:
        windows = _around_labels(labelled, folder.stills, neighbours)
    else:
        windows = _over_clips(labelled, folder.stills, limit)
    count = sum(len(clip.labels) for clip in labelled)
    bare = [clip.name for clip in clips if not clip.labels]
    left_out = (f"{counted(len(bare), 'clip')} without labels ({named(bare)})",) if bare else ()
    if limit and len(windows) > limit:
        windows = [windows[i] for i in np.linspace(0, len(windows) - 1, limit).round().astype(int)]
    return windows, Coverage(split, "label", count, left_out=left_out)


def _around_labels(clips: Sequence[Clip], stills: frozenset[str], neighbours: int) -> list[Window]:
    reach = 0 if all(clip.name in stills for clip in clips) else neighbours
    windows = []
    for clip in clips:
        alone = clip.name in stills
        for index, path in sorted(clip.labels.items()):
            shown, centre = (_as_clip(clip, index), 0) if alone else (clip, index)
            at = range(centre - reach, centre + reach + 1)
            windows.append(Window(f"{clip.name}+{index:06d}", shown, at, {reach: path}))
    return windows


def _as_clip(clip: Clip, index: int) -> Clip:
    """One still as a clip of its own: its neighbours are other pictures, not other moments."""
    return Clip(clip.name, (clip.frames[index],), {0: clip.labels[index]}, 1)


def _over_clips(clips: Sequence[Clip], stills: frozenset[str], limit: int | None) -> list[Window]:
    if all(clip.name in stills for clip in clips):
        return [Window(f"{c.name}+{i:06d}", c, range(i, i + 1), {0: p}) for c in clips for i, p in sorted(c.labels.items())]
    if len(clips) == 1 and len(clips[0].labels) == clips[0].length:
        length = min(clips[0].length, CAMVID_BLOCK * limit if limit else clips[0].length)
        return [_window(clips[0], 0, length, set())]
    long_enough = [clip.length for clip in clips if clip.length >= SHORT]
    length = min(SNIPPET, *long_enough) if long_enough else max(clip.length for clip in clips)
    windows = []
    for clip in clips:
        dense, counted_before = len(clip.labels) == clip.length, set()
        for start in _starts(clip.length, length):
            window = _window(clip, start, length, set() if dense else counted_before)
            counted_before |= {start + t for t in window.labels}
            windows += [window] if window.labels else []
    return windows


def _starts(frames: int, length: int) -> list[int]:
    """First frames of the windows that cover a clip, as evenly as they can."""
    if frames <= length:
        return [0]
    return np.linspace(0, frames - length, -(-frames // length)).round().astype(int).tolist()


def _window(clip: Clip, start: int, length: int, without: set[int]) -> Window:
    at = range(start, start + length)
    labels = {t: clip.labels[i] for t, i in enumerate(at) if i in clip.labels and i not in without}
    return Window(f"{clip.name}+{start:06d}", clip, at, labels)


# ------------------------------------------------------------------------------------------------ decoding


def read_own_labels(folder: OwnFolder, path: Path) -> np.ndarray:
    """A label map as trainIds, uint8 (H,W).

    Raises:
        InputError: damaged, colours instead of ids, or an id that classes.yaml does not have; the file is named.
    """
    ids = read_values(path)
    if ids.ndim != 2:
        raise InputError(f"{path} holds colours; a label map holds one id a pixel (grey, or a palette's index): write ids")
    wrong = np.unique(ids[(ids < 0) | (ids > 255)])
    known = folder.table.lookup("ids")
    train_ids = known[ids.clip(0, 255)]
    wrong = wrong if len(wrong) else np.setdiff1d(ids, np.flatnonzero(known != 254))
    if len(wrong):
        which = "id" if len(wrong) == 1 else "ids"
        raise InputError(
            f"{path} contains the {which} {named(wrong.tolist())}, outside {folder.root / 'classes.yaml'} "
            f"({folder.table.known('ids')}); add a class, or list it under ignore or mapping"
        )
    return train_ids


def load_own_clips(
    folder: OwnFolder,
    split: str,
    size: tuple[int, int],
    cache: Path,
    neighbours: int,
    limit: int | None,
    progress: Callable[[str], None],
) -> OwnClips:
    """Load a split of a folder of one's own, from the cache if possible; arguments as `lookup.load_clips`, which has the defaults.

    Raises:
        InputError: a file is damaged, of another size than its clip, or holds an id that classes.yaml does not have.
    """
    windows, coverage = find_windows(folder, split, neighbours, limit)
    if not coverage.whole:
        progress(f"{folder.name} {coverage}")
    files = sorted({path for window in windows for path in window.files()})
    sizes = [(path.relative_to(folder.root).as_posix(), path.stat().st_size) for path in files]
    classes = [list(folder.label_set.classes), folder.table.lookup("ids").tolist()]
    names = [window.name for window in windows]
    key = decoded._digest([VERSION, "own", split, size, neighbours, classes, sizes, names])
    stamp = decoded._digest([*sizes, *(path.stat().st_mtime_ns for path in files)])
    place = cache / f"{split}-{key}"
    if decoded._cached(place).get("files") != stamp:
        progress(f"decoding {len(windows)} {folder.name} {split} windows at {size[0]}x{size[1]}")
        _write(folder, place, split, windows, size, stamp)
    clips = OwnClips(**vars(decoded._open_cache(place, folder.name, split, names, key)), classes=folder.label_set)
    clips.coverage = coverage
    return clips


def _write(folder: OwnFolder, place: Path, split: str, windows: list[Window], size: tuple[int, int], stamp: str) -> None:
    """Decode all windows into one .npy per array, in a folder that is renamed when complete."""
    sources, layout = decoded._layout(windows, split, size)
    need = sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in layout.values())
    require_disk(place, need, f"the decoded {split} split")
    aside = place.with_name(place.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    arrays = {
        name: np.lib.format.open_memmap(aside / f"{name}.npy", "w+", dtype, shape)
        for name, (shape, dtype) in layout.items()
    }

    def fill(numbers: list[int]) -> np.ndarray:
        film, labels_seen = Film(windows[numbers[0]].clip.frames[0]), np.zeros(256, np.int64)
        for i in numbers:
            window = windows[i]
            frames, labels = _decode(folder, window, film, size)
            arrays["frames"][i], arrays["labels"][i] = frames, labels
            arrays["annotated"][i] = [t in window.labels for t in range(len(window.at))]
            labels_seen += np.bincount(labels.reshape(-1), minlength=256)
            if sources:
                _flow(window, frames, split, arrays, i)
        film.close()
        return labels_seen

    by_clip = [[i for i, _ in group] for _, group in groupby(enumerate(windows), lambda one: one[1].clip.name)]
    with ThreadPoolExecutor(usable_cores()) as pool:  # OpenCV decodes outside the interpreter's lock
        seen = np.sum(list(pool.map(fill, by_clip)), axis=0)
    if not seen[:IGNORE].any():
        raise InputError(f"{folder.root}: every pixel of every label of {split} is ignored; label some pixels")
    for values in arrays.values():
        values.flush()
    (aside / "meta.json").write_text(json.dumps({"sources": sources, "files": stamp}))
    shutil.rmtree(place, ignore_errors=True)
    aside.rename(place)


def _decode(folder: OwnFolder, window: Window, film: Film, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Frames (T,3,H,W) and labels (T,H,W) of a window, resized (area; nearest for labels)."""
    clip, frames, maps, first = window.clip, [], [], None
    for t, index in enumerate(window.at):
        shown = min(max(index, 0), clip.length - 1)
        frame = film.frame(shown) if clip.film else read_frame(clip.frames[shown])
        first = first or frame.shape
        labels = read_own_labels(folder, window.labels[t]) if t in window.labels else np.full(first[:2], IGNORE, np.uint8)
        if frame.shape != first or labels.shape != first[:2]:
            what = "frame" if frame.shape != first else "label"
            path = window.labels[t] if what == "label" else clip.frames[shown]
            raise InputError(f"{path}: the {what} has another size than the first frame of {window.name}, {first[1]}x{first[0]}")
        if frame.shape[1::-1] != size:
            frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT)
        frames.append(frame.transpose(2, 0, 1))
        maps.append(labels)
    return np.stack(frames), np.stack(maps)


def _flow(window: Window, frames: np.ndarray, split: str, arrays: dict[str, np.ndarray], i: int) -> None:
    """Estimated flow of a window; between a frame and its repetition nothing is visible (in validation, all leaves the picture)."""
    inside = [0 <= index < window.clip.length for index in window.at]
    for kind, (flow, visible) in zip(("dis", "back"), estimated_flow(frames, "dis"), strict=True):
        if f"flow_{kind}" not in arrays:
            continue
        for t in range(len(window.at) - 1):
            if not (inside[t] and inside[t + 1]):
                flow[t], visible[t] = (0 if split == TRAIN else AWAY), False
        arrays[f"flow_{kind}"][i], arrays[f"visible_{kind}"][i] = flow, visible
