"""Group frames into clips by the numbers in their names: which frames are neighbours, and where a clip ends.

In the layout `cityscapes`, consecutive numbers form a clip. In `camvid` and `folder`, the usual step of a folder decides. Frames
that are too far apart in time are stills, which are not compared.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tcseg.data.images import natural
from tcseg.errors import InputError

CAMVID_RATE = 30.0  # CamVid's file names count the frames of a video at 30 Hz
APART = 0.25  # seconds; frames further apart are stills, and comparing them does not measure flicker
FAR = 5  # the same limit as a difference of frame numbers, for videos of unknown rate
STAMPS = 1000  # numbers with larger steps are time stamps, not frame counts

Key = tuple[str, str]  # folder (or city and sequence), and the name of the frame


@dataclass(frozen=True)
class Pacing:
    """Which frames are neighbours.

    Attributes:
        stills: no frames are neighbours.
        step: frames whose numbers differ by this are neighbours; None = the median step of their clip.
        fps: frame rate given by the user; it is only reported, and means that the frames are video.
    """

    stills: bool = False
    step: int | None = None
    fps: float | None = None

    def __post_init__(self) -> None:
        if self.stills and (self.step or self.fps):
            raise InputError(
                "--stills means that no frames are neighbours, so it cannot be combined with --step or --fps; omit "
                "one of them"
            )
        if self.step is not None and self.step < 1:
            raise InputError(
                f"--step is {self.step}; it must be at least 1, the difference between the numbers of neighbouring "
                "frames"
            )
        if self.fps is not None and not self.fps > 0:
            raise InputError(f"--fps is {self.fps}; it must be the number of frames per second, above 0")


# ------------------------------------------------------------------------------------------------ clips


@dataclass(frozen=True)
class FrameRun:
    """Keys of consecutive frames."""

    keys: tuple[Key, ...]
    name: str
    city: str
    stills: bool


def group_frames(frame_files: Mapping[Key, Path], layout: str, pacing: Pacing) -> tuple[list[FrameRun], list[str]]:
    """Group frames, sort each group by frame number, and split it where the number jumps."""
    groups = _groups(frame_files, layout)
    steps = {name: np.diff([number for number, _ in group]) for name, group in groups.items()}
    every = np.concatenate(list(steps.values())) if steps else np.zeros(0)
    runs, notes, messages = [], [], Counter()
    for (folder, prefix), group in groups.items():
        own = steps[folder, prefix]
        usual = 1 if layout == "cityscapes" else _usual(own if len(own) > 1 else every)
        stills = pacing.stills or _too_slow(usual, layout, pacing)
        pieces = (
            [group] if stills else _cut(group, pacing.step or usual, exact=bool(pacing.step) or layout == "cityscapes")
        )
        name = _group_name(folder, prefix, layout, groups)
        for piece in pieces:
            first = f"_{piece[0][1][1]}" if layout == "cityscapes" else f"+{piece[0][0]}" if len(pieces) > 1 else ""
            runs.append(FrameRun(tuple(key for _, key in piece), name + first, _city(folder, layout), stills))
        messages[usual, stills, len(own) > 0] += len(pieces)
    notes += [_pace(usual, stills, count, layout, pacing) for (usual, stills, some), count in messages.items() if some]
    twice = [name for name, count in Counter(run.name for run in runs).items() if count > 1]
    if twice:
        raise InputError(f"two clips would have the name {twice[0]}; put each clip into its own folder")
    return runs, notes


def _groups(frame_files: Mapping[Key, Path], layout: str) -> dict[tuple[str, str], list[tuple[int, Key]]]:
    """Frames grouped by the common part of their names, each with its number, in order."""
    groups: dict[tuple[str, str], list[tuple[int, Key]]] = defaultdict(list)
    if layout == "cityscapes":
        for key in frame_files:
            groups[key[0], ""].append((int(key[1]), key))
    else:
        for folder, names in _by_folder(frame_files).items():
            for name, (number, rest) in _numbered(names).items():
                groups[folder, rest].append((number, (folder, name)))
    for group in groups.values():
        group.sort(key=lambda item: item[0])
        for (number, key), (following, other) in zip(group, group[1:], strict=False):
            if number == following:
                raise InputError(
                    f"{frame_files[key]} and {frame_files[other]} have the same frame number; if they belong to two clips, put "
                    "each clip into its own folder"
                )
    return {name: groups[name] for name in sorted(groups, key=lambda name: (natural(name[0]), natural(name[1]), name))}


def _by_folder(frame_files: Iterable[Key]) -> dict[str, list[str]]:
    folders = defaultdict(list)
    for folder, name in frame_files:
        folders[folder].append(name)
    return folders


def _numbered(names: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Name -> frame number, and the name with `*` in its place. If a name has several numbers, the one that varies most is used."""
    alike: dict[tuple[str, ...], dict[str, list[str]]] = defaultdict(dict)
    for name in names:
        parts = re.split(r"([0-9]+)", name)
        alike[tuple(parts[::2])][name] = parts
    frame_files = {}
    for words, members in alike.items():
        places = range(1, 2 * len(words) - 1, 2)
        counter = max(places, key=lambda at: (len({parts[at] for parts in members.values()}), at), default=None)
        for name, parts in members.items():
            if counter is None:
                frame_files[name] = 0, f"*{name}"
            else:
                frame_files[name] = int(parts[counter]), "".join([*parts[:counter], "*", *parts[counter + 1 :]])
    return frame_files


