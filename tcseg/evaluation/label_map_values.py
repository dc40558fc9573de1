"""Detect what the values of label maps mean, and convert them to trainIds.

It may be stated in a `meta.json` in the folder of the maps (which `tcseg segment --labels` writes) or in their names
(`_labelIds`, `_labelTrainIds`, `_panoptic`). Otherwise *all* values of all maps are examined: if one encoding fits, it is used;
if two fit, an error names the option that decides. Supported are grey maps of up to 8 bits, palette images (by index), 16-bit
instance maps, and three-channel panoptic maps, by the id encoded in all channels (Cityscapes) or by the red channel (KITTI-STEP).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tcseg.data.class_tables import CAMVID_TABLE, CITYSCAPES_TABLE, KNOWN, UNKNOWN, ClassTable
from tcseg.data.images import read_values
from tcseg.errors import InputError
from tcseg.labels import CITYSCAPES, IGNORE, cityscapes_to_camvid

META = "meta.json"
CHANNELS = ("grey", "red", "panoptic")
MOSTLY = 0.5  # share of pixels; trainIds that are read as ids are mostly void


# ------------------------------------------------------------------------------------------------ stated by the maps


def write_meta(folder: Path, classes: Sequence[str], class_set: str, **more: object) -> Path:
    """Write `meta.json`, which describes the values, into a folder of label maps that hold trainIds."""
    path = folder / META
    meta = {"values": "trainIds", "class_set": class_set, "classes": list(classes), "void": IGNORE, **more}
    path.write_text(json.dumps(meta, indent=1) + "\n")
    return path


def read_meta(paths: Iterable[Path], root: Path) -> dict | None:
    """The content of the nearest `meta.json` in the folders from the label maps up to `root`; None if there is none.

    Raises:
        InputError: it cannot be read, or there are maps with different encodings below `root`.
    """
    metas: dict[Path, dict | None] = {}
    for folder in {path.parent for path in paths}:
        above = [folder, *folder.parents]
        inside = above[: above.index(root) + 1] if root in above else above[:1]
        at = next((one / META for one in inside if (one / META).is_file()), None)
        metas[folder] = None if at is None else _parse_meta(at)
    kinds = {json.dumps(one and [one["values"], one.get("classes")]) for one in metas.values()}
    if len(kinds) > 1:
        raise InputError(
            f"the label maps below {root} have different encodings according to their {META}; evaluate each kind "
            "separately"
        )
    return next(iter(metas.values()), None)


def _parse_meta(path: Path) -> dict | None:
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); correct or remove it") from None
    if not isinstance(meta, dict) or "values" not in meta:  # written by another program
        return None
    if meta["values"] not in ("ids", "trainIds"):
        raise InputError(f"values in {path} is {meta['values']!r}; it must be ids or trainIds")
    names = meta.get("classes") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"classes in {path} is {str(names)[:60]}; it must be a list of names, or left out")
    return meta


def encoding_in_name(path: Path) -> str | None:
    """The encoding in a Cityscapes file name: "ids", "trainIds" or "panoptic"; None for any other name."""
    stem = path.stem.lower()
    endings = {"labelids": "ids", "trainids": "trainIds", "_panoptic": "panoptic"}
    return next((kind for ending, kind in endings.items() if stem.endswith(ending)), None)


# ------------------------------------------------------------------------------------------------ examining all values


@dataclass(frozen=True)
class MapContents:
    """The values of a label map.

    Attributes:
        shape: (H,W).
        counts: channel -> number of pixels of each value, (256,), for the channels that can be read.
        beyond: channel -> a value outside 0..255, if there is one.
    """

    shape: tuple[int, int]
    counts: dict[str, np.ndarray]
    beyond: dict[str, int]


def inspect_map(path: Path) -> MapContents:
    """Decode a label map and count its values in each possible channel.

    Raises:
        InputError: the file is damaged, lossy, or not a label map; the message names it.
    """
    stored = read_values(path)
    counts, beyond = {}, {}
    for channel in ("grey", "panoptic") if stored.ndim == 2 else CHANNELS:
        if (values := _channel(stored, channel)) is None:
            continue
        if values.max(initial=0) > 255 or values.min(initial=0) < 0:
            beyond[channel] = int(values.max()) if values.max() > 255 else int(values.min())
        else:
            counts[channel] = np.bincount(values.ravel().astype(np.uint8), minlength=256)
    return MapContents(stored.shape[:2], counts, beyond)


def _channel(stored: np.ndarray, channel: str) -> np.ndarray | None:
    """The values (H,W) of a channel; None if the picture does not have it."""
    if channel == "red":
        return stored[..., 0] if stored.ndim == 3 else None
    if channel == "grey":
        grey = stored.ndim == 2 or (stored == stored[..., :1]).all()
        return (stored if stored.ndim == 2 else stored[..., 0]) if grey else None
    if stored.ndim == 2 and stored.dtype == np.uint8:
        return None
    number = stored.astype(np.int64) if stored.ndim == 2 else stored.astype(np.int64) @ (1, 256, 65536)
    return np.where(number >= 1000, number // 1000, number)


@dataclass(frozen=True)
class Reading:
    """How stored values are converted to trainIds.

    Attributes:
        table: the classes of the maps.
        values: "ids" or "trainIds".
        channel: "grey" (also for palette images), "red", or "panoptic": the instance number (16 bits, or red + 256 green + 65536
            blue) divided by 1000.
        merged: whether Cityscapes' classes are merged into CamVid's (`labels.cityscapes_to_camvid`).
        because: the reason for this choice, for the report.
    """

    table: ClassTable
    values: str
    channel: str = "grey"
    merged: bool = False
    because: str = ""

    def to_train_ids(self) -> np.ndarray:
        """uint8 (256,): value -> trainId of the evaluated classes, `IGNORE` or `UNKNOWN`."""
        table = self.table.lookup(self.values)
        return (
            np.where(table == UNKNOWN, UNKNOWN, cityscapes_to_camvid(table)).astype(np.uint8) if self.merged else table
        )

    def fits(self, content: MapContents) -> bool:
        """Whether every value is in the class table."""
        counts = content.counts.get(self.channel)
        return counts is not None and not (counts[self.table.lookup(self.values) == UNKNOWN]).any()

    def void(self, counts: np.ndarray) -> float:
        """Share of void pixels, from counts (256,); nan without pixels."""
        return float(counts[self.to_train_ids() == IGNORE].sum() / counts.sum()) if counts.sum() else float("nan")

    def read(self, path: Path) -> np.ndarray:
        """A label map as trainIds, uint8 (H,W).

        Raises:
            InputError: the file is damaged, lacks the channel, or holds values outside the class table.
        """
        values = _channel(read_values(path), self.channel)
        if values is None:
            raise InputError(
                f"{path} holds {_form(path)}, but the other maps are read from their {self.channel} channel; use one "
                "format for all"
            )
        odd = values[(values < 0) | (values > 255)]
        train_ids = None if odd.size else self.to_train_ids()[values.astype(np.uint8)]
        if train_ids is None or (train_ids == UNKNOWN).any():
            wrong = odd if odd.size else values[train_ids == UNKNOWN]
            raise InputError(_outside(path, np.unique(wrong).tolist(), self.table, (self.values,)))
        return train_ids


def _form(path: Path) -> str:
    stored = read_values(path)
    return "colours" if stored.ndim == 3 else f"{stored.dtype} grey values"


def _outside(path: Path, wrong: Sequence[int], table: ClassTable, encodings: Sequence[str]) -> str:
    listed = ", ".join(map(str, wrong[:8])) + (", ..." if len(wrong) > 8 else "")
    expected = " nor ".join(f"{table.label_set.name}'s {one} ({table.known(one)})" for one in encodings)
    return f"{path} contains [{listed}], which is not among {expected}"


# ------------------------------------------------------------------------------------------------ deciding


def decide(
    contents: Mapping[Path, MapContents],
    table: ClassTable,
    what: str,
    stated: str | None = None,
    because: str = "",
    merged: bool = False,
) -> Reading:
    """Find the one reading that fits all maps of a kind.

    Args:
        contents: values of all maps.
        table: the classes of the maps.
        what: the kind, for messages: "predictions" or "labels".
        stated: "ids", "trainIds" or "panoptic", if known; None = decide from the values.
        because: how it is known.
        merged: see `Reading`.

    Raises:
        InputError: no reading fits (the message names the first file), or two do (it names the option that decides).
    """
    channels = ["panoptic", "grey"] if stated == "panoptic" else CHANNELS
    encodings = [stated] if stated in table.encodings else [*table.encodings]
    if stated and stated not in (*table.encodings, "panoptic"):
        encodings = ["ids"]  # in this table, ids and trainIds are equal
    every = [Reading(table, values, channel, merged, because) for channel in channels for values in encodings]
    fitting = [one for one in every if all(one.fits(content) for content in contents.values())]
    if not fitting:
        raise _fits_nothing(contents, table, what, encodings, stated, because)
    by_channel = {one.channel for one in fitting}
    if len(by_channel) > 1:  # the channels hold the same values, as in panoptic maps without instances
        fitting = [one for one in fitting if one.channel == next(c for c in channels if c in by_channel)]
    if len(fitting) == 1:
        reason = because or _why_alone(fitting[0], table)
        return Reading(table, fitting[0].values, fitting[0].channel, merged, reason)
    return _of_two(fitting, contents, table, what, merged)


def _why_alone(reading: Reading, table: ClassTable) -> str:
    return (
        f"the values fit only {table.label_set.name}'s {reading.values}"
        if len(table.encodings) > 1
        else "stated by --classes"
    )


def _of_two(fitting: list[Reading], contents: Mapping[Path, MapContents], table: ClassTable, what: str, merged: bool) -> Reading:
    """Choose between ids and trainIds if the values fit both: trainIds if most pixels would be void as ids."""
    as_ids, as_train_ids = fitting
    counts = sum(content.counts[as_ids.channel] for content in contents.values())
    counts = np.where(np.arange(256) == IGNORE, 0, counts)  # void in both encodings
    void, used = as_ids.void(counts), set(np.flatnonzero(counts).tolist())
    both = used - {0} and used - {0} <= set(table.ids)  # could also be ids with many unlabelled pixels
    if void > MOSTLY and not both:
        because = f"the largest value is {max(used)}, and {void:.0%} would be void as ids"
        return Reading(table, "trainIds", as_train_ids.channel, merged, because)
    raise InputError(
        f"the values of the {what} ({', '.join(map(str, sorted(used)[:8]))}) are valid both as ids and as trainIds of "
        f"{table.label_set.name}; pass --ids or --train-ids"
    )


def _fits_nothing(contents, table, what, encodings, stated, because) -> InputError:
    """The error for maps that fit no reading; it names the first file that does not fit, and what the file holds."""

    def spoils(path: Path, channel: str, values: str) -> bool:
        return not Reading(table, values, channel).fits(contents[path])

    best = min(
        ((channel, values) for channel in CHANNELS for values in encodings),
        key=lambda reading: sum(spoils(path, *reading) for path in contents),
    )
    path = next(path for path in contents if spoils(path, *best))
    content, source = contents[path], f" ({because})" if because else ""
    if best[0] in content.counts:
        wrong = np.flatnonzero((content.counts[best[0]] > 0) & (table.lookup(best[1]) == UNKNOWN)).tolist()
        other = [one for one in table.encodings if one not in encodings]
        fits = all(Reading(table, other[0], best[0]).fits(one) for one in contents.values()) if other else False
        hint = f"; the values fit {other[0]}: pass {'--ids' if other[0] == 'ids' else '--train-ids'}" if fits else ""
        return InputError(_outside(path, wrong, table, encodings) + source + hint + _other_classes(contents, table))
    if "grey" in content.beyond:
        holds = (
            f"values such as {content.beyond['grey']}, so it may be an instance map; a label map holds one class per pixel"
        )
    elif content.counts.keys() | content.beyond.keys() >= {"red"}:
        holds = "colours instead of classes; save the class of each pixel as an 8-bit grey PNG"
    else:
        holds = "values that are not classes; save the class of each pixel as an 8-bit grey PNG"
    return InputError(f"{path} holds {holds}{source}")


def _other_classes(contents: Mapping[Path, MapContents], table: ClassTable) -> str:
    """A hint if the values fit another known class set."""
    for name, other in (("cityscapes", CITYSCAPES_TABLE), ("camvid", CAMVID_TABLE)):
        readings = (Reading(other, values, "grey") for values in other.encodings)
        if other != table and any(all(one.fits(content) for content in contents.values()) for one in readings):
            return f"; the values fit --classes {name}"
    return ""


def classes_of(meta: dict | None, target: ClassTable | None) -> tuple[ClassTable | None, bool]:
    """The classes of the maps according to `meta.json`, and whether they must be merged into CamVid's, the target.

    Raises:
        InputError: they cannot be converted to the target classes.
    """
    names = tuple(meta["classes"]) if meta and meta.get("classes") else None
    if names is None:
        return target, False
    tables = {CITYSCAPES_TABLE.label_set.classes: CITYSCAPES_TABLE, CAMVID_TABLE.label_set.classes: CAMVID_TABLE}
    if target is None and names not in tables:
        raise InputError(
            f"the predictions' {META} lists {len(names)} classes ({', '.join(names[:3])} ...), which are neither Cityscapes' nor "
            "CamVid's; pass --classes FILE with the id of each class in the label maps"
        )
    if target is None:
        return tables[names], False
    if names == target.label_set.classes:
        return target, False
    if names == CITYSCAPES.classes and target == CAMVID_TABLE:
        return CITYSCAPES_TABLE, True
    raise InputError(
        f"the predictions' {META} lists {len(names)} classes ({', '.join(names[:3])} ...), but --classes or --layout selects "
        f"{target.label_set.num_classes} ({', '.join(target.label_set.classes[:3])} ...); pass --classes {', '.join(KNOWN)} or FILE"
    )
