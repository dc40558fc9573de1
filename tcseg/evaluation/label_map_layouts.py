"""Match the frames, label maps and ground truth of each clip by their file names.

Three layouts. `cityscapes` (procity's too): below each folder, files whose names begin with `<city>_<sequence>_<frame>`; numbers in
a row are a clip. `camvid` and `folder`: a folder of pictures, or a tree with a folder for each clip, and the same names everywhere;
the last number of a name counts the frames, and where it jumps a clip ends. Links are followed, suffixes have any case, hidden
files are no data. What was expected and is not there is counted and named (`Matched.problems`); what cannot be meant is an error.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tcseg.data.images import IMAGES, files_below, natural
from tcseg.data.splits import CITYSCAPES_STEM, FRAME_ENDING, LABEL_ENDINGS
from tcseg.errors import InputError, NotFoundError, require_one_of

LAYOUTS = ("cityscapes", "camvid", "folder")
CAMVID_RATE = 30.0  # the numbers in CamVid's names count frames of a video at 30 Hz
APART = 0.25  # seconds; frames further apart are stills, whose neighbours say nothing about flicker
FAR = 5  # numbers; as `APART`, where the rate of the numbers is unknown
STAMPS = 1000  # numbers that grow by so much are no counts of frames but times
DENSE = 0.1  # Cityscapes labels one frame of 30; where more than this share is labelled, every frame is expected to be

Key = tuple[str, str]  # what comes before a frame's own name (folder, or city and sequence), and the frame's name


@dataclass(frozen=True)
class MapClip:
    """Files of one clip, in order.

    Attributes:
        name: of the clip, its own.
        frames, predictions: one file a frame.
        labels: frame index -> true label map, where there is one.
        flow: exact flow of each frame to the next; empty if not wanted.
        city: what several clips have in common: city, or folder above the clips' folders.
        stills: the frames follow each other too slowly to be compared.
    """

    name: str
    frames: tuple[Path, ...]
    predictions: tuple[Path, ...]
    labels: dict[int, Path] = field(default_factory=dict)
    flow: tuple[Path, ...] = ()
    city: str = ""
    stills: bool = False


@dataclass(frozen=True)
class Pacing:
    """Which frames are neighbours.

    Attributes:
        stills: none are.
        step: those whose numbers differ by this; None = by what is usual in their clip.
        fps: of the files, as the user knows it; a number that is told, and says that these are no stills.
    """

    stills: bool = False
    step: int | None = None
    fps: float | None = None

    def __post_init__(self) -> None:
        if self.stills and (self.step or self.fps):
            raise InputError("--stills says that no frames are neighbours; it does not go with --step or --fps")
        if self.step is not None and self.step < 1:
            raise InputError(f"--step is {self.step}; give how far the numbers of neighbours are apart, at least 1")
        if self.fps is not None and not self.fps > 0:
            raise InputError(f"--fps is {self.fps}; give frames a second, above 0")


@dataclass(frozen=True)
class Matched:
    """What was found.

    Attributes:
        clips: in the natural order of their names.
        problems: what was expected and is not there: one sentence each, with a number and the first name.
        notes: what was decided, for the reader.
    """

    clips: tuple[MapClip, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def find_clips(
    predictions: Path,
    frames: Path,
    labels: Path | None,
    layout: str = "cityscapes",
    exact: bool = False,
    pacing: Pacing | None = None,
) -> Matched:
    """Match files.

    Args:
        predictions, frames, labels: folders.
        layout: one of `LAYOUTS`.
        exact: exact flow is wanted, in `flow/` beside `leftImg8bit_sequence/` (layout "cityscapes" only).
        pacing: which frames are neighbours.

    Raises:
        NotFoundError: a folder is missing or empty, or a frame has no prediction or no flow; the message names the first.
        InputError: an unknown layout; two files of one frame; predictions without a frame; labels that belong to no frame.
    """
    pacing = pacing or Pacing()
    require_one_of("layout", layout, LAYOUTS)
    if exact and layout != "cityscapes":
        raise InputError(f"flow 'exact' needs layout cityscapes (a procity tree), not {layout!r}; use --flow dis")
    for what, folder in (("frames", frames), ("predictions", predictions), ("labels", labels)):
        if folder is not None and not folder.is_dir():
            raise NotFoundError(f"--{what} {folder} is not a folder")
    problems: list[str] = []
    frame_files = _index(frames, "frames", _NAMES[layout]["frames"], problems)
    maps = _index(predictions, "predictions", _NAMES[layout]["predictions"], problems)
    truth = _index(labels, "labels", _NAMES[layout]["labels"], problems) if labels else {}
    for what, folder, files in (
        ("frames", frames, frame_files),
        ("predictions", predictions, maps),
        ("labels", labels, truth),
    ):
        if folder is not None and not files:
            raise NotFoundError(f"--{what} {folder} has no {_EXPECTED_NAMES[layout][what]}{_folder_contents(folder)}")
    _require_predictions(frame_files, maps, predictions)
    if labels and not truth.keys() & frame_files.keys():
        raise InputError(f"--labels {labels} has no label map of a frame in {frames}: {_unlike(frame_files, truth)}")
    flow = _exact_flow(frames) if exact else {}
    runs, notes = _in_a_row(frame_files, layout, pacing)
    clips = tuple(_clip(run, frame_files, maps, truth, flow) for run in runs)
    if labels:
        problems += _missing_labels(clips, layout, {k: v for k, v in truth.items() if k not in frame_files})
    return Matched(clips, tuple(problems), tuple(notes))


# ------------------------------------------------------------------------------------------------ names of files

_CITYSCAPES_LABELS = tuple(
    re.compile(rf"{CITYSCAPES_STEM}{ending}$", re.IGNORECASE)
    for ending in (*LABEL_ENDINGS, "_gtFine_panoptic", "")
)
_SIBLINGS = re.compile(r"_(color|instanceIds|instanceTrainIds|labelIds|labelTrainIds|panoptic)$", re.IGNORECASE)
_REFUSED = {
    r"_gtCoarse_": "coarse annotations, which leave most of a frame out; use gtFine's _gtFine_labelIds.png",
    r"_polygons\.json$": "polygons, not label maps; `csCreateTrainIdLabelImgs` of cityscapesscripts makes label maps of them",
    r"_color\.png$": "label maps in colours; use _gtFine_labelIds.png",
    r"_instance(Train)?Ids\.png$": "maps of instances; use _gtFine_labelIds.png",
    r"\.np[yz]$": "arrays of numpy; write each as an 8-bit PNG of class indices",
    r"\.(mp4|avi|mov|mkv|webm)$": "videos; write their frames as pictures, one folder a video",
}


def _cityscapes_key(patterns: Sequence[re.Pattern]) -> Callable[[Path, Path], tuple[Key, int] | None]:
    """A file's key, and how far down the list of patterns it stands: the first is preferred."""

    def key(path: Path, folder: Path) -> tuple[Key, int] | None:
        for rank, pattern in enumerate(patterns):
            if match := pattern.match(path.stem):
                return (match["clip"], match["frame"]), rank
        return None

    return key


