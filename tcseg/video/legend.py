"""A legend of the classes in a corner of a painted picture, and the choice of a few classes by their names.

The legend lies along the upper edge, where a driver's view has sky and not road. It has all classes of the network where these need
little room; else those that are in the picture, or were in the last frames, as many as fit.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tcseg.errors import InputError
from tcseg.labels import IGNORE, LabelSet

ROOM, MOST_ROOM = 0.08, 0.15  # of the picture's height: for all classes, and for those that are there
LEAST_WIDTH = 192  # pixels; a narrower picture has no legend, which could not be read
SEEN = 0.001  # share of the picture from which a class is in it
KEPT = 50  # frames that a class stays in the legend after it was seen last
PLATE, INK = (20, 20, 20), (245, 245, 245)
_OPACITY = 0.72  # of the plate


# ------------------------------------------------------------------------------------------------ which classes


def find_classes(names: Sequence[str] | str, label_set: LabelSet) -> tuple[int, ...]:
    """TrainIds of classes by their names, in any case; a string is split at its commas.

    Raises:
        InputError: a name that the network does not have, with those that are near it; or no name at all.
    """
    words = names.split(",") if isinstance(names, str) else list(names)
    words = [" ".join(str(word).split()) for word in words]
    if not words or not all(words):
        raise InputError(f"classes is {names!r}; it must be names with commas between them, such as {label_set.classes[0]}")
    plain = {name.casefold(): place for place, name in enumerate(label_set.classes)}
    found = []
    for word in words:
        place = plain.get(word.casefold(), plain.get(word.casefold().replace("_", " ").replace("-", " ")))
        if place is None:
            near = difflib.get_close_matches(word.casefold(), plain, 3, 0.6)
            near = [label_set.classes[plain[one]] for one in near]
            fix = f"did you mean {' or '.join(near)}?" if near else f"the network has {_named(label_set.classes)}"
            raise InputError(f"classes is {','.join(words)!r}; the network has no class {word!r}: {fix}")
        found.append(place)
    return tuple(sorted(set(found)))


def _named(classes: Sequence[str]) -> str:
    return ", ".join(classes[:20]) + (f" and {len(classes) - 20} more" if len(classes) > 20 else "")


def only(labels: np.ndarray, chosen: Sequence[int] | None) -> np.ndarray:
    """A label map uint8 (H,W) in which all but the chosen classes are `IGNORE`; None = all are chosen."""
    if chosen is None:
        return labels
    table = np.full(256, IGNORE, np.uint8)
    table[list(chosen)] = list(chosen)
    return table[labels]


# ------------------------------------------------------------------------------------------------ drawing


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans, which comes with matplotlib and has most letters; else Pillow's own."""
    places = (getattr(find_spec("matplotlib"), "submodule_search_locations", None) or [""])[0]
    file = Path(places) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(file), size) if file.is_file() else ImageFont.load_default(size)


def text_height(height: int, width: int) -> int:
    """Size of the letters in a picture: as large in a small one as can be read, and in a large one about a fortieth of it."""
    return max(11, round(min(height / 40, width / 60)))


