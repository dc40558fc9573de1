"""Which files a folder of one's own has, what belongs together, and what is wrong with it; labels are not decoded here."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import yaml

from tcseg.data.class_tables import ClassTable, class_table
from tcseg.data.images import IMAGES, in_order, is_hidden, read_header
from tcseg.data.own.films import FILMS, frame_count, frame_size
from tcseg.data.palettes import as_lab
from tcseg.data.splits import counted, named
from tcseg.errors import InputError, NotFoundError, TcsegError
from tcseg.labels import CAMVID, CITYSCAPES, LabelSet, own_classes
from tcseg.machine import usable_cores

CLASSES, SPLIT = "classes.yaml", "split.yaml"
TRAIN, VAL = "train", "val"
PARTS = 5
"""Without split.yaml, one clip of so many is for validation."""
ALIKE = 5.0  # distance in Lab under which two colours are hard to tell apart


@dataclass(frozen=True)
class Clip:
    """The files of one clip.

    Attributes:
        name: of its folder.
        frames: pictures in order; of a film, the film alone.
        labels: index of a frame -> its label map.
        length: number of frames.
        film: whether `frames` is one film.
        strays: label maps without a frame.
    """

    name: str
    frames: tuple[Path, ...]
    labels: dict[int, Path]
    length: int
    film: bool = False
    strays: tuple[Path, ...] = ()


@dataclass
class OwnFolder:
    """A folder of one's own: made by `open_folder`, which has checked it.

    Attributes:
        root: the folder.
        table: its classes.
        clips: by name, in natural order.
        split: "train" and "val" -> names of clips.
        stills: clips whose frames are single pictures, not a video.
        problems: one line each.
        notes: remarks that are no problems.
    """

    root: Path
    table: ClassTable | None = None
    clips: dict[str, Clip] = field(default_factory=dict)
    split: dict[str, tuple[str, ...]] = field(default_factory=dict)
    stills: frozenset[str] = frozenset()
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.root.name

    @cached_property
    def label_set(self) -> LabelSet:
        """The classes; the known set where the names are those of Cityscapes or CamVid."""
        of = self.table.label_set
        known = next((one for one in (CITYSCAPES, CAMVID) if one.classes == of.classes), None)
        return known or own_classes(of.classes, of.colors.tolist(), self.name)

    @cached_property
    def size(self) -> tuple[int, int]:
        """(W,H) of most clips' frames."""
        return Counter(map(first_size, self.clips.values())).most_common(1)[0][0]


def first_size(clip: Clip) -> tuple[int, int]:
    """(W,H) of a clip's first frame."""
    return frame_size(clip.frames[0]) if clip.film else read_header(clip.frames[0]).size


def open_folder(root: Path) -> OwnFolder:
    """Read a folder's classes, clips and split.

    Raises:
        InputError: the folder has a problem; the message has the first one, and how many more `tcseg data check` lists.
    """
    found = look(root)
    if found.problems:
        more = len(found.problems) - 1
        also = f" ({counted(more, 'more problem')}: tcseg data check {found.root})" if more else ""
        raise InputError(f"{found.problems[0]}{also}")
    return found


def look(root: Path, sizes: bool = True) -> OwnFolder:
    """As `open_folder`, with `problems` instead of an error.

    Args:
        root: the folder.
        sizes: also compare the sizes of all frames and label maps.
    """
    found = OwnFolder(Path(root).absolute())
    for name in ("frames", "labels"):
        if not os.path.isdir(found.root / name):
            found.problems.append(f"{found.root} has no folder {name}/; a data set of your own has frames/, labels/ and {CLASSES}")
    if found.problems:
        return found
    try:
        found.table = class_table(str(found.root / CLASSES))
        _colors(found)
    except NotFoundError:
        found.problems.append(f"{found.root} has no {CLASSES}; write one, such as classes: [road, car, background]")
    except TcsegError as error:
        found.problems.append(str(error))
    found.problems += _alike(found.root)
    _clips(found)
    if found.clips:
        _split(found)
    if sizes:
        found.problems += _sizes(found)
    return found


def _colors(found: OwnFolder) -> None:
    classes, colors = found.table.label_set.classes, found.table.label_set.colors
    lab = as_lab([tuple(color) for color in colors.tolist()])
    for place, name in enumerate(classes):
        for other in range(place):
            if (colors[place] == colors[other]).all():
                found.problems.append(
                    f"{found.root / CLASSES}: {classes[other]!r} and {name!r} have the same color {colors[place].tolist()}; "
                    "change one, or leave color out"
                )
            elif ((lab[place] - lab[other]) ** 2).sum() < ALIKE**2:
                found.notes.append(f"the colors of {classes[other]!r} and {name!r} can hardly be told apart")