def _folder_key(path: Path, folder: Path) -> tuple[Key, int]:
    return (path.parent.relative_to(folder).as_posix(), path.stem), 0


_CITYSCAPES_NAMES = {
    "frames": _cityscapes_key([re.compile(rf"{CITYSCAPES_STEM}({FRAME_ENDING})?$", re.IGNORECASE)]),
    "predictions": _cityscapes_key([re.compile(CITYSCAPES_STEM)]),
    "labels": _cityscapes_key(_CITYSCAPES_LABELS),
}
_NAMES = {"cityscapes": _CITYSCAPES_NAMES} | {
    layout: dict.fromkeys(("frames", "predictions", "labels"), _folder_key) for layout in ("camvid", "folder")
}
_SAME = "pictures; it needs a folder of them (or one for each clip), and the same names everywhere"
_EXPECTED_NAMES = {
    "cityscapes": {
        "frames": "frames of layout cityscapes, as berlin_000000_000019_leftImg8bit.png (other names: --layout folder)",
        "predictions": "label maps whose names begin with <city>_<sequence>_<frame>, as berlin_000000_000019.png",
        "labels": "label maps of layout cityscapes, as berlin_000000_000019_gtFine_labelIds.png",
    },
    "camvid": dict.fromkeys(("frames", "predictions", "labels"), _SAME),
    "folder": dict.fromkeys(("frames", "predictions", "labels"), _SAME),
}


def _index(folder: Path, what: str, key_of: Callable, problems: list[str]) -> dict[Key, Path]:
    """Pictures below a folder by clip and frame; what has another name is counted."""
    best: dict[Key, tuple[int, Path]] = {}
    strange = []
    for path in files_below(folder, IMAGES):
        if (keyed := key_of(path, folder)) is None:
            if not (what == "labels" and _SIBLINGS.search(path.stem)):
                strange.append(path)
            continue
        key, rank = keyed
        if key in best and best[key][0] == rank:
            raise InputError(f"{path} and {best[key][1]} are of the same frame; keep one of them")
        if key not in best or rank < best[key][0]:
            best[key] = (rank, path)
    if strange and best:
        problems.append(
            f"{len(strange)} pictures in --{what} have names of no frame and are left out (first: {strange[0]})"
        )
    return {key: path for key, (_, path) in best.items()}