class Legend:
    """The legend of one network's pictures; it remembers which classes were there.

    Args:
        label_set: names and colours.
        chosen: trainIds that are painted at all; None = all.
    """

    def __init__(self, label_set: LabelSet, chosen: Sequence[int] | None = None) -> None:
        self.label_set = label_set
        self.classes = tuple(range(label_set.num_classes)) if chosen is None else tuple(chosen)
        self._last_seen: dict[int, int] = {}
        self._share = np.zeros(256)
        self._frame = 0
        self._drawn: tuple[tuple, np.ndarray] | None = None

    def draw(self, picture: np.ndarray, labels: np.ndarray, top: int = 0) -> np.ndarray:
        """Draw the legend into a picture uint8 (H,W,3) RGB, in place, and return it.

        Args:
            picture: painted.
            labels: uint8 (H,W), what it shows.
            top: rows that it leaves free above it.
        """
        self._look(labels)
        height, width = picture.shape[:2]
        if width < LEAST_WIDTH or not self.classes:
            return picture
        rows, hidden = self._layout(height, width)
        if not rows:
            return picture
        plate = self._plate(rows, hidden, text_height(height, width))
        part = picture[top : top + plate.shape[0], : plate.shape[1]]
        plate = plate[: part.shape[0], : part.shape[1]]
        colour, opacity = plate[..., :3].astype(np.float32), plate[..., 3:].astype(np.float32) / 255
        part[:] = np.rint(part * (1 - opacity) + colour * opacity).astype(np.uint8)
        return picture

    def shown(self, height: int, width: int) -> list[int]:
        """TrainIds that the legend of a picture of this size has now, in their order."""
        return [place for row in self._layout(height, width)[0] for place in row]

    def _look(self, labels: np.ndarray) -> None:
        step = max(1, min(labels.shape) // 128)  # a sample is enough
        some = labels[::step, ::step]
        share = np.bincount(some.ravel(), minlength=256) / some.size
        self._share = 0.9 * self._share + 0.1 * share
        self._last_seen |= dict.fromkeys(np.flatnonzero(share >= SEEN).tolist(), self._frame)
        self._frame += 1

    def _recent(self) -> list[int]:
        first = self._frame - KEPT
        return [place for place in self.classes if self._last_seen.get(place, -KEPT - 1) >= first]

    def _layout(self, height: int, width: int) -> tuple[list[list[int]], int]:
        """Rows of trainIds, and how many are left out."""
        size = text_height(height, width)
        pitch = _pitch(size)
        everything = self._rows(self.classes, width, size)
        if len(everything) * pitch <= ROOM * height or len(everything) == 1:
            return everything, 0
        recent, most = self._recent(), max(1, int(MOST_ROOM * height / pitch))
        rows = self._rows(recent, width, size)
        if len(rows) <= most:
            return rows, 0
        largest = sorted(recent, key=lambda place: -self._share[place])
        while largest and len(rows) > most:
            largest.pop()
            rows = self._rows([place for place in recent if place in largest], width, size, len(recent) - len(largest))
        return rows, len(recent) - len(largest)

    def _rows(self, places: Sequence[int], width: int, size: int, hidden: int = 0) -> list[list[int]]:
        rows, used = [], width
        for place in places:
            wide = _entry_width(self.label_set.classes[place], size)
            if used + wide > width - size // 2:
                rows.append([])
                used = size // 2
            rows[-1].append(place)
            used += wide
        if hidden and rows and used + _entry_width(f"+{hidden}", size) > width:
            rows.append([])  # no room for the word that says so: one class less
        return rows

    def _plate(self, rows: list[list[int]], hidden: int, size: int) -> np.ndarray:
        """The legend as uint8 (h,w,4) RGBA; drawn anew only where it changes."""
        key = tuple(map(tuple, rows)), hidden, size
        if self._drawn is not None and self._drawn[0] == key:
            return self._drawn[1]
        pitch, margin = _pitch(size), size // 2
        wide = [sum(_entry_width(self.label_set.classes[place], size) for place in row) for row in rows]
        wide[-1] += _entry_width(f"+{hidden}", size) if hidden else 0
        plate = Image.new("RGBA", (max(wide) + margin, pitch * len(rows) + 2), (*PLATE, round(255 * _OPACITY)))
        pen, font = ImageDraw.Draw(plate), _font(size)
        for index, row in enumerate(rows):
            x, middle = margin, pitch * index + pitch // 2 + 1
            for place in row:
                colour = tuple(int(part) for part in self.label_set.colors[place])
                box = (x, middle - size // 2, x + size, middle - size // 2 + size)
                pen.rectangle(box, (*colour, 255), (*INK, 255))  # an outline: some colours are as dark as the plate
                pen.text((x + size + size // 3, middle), _short(self.label_set.classes[place]), (*INK, 255), font, "lm")
                x += _entry_width(self.label_set.classes[place], size)
            if hidden and index == len(rows) - 1:
                pen.text((x, middle), f"+{hidden}", (*INK, 255), font, "lm")
        self._drawn = key, np.asarray(plate)
        return self._drawn[1]


def _pitch(size: int) -> int:
    return size + max(4, size // 3)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"


@lru_cache(maxsize=4096)
def _entry_width(name: str, size: int) -> int:
    """Pixels of a class: a square of its colour, its name, and room to the next."""
    return size + size // 3 + int(np.ceil(_font(size).getlength(_short(name)))) + (3 * size) // 4