def _alike(root: Path) -> list[str]:
    """Folders of clips whose names differ only in case: some disks and programs take them for one."""
    problems = []
    for kind in ("frames", "labels"):
        names = [entry.name for entry in _entries(root / kind) if entry.is_dir()]
        problems += _twice(root / kind, names)
    across = {name.casefold(): name for name in _folders(root / "frames")}
    for name in _folders(root / "labels"):
        other = across.get(name.casefold(), name)
        if other != name:
            problems.append(f"{root}: frames/{other} and labels/{name} differ only in case; give both one name")
    return problems


def _twice(folder: Path, names: list[str]) -> list[str]:
    first: dict[str, str] = {}
    pairs = [(first.setdefault(name.casefold(), name), name) for name in sorted(names)]
    return [f"{folder}: {one} and {name} differ only in case; rename one of them" for one, name in pairs if one != name]


def _entries(folder: Path) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not is_hidden(entry.name)]
    except OSError as error:
        raise InputError(f"folder {folder} cannot be read ({(error.strerror or '').lower()}); check its permissions") from None


def _folders(folder: Path) -> list[str]:
    return [entry.name for entry in _entries(folder) if entry.is_dir()]


def _clips(found: OwnFolder) -> None:
    """Match frames with labels, clip by clip."""
    frames, labels = found.root / "frames", found.root / "labels"
    if loose := [e.name for e in _entries(frames) if not e.is_dir() and _suffix(e.name) in (*IMAGES, *FILMS)]:
        found.problems.append(f"{frames / loose[0]} lies in no clip; put it into a folder, such as {frames / 'clip' / loose[0]}")
    names = [path.name for path in in_order(frames / name for name in _folders(frames))]
    for name in names:
        clip = _clip(found, name)
        if clip is not None:
            found.clips[name] = clip
    lost = sorted(set(_folders(labels)) - set(names))
    lost = [name for name in lost if name.casefold() not in {one.casefold() for one in names}]
    found.problems += [f"{labels / name}: labels without frames; there is no {frames / name}" for name in lost]
    if not found.clips and not found.problems:
        found.problems.append(f"{frames} has no clip; put the frames of each clip into a folder of its own")
    if found.clips and not any(clip.labels for clip in found.clips.values()) and not found.problems:
        found.problems.append(f"{labels} has no label of any frame; `tcseg segment --labels` or an annotation tool makes some")


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _clip(found: OwnFolder, name: str) -> Clip | None:
    """One clip; problems with its names are reported."""
    folder, labels = found.root / "frames" / name, found.root / "labels" / name
    files = [entry.name for entry in _entries(folder)]
    films = [one for one in files if _suffix(one) in FILMS]
    pictures = in_order(folder / one for one in files if _suffix(one) in IMAGES)
    maps = in_order(labels / entry.name for entry in _entries(labels)) if labels.is_dir() else []
    if wrong := [path for path in maps if path.suffix.lower() != ".png"]:
        found.problems.append(f"{wrong[0]} is no PNG; label maps are PNG files with an id in each pixel")
        maps = [path for path in maps if path not in wrong]
    if films and (pictures or len(films) > 1):
        found.problems.append(f"{folder} has {films[0]} and other frames; a clip is one film, or pictures: make two clips")
        return None
    if not films and not pictures:
        found.problems.append(f"{folder} has no frames; remove it, or put pictures or a film there")
        return None
    if films:
        return _film(found, name, folder / films[0], maps)
    found.problems += _twice(folder, [path.stem for path in pictures])
    place = {path.stem: index for index, path in enumerate(pictures)}
    if len(place) < len(pictures):
        twice = next(stem for stem, number in Counter(path.stem for path in pictures).items() if number > 1)
        found.problems.append(f"{folder}: two frames have the name {twice}; keep one of them")
    strays = tuple(path for path in maps if path.stem not in place)
    _report_strays(found, strays, f"no frame of this name in {folder}")
    return Clip(name, tuple(pictures), {place[p.stem]: p for p in maps if p.stem in place}, len(pictures), strays=strays)


def _film(found: OwnFolder, name: str, film: Path, maps: list[Path]) -> Clip | None:
    try:
        length = frame_count(film)
    except TcsegError as error:
        found.problems.append(str(error))
        return None
    numbers = {path: int(path.stem) if path.stem.isdecimal() else -1 for path in maps}
    strays = tuple(path for path, number in numbers.items() if not 0 <= number < length)
    _report_strays(found, strays, f"its name must be the number of a frame of {film.name}, 0 to {length - 1}")
    labels = {number: path for path, number in numbers.items() if path not in strays}
    return Clip(name, (film,), labels, length, True, strays)