def _folder_contents(folder: Path) -> str:
    """What a folder holds instead, in words."""
    files = files_below(folder, ("",))
    if not files:
        return ": it is empty"
    for pattern, what in _REFUSED.items():
        if some := [path for path in files if re.search(pattern, path.name, re.IGNORECASE)]:
            return f"; it holds {len(some)} files such as {some[0].name}: {what}"
    kinds = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in _suffixes(files).most_common(3))
    return f"; it holds {kinds} (first: {files[0].name})"


def _suffixes(files: Iterable[Path]) -> Counter:
    return Counter(path.suffix for path in files)


def _unlike(frame_files: Mapping[Key, Path], other: Mapping[Key, Path]) -> str:
    """Two names, with their folders, side by side: most often a glance is enough."""
    names = ["/".join(next(iter(files.values())).parts[-2:]) for files in (other, frame_files)]
    return f"one has {names[0]}, the other {names[1]}"


# ------------------------------------------------------------------------------------------------ what must be there


def _require_predictions(frames: Mapping[Key, Path], maps: Mapping[Key, Path], folder: Path) -> None:
    missing = [path for key, path in frames.items() if key not in maps]
    if len(missing) == len(frames):
        raise NotFoundError(
            f"no frame has a prediction below {folder}: {_unlike(frames, maps)}; names must be the same"
        )
    if missing:
        raise NotFoundError(
            f"{len(missing)} of {len(frames)} frames have no prediction below {folder} (first: {missing[0]}); "
            "every frame needs one, or TC has gaps: predict them, or take the frames out"
        )
    extra = [path for key, path in maps.items() if key not in frames]
    if extra:
        raise InputError(f"{len(extra)} predictions belong to no frame (first: {extra[0]}); are --frames complete?")


def _exact_flow(frames: Path) -> dict[Key, Path]:
    """Forward flow files of a procity tree, by the frame that they start from."""
    parts = frames.resolve().parts
    if "leftImg8bit_sequence" not in parts:
        raise NotFoundError(f"flow 'exact' lies beside leftImg8bit_sequence/, which is not in {frames}; use --flow dis")
    at = len(parts) - 1 - parts[::-1].index("leftImg8bit_sequence")
    folder = Path(*parts[:at], "flow", *parts[at + 1 :])
    if not folder.is_dir():
        raise NotFoundError(f"{folder} is not there: this data set has no exact flow; use --flow dis")
    return _index(folder, "frames", _cityscapes_key([re.compile(rf"{CITYSCAPES_STEM}_flow_forward$")]), [])


def _missing_labels(clips: Sequence[MapClip], layout: str, orphans: Mapping[Key, Path]) -> list[str]:
    """What of the labels was expected and is not there."""
    messages = []
    if orphans:
        messages.append(f"{len(orphans)} label maps belong to no frame (first: {next(iter(orphans.values()))})")
    bare = [clip for clip in clips if not clip.labels]
    if bare:
        cities = {clip.city for clip in clips} - {clip.city for clip in clips if clip.labels}
        whole = f"; nothing at all in {', '.join(sorted(cities))}" if cities - {""} else ""
        messages.append(f"{len(bare)} of {len(clips)} clips have no label map (first: {bare[0].name}{whole})")
    partly = [clip for clip in clips if clip.labels]
    frames, labelled = sum(len(clip.frames) for clip in partly), sum(len(clip.labels) for clip in partly)
    if labelled < frames and (layout != "cityscapes" or labelled > DENSE * frames):
        first = next(path for clip in partly for t, path in enumerate(clip.frames) if t not in clip.labels)
        messages.append(f"{frames - labelled} of {frames} frames in clips with labels have none (first: {first.name})")
    elif layout == "cityscapes" and partly:
        usual = Counter(len(clip.labels) for clip in partly).most_common(1)[0][0]
        if few := [clip for clip in partly if len(clip.labels) < usual]:
            messages.append(f"{len(few)} clips have fewer label maps than the others' {usual} (first: {few[0].name})")
    return messages


# ------------------------------------------------------------------------------------------------ clips


@dataclass(frozen=True)
class _Run:
    """Keys of frames in a row."""

    keys: tuple[Key, ...]
    name: str
    city: str
    stills: bool


