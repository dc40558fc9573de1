"""The files of a data set's splits by name, the contents of the published splits, and how much of one is present.

The loader, `tcseg data check` and the fingerprint that decides whether results are up to date all use these lists of files.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tcseg.data.images import IMAGES, files_below, natural
from tcseg.errors import InputError

CITIES = {
    "train": {
        "aachen": 174, "bochum": 96, "bremen": 316, "cologne": 154, "darmstadt": 85, "dusseldorf": 221, "erfurt": 109,
        "hamburg": 248, "hanover": 196, "jena": 119, "krefeld": 99, "monchengladbach": 94, "strasbourg": 365,
        "stuttgart": 196, "tubingen": 144, "ulm": 95, "weimar": 142, "zurich": 122,
    },
    "val": {"frankfurt": 267, "lindau": 59, "munster": 174},
    "test": {"berlin": 544, "bielefeld": 181, "bonn": 46, "leverkusen": 58, "mainz": 298, "munich": 398},
}  # fmt: skip
"""Annotated frames of each city of Cityscapes, by split."""
CAMVID_FRAMES = {"train": 367, "val": 101, "test": 233}
"""Frames of CamVid's SegNet split."""
CITYSCAPES_STEM = r"(?P<clip>.+_\d{6})_(?P<frame>\d{6})"
"""The common prefix of the files of one frame: <city>_<sequence>_<frame>."""
FRAME_ENDING = "_leftImg8bit"
LABEL_ENDINGS = ("_gtFine_labelIds", "_gtFine_labelTrainIds")
"""Supported label files; if a frame has both, the first one is used."""


def named(items: Sequence[object], most: int = 3) -> str:
    """The first few of a list: "ulm, jena, weimar and 14 more"."""
    more = len(items) - most
    return ", ".join(map(str, items[:most])) + (f" and {more} more" if more > 0 else "")


def counted(number: int, what: str) -> str:
    """A number with its noun: "1 label", "2 labels", "3 cities"."""
    plural = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{number} {what if number == 1 else plural}"


# ------------------------------------------------------------------------------------------------ files by their names


@dataclass
class Index:
    """Files of one kind.

    Attributes:
        files: clip -> frame -> path. Cityscapes: "<city>_<sequence>" -> number; CamVid: "" -> name without suffix.
        twice: pairs of files of one frame, or with names that sort as equal.
        strangers: pictures whose names match no known kind.
    """

    files: dict = field(default_factory=lambda: defaultdict(dict))
    twice: list[tuple[Path, Path]] = field(default_factory=list)
    strangers: list[Path] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, self.files.values()))

    def require_single(self) -> Index:
        """Return the index itself if each frame has one file.

        Raises:
            InputError: a frame has two files; the message names both.
        """
        if self.twice:
            first, second = self.twice[0]
            more = f" (and {counted(len(self.twice) - 1, 'pair')} more)" if len(self.twice) > 1 else ""
            raise InputError(
                f"{first} and {second} belong to the same frame, or their names sort as equal; remove one of "
                f"them{more}"
            )
        return self


def list_pictures(folder: Path, suffixes: Collection[str] = IMAGES) -> list[Path]:
    """Pictures below a folder, sorted; links are followed. Empty if the folder does not exist.

    Raises:
        InputError: a folder cannot be read.
    """
    if not os.path.isdir(folder):
        return []
    try:
        return files_below(folder, suffixes)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise InputError(f"folder {error.filename or folder} cannot be read ({why}); check its permissions") from None


def index_cityscapes(folder: Path, *endings: str) -> Index:
    """Picture files `<city>_<sequence>_<frame><ending>`; if a frame has files with several endings, the first one is used."""
    pattern = re.compile(rf"{CITYSCAPES_STEM}(_\w+)")
    index, ranks = Index(), {}
    for path in list_pictures(folder):
        match = pattern.fullmatch(path.stem)
        if not match or not match[3].startswith(("_gt", "_leftImg", "_rightImg", "_disparity", "_flow")):
            index.strangers.append(path)
        if not match or match[3] not in endings:
            continue
        sequence, number, rank = match[1], int(match[2]), endings.index(match[3])
        before = ranks.get((sequence, number))
        if before == rank:
            index.twice.append((index.files[sequence][number], path))
        elif before is None or rank < before:
            index.files[sequence][number], ranks[sequence, number] = path, rank
    return index


def index_camvid(folder: Path) -> Index:
    """Pictures of a folder by name, in natural order."""
    index, like = Index(), {}
    for path in sorted(list_pictures(folder), key=lambda path: (natural(path.stem), path)):
        before = like.setdefault(natural(path.stem), path)
        if before is path:
            index.files[""][path.stem] = path
        else:
            index.twice.append((before, path))
    return index


def gaps(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of neighbouring names whose numbers do not have the usual distance, or whose prefixes differ."""
    split = [re.fullmatch(r"(.*?)(\d+)", name) for name in names]
    if len(names) < 3 or not all(split):
        return []
    steps = [
        int(after[2]) - int(before[2]) if after[1] == before[1] else None
        for before, after in zip(split, split[1:], strict=False)
    ]
    usual = Counter(steps).most_common(1)[0][0]
    return [(names[t], names[t + 1]) for t, step in enumerate(steps) if step != usual or step is None]


def city_of(sequence: str) -> str:
    """The city in "<city>_<sequence>" or "<city>_<sequence>_<frame>"."""
    return re.sub(r"(_\d{6})+$", "", sequence)


# ------------------------------------------------------------------------------------------------ coverage


@dataclass(frozen=True)
class Coverage:
    """How much of a split is present, and which files of it cannot be used.

    Attributes:
        split: "train" or "val".
        unit: the unit of the counts: "snippet" (Cityscapes, procity) or "frame" (CamVid).
        count: number of usable units.
        expected: number in the published split; None if unknown (no city of Cityscapes).
        cities: the present cities, sorted; empty for CamVid.
        expected_cities: number of cities in the published split, or None.
        left_out: descriptions of unused files, such as "30 frames without a label (ulm_000003_000000, ...)".
    """

    split: str
    unit: str
    count: int
    expected: int | None = None
    cities: tuple[str, ...] = ()
    expected_cities: int | None = None
    left_out: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether the split is complete and all files are used."""
        return not self.left_out and self.expected in (None, self.count)

    def __str__(self) -> str:
        of = "" if self.expected is None else f" of {self.expected}"
        text = f"{self.split}: {self.count}{of} {counted(self.expected or self.count, self.unit).split()[1]}"
        if self.expected_cities:
            text += f", {len(self.cities)} of {self.expected_cities} cities"
            text += f" ({named(self.cities)})" if len(self.cities) < self.expected_cities else ""
        return text + "".join(f"; left out: {clause}" for clause in self.left_out)


def cityscapes_coverage(split: str, snippets: Iterable[str], left_out: Sequence[str]) -> Coverage:
    """Coverage of a Cityscapes split. It is compared with the published split if at least one of its cities is present."""
    names, published = list(snippets), CITIES.get(split, {})
    cities = tuple(sorted({city_of(name) for name in names}))
    is_published = bool(set(cities) & set(published))
    expected = (sum(published.values()), len(published)) if is_published else (None, None)
    return Coverage(split, "snippet", len(names), expected[0], cities, expected[1], tuple(left_out))


def fingerprint(root: Path) -> str:
    """Digest of all pictures below a folder, links followed: their names, sizes and times of change."""
    listed = []
    for path in list_pictures(root):
        try:
            status = path.stat()
            listed.append((path.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns))
        except OSError:  # a broken link
            listed.append((path.relative_to(root).as_posix(), None, None))
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()
