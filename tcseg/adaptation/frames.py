"""Which frames of a video a teacher is asked about: about two a second with their neighbours, none across a cut, none twice.

A *snippet* is a frame with its neighbours, consecutive frames of one scene: their motion can be estimated, which both the fusing of
answers and the temporal loss need. A scene that is too short for that, or a folder of stills, gives frames alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm.auto import tqdm

from tcseg.adaptation.kinds.answers import Place, digest, digest_files
from tcseg.data.images import IMAGES, is_hidden
from tcseg.errors import InputError, NotFoundError
from tcseg.flow import estimate, visibility
from tcseg.video.reading.decoding import Source, open_source

WIDTH = 160  # of the frames on which cuts are looked for
FOLLOWED = 0.45
"""Share of the pixels whose motion, there and back, returns. Of consecutive frames of real roads at least 0.6 do (measured on five
clips at 12 to 25 frames a second), at six frames' distance on a motorway 0.41; across a cut 0.39 at most (400 pairs)."""
JUMP = 0.2  # of a frame's contrast: a smaller mean difference is no cut; of 400 cuts the smallest is 0.36
THUMB = (64, 36)  # (W,H) of what is remembered of a frame, to know whether anything has moved
MOVED = 6.0  # grey levels by which at least `PART` of the thumbnail must differ from the frame asked about before
PART = 0.002
STILLS = 4.0  # frames a second, below which neighbours show other pictures


@dataclass(frozen=True)
class Sampling:
    """How densely a video is asked about.

    Attributes:
        per_second: snippets a second.
        neighbours: frames on each side of the one in the middle.
        at_least: of a video too short for so many snippets they are taken more densely, side by side at most.
    """

    per_second: float = 2.0
    neighbours: int = 1
    at_least: int = 200

    def __post_init__(self) -> None:
        if not 0 < self.per_second <= 1000:
            raise InputError(f"per_second is {self.per_second}; it must be above 0, as 2")
        if self.neighbours < 0 or self.at_least < 1:
            raise InputError(
                f"neighbours is {self.neighbours} and at_least {self.at_least}; they must be 0 and 1, or more"
            )

    @property
    def length(self) -> int:
        """Frames of a snippet."""
        return 2 * self.neighbours + 1


USUAL = Sampling()


@dataclass(frozen=True)
class Snippet:
    """Frames first .. first + length - 1 of a scene."""

    first: int
    length: int
    scene: int


@dataclass(frozen=True)
class Plan:
    """What is asked of one video.

    Attributes:
        source: file or folder.
        name: without suffix; see `named`.
        content: a hash of the video's bytes.
        fps: frames a second.
        frames: that could be read.
        size: (W,H).
        scenes: (start, stop) of each, in frames.
        snippets: in order; they do not overlap.
        still: snippets left out because nothing had moved since the one before.
        names: of a folder's pictures, without suffix.
    """

    source: str
    name: str
    content: str
    fps: float
    frames: int
    size: tuple[int, int]
    scenes: tuple[tuple[int, int], ...]
    snippets: tuple[Snippet, ...]
    still: int
    names: tuple[str, ...] | None = None

    def places(self, snippets: Collection[int] | None = None) -> list[Place]:
        """Where the frames of some snippets (by index; None = of all) come from, in order."""
        chosen = range(len(self.snippets)) if snippets is None else snippets
        runs = (self.snippets[index] for index in chosen)
        return [Place(self.name, self.frame_name(one.first + i)) for one in runs for i in range(one.length)]

    def frame_name(self, index: int) -> str:
        """A picture's name without suffix; of a video the frame's number in six digits."""
        return self.names[index] if self.names else f"{index:06}"

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Plan | None:
        """What `write` wrote; None where it is not there, or damaged."""
        try:
            said = json.loads(path.read_text())
            snippets = tuple(Snippet(**one) for one in said["snippets"])
            names = None if said["names"] is None else tuple(said["names"])
            scenes = tuple(map(tuple, said["scenes"]))
            return cls(**said | {"snippets": snippets, "scenes": scenes, "size": tuple(said["size"]), "names": names})
        except (OSError, ValueError, KeyError, TypeError):
            return None


