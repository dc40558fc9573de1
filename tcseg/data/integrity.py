"""Check a data set: decode every file, match frames with labels, and list problems (`tcseg data check`).

An incomplete data set is not reported as a problem if it is a valid subset, such as one city of Cityscapes.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from tcseg import procity
from tcseg.data.clip_files import read_labels, read_manifest, require_plausible, unlabelled, window_of
from tcseg.data.images import read_header, read_rgb, read_values
from tcseg.data.splits import (
    CAMVID_FRAMES,
    CITIES,
    FRAME_ENDING,
    LABEL_ENDINGS,
    Index,
    city_of,
    counted,
    gaps,
    index_camvid,
    index_cityscapes,
    list_pictures,
    named,
)
from tcseg.errors import InputError
from tcseg.labels import IGNORE
from tcseg.machine import usable_cores

SPLITS = ("train", "val", "test")


@dataclass
class Report:
    """The result of checking a data set.

    Attributes:
        dataset, root: name and folder.
        counts: frames, labels, pairs and cities, one line per split.
        subset: which part of the published data set is present, one clause per split; empty if it is complete.
        notes: remarks that are not problems.
        problems: missing, damaged or duplicate files, one line each, with the file name.
        decoded: number of decoded files; None if only names and sizes were checked.
    """

    dataset: str
    root: Path
    counts: list[str] = field(default_factory=list)
    subset: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    decoded: int | None = None

    def lines(self, most: int = 20) -> list[str]:
        """The report for a terminal: summary, counts, notes, and at most `most` problems."""
        state = counted(len(self.problems), "problem") if self.problems else "" if self.subset else "complete"
        subset = f"subset: {'; '.join(self.subset)}" if self.subset else ""
        how = "only names and sizes checked" if self.decoded is None else f"{counted(self.decoded, 'file')} decoded"
        head = f"{self.dataset} ({self.root}): {', '.join(filter(None, (state, subset)))} ({how})"
        more = len(self.problems) - most
        return [
            head,
            *(f"  {line}" for line in self.counts),
            *(f"  note: {line}" for line in self.notes),
            *(f"  {line}" for line in self.problems[:most]),
            *([f"  ... and {more} more"] if more > 0 else []),
        ]


@dataclass
class _Inventory:
    """The files of a data set, by their names.

    Attributes:
        pairs: (frame, label).
        instances: label -> its instanceIds file.
        clips: clip -> its frames, which must have the same size.
        labels: split -> its label maps.
    """

    pairs: list[tuple[Path, Path]] = field(default_factory=list)
    instances: dict[Path, Path] = field(default_factory=dict)
    clips: dict[str, list[Path]] = field(default_factory=dict)
    labels: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))


def check(root: Path, dataset: str, quick: bool = False, progress: bool = False) -> Report:
    """Check the folder of a data set.

    Args:
        root: its folder.
        dataset: "procity", "cityscapes" or "camvid".
        quick: check only names, pairs and sizes, without decoding.
        progress: show a progress bar if stderr is a terminal.

    Returns:
        The report; `problems` is empty if the data set is intact.
    """
    report, inventory = Report(dataset, root), _Inventory()
    files = _files(root, report)
    if dataset == "camvid":
        _camvid(root, report, inventory)
    else:
        _cityscapes(root, report, inventory, dataset == "procity")
    if not inventory.pairs and not report.problems:
        report.problems.append(f"{root}: there is no frame with a label ({counted(len(files), 'file')} in all)")
    reported = _manifest_problems(root, report, quick, progress) if dataset == "procity" else set()
    pictures = [path for path in list_pictures(root) if path in files and path not in reported]
    if quick:
        _compare_sizes(_headers(inventory, report), inventory, report)
    else:
        _decode(pictures, inventory, report, progress)
    report.problems = list(dict.fromkeys(report.problems))
    return report


def _files(root: Path, report: Report) -> set[Path]:
    """All files below the folder except hidden ones. Broken links and empty files are reported as problems."""
    good = set()
    for path in list_pictures(root, ("",)):
        try:
            if path.stat().st_size:
                good.add(path)
            else:
                report.problems.append(f"{path}: the file is empty (0 bytes)")
        except OSError as error:
            why = "the link is broken" if path.is_symlink() else (error.strerror or str(error)).lower()
            report.problems.append(f"{path}: {why}")
    return good


def _manifest_problems(root: Path, report: Report, quick: bool, progress: bool) -> set[Path]:
    """Compare a procity data set with its manifest; returns the reported files, which are not checked again."""
    problems = procity.check(root, progress, quick)
    reported = {root / problem.split(": ")[0] for problem in problems}
    twice = {str(path) for path in reported}
    report.problems = [one for one in report.problems if one.split(": ")[0] not in twice] + problems
    if root / "manifest.json" in reported:
        return reported
    manifest = read_manifest(root) or {}
    strange = [path for path in list_pictures(root) if path.relative_to(root).as_posix() not in manifest["files"]]
    report.problems += [f"{path}: the manifest of the data set does not list this file; remove it" for path in strange]
    if (version := manifest.get("version")) != procity.VERSION:
        report.notes.append(
            f"it was generated by procity {version}, the current version is {procity.VERSION}; a study generates it "
            "again"
        )
    return reported


# ------------------------------------------------------------------------------------------------ names: Cityscapes' layout


class _Split(NamedTuple):
    """The files of a split of Cityscapes or procity."""

    name: str
    frames: Index
    stills: Index
    labels: Index
    instances: Index


def _index(root: Path, split: str) -> _Split:
    labels = root / "gtFine" / split
    return _Split(
        split,
        index_cityscapes(root / "leftImg8bit_sequence" / split, FRAME_ENDING),
        index_cityscapes(root / "leftImg8bit" / split, FRAME_ENDING),
        index_cityscapes(labels, *LABEL_ENDINGS),
        index_cityscapes(labels, "_gtFine_instanceIds"),
    )


def _cityscapes(root: Path, report: Report, inventory: _Inventory, dense: bool) -> None:
    for split in (_index(root, name) for name in SPLITS):
        if not any(map(len, split[1:])):
            continue
        _names(split, report)
        snippets = _pair(split, inventory)
        _instances(split, inventory, report)
        report.counts.append(_count(split, snippets))
        if not dense:  # procity's manifest already lists every file
            _without_frames(split, report)
            _without_labels(split, report)
            _incomplete(split, report)
            _of_published(split.name, snippets, report)
    if report.counts and not dense:
        report.subset += [f"no {name}" for name in ("train", "val") if not (root / "gtFine" / name).is_dir()]
        if not (root / "leftImg8bit_sequence").is_dir():
            report.notes.append(
                "the folder leftImg8bit_sequence is missing; a study needs it for the frames around the annotated "
                "ones"
            )


def _names(split: _Split, report: Report) -> None:
    """Report frames with two files, and pictures with unknown names."""
    for index in split[1:]:
        report.problems += [f"{one} and {other} belong to the same frame; remove one of them" for one, other in index.twice]
    strange = [path for index in split[1:4] for path in index.strangers]
    if strange:
        what = counted(len(strange), "picture")
        report.problems.append(f"{split.name}: {what} with an unknown name (first: {strange[0]})")


def _pair(split: _Split, inventory: _Inventory) -> list[str]:
    """Match frames with labels; returns the names of the pairs."""
    names = []
    for sequence, numbers in split.labels.files.items():
        have, still = split.frames.files.get(sequence, {}), split.stills.files.get(sequence, {})
        for number, label in numbers.items():
            pictures = [index[number] for index in (have, still) if number in index]
            inventory.pairs += [(picture, label) for picture in pictures]
            names += [f"{sequence}_{number:06d}"] if pictures else []
            inventory.labels[split.name].append(label)
    for sequence in split.frames.files.keys() | split.stills.files.keys():
        both = (index.files.get(sequence, {}).values() for index in (split.frames, split.stills))
        inventory.clips[f"{split.name} {sequence}"] = [path for paths in both for path in paths]
    return sorted(names)


def _count(split: _Split, snippets: list[str]) -> str:
    cities = {city_of(sequence) for index in split[1:4] for sequence in index.files}
    stills = [counted(len(split.stills), "still")] if split.stills else []
    parts = [counted(len(split.frames), "frame"), *stills, counted(len(split.labels), "label")]
    return f"{split.name}: {', '.join(parts)}, {counted(len(snippets), 'pair')}, {counted(len(cities), 'city')}"


def _without_frames(split: _Split, report: Report) -> None:
    """A city with labels but no frames is noted, since it may not be unpacked; a single label without a frame is a problem."""
    filmed = {city_of(sequence) for sequence in (*split.frames.files, *split.stills.files)}
    apart, stills = set(), 0
    for sequence, numbers in split.labels.files.items():
        have, still = split.frames.files.get(sequence, {}), split.stills.files.get(sequence, {})
        for number, label in numbers.items():
            if city_of(sequence) not in filmed:
                apart.add(city_of(sequence))
            elif number not in have and number not in still:
                report.problems.append(f"{label}: the label has no frame")
            elif split.frames and not any(n in have for n in window_of(number)):
                stills += 1
    if apart:
        report.notes.append(f"{split.name}: the labels of {counted(len(apart), 'city')} have no frames ({named(sorted(apart))})")
    if stills:
        report.notes.append(f"{split.name}: {counted(stills, 'label')} with only the annotated frame, without the frames around it")


def _without_labels(split: _Split, report: Report) -> None:
    """Report frames that are not near an annotated one, and stills without a label: one line per city or sequence."""
    alone = {sequence: len(numbers) for sequence, numbers in unlabelled(split.frames, split.labels).items()}
    for sequence, numbers in split.stills.files.items():
        lost = sum(number not in split.labels.files.get(sequence, {}) for number in numbers)
        alone |= {sequence: alone.get(sequence, 0) + lost} if lost else {}
    if alone and not split.labels:
        messages = report.notes if split.name == "test" else report.problems  # Cityscapes' test labels are not public
        messages.append(f"{split.name}: {counted(sum(alone.values()), 'frame')} but no labels; check that gtFine is unpacked")
        return
    labelled = {city_of(sequence) for sequence in split.labels.files}
    lines: dict[str, int] = defaultdict(int)
    for sequence, number in sorted(alone.items()):
        lines[sequence if city_of(sequence) in labelled else f"city {city_of(sequence)}"] += number
    report.problems += [
        f"{split.name}: {where} has {counted(number, 'frame')} without a label" for where, number in lines.items()
    ]


def _incomplete(split: _Split, report: Report) -> None:
    """Report snippets that lack frames which the other snippets have: all 30, or the same part if only a part was unpacked."""
    offsets: dict[str, tuple[int, ...]] = {}
    for sequence, numbers in split.labels.files.items():
        have = split.frames.files.get(sequence, {})
        for anchor in sorted(numbers):
            if present := tuple(number - anchor for number in window_of(anchor) if number in have):
                offsets[f"{sequence}_{anchor:06d}"] = present
    if not offsets:
        return
    whole = tuple(window_of(0))
    usual = max(Counter(offsets.values()).items(), key=lambda one: (one[1], len(one[0])))[0]
    in_a_row = 0 in usual and usual == tuple(range(usual[0], usual[-1] + 1))
    expected = usual if in_a_row and split.name == "train" else whole
    if expected != whole:
        report.notes.append(
            f"{split.name}: each snippet has the frames {expected[0]}..+{expected[-1]} relative to the annotated one"
        )
    for name, present in offsets.items():
        if missing := [offset for offset in expected if offset not in present]:
            sequence, anchor = name.rsplit("_", 1)
            report.problems.append(
                f"{name}: {len(missing)} of {len(expected)} frames around the annotated frame are missing "
                f"(first: {sequence}_{int(anchor) + missing[0]:06d})"
            )


def _instances(split: _Split, inventory: _Inventory, report: Report) -> None:
    """Either all labels or none should have a file of instanceIds."""
    lost = []
    for sequence, numbers in split.labels.files.items():
        beside = split.instances.files.get(sequence, {})
        inventory.instances |= {label: beside[number] for number, label in numbers.items() if number in beside}
        lost += [label for number, label in numbers.items() if number not in beside]
    if lost and split.instances:
        report.problems.append(
            f"{split.name}: {len(lost)} of {counted(len(split.labels), 'label')} have no instanceIds (first: {lost[0]})"
        )


def _of_published(split: str, snippets: list[str], report: Report) -> None:
    """Report which part of the published Cityscapes is present."""
    published, have = CITIES[split], Counter(map(city_of, snippets))
    if not have:
        return
    if foreign := sorted(set(have) - set(published)):
        report.notes.append(
            f"{split}: {named(foreign)} {'is' if len(foreign) == 1 else 'are'} not in the {split} split of Cityscapes"
        )
    present_cities = [city for city in published if city in have]
    if present_cities and len(present_cities) < len(published):
        of = f"{len(present_cities)} of {len(published)} {split} cities ({named(present_cities)})"
        report.subset.append(f"{of}, {counted(len(snippets), 'snippet')}")
    elif present_cities and (fewer := [f"{city} {have[city]} of {n}" for city, n in published.items() if have[city] < n]):
        of = sum(published.values())
        report.subset.append(f"{len(snippets)} of {of} {split} snippets ({named(fewer)})")


# ------------------------------------------------------------------------------------------------ names: CamVid's layout


def _camvid(root: Path, report: Report, inventory: _Inventory) -> None:
    for split in SPLITS:
        frames, labels = index_camvid(root / split), index_camvid(root / f"{split}annot")
        if not frames and not labels:
            report.subset += [f"no {split}"] if split != "test" else []
            continue
        for index in (frames, labels):
            same = "have the same name, or their names sort as equal; remove one of them"
            report.problems += [f"{one} and {other} {same}" for one, other in index.twice]
        pictures, maps = frames.files[""], labels.files[""]
        report.problems += [f"{path}: the frame has no label" for name, path in pictures.items() if name not in maps]
        report.problems += [f"{path}: the label has no frame" for name, path in maps.items() if name not in pictures]
        pairs = [(path, maps[name]) for name, path in pictures.items() if name in maps]
        inventory.pairs += pairs
        inventory.labels[split] = list(maps.values())
        inventory.clips |= {split: list(pictures.values())}
        report.counts.append(
            f"{split}: {counted(len(frames), 'frame')}, {counted(len(labels), 'label')}, {counted(len(pairs), 'pair')}"
        )
        if split == "val":
            report.problems += [f"val: frames are missing between {one} and {other}" for one, other in gaps(list(pictures))]
        if len(pairs) < CAMVID_FRAMES[split]:
            report.subset.append(f"{len(pairs)} of {CAMVID_FRAMES[split]} {split} frames")


# ------------------------------------------------------------------------------------------------ contents of files


class _Inspection(NamedTuple):
    """The content of a file: size (W,H), digest of its bytes, and for labels the pixels of each trainId; or its problem."""

    size: tuple[int, int] | None = None
    digest: bytes = b""
    pixels: np.ndarray | None = None
    problem: str = ""


def _inspect(path: Path, dataset: str, is_label: bool, instances: Path | None) -> _Inspection:
    """Decode a file; a label is compared with its instanceIds."""
    try:
        if not is_label:
            height, width = read_rgb(path).shape[:2]
            return _Inspection((width, height), hashlib.blake2b(path.read_bytes(), digest_size=16).digest())
        labels = read_labels(path, dataset)
        pixels = np.bincount(labels.reshape(-1), minlength=256)
        problem = _wrong_instances(path, instances) if instances else ""
        return _Inspection(labels.shape[::-1], pixels=pixels, problem=problem)
    except InputError as error:
        return _Inspection(problem=str(error))


def _wrong_instances(label: Path, path: Path) -> str:
    """The problem of an instanceIds file, or "". Its values must be the label id, or label id * 1000 + number, of each pixel."""
    try:
        ids, instances = read_values(label), read_values(path)
    except InputError as error:
        return str(error)
    if instances.shape != ids.shape:
        return f"{path}: the size differs from that of {label.name}"
    if label.stem.endswith("_labelTrainIds"):
        return ""
    instances = instances.astype(np.int32)  # 1000 does not fit 8 bits
    of = np.where(instances >= 1000, instances // 1000, instances)
    wrong = (of != ids).mean(dtype=float)
    if wrong < 0.01:
        return ""
    eight = " (its values fit into 8 bits, but instanceIds need 16)" if instances.max() <= 255 else ""
    return f"{path}: {wrong:.0%} of its pixels have another class than in {label.name}{eight}"


def _decode(pictures: list[Path], inventory: _Inventory, report: Report, progress: bool) -> None:
    """Decode all pictures, and report problems of single files and of their combination."""
    labels = {label: split for split, ones in inventory.labels.items() for label in ones}
    beside = set(inventory.instances.values())
    jobs = [path for path in pictures if path not in beside]
    sizes, digests, shares = {}, {}, {split: np.zeros(256, np.int64) for split in inventory.labels}
    single = []
    for path, inspection in _looks(jobs, labels, inventory, report.dataset, progress):
        report.problems += [inspection.problem] if inspection.problem else []
        if inspection.size is None:
            continue
        sizes[path], digests[path] = inspection.size, inspection.digest
        if inspection.pixels is not None:
            split, classes = labels[path], np.flatnonzero(inspection.pixels)
            shares[split] += inspection.pixels
            if classes.tolist() == [IGNORE]:
                _void(path, split, report)
            single += [path] if len(classes) == 1 and classes[0] != IGNORE else []
    report.decoded = len(pictures)
    _compare_sizes(sizes, inventory, report)
    _same_bytes(digests, inventory, report)
    if single:
        report.notes.append(f"{counted(len(single), 'label')} with only one class (first: {single[0]})")
    for split, pixels in shares.items():
        if report.dataset != "camvid" and pixels[:IGNORE].any():
            try:
                require_plausible(pixels, f"{split} of {report.dataset}")
            except InputError as error:
                report.problems.append(str(error))


def _looks(
    jobs: list[Path], labels: dict[Path, str], inventory: _Inventory, dataset: str, progress: bool
) -> Iterator[tuple[Path, _Inspection]]:
    """Inspect files in threads; decoding, checksums and reading release the interpreter's lock."""
    pool = ThreadPoolExecutor(usable_cores())
    try:
        looks = pool.map(lambda path: _inspect(path, dataset, path in labels, inventory.instances.get(path)), jobs)
        hidden = not (progress and sys.stderr.isatty())
        yield from zip(jobs, tqdm(looks, "decoding", len(jobs), unit="file", disable=hidden), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _void(path: Path, split: str, report: Report) -> None:
    """Report a label without any class, except in Cityscapes' test split, where all labels are void."""
    if report.dataset != "cityscapes" or split != "test":
        report.problems.append(f"{path}: every pixel of the label is void")


def _headers(inventory: _Inventory, report: Report) -> dict[Path, tuple[int, int]]:
    """Sizes of the pairs, without decoding them."""
    sizes = {}
    for path in dict.fromkeys(path for pair in inventory.pairs for path in pair):
        try:
            sizes[path] = read_header(path).size
        except InputError as error:
            if os.path.exists(path) and os.path.getsize(path):  # otherwise it has been reported
                report.problems.append(str(error))
    return sizes


def _compare_sizes(sizes: dict[Path, tuple[int, int]], inventory: _Inventory, report: Report) -> None:
    for frame, label in inventory.pairs:
        if frame in sizes and label in sizes and sizes[frame] != sizes[label]:
            both = "{}x{}".format(*sizes[label]), "{}x{}".format(*sizes[frame])
            report.problems.append(f"{label}: the label is {both[0]}, but its frame {frame.name} is {both[1]}")
    for clip, paths in inventory.clips.items():
        kinds = Counter(sizes[path] for path in paths if path in sizes)
        if len(kinds) < 2:
            continue
        usual = kinds.most_common(1)[0][0]
        odd = [path for path in paths if path in sizes and sizes[path] != usual]
        of = f"but the other frames of {clip} are {usual[0]}x{usual[1]}"
        texts = [f"{path}: the frame is {sizes[path][0]}x{sizes[path][1]}, {of}" for path in odd]
        if report.dataset == "camvid" and clip != "val":  # stills are resized one by one
            report.notes.append(f"{counted(len(odd), 'frame')} with another size (first: {texts[0]})")
        else:
            report.problems += texts


def _same_bytes(digests: dict[Path, bytes], inventory: _Inventory, report: Report) -> None:
    """Note frames that are copies of another frame: in the same clip, or in another split."""
    copies, leaks = [], []
    homes: dict[bytes, tuple[str, Path]] = {}
    for clip, paths in inventory.clips.items():
        first: dict[bytes, Path] = {}
        for path in (path for path in paths if path in digests):
            other = first.setdefault(digests[path], path)
            copies += [(path, other)] if other.stem != path.stem else []
            split, twin = homes.setdefault(digests[path], (clip.split()[0], path))
            leaks += [(path, twin)] if split != clip.split()[0] else []
    for pairs, what in ((copies, "identical to another frame of the same clip"), (leaks, "identical to a frame of another split")):
        if pairs:
            report.notes.append(f"{counted(len(pairs), 'frame')} {what} (first: {pairs[0][0]} and {pairs[0][1]})")