def _usual(steps: np.ndarray) -> int:
    return max(1, int(np.median(steps))) if len(steps) else 1


def _too_slow(usual: int, layout: str, pacing: Pacing) -> bool:
    """Whether frames are too far apart in time, unless --step or --fps says that they are video."""
    if layout == "cityscapes" or pacing.step or pacing.fps:
        return False
    return usual / CAMVID_RATE > APART if layout == "camvid" else FAR < usual < STAMPS


def _cut(group: list[tuple[int, Key]], step: int, exact: bool) -> list[list[tuple[int, Key]]]:
    """Split a group where the number jumps: by anything but `step` if `exact`, else by more than 1.5 times `step`."""
    pieces = [[group[0]]]
    for (before, _), item in zip(group, group[1:], strict=False):
        jump = item[0] - before != step if exact else item[0] - before > 1.5 * step
        if jump:
            pieces.append([])
        pieces[-1].append(item)
    return pieces


def _group_name(folder: str, prefix: str, layout: str, groups: Mapping[tuple[str, str], object]) -> str:
    """The name of a clip: its folder, followed by the prefix of the frame names if the folder holds several clips."""
    if layout == "cityscapes":
        return folder
    others = [_start(other) for place, other in groups if place == folder]
    start = _start(prefix)
    if others.count(start) > 1:  # such as left and right images of one camera
        start = prefix
    if folder == ".":
        return start or "clip"
    return folder if len(others) == 1 else f"{folder}/{start}"


def _start(prefix: str) -> str:
    """The part of a name before the frame number, without the separator."""
    return prefix.partition("*")[0].rstrip("_-. ")


def _city(folder: str, layout: str) -> str:
    if layout == "cityscapes":
        return folder.rsplit("_", 1)[0]
    return folder.split("/")[0] if "/" in folder else ""


def _pace(usual: int, stills: bool, clips: int, layout: str, pacing: Pacing) -> str:
    """A sentence about which frames are neighbours."""
    step = pacing.step or usual
    if layout == "camvid":
        apart = f"{step} numbers apart ({step / CAMVID_RATE:.2g} s at CamVid's 30 frames per second)"
    elif step >= STAMPS:
        apart = f"{step} apart in their names, which are treated as time stamps"
    else:
        apart = f"{step} number{'s' if step > 1 else ''} apart in their names"
    some = f"{clips} clip{'s' if clips > 1 else ''}"
    if pacing.stills:
        return f"{some} of stills (--stills): no frames are compared over time"
    if stills:
        return (
            f"{some} of stills: frames are {apart}, so they are not compared over time "
            f"(to compare them anyway, pass --step {step}, or --fps if they are a video)"
        )
    rate = f", {1 / pacing.fps:.3g} s at --fps {pacing.fps:g}" if pacing.fps else ""
    return f"{some}; neighbouring frames are {apart}{rate}"
