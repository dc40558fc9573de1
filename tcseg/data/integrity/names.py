"""Match the files of a data set by their names, and report missing, duplicate and unknown ones."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

from tcseg.data.clip_files import unlabelled, window_of
from tcseg.data.integrity.report import Inventory, Report
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
    named,
)

SPLITS = ("train", "val", "test")


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


def match_cityscapes(root: Path, report: Report, inventory: Inventory, dense: bool) -> None:
    """Match the files of Cityscapes or, with `dense`, of procity; fills the report and the inventory."""
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


def _pair(split: _Split, inventory: Inventory) -> list[str]:
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


def _instances(split: _Split, inventory: Inventory, report: Report) -> None:
    """Either all labels or none should have a file of instanceIds."""
    lost = []
    for sequence, numbers in split.labels.files.items():
        instances = split.instances.files.get(sequence, {})
        inventory.instances |= {label: instances[number] for number, label in numbers.items() if number in instances}
        lost += [label for number, label in numbers.items() if number not in instances]
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


def match_camvid(root: Path, report: Report, inventory: Inventory) -> None:
    """Match the files of CamVid; fills the report and the inventory."""
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
