"""Match the frames, label maps and ground truth of each clip by their file names.

There are three layouts. `cityscapes` (also used by procity): files anywhere below each folder whose names begin with
`<city>_<sequence>_<frame>`; consecutive numbers form a clip. `camvid` and `folder`: a folder of pictures, or one folder per clip,
with the same names in all trees; the last number of a name counts the frames, and a clip ends where it jumps. Links are followed,
suffixes may have any case, and hidden files are ignored. Missing files are listed in `Matched.problems`; contradictions raise an
error.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tcseg.data.images import IMAGES, files_below
from tcseg.data.splits import CITYSCAPES_STEM, FRAME_ENDING, LABEL_ENDINGS
from tcseg.errors import InputError, NotFoundError, require_one_of
from tcseg.evaluation.frame_groups import FrameRun, Key, Pacing, group_frames

LAYOUTS = ("cityscapes", "camvid", "folder")
DENSE = 0.1  # Cityscapes labels one frame in 30; if more than this share is labelled, labels are expected on every frame


@dataclass(frozen=True)
class MapClip:
    """Files of one clip, in order.

    Attributes:
        name: unique name of the clip.
        frames, predictions: one file per frame.
        labels: frame index -> true label map, for labelled frames.
        flow: files of exact flow from each frame to the next; empty if it was not requested.
        city: the group that the clip belongs to: its city, or the parent of its folder.
        stills: whether the frames are too far apart in time to be compared.
    """

    name: str
    frames: tuple[Path, ...]
    predictions: tuple[Path, ...]
    labels: dict[int, Path] = field(default_factory=dict)
    flow: tuple[Path, ...] = ()
    city: str = ""
    stills: bool = False


@dataclass(frozen=True)
class Matched:
    """The matched clips.

    Attributes:
        clips: in the natural order of their names.
        problems: missing or unmatched files: one sentence each, with their number and the first name.
        notes: for the report: which frames were taken as neighbours.
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
    """Match the files of frames, predictions and labels.

    Args:
        predictions, frames, labels: folders.
        layout: one of `LAYOUTS`.
        exact: also match exact flow, in `flow/` next to `leftImg8bit_sequence/` (layout "cityscapes" only).
        pacing: which frames are neighbours.

    Raises:
        NotFoundError: a folder is missing or empty, or a frame has no prediction or no flow; the message names the first.
        InputError: the layout is unknown, two files belong to one frame, or predictions or labels belong to no frame.
    """
    pacing = pacing or Pacing()
    require_one_of("layout", layout, LAYOUTS)
    if exact and layout != "cityscapes":
        raise InputError(f"--flow exact needs --layout cityscapes (a procity data set), but --layout is {layout}; use --flow dis")
    for what, folder in (("frames", frames), ("predictions", predictions), ("labels", labels)):
        if folder is not None and not folder.is_dir():
            raise NotFoundError(f"--{what} is {folder}, which is not a folder; pass an existing folder")
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
            raise NotFoundError(f"--{what} {folder} contains no {_EXPECTED_NAMES[layout][what]}{_folder_contents(folder)}")
    _require_predictions(frame_files, maps, predictions)
    if labels and not truth.keys() & frame_files.keys():
        raise InputError(f"--labels {labels} has no label map for any frame in {frames}: {_unlike(frame_files, truth)}")
    flow = _exact_flow(frames) if exact else {}
    runs, notes = group_frames(frame_files, layout, pacing)
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
    r"_gtCoarse_": "these are coarse annotations, which leave most pixels unlabelled; use gtFine's _gtFine_labelIds.png",
    r"_polygons\.json$": "these are polygons; convert them to label maps with csCreateTrainIdLabelImgs of cityscapesscripts",
    r"_color\.png$": "these are colour images of label maps; use _gtFine_labelIds.png",
    r"_instance(Train)?Ids\.png$": "these are instance maps; use _gtFine_labelIds.png",
    r"\.np[yz]$": "these are numpy arrays; save each as an 8-bit PNG of class indices",
    r"\.(mp4|avi|mov|mkv|webm)$": "these are videos; save their frames as pictures, one folder per video",
}


def _cityscapes_key(patterns: Sequence[re.Pattern]) -> Callable[[Path, Path], tuple[Key, int] | None]:
    """A function that returns a file's key and the index of the matching pattern; the first pattern is preferred."""

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
_SAME = "pictures; frames, predictions and labels need the same file names (in one folder, or in one folder per clip)"
_EXPECTED_NAMES = {
    "cityscapes": {
        "frames": "frames with names of the Cityscapes layout, such as berlin_000000_000019_leftImg8bit.png (for other names, use "
        "--layout folder)",
        "predictions": "label maps with names that begin with <city>_<sequence>_<frame>, such as berlin_000000_000019.png",
        "labels": "label maps with names of the Cityscapes layout, such as berlin_000000_000019_gtFine_labelIds.png",
    },
    "camvid": dict.fromkeys(("frames", "predictions", "labels"), _SAME),
    "folder": dict.fromkeys(("frames", "predictions", "labels"), _SAME),
}


