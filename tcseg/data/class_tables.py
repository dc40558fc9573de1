"""Class tables of label maps: those of Cityscapes and CamVid, or one from a file.

A file (YAML or JSON) lists the classes in the order of their trainIds, and the values that are void:

    classes:
      - {name: road, id: 7, color: [128, 64, 128]}
      - {name: car, id: 26, color: [0, 0, 142]}
    ignore: [0, 255]
    mapping: {27: car, 28: car, 5: ignore}

`id` is the value that label maps hold for this class; the default is its position in the list. `color` is used for pictures; a
class without one gets one that is far from all others. An entry may also be the name alone. `mapping` counts further values as a
class, or as void.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from tcseg.data.palettes import fill
from tcseg.errors import InputError, NotFoundError
from tcseg.labels import CAMVID, CITYSCAPES, CITYSCAPES_ROWS, IGNORE, MOST_CLASSES, LabelSet

KNOWN = ("cityscapes", "camvid")
UNKNOWN = 254  # marks values in look-up tables that are not in the class table


@dataclass(frozen=True)
class ClassTable:
    """Classes and the values that label maps hold for them.

    Attributes:
        label_set: the classes in the order of their trainIds.
        ids: the id of each class.
        void: ids of pixels without a class. `IGNORE` is always one of them.
        mapped: further ids -> the trainId that they are counted as.
    """

    label_set: LabelSet
    ids: tuple[int, ...]
    void: frozenset[int] = frozenset({IGNORE})
    mapped: Mapping[int, int] = field(default_factory=dict)

    @property
    def encodings(self) -> tuple[str, ...]:
        """The possible encodings of a map: "ids", and "trainIds" if these differ from the ids."""
        return ("ids",) if self.ids == tuple(range(len(self.ids))) and not self.mapped else ("ids", "trainIds")

    def lookup(self, encoding: str) -> np.ndarray:
        """uint8 (256,): value -> trainId, `IGNORE` or `UNKNOWN`."""
        table = np.full(256, UNKNOWN, np.uint8)
        values = self.ids if encoding == "ids" else range(len(self.ids))
        table[list(self.void if encoding == "ids" else {IGNORE})] = IGNORE
        table[list(values)] = np.arange(len(self.ids))
        if encoding == "ids":
            table[list(self.mapped)] = list(self.mapped.values())
        return table

    def known(self, encoding: str) -> str:
        """The values of an encoding as text, such as "0..33, 255"."""
        values = np.flatnonzero(self.lookup(encoding) != UNKNOWN)
        runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
        return ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)


CITYSCAPES_TABLE = ClassTable(
    CITYSCAPES,
    tuple(row.id for name in CITYSCAPES.classes for row in CITYSCAPES_ROWS if row.name == name),
    frozenset({IGNORE, *(row.id for row in CITYSCAPES_ROWS if row.ignore_in_eval and row.id >= 0)}),
)
CAMVID_TABLE = ClassTable(CAMVID, tuple(range(CAMVID.num_classes)), frozenset({IGNORE, CAMVID.num_classes}))


def class_table(name: str) -> ClassTable:
    """The class table with this name ("cityscapes", "camvid") or from this file.

    Raises:
        NotFoundError: the file does not exist.
        InputError: the file has no list of classes, or a name, id or colour is invalid; the message says which.
    """
    if name in KNOWN:
        return {"cityscapes": CITYSCAPES_TABLE, "camvid": CAMVID_TABLE}[name]
    path = Path(name)
    if not path.is_file():
        raise NotFoundError(
            f"--classes is {name!r}; it must be {', '.join(KNOWN)}, or the path of an existing file (YAML or JSON)"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # no text, no such date, nested without end
        raise InputError(f"{path} cannot be parsed as YAML or JSON ({str(error).splitlines()[0]}); correct the file") from None
    if isinstance(content, list):
        content = {"classes": content}
    if not isinstance(content, dict) or not isinstance(content.get("classes"), list) or not content["classes"]:
        raise InputError(f"{path} has no list named classes; add one, such as classes: [{{name: road, id: 7}}]")
    if strange := sorted(map(str, content.keys() - {"classes", "ignore", "mapping", "name"})):
        raise InputError(
            f"{path} contains the unknown key {strange[0]!r}; the valid keys are classes, ignore, mapping and name"
        )
    rows = [_row(path, place, item) for place, item in enumerate(content["classes"])]
    ignore = content.get("ignore", [IGNORE])
    ignore = ignore if isinstance(ignore, list) else [ignore]
    return _checked(path, rows, ignore, content.get("mapping") or {})


Row = tuple[str, int, tuple[int, ...] | None]


def _row(path: Path, place: int, item: object) -> Row:
    item = item if isinstance(item, dict) else {"name": item}
    if strange := sorted(map(str, item.keys() - {"name", "id", "color", "colour"})):
        raise InputError(f"{path}: class {place} has the unknown key {strange[0]!r}; the valid keys are name, id and color")
    color = item.get("color", item.get("colour"))
    color = tuple(color) if isinstance(color, list) else color
    name, number = item.get("name"), item.get("id", place)
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{path}: the name of class {place} is {name!r}; it must be text (put a number in quotes)")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= 255:
        raise InputError(f"{path}: the id of class {name!r} is {number!r}; it must be a whole number in 0..255")
    if color is not None and (
        not isinstance(color, tuple)
        or len(color) != 3
        or any(not isinstance(c, int) or not 0 <= c <= 255 for c in color)
    ):
        raise InputError(f"{path}: the color of class {name!r} is {color!r}; it must be [red, green, blue] with values in 0..255")
    return name.strip(), number, color


def _checked(path: Path, rows: list[Row], ignore: list, mapping: object) -> ClassTable:
    names, ids, colors = zip(*rows, strict=True)
    for what, values in (("name", [name.casefold() for name in names]), ("id", ids)):
        if twice := [value for value in values if values.count(value) > 1]:
            raise InputError(f"{path}: two classes have the {what} {twice[0]!r}; every class needs its own {what}")
    if len(rows) > MOST_CLASSES:
        raise InputError(f"{path} has {len(rows)} classes; 8-bit label maps allow at most {MOST_CLASSES}")
    wrong = [value for value in ignore if not isinstance(value, int) or not 0 <= value <= 255]
    if wrong:
        raise InputError(f"{path}: ignore contains {wrong[0]!r}; it must be a list of whole numbers in 0..255")
    if reserved := {UNKNOWN, IGNORE} & set(ids):
        raise InputError(f"{path}: a class has the id {min(reserved)}, but {UNKNOWN} and {IGNORE} are reserved; use another id")
    if both := set(ignore) & set(ids):
        raise InputError(f"{path}: {min(both)} is both the id of a class and in ignore; remove it from one of them")
    mapped = _mapping(path, names, {*ids, *ignore}, mapping)
    label_set = LabelSet(path.name, names, np.array(fill(colors), np.uint8))
    void = {IGNORE, *ignore, *(value for value, place in mapped.items() if place == IGNORE)}
    return ClassTable(label_set, ids, frozenset(void), {v: place for v, place in mapped.items() if place != IGNORE})


def _mapping(path: Path, names: tuple[str, ...], taken: set[int], mapping: object) -> dict[int, int]:
    """Further ids -> trainId, or `IGNORE`."""
    if not isinstance(mapping, dict):
        raise InputError(f"{path}: mapping is {mapping!r}; it must list values and names, such as {{27: {names[0]}, 5: ignore}}")
    for value, name in mapping.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < UNKNOWN:
            raise InputError(f"{path}: mapping contains the value {value!r}; it must be a whole number in 0..{UNKNOWN - 1}")
        if value in taken:
            raise InputError(f"{path}: {value} is in mapping, but also the id of a class or in ignore; remove one of them")
        if name not in (*names, "ignore"):
            raise InputError(f"{path}: mapping sends {value} to {name!r}, which is no class of this file, nor ignore")
    return {value: IGNORE if name == "ignore" else names.index(name) for value, name in mapping.items()}