# ------------------------------------------------------------------------------------------------ sources


def named(sources: Sequence[str | Path]) -> list[str]:
    """Names of videos and folders: the last part of the path without a file's suffix; with that above it where two are alike.

    Raises:
        NotFoundError, InputError: as `content_of`; or none is given, or one is given twice.
    """
    if not sources:
        raise InputError("no video is given; give video files, or folders of pictures")
    paths = [Path(source) for source in sources]
    for path in paths:
        _require_recorded(path)
    whole = [path.resolve() for path in paths]
    if len(set(whole)) < len(whole):
        raise InputError(f"{next(str(one) for one in whole if whole.count(one) > 1)} is given twice")
    last = [path.name if path.is_dir() else path.stem for path in whole]
    return [
        f"{path.parent.name}/{name}" if last.count(name) > 1 else name for path, name in zip(whole, last, strict=True)
    ]


def _require_recorded(path: Path) -> None:
    if not path.exists() and ("://" in str(path) or str(path).isdigit() or "%" in path.name or ":/" in str(path)):
        raise InputError(
            f"{path} is read as it comes, once; give a video file or a folder of pictures (record a camera first)"
        )
    if not path.exists():
        raise NotFoundError(f"{path} does not exist; give a video file, or a folder of pictures")
    if path.is_char_device():
        raise InputError(f"{path} is a camera, which is read as it comes; record it first, and give the video file")


def content_of(path: Path) -> str:
    """A hash of a video file's bytes, or of all pictures of a folder."""
    if path.is_dir():
        inside = [
            one for one in path.iterdir() if one.suffix.lower() in IMAGES and not is_hidden(one.name) and one.is_file()
        ]
        return digest_files(inside)
    return digest_files([path])


# ------------------------------------------------------------------------------------------------ scenes


def _small(frame: np.ndarray) -> np.ndarray:
    height = max(16, round(frame.shape[0] * WIDTH / frame.shape[1]))
    return cv2.resize(frame, (WIDTH, height), interpolation=cv2.INTER_AREA)


def is_cut(before: np.ndarray, now: np.ndarray) -> bool:
    """Whether two frames, uint8 (h,w,3) RGB, `WIDTH` columns, show two scenes: little of one can be followed to the other.

    Motion is estimated only where the frames differ by enough: that is what keeps it cheap.
    """
    if cv2.absdiff(before, now).mean() < max(1.0, JUMP * float(now.std())):
        return False
    there, back = (torch.from_numpy(estimate("dis", *pair))[None] for pair in ((before, now), (now, before)))
    return float(visibility(there, back).float().mean()) < FOLLOWED


def find_scenes(small: Iterator[np.ndarray], count: int | None = None) -> tuple[tuple[int, int], ...]:
    """(start, stop) of every scene of frames that come at `WIDTH` columns."""
    starts, before, index = [0], None, -1
    for index, now in enumerate(small):
        if before is not None and is_cut(before, now):
            starts.append(index)
        before = now
    return tuple(zip(starts, [*starts[1:], index + 1], strict=True)) if index >= 0 else ()


# ------------------------------------------------------------------------------------------------ the plan


