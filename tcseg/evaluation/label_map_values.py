"""Detect what the values of label maps mean, and convert them to trainIds.

Maps say it themselves: in a `meta.json` beside them (which `tcseg segment --labels` writes) or in their names (`_labelIds`,
`_labelTrainIds`, `_panoptic`). Where nothing says it, *all* values of all maps are looked at, and what fits one reading alone is
read so; what fits two is refused, with the option that decides. Read are grey maps of up to 8 bits, palettes by their index, 16-bit
maps of instances, and three-channel panoptic maps, by the id that their channels make (Cityscapes) or by the red one (KITTI-STEP).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tcseg.data.images import read_values
from tcseg.errors import InputError
from tcseg.evaluation.class_tables import CAMVID_TABLE, CITYSCAPES_TABLE, KNOWN, UNKNOWN, ClassTable
from tcseg.labels import CITYSCAPES, IGNORE, cityscapes_to_camvid

META = "meta.json"
CHANNELS = ("grey", "red", "panoptic")
MOSTLY = 0.5  # of the pixels: maps of trainIds that are read as ids are mostly void


# ------------------------------------------------------------------------------------------------ what maps say themselves


def write_meta(folder: Path, classes: Sequence[str], class_set: str, **more: object) -> Path:
    """Write `meta.json` into a folder of label maps that hold trainIds: what they mean, for whoever reads them."""
    path = folder / META
    meta = {"values": "trainIds", "class_set": class_set, "classes": list(classes), "void": IGNORE, **more}
    path.write_text(json.dumps(meta, indent=1) + "\n")
    return path


def read_meta(paths: Iterable[Path], root: Path) -> dict | None:
    """What the nearest `meta.json` above label maps says, none further up than `root`; None where there is none.

    Raises:
        InputError: it cannot be read, or maps of several kinds lie below one root.
    """
    metas: dict[Path, dict | None] = {}
    for folder in {path.parent for path in paths}:
        above = [folder, *folder.parents]
        inside = above[: above.index(root) + 1] if root in above else above[:1]
        at = next((one / META for one in inside if (one / META).is_file()), None)
        metas[folder] = None if at is None else _parse_meta(at)
    kinds = {json.dumps(one and [one["values"], one.get("classes")]) for one in metas.values()}
    if len(kinds) > 1:
        raise InputError(f"label maps below {root} are of several kinds, as {META} says; evaluate each kind by itself")
    return next(iter(metas.values()), None)


def _parse_meta(path: Path) -> dict | None:
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read ({error}); remove it, or write it again") from None
    if not isinstance(meta, dict) or "values" not in meta:  # of another program
        return None
    if meta["values"] not in ("ids", "trainIds"):
        raise InputError(f"{path} says values {meta['values']!r}; known are ids and trainIds")
    return meta


def encoding_in_name(path: Path) -> str | None:
    """As Cityscapes' scripts end the names of their files: "ids", "trainIds" or "panoptic"; None for any other name."""
    stem = path.stem.lower()
    endings = {"labelids": "ids", "trainids": "trainIds", "_panoptic": "panoptic"}
    return next((kind for ending, kind in endings.items() if stem.endswith(ending)), None)


# ------------------------------------------------------------------------------------------------ looking at all values


@dataclass(frozen=True)
class MapContents:
    """What a label map holds.

    Attributes:
        shape: (H,W).
        counts: channel -> pixels of each value, (256,), for the channels that can be read.
        beyond: channel -> a value above 255, where there is one.
    """

    shape: tuple[int, int]
    counts: dict[str, np.ndarray]
    beyond: dict[str, int]


def inspect_map(path: Path) -> MapContents:
    """Decode a label map and count its values, in each channel that it may be read by.

    Raises:
        InputError: it is damaged, lossy, or no map at all; the message names it.
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
    """One channel's values (H,W); None where the picture has no such channel."""
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
    """How stored values become trainIds.

    Attributes:
        table: the classes that the maps hold.
        values: "ids" or "trainIds".
        channel: "grey" (palettes' index and panoptic maps without instances, too), "red", or "panoptic": the number that a map of
            instances holds (of 16 bits, or red + 256 green + 65536 blue), by 1000.
        merged: Cityscapes' classes are merged into CamVid's (`labels.cityscapes_to_camvid`).
        because: what decided, for the reader.
    """

    table: ClassTable
    values: str
    channel: str = "grey"
    merged: bool = False
    because: str = ""

    def to_train_ids(self) -> np.ndarray:
        """uint8 (256,): value -> trainId of the classes that are evaluated, `IGNORE` or `UNKNOWN`."""
        table = self.table.lookup(self.values)
        return (
            np.where(table == UNKNOWN, UNKNOWN, cityscapes_to_camvid(table)).astype(np.uint8) if self.merged else table
        )

    def fits(self, content: MapContents) -> bool:
        """Whether each value is known."""
        counts = content.counts.get(self.channel)
        return counts is not None and not (counts[self.table.lookup(self.values) == UNKNOWN]).any()

    def void(self, counts: np.ndarray) -> float:
        """Share of pixels that are void, of counts (256,); nan of none."""
        return float(counts[self.to_train_ids() == IGNORE].sum() / counts.sum()) if counts.sum() else float("nan")

    def read(self, path: Path) -> np.ndarray:
        """A label map as trainIds, uint8 (H,W).

        Raises:
            InputError: the file is damaged, has no such channel, or holds values that the table does not have.
        """
        values = _channel(read_values(path), self.channel)
        if values is None:
            raise InputError(f"{path} holds {_form(path)}; the other maps are read by {self.channel}")
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
    return f"{path} contains [{listed}], not among {expected}"


