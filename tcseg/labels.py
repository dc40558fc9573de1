"""Class tables: Cityscapes' 35 ids and its 19 train classes, CamVid's 11 classes; ids <-> trainIds; colours.

The Cityscapes rows are written out here, not read from torchvision, so that the renderer's worker processes need not import
torch; a test holds every row against `torchvision.datasets.Cityscapes.classes` and the official scripts.
CamVid's classes and colours are those of the SegNet split (Badrinarayanan et al., 2017).
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tcseg.errors import InputError

IGNORE = 255
"""The trainId of pixels that metrics and losses ignore."""


class Row(NamedTuple):
    """One row of the official Cityscapes label table."""

    name: str
    id: int
    train_id: int
    category: str
    has_instances: bool
    ignore_in_eval: bool
    color: tuple[int, int, int]


CITYSCAPES_ROWS: tuple[Row, ...] = (
    Row("unlabeled", 0, 255, "void", False, True, (0, 0, 0)),
    Row("ego vehicle", 1, 255, "void", False, True, (0, 0, 0)),
    Row("rectification border", 2, 255, "void", False, True, (0, 0, 0)),
    Row("out of roi", 3, 255, "void", False, True, (0, 0, 0)),
    Row("static", 4, 255, "void", False, True, (0, 0, 0)),
    Row("dynamic", 5, 255, "void", False, True, (111, 74, 0)),
    Row("ground", 6, 255, "void", False, True, (81, 0, 81)),
    Row("road", 7, 0, "flat", False, False, (128, 64, 128)),
    Row("sidewalk", 8, 1, "flat", False, False, (244, 35, 232)),
    Row("parking", 9, 255, "flat", False, True, (250, 170, 160)),
    Row("rail track", 10, 255, "flat", False, True, (230, 150, 140)),
    Row("building", 11, 2, "construction", False, False, (70, 70, 70)),
    Row("wall", 12, 3, "construction", False, False, (102, 102, 156)),
    Row("fence", 13, 4, "construction", False, False, (190, 153, 153)),
    Row("guard rail", 14, 255, "construction", False, True, (180, 165, 180)),
    Row("bridge", 15, 255, "construction", False, True, (150, 100, 100)),
    Row("tunnel", 16, 255, "construction", False, True, (150, 120, 90)),
    Row("pole", 17, 5, "object", False, False, (153, 153, 153)),
    Row("polegroup", 18, 255, "object", False, True, (153, 153, 153)),
    Row("traffic light", 19, 6, "object", False, False, (250, 170, 30)),
    Row("traffic sign", 20, 7, "object", False, False, (220, 220, 0)),
    Row("vegetation", 21, 8, "nature", False, False, (107, 142, 35)),
    Row("terrain", 22, 9, "nature", False, False, (152, 251, 152)),
    Row("sky", 23, 10, "sky", False, False, (70, 130, 180)),
    Row("person", 24, 11, "human", True, False, (220, 20, 60)),
    Row("rider", 25, 12, "human", True, False, (255, 0, 0)),
    Row("car", 26, 13, "vehicle", True, False, (0, 0, 142)),
    Row("truck", 27, 14, "vehicle", True, False, (0, 0, 70)),
    Row("bus", 28, 15, "vehicle", True, False, (0, 60, 100)),
    Row("caravan", 29, 255, "vehicle", True, True, (0, 0, 90)),
    Row("trailer", 30, 255, "vehicle", True, True, (0, 0, 110)),
    Row("train", 31, 16, "vehicle", True, False, (0, 80, 100)),
    Row("motorcycle", 32, 17, "vehicle", True, False, (0, 0, 230)),
    Row("bicycle", 33, 18, "vehicle", True, False, (119, 11, 32)),
    Row("license plate", -1, -1, "vehicle", False, True, (0, 0, 142)),
)


@dataclass(frozen=True)
class LabelSet:
    """The classes that a model is trained on and a metric averages over.

    Attributes:
        name: "cityscapes", "camvid", or the name of a custom set.
        classes: K names; the index is the trainId.
        colors: uint8 (K,3) RGB.
    """

    name: str
    classes: tuple[str, ...]
    colors: np.ndarray = field(repr=False, compare=False)

    @property
    def num_classes(self) -> int:
        """K, without the ignored label."""
        return len(self.classes)


_EVALUATED = sorted((row for row in CITYSCAPES_ROWS if not row.ignore_in_eval), key=lambda row: row.train_id)
CITYSCAPES = LabelSet(
    "cityscapes",
    tuple(row.name for row in _EVALUATED),
    np.array([row.color for row in _EVALUATED], np.uint8),
)
CAMVID = LabelSet(
    "camvid",
    ("sky", "building", "pole", "road", "sidewalk", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"),
    np.array(
        [
            (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (0, 0, 192), (128, 128, 0),
            (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
        ],
        np.uint8,
    ),
)  # fmt: skip

DATASETS = ("procity", "camvid", "cityscapes")


def label_set(dataset: str) -> LabelSet:
    """The classes of a data set; procity has Cityscapes' own.

    Raises:
        ValueError: the data set is not one of `DATASETS`.
    """
    if dataset not in DATASETS:
        raise InputError(f"dataset is {dataset!r}; it must be one of {', '.join(DATASETS)}")
    return CAMVID if dataset == "camvid" else CITYSCAPES


MOST_CLASSES = 250
"""Maximum number of classes in 8-bit label maps, which also need reserved values."""


def distinct_color(place: int) -> tuple[int, int, int]:
    """RGB of a class that has no colour of its own, by its place; the golden ratio keeps neighbours apart."""
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(place * 0.618 % 1, 0.65, 0.9))


def own_classes(names: Sequence[str], colors: Sequence[Sequence[int]] | None = None, name: str = "own") -> LabelSet:
    """A label set from class names: Cityscapes' or CamVid's if names (and given colours) match theirs, else a new one.

    Args:
        names: K of them; the index is the trainId.
        colors: K times (red, green, blue), 0..255; by default the known set's, or `distinct_color`.
        name: name of the set, if it is a custom set.

    Raises:
        ValueError: names are not 1 to 250 different words, or colours do not fit them.
    """
    strings = not isinstance(names, str) and all(isinstance(one, str) and one.strip() for one in names)
    if not strings or not 1 <= len(names) <= MOST_CLASSES or len(set(names)) < len(names):
        raise InputError(f"classes are {names!r}; they must be 1 to {MOST_CLASSES} different names")
    known = next((one for one in (CITYSCAPES, CAMVID) if one.classes == tuple(names)), None)
    if colors is None:
        colors = known.colors.tolist() if known else [distinct_color(place) for place in range(len(names))]
    try:
        table = np.array(colors)
    except ValueError:  # rows of different lengths
        table = np.empty(0)
    if table.shape != (len(names), 3) or table.dtype.kind not in "iu" or table.min() < 0 or table.max() > 255:
        raise InputError(f"colors are {colors!r}; they must be [red, green, blue], 0..255, for each of {len(names)} classes")
    if known and np.array_equal(known.colors, table):
        return known
    return LabelSet(name, tuple(names), table.astype(np.uint8))


def default_classes(count: int) -> LabelSet:
    """The label set for a number of classes without names: 19 = Cityscapes, 11 = CamVid, else numbers.

    Raises:
        ValueError: the count is not a whole number in 1..250.
    """
    if not isinstance(count, int | np.integer) or isinstance(count, bool) or not 1 <= count <= MOST_CLASSES:
        raise InputError(f"num_classes is {count!r}; it must be a whole number, 1 to {MOST_CLASSES}")
    known = (one for one in (CITYSCAPES, CAMVID) if one.num_classes == count)
    return next(known, None) or own_classes([f"class {place}" for place in range(count)], name="unnamed")


_UNKNOWN = 254  # in the look-up table only: an id that the label table does not have


def _lookup(pairs: list[tuple[int, int]], default: int) -> np.ndarray:
    table = np.full(256, default, np.uint8)
    for source, target in pairs:
        table[source] = target
    return table


_TO_TRAIN = _lookup([(row.id, row.train_id) for row in CITYSCAPES_ROWS if row.id >= 0], _UNKNOWN)
_TO_ID = _lookup([(row.train_id, row.id) for row in _EVALUATED] + [(IGNORE, 0)], _UNKNOWN)


def _translate(labels: np.ndarray, table: np.ndarray, what: str, known: str) -> np.ndarray:
    if labels.dtype != np.uint8:
        raise InputError(f"{what} have dtype {labels.dtype}; they must be uint8")
    out = table[labels]
    if (out == _UNKNOWN).any():
        bad = np.unique(labels[out == _UNKNOWN]).tolist()
        raise InputError(f"{what} contain {bad}, outside the Cityscapes table ({known})")
    return out


def ids_to_train_ids(ids: np.ndarray) -> np.ndarray:
    """Map the 34 Cityscapes label ids to 19 trainIds.

    Args:
        ids: uint8, any shape, values 0..33.

    Returns:
        uint8, same shape, 0..18 or `IGNORE`.

    Raises:
        ValueError: an id outside the table, or another dtype.
    """
    return _translate(ids, _TO_TRAIN, "label ids", "ids 0..33")


def train_ids_to_ids(train_ids: np.ndarray) -> np.ndarray:
    """Map trainIds back to the ids that the official evaluator reads; `IGNORE` becomes 0 (unlabeled).

    Raises:
        ValueError: a trainId outside 0..18 and 255, or another dtype than uint8.
    """
    return _translate(train_ids, _TO_ID, "trainIds", "trainIds 0..18 and 255")


_MERGED = {
    "sky": ("sky",), "building": ("building", "wall"), "pole": ("pole",), "road": ("road",), "sidewalk": ("sidewalk",),
    "tree": ("vegetation", "terrain"), "sign": ("traffic light", "traffic sign"), "fence": ("fence",),
    "car": ("car", "truck", "bus", "train"), "pedestrian": ("person",), "bicyclist": ("rider", "motorcycle", "bicycle"),
}  # fmt: skip
_TO_CAMVID = _lookup(
    [(CITYSCAPES.classes.index(old), CAMVID.classes.index(new)) for new, all_old in _MERGED.items() for old in all_old],
    IGNORE,
)


def cityscapes_to_camvid(train_ids: np.ndarray) -> np.ndarray:
    """Merge Cityscapes' 19 classes into CamVid's 11, as SegNet's authors merged CamVid's own 32.

    They count walls as building, everything that grows as tree, traffic lights as sign, trucks, buses and trains as car, and the
    bicycle or motorcycle with its rider as bicyclist.

    Args:
        train_ids: uint8, any shape, 0..18; anything else becomes `IGNORE`.

    Returns:
        uint8, same shape, 0..10 or `IGNORE`.
    """
    return _TO_CAMVID[train_ids]


def colorize(labels: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """Colours of trainIds: (...) uint8 -> (...,3) uint8 RGB; ignored and unknown values are black."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: label_set.num_classes] = label_set.colors
    return palette[labels]