def make_plan(
    source: str | Path,
    name: str,
    sampling: Sampling = USUAL,
    fps: float | None = None,
    progress: bool = False,
    content: str | None = None,
) -> Plan:
    """Read a video once and choose what to ask about.

    Args:
        source: a video file or a folder of pictures.
        name: see `named`.
        sampling: how densely.
        fps: frames a second, where the source does not say (a folder of pictures); below `STILLS` they are stills.
        progress: a bar.
        content: `content_of` the source, where it is known.

    Raises:
        NotFoundError, InputError: it is not there, cannot be read, or has no frames.
    """
    path = Path(source)
    _require_recorded(path)
    if fps is not None and not 0 < fps <= 1000:
        raise InputError(f"fps is {fps}; it must be frames a second, above 0")
    opened = open_source(path)
    if opened.live:
        raise InputError(f"{path} is read as it comes, once; give a video file or a folder of pictures")
    scan = _Scan(opened, progress)
    scenes = find_scenes(scan.small())
    if not scenes:
        raise InputError(f"{path} has no frames: an empty or damaged video")
    rate = fps or opened.fps
    chosen = choose(scenes, rate, sampling)
    moved = _moved(chosen, scan.thumbs)
    content = content or content_of(path)
    size = scan.size
    return Plan(
        str(path),
        name,
        content,
        rate,
        len(scan.thumbs),
        size,
        scenes,
        tuple(moved),
        len(chosen) - len(moved),
        opened.names,
    )


class _Scan:
    """Reads a source once: small frames to find cuts in, and thumbnails of all, uint8 (36,64)."""

    def __init__(self, source: Source, progress: bool) -> None:
        self.source, self.progress = source, progress
        self.thumbs: list[np.ndarray] = []
        self.size = (0, 0)

    def small(self) -> Iterator[np.ndarray]:
        with tqdm(
            total=self.source.count, desc=f"reading {self.source.name}", unit="frame", disable=not self.progress
        ) as bar:
            for frame in self.source.frames():
                self.size = frame.shape[1], frame.shape[0]
                small = _small(frame)
                self.thumbs.append(
                    cv2.resize(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), THUMB, interpolation=cv2.INTER_AREA)
                )
                bar.update()
                yield small


def choose(scenes: Sequence[tuple[int, int]], fps: float, sampling: Sampling) -> list[Snippet]:
    """Snippets of scenes: evenly spread within each, side by side at most; of a scene that is too short its middle frame.

    Args:
        scenes: (start, stop), in frames.
        fps: frames a second; below `STILLS` every frame stands alone.
        sampling: how densely.
    """
    total = sum(stop - start for start, stop in scenes)
    length = sampling.length if fps >= STILLS else 1
    step = max(length, min(round(fps / sampling.per_second), total // sampling.at_least))
    chosen = []
    for scene, (start, stop) in enumerate(scenes):
        room = stop - start - length
        if room < 0:
            chosen.append(Snippet(start + (stop - start) // 2, 1, scene))
            continue
        first = start + room % step // 2
        chosen += [Snippet(at, length, scene) for at in range(first, start + room + 1, step)]
    return chosen


def _moved(snippets: Sequence[Snippet], thumbs: Sequence[np.ndarray]) -> list[Snippet]:
    """Those whose middle frame differs from that of the last one kept: a car at a red light asks nothing new."""
    kept: list[Snippet] = []
    before: np.ndarray | None = None
    for one in snippets:
        now = thumbs[one.first + one.length // 2]
        if before is None or (cv2.absdiff(before, now) > MOVED).mean() >= PART:
            kept.append(one)
            before = now
    return kept


def read_snippets(plan: Plan, wanted: Collection[int]) -> Iterator[tuple[int, np.ndarray]]:
    """The frames of some snippets, in order: (index of the snippet, uint8 (T,H,W,3) RGB). A few frames are in memory at a time.

    Raises:
        InputError: the video has become another since it was planned.
    """
    waiting = sorted(wanted, key=lambda index: plan.snippets[index].first)
    if not waiting:
        return
    stream, position = iter(enumerate(open_source(plan.source).frames())), 0
    for index in waiting:
        one, frames = plan.snippets[index], []
        for position, frame in stream:
            if position >= one.first:
                frames.append(frame)
            if len(frames) == one.length:
                break
        if len(frames) < one.length:
            raise InputError(
                f"{plan.source} ends after {position + 1} frames, and had {plan.frames}: it has changed; run again"
            )
        yield index, np.stack(frames)


def plan_key(content: str, sampling: Sampling, fps: float | None) -> str:
    """What a plan depends on, beside this module."""
    return digest("plan 1", content, sampling, fps)