# ------------------------------------------------------------------------------------------------ deciding


def decide(
    contents: Mapping[Path, MapContents],
    table: ClassTable,
    what: str,
    stated: str | None = None,
    because: str = "",
    merged: bool = False,
) -> Reading:
    """Find the one reading that all maps of a kind fit.

    Args:
        looks: of all of them.
        table: the classes that the maps hold.
        what: they are called in messages: "predictions" or "labels".
        said: "ids", "trainIds" or "panoptic", where something says it; None = their values decide.
        because: what says it.
        merged: see `Reading`.

    Raises:
        InputError: values fit no reading (the first file is named), or two (the option that decides is named).
    """
    channels = ["panoptic", "grey"] if stated == "panoptic" else CHANNELS
    encodings = [stated] if stated in table.encodings else [*table.encodings]
    if stated and stated not in (*table.encodings, "panoptic"):
        encodings = ["ids"]  # a table whose ids are its trainIds
    every = [Reading(table, values, channel, merged, because) for channel in channels for values in encodings]
    fitting = [one for one in every if all(one.fits(content) for content in contents.values())]
    if not fitting:
        raise _fits_nothing(contents, table, what, encodings, stated, because)
    by_channel = {one.channel for one in fitting}
    if len(by_channel) > 1:  # panoptic maps without instances, and grey ones in three channels: the same values
        fitting = [one for one in fitting if one.channel == next(c for c in channels if c in by_channel)]
    if len(fitting) == 1:
        reason = because or _why_alone(fitting[0], table)
        return Reading(table, fitting[0].values, fitting[0].channel, merged, reason)
    return _of_two(fitting, contents, table, what, merged)


def _why_alone(reading: Reading, table: ClassTable) -> str:
    return (
        f"values fit {table.label_set.name}'s {reading.values} alone"
        if len(table.encodings) > 1
        else "as --classes says"
    )


def _of_two(fitting: list[Reading], contents: Mapping[Path, MapContents], table: ClassTable, what: str, merged: bool) -> Reading:
    """Ids or trainIds, where each value is both: trainIds, if as ids most of the picture would be void."""
    as_ids, as_train_ids = fitting
    counts = sum(content.counts[as_ids.channel] for content in contents.values())
    counts = np.where(np.arange(256) == IGNORE, 0, counts)  # void in both
    void, used = as_ids.void(counts), set(np.flatnonzero(counts).tolist())
    both = used - {0} and used - {0} <= set(table.ids)  # a map of ids in which much is unlabelled looks so, too
    if void > MOSTLY and not both:
        because = f"no value is above {max(used)}, and as ids {void:.0%} would be void"
        return Reading(table, "trainIds", as_train_ids.channel, merged, because)
    raise InputError(
        f"{what} hold {len(used)} values, all of them both ids and trainIds of {table.label_set.name} "
        f"({', '.join(map(str, sorted(used)[:8]))}): say --ids or --train-ids"
    )


def _fits_nothing(contents, table, what, encodings, stated, because) -> InputError:
    """Which file spoils every reading, and what it is."""

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
        hint = f"; they fit {other[0]}: say {'--ids' if other[0] == 'ids' else '--train-ids'}" if fits else ""
        return InputError(_outside(path, wrong, table, encodings) + source + hint + _other_classes(contents, table))
    if "grey" in content.beyond:
        holds = (
            f"a map of {content.beyond['grey']} and other large values: instances? A label map holds a class in each pixel"
        )
    elif content.counts.keys() | content.beyond.keys() >= {"red"}:
        holds = "colours, not classes; write the class of each pixel as an 8-bit grey PNG"
    else:
        holds = "values that are no classes"
    return InputError(f"{path} holds {holds}{source}")


def _other_classes(contents: Mapping[Path, MapContents], table: ClassTable) -> str:
    """Whether the values are those of another known class set."""
    for name, other in (("cityscapes", CITYSCAPES_TABLE), ("camvid", CAMVID_TABLE)):
        readings = (Reading(other, values, "grey") for values in other.encodings)
        if other != table and any(all(one.fits(content) for content in contents.values()) for one in readings):
            return f"; they fit --classes {name}"
    return ""


def classes_of(meta: dict | None, target: ClassTable | None) -> tuple[ClassTable | None, bool]:
    """The classes that maps hold by their `meta.json`, and whether they are merged into CamVid's, which are wanted.

    Raises:
        InputError: they are of other classes than those that are wanted.
    """
    names = tuple(meta["classes"]) if meta and meta.get("classes") else None
    if names is None:
        return target, False
    tables = {CITYSCAPES_TABLE.label_set.classes: CITYSCAPES_TABLE, CAMVID_TABLE.label_set.classes: CAMVID_TABLE}
    if target is None and names not in tables:
        raise InputError(
            f"the predictions' {META} names {len(names)} classes ({', '.join(names[:3])} ...), which are neither Cityscapes' nor "
            "CamVid's: --classes FILE says which ids they have in the label maps"
        )
    if target is None:
        return tables[names], False
    if names == target.label_set.classes:
        return target, False
    if names == CITYSCAPES.classes and target == CAMVID_TABLE:
        return CITYSCAPES_TABLE, True
    raise InputError(
        f"the predictions' {META} names {len(names)} classes ({', '.join(names[:3])} ...), but --classes has "
        f"{target.label_set.num_classes} ({', '.join(target.label_set.classes[:3])} ...); known sets: {', '.join(KNOWN)}"
    )