def _index(folder: Path, what: str, key_of: Callable, problems: list[str]) -> dict[Key, Path]:
    """Pictures below a folder by clip and frame. Pictures with other names are reported in `problems`."""
    best: dict[Key, tuple[int, Path]] = {}
    strange = []
    for path in files_below(folder, IMAGES):
        if (keyed := key_of(path, folder)) is None:
            if not (what == "labels" and _SIBLINGS.search(path.stem)):
                strange.append(path)
            continue
        key, rank = keyed
        if key in best and best[key][0] == rank:
            raise InputError(f"{path} and {best[key][1]} belong to the same frame; remove one of them")
        if key not in best or rank < best[key][0]:
            best[key] = (rank, path)
    if strange and best:
        problems.append(
            f"{len(strange)} pictures in --{what} do not have the name of a frame and are ignored (first: {strange[0]})"
        )
    return {key: path for key, (_, path) in best.items()}


def _folder_contents(folder: Path) -> str:
    """Text about the files that a folder holds instead of the expected ones."""
    files = files_below(folder, ("",))
    if not files:
        return "; the folder is empty"
    for pattern, what in _REFUSED.items():
        if some := [path for path in files if re.search(pattern, path.name, re.IGNORECASE)]:
            return f"; the folder has {len(some)} files such as {some[0].name}: {what}"
    kinds = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in _suffixes(files).most_common(3))
    return f"; the folder has {kinds} (first: {files[0].name})"


def _suffixes(files: Iterable[Path]) -> Counter:
    return Counter(path.suffix for path in files)


def _unlike(frame_files: Mapping[Key, Path], other: Mapping[Key, Path]) -> str:
    """A name from each set, with its folder, so that the user sees how they differ."""
    names = ["/".join(next(iter(files.values())).parts[-2:]) for files in (other, frame_files)]
    return f"its names look like {names[0]}, the names of frames like {names[1]}"


# ------------------------------------------------------------------------------------------------ what must be there


def _require_predictions(frames: Mapping[Key, Path], maps: Mapping[Key, Path], folder: Path) -> None:
    missing = [path for key, path in frames.items() if key not in maps]
    if len(missing) == len(frames):
        raise NotFoundError(
            f"no frame has a prediction below --predictions {folder}: {_unlike(frames, maps)}; use the same names"
        )
    if missing:
        raise NotFoundError(
            f"{len(missing)} of {len(frames)} frames have no prediction below --predictions {folder} (first: {missing[0]}); "
            "TC needs a prediction for every frame: add the predictions or remove the frames"
        )
    extra = [path for key, path in maps.items() if key not in frames]
    if extra:
        raise InputError(
            f"{len(extra)} predictions belong to no frame (first: {extra[0]}); add the frames or remove the "
            "predictions"
        )


def _exact_flow(frames: Path) -> dict[Key, Path]:
    """Forward flow files of a procity tree, by the frame that they start from."""
    parts = frames.resolve().parts
    if "leftImg8bit_sequence" not in parts:
        raise NotFoundError(
            f"--flow exact needs --frames inside a folder leftImg8bit_sequence, but --frames is {frames}; use --flow "
            "dis"
        )
    at = len(parts) - 1 - parts[::-1].index("leftImg8bit_sequence")
    folder = Path(*parts[:at], "flow", *parts[at + 1 :])
    if not folder.is_dir():
        raise NotFoundError(f"{folder} does not exist, so this data set has no exact flow; use --flow dis")
    return _index(folder, "frames", _cityscapes_key([re.compile(rf"{CITYSCAPES_STEM}_flow_forward$")]), [])


def _missing_labels(clips: Sequence[MapClip], layout: str, orphans: Mapping[Key, Path]) -> list[str]:
    """Messages about missing labels."""
    messages = []
    if orphans:
        messages.append(f"{len(orphans)} label maps belong to no frame (first: {next(iter(orphans.values()))})")
    bare = [clip for clip in clips if not clip.labels]
    if bare:
        cities = {clip.city for clip in clips} - {clip.city for clip in clips if clip.labels}
        whole = f"; no labels at all in {', '.join(sorted(cities))}" if cities - {""} else ""
        messages.append(f"{len(bare)} of {len(clips)} clips have no label map (first: {bare[0].name}{whole})")
    partly = [clip for clip in clips if clip.labels]
    frames, labelled = sum(len(clip.frames) for clip in partly), sum(len(clip.labels) for clip in partly)
    if labelled < frames and (layout != "cityscapes" or labelled > DENSE * frames):
        first = next(path for clip in partly for t, path in enumerate(clip.frames) if t not in clip.labels)
        messages.append(f"{frames - labelled} of {frames} frames in clips with labels have none (first: {first.name})")
    elif layout == "cityscapes" and partly:
        usual = Counter(len(clip.labels) for clip in partly).most_common(1)[0][0]
        if few := [clip for clip in partly if len(clip.labels) < usual]:
            messages.append(f"{len(few)} clips have fewer label maps than the usual {usual} (first: {few[0].name})")
    return messages


def _clip(run: FrameRun, frames, maps, truth, flow) -> MapClip:
    keys = run.keys
    labels = {t: truth[key] for t, key in enumerate(keys) if key in truth}
    if flow:
        missing = [frames[key] for key in keys[:-1] if key not in flow]
        if missing:
            raise NotFoundError(
                f"clip {run.name} with {len(keys)} frames has {len(keys) - 1 - len(missing)} of {len(keys) - 1} flow files "
                f"(first frame without: {missing[0]}); restore them with: tcseg data check --mend"
            )
    ordered = (tuple(files[key] for key in keys) for files in (frames, maps))
    exact = tuple(flow[key] for key in keys[:-1]) if flow else ()
    return MapClip(run.name, *ordered, labels, exact, run.city, run.stills)