def _report_strays(found: OwnFolder, strays: tuple[Path, ...], why: str) -> None:
    if strays:
        more = f" (and {len(strays) - 1} more)" if len(strays) > 1 else ""
        found.problems.append(f"{strays[0]}: the label has no frame{more}; {why}")


# ------------------------------------------------------------------------------------------------ the split


def _split(found: OwnFolder) -> None:
    path = found.root / SPLIT
    given: dict = {}
    if path.is_file():
        try:
            given = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            found.problems.append(f"{path} cannot be parsed as YAML ({str(error).splitlines()[0]}); correct the file")
            return
    if problems := list(_wrong_split(found, path, given)):
        found.problems += problems
        return
    listed = {key: tuple(map(str, given.get(key) or ())) for key in (TRAIN, VAL, "stills")}
    found.stills = frozenset({*listed["stills"], *(name for name, clip in found.clips.items() if clip.length == 1)})
    labelled = [name for name, clip in found.clips.items() if clip.labels]
    if TRAIN in given or VAL in given:
        found.split = {key: listed[key] for key in (TRAIN, VAL)}
    else:
        count = max(1, round(len(labelled) / PARTS))
        found.split = {TRAIN: tuple(labelled[:-count]), VAL: tuple(labelled[-count:])}
    found.problems += _empty(found, path, labelled)
    kinds = {name in listed["stills"] for name in found.split[VAL] if found.clips[name].length > 1}
    if len(kinds) > 1:
        found.problems.append(f"{path}: val has stills and video; put one kind of them there")


def _wrong_split(found: OwnFolder, path: Path, given: object) -> Iterator[str]:
    if not isinstance(given, dict):
        yield f"{path} holds {type(given).__name__}; it must hold train: [clips] and val: [clips]"
        return
    for key, names in given.items():
        if key not in (TRAIN, VAL, "stills"):
            yield f"{path} contains the unknown key {key!r}; the valid keys are train, val and stills"
        elif not isinstance(names, list):
            yield f"{path}: {key} is {names!r}; it must be a list of clips, such as [{next(iter(found.clips))}]"
        else:
            unknown = [name for name in map(str, names) if name not in found.clips]
            yield from (f"{path}: {key} names {name!r}, and there is no {found.root / 'frames' / name}" for name in unknown)
            twice = [name for name, number in Counter(map(str, names)).items() if number > 1]
            yield from (f"{path}: {key} names {name!r} twice; remove one" for name in twice)
    both = [given[key] if isinstance(given.get(key), list) else [] for key in (TRAIN, VAL)]
    for name in sorted(set(map(str, both[0])) & set(map(str, both[1]))):
        yield f"{path}: the clip {name!r} is in train and in val; a network must not be measured on what it was trained on"


def _empty(found: OwnFolder, path: Path, labelled: list[str]) -> Iterator[str]:
    for key, names in found.split.items():
        if any(found.clips[name].labels for name in names):
            continue
        if names:
            yield f"{path}: no clip of {key} has a label ({named(names)}); label some frames of one"
        elif path.is_file():
            yield f"{path}: {key} is empty; list at least one clip there (labelled: {named(labelled)})"
        elif len(labelled) == 1:
            yield (
                f"{found.root}: only the clip {labelled[0]!r} has labels, and the split is by clip; cut it into two folders, "
                "so that one can be for validation"
            )


# ------------------------------------------------------------------------------------------------ sizes


def _sizes(found: OwnFolder) -> list[str]:
    """Frames of one clip with several sizes, and labels of another size than their frame."""
    with ThreadPoolExecutor(usable_cores()) as pool:
        problems = list(pool.map(_wrong_size, found.clips.values()))
    sizes = {size for _, size in problems if size}
    if len(sizes) > 1:
        shown = [f"{w}x{h}" for w, h in sorted(sizes)]
        found.notes.append(f"clips have frames of {named(shown)}; all are resized to one size")
    return [line for lines, _ in problems for line in lines]


def _wrong_size(clip: Clip) -> tuple[list[str], tuple[int, int] | None]:
    try:
        first, problems = first_size(clip), []
        for path in () if clip.film else clip.frames[1:]:
            if (size := read_header(path).size) != first:
                problems.append(f"{path} is {_text(size)}, but {clip.frames[0].name} of the same clip is {_text(first)}")
                break
        for path in clip.labels.values():
            if (size := read_header(path).size) != first:
                problems.append(f"{path}: the label is {_text(size)}, but its frame is {_text(first)}")
                break
        return problems, first
    except TcsegError as error:
        return [str(error)], None


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