def _in_a_row(frame_files: Mapping[Key, Path], layout: str, pacing: Pacing) -> tuple[list[_Run], list[str]]:
    """Group frames, order each group by its number, and cut it where the number jumps."""
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
            runs.append(_Run(tuple(key for _, key in piece), name + first, _city(folder, layout), stills))
        messages[usual, stills, len(own) > 0] += len(pieces)
    notes += [_pace(usual, stills, count, layout, pacing) for (usual, stills, some), count in messages.items() if some]
    twice = [name for name, count in Counter(run.name for run in runs).items() if count > 1]
    if twice:
        raise InputError(f"two clips would be called {twice[0]}; give each a folder of its own")
    return runs, notes


def _groups(frame_files: Mapping[Key, Path], layout: str) -> dict[tuple[str, str], list[tuple[int, Key]]]:
    """Frames by what their names have in common, each with its number, in order."""
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
                    f"{frame_files[key]} and {frame_files[other]} have the same number; two clips in one folder? "
                    "Give each a folder of its own"
                )
    return {name: groups[name] for name in sorted(groups, key=lambda name: (natural(name[0]), natural(name[1]), name))}


def _by_folder(frame_files: Iterable[Key]) -> dict[str, list[str]]:
    folders = defaultdict(list)
    for folder, name in frame_files:
        folders[folder].append(name)
    return folders


def _numbered(names: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Name -> number of the frame, and the name with `*` in its place; of several numbers, the one that varies most counts."""
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
    """Whether neighbours are stills, unless the user has said otherwise."""
    if layout == "cityscapes" or pacing.step or pacing.fps:
        return False
    return usual / CAMVID_RATE > APART if layout == "camvid" else FAR < usual < STAMPS


def _cut(group: list[tuple[int, Key]], step: int, exact: bool) -> list[list[tuple[int, Key]]]:
    """Cut a group where the number jumps: by anything but `step` where that is exact, else by clearly more than it."""
    pieces = [[group[0]]]
    for (before, _), item in zip(group, group[1:], strict=False):
        jump = item[0] - before != step if exact else item[0] - before > 1.5 * step
        if jump:
            pieces.append([])
        pieces[-1].append(item)
    return pieces


def _group_name(folder: str, prefix: str, layout: str, groups: Mapping[tuple[str, str], object]) -> str:
    """A clip is called as its folder; where a folder holds several, with what begins their frames' names."""
    if layout == "cityscapes":
        return folder
    others = [_start(other) for place, other in groups if place == folder]
    start = _start(prefix)
    if others.count(start) > 1:  # as left and right pictures of one camera
        start = prefix
    if folder == ".":
        return start or "clip"
    return folder if len(others) == 1 else f"{folder}/{start}"


def _start(prefix: str) -> str:
    """What stands before a frame's number, without what separates the two."""
    return prefix.partition("*")[0].rstrip("_-. ")


def _city(folder: str, layout: str) -> str:
    if layout == "cityscapes":
        return folder.rsplit("_", 1)[0]
    return folder.split("/")[0] if "/" in folder else ""


def _pace(usual: int, stills: bool, clips: int, layout: str, pacing: Pacing) -> str:
    """What is a neighbour, in words."""
    step = pacing.step or usual
    if layout == "camvid":
        apart = f"{step} numbers apart ({step / CAMVID_RATE:.2g} s at CamVid's 30 a second)"
    elif step >= STAMPS:
        apart = f"{step} apart in their names, which are taken for times"
    else:
        apart = f"{step} number{'s' if step > 1 else ''} apart in their names"
    some = f"{clips} clip{'s' if clips > 1 else ''}"
    if pacing.stills:
        return f"{some} of stills (--stills): nothing is compared over time"
    if stills:
        return (
            f"{some} of stills: frames are {apart}, so nothing is compared over time "
            f"(--step {step} compares them all the same; --fps tells that it is video)"
        )
    rate = f", {1 / pacing.fps:.3g} s at --fps {pacing.fps:g}" if pacing.fps else ""
    return f"{some}, in which neighbours are {apart}{rate}"


def _clip(run: _Run, frames, maps, truth, flow) -> MapClip:
    keys = run.keys
    labels = {t: truth[key] for t, key in enumerate(keys) if key in truth}
    if flow:
        missing = [frames[key] for key in keys[:-1] if key not in flow]
        if missing:
            raise NotFoundError(
                f"clip {run.name} of {len(keys)} frames has {len(keys) - 1 - len(missing)} of {len(keys) - 1} flow files "
                f"(first without: {missing[0]}); `tcseg data check --mend` makes them again"
            )
    ordered = (tuple(files[key] for key in keys) for files in (frames, maps))
    exact = tuple(flow[key] for key in keys[:-1]) if flow else ()
    return MapClip(run.name, *ordered, labels, exact, run.city, run.stills)
