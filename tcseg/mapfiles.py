"""Label maps on disk, which frames they belong to, and how they are read.

Three layouts. `cityscapes` (procity's too): below each folder, files whose names begin with `<city>_<sequence>_<frame>`; frames in
a row are a clip. `camvid`: files of one name in each folder. `folder`: a folder of images a clip (or one folder of images), and the
same tree with label maps. What is missing, broken or of another size is said with the file's name.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from tcseg.errors import InputError, NotFoundError
from tcseg.labels import IGNORE, LabelSet, ids_to_train_ids, label_set
from tcseg.videofiles import natural

LAYOUTS = ("cityscapes", "camvid", "folder")
IMAGES = (".png", ".jpg", ".jpeg")
CAMVID_VOID = 11


@dataclass(frozen=True)
class MapClip:
    """Files of one clip, in order; labels by frame index where they exist; exact flow of each frame to the next, if wanted."""

    name: str
    frames: tuple[Path, ...]
    predictions: tuple[Path, ...]
    labels: dict[int, Path] = field(default_factory=dict)
    flow: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Encoding:
    """What the values of label maps mean.

    Attributes:
        layout: one of `LAYOUTS`; "camvid" has CamVid's 11 classes (11 or 255 = void), the others Cityscapes' 19.
        train_ids: label maps hold trainIds; else ids of Cityscapes' table.
    """

    layout: str
    train_ids: bool = False

    @property
    def label_set(self) -> LabelSet:
        """The classes."""
        return label_set("camvid" if self.layout == "camvid" else "cityscapes")


# ------------------------------------------------------------------------------------------------ which files belong together


def find_clips(predictions: Path, frames: Path, labels: Path | None, layout: str, exact: bool) -> list[MapClip]:
    """Match files.

    Args:
        predictions, frames, labels: folders.
        layout: see the module.
        exact: exact flow is wanted, in `flow/` beside `leftImg8bit_sequence/` (layout "cityscapes" only).

    Raises:
        FileNotFoundError: a folder is missing or empty, or a frame has no prediction or no flow; the message names the first.
        ValueError: an unknown layout; predictions without a frame; labels that belong to no frame.
    """
    if layout not in LAYOUTS:
        raise InputError(f"layout is {layout!r}; it must be one of {', '.join(LAYOUTS)}")
    if exact and layout != "cityscapes":
        raise InputError(f"flow 'exact' needs layout cityscapes (a procity tree), not {layout!r}; use --flow dis")
    for what, folder in (("frames", frames), ("predictions", predictions), ("labels", labels)):
        if folder is not None and not folder.is_dir():
            raise NotFoundError(f"--{what} {folder} is not a folder")
    suffixes = {"frames": "_leftImg8bit.png", "labels": "_gtFine_labelIds.png"} if layout == "cityscapes" else {}
    found = _index(frames, layout, suffixes.get("frames", ""))
    if not found:
        raise NotFoundError(f"--frames {frames} has no images in layout {layout!r}{_hint(layout)}")
    maps = _index(predictions, layout, "")
    truth = _index(labels, layout, suffixes.get("labels", "")) if labels else {}
    _require_all(found, maps, predictions)
    if labels and not set(truth) & set(found):
        raise InputError(f"--labels {labels} has no label map of a frame in {frames}{_hint(layout)}")
    flow = _exact_flow(frames, found) if exact else {}
    return [
        _clip(keys, layout, found, maps, truth, flow)
        for keys in _in_a_row(sorted(found, key=lambda key: [*map(natural, key)]), layout)
    ]


Key = tuple[str, str]  # clip (or sequence) and frame


def _hint(layout: str) -> str:
    return {
        "cityscapes": ": names begin with <city>_<sequence>_<frame>, as berlin_000000_000019_leftImg8bit.png",
        "camvid": ": one folder of images, the same names everywhere",
        "folder": ": a folder of images for each clip, the same names everywhere",
    }[layout]


def _index(folder: Path, layout: str, suffix: str) -> dict[Key, Path]:
    """Images below a folder by clip and frame."""
    pattern = re.compile(r"(.+_\d{6})_(\d{6})" + (re.escape(suffix) + "$" if suffix else ""))
    found: dict[Key, Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES):
        if layout == "cityscapes":
            match = pattern.match(path.name)
            key = (match[1], match[2]) if match else None
        elif layout == "camvid":
            key = (path.stem.rpartition("_")[0], path.stem)
        else:
            key = (path.parent.relative_to(folder).as_posix(), path.stem)
        if key in found:
            raise InputError(f"{path} and {found[key]} are of the same frame; keep one of them")
        if key:
            found[key] = path
    return found


def _require_all(frames: Mapping[Key, Path], maps: Mapping[Key, Path], folder: Path) -> None:
    missing = [path for key, path in frames.items() if key not in maps]
    if missing:
        raise NotFoundError(
            f"{len(missing)} of {len(frames)} frames have no prediction below {folder} (first: {missing[0]}); "
            "every frame needs one, or TC has gaps: predict them, or take the frames out"
        )
    extra = [path for key, path in maps.items() if key not in frames]
    if extra:
        raise InputError(f"{len(extra)} predictions belong to no frame (first: {extra[0]}); are --frames complete?")


def _exact_flow(frames: Path, found: Mapping[Key, Path]) -> dict[Key, Path]:
    """Forward flow files of a procity tree, by the frame that they start from."""
    parts = frames.resolve().parts
    if "leftImg8bit_sequence" not in parts:
        raise NotFoundError(
            f"flow 'exact' lies beside leftImg8bit_sequence/, which is not in {frames}; use --flow dis"
        )
    at = len(parts) - 1 - parts[::-1].index("leftImg8bit_sequence")
    folder = Path(*parts[:at], "flow", *parts[at + 1 :])
    if not folder.is_dir():
        raise NotFoundError(f"{folder} is not there: this data set has no exact flow; use --flow dis")
    return _index(folder, "cityscapes", "_flow_forward.png")


def _in_a_row(keys: Sequence[Key], layout: str) -> Iterator[list[Key]]:
    """Cut sorted frames into clips: where the clip's name changes or, in the Cityscapes layout, a number is left out."""
    clip: list[Key] = []
    for key in keys:
        if clip and (key[0] != clip[-1][0] or (layout == "cityscapes" and int(key[1]) != int(clip[-1][1]) + 1)):
            yield clip
            clip = []
        clip.append(key)
    yield clip


def _clip(keys: list[Key], layout: str, frames, maps, truth, flow) -> MapClip:
    labels = {t: truth[key] for t, key in enumerate(keys) if key in truth}
    if flow:
        missing = [frames[key] for key in keys[:-1] if key not in flow]
        if missing:
            raise NotFoundError(
                f"clip {keys[0][0]} of {len(keys)} frames has {len(keys) - 1 - len(missing)} of {len(keys) - 1} flow files "
                f"(first without: {missing[0]}); `tcseg data check --mend` makes them again"
            )
    name = "_".join(keys[0]) if layout == "cityscapes" else keys[0][0]
    ordered = (tuple(files[key] for key in keys) for files in (frames, maps))
    return MapClip(name, *ordered, labels, tuple(flow[key] for key in keys[:-1]) if flow else ())


# ------------------------------------------------------------------------------------------------ reading


def _png_header(path: Path) -> tuple[int, int, int, int] | None:
    """Width, height, bits and colour type of a PNG, without decoding it; None for any other file."""
    with path.open("rb") as file:
        start = file.read(26)
    return struct.unpack(">IIBB", start[16:26]) if start.startswith(b"\x89PNG") and len(start) == 26 else None


def check_headers(clip: MapClip) -> None:
    """Find what would stop the work half way: label maps that are no 8-bit PNG of one channel, or not of their frame's size.

    Raises:
        ValueError: the file is named.
    """
    pairs = [
        *zip(clip.predictions, clip.frames, strict=True),
        *((clip.labels[t], clip.predictions[t]) for t in clip.labels),
    ]
    for path, other in pairs:
        header, wanted = _png_header(path), _png_header(other)
        if header is None or header[2:] != (8, 0):
            what = "no PNG" if header is None else f"a PNG of {header[2]} bits and colour type {header[3]}"
            raise InputError(f"{path} is {what}; a label map is an 8-bit grey PNG that holds ids, not colours")
        if wanted:
            require_size(path, header[1::-1], other, wanted[1::-1])


def read_map(path: Path, encoding: Encoding, ids_in_name: bool = False) -> np.ndarray:
    """Read a label map as trainIds, uint8 (H,W).

    Args:
        path: an 8-bit, 1-channel image.
        encoding: of its values.
        ids_in_name: the file is a Cityscapes `_labelIds` one, whatever the predictions hold.

    Raises:
        ValueError: unreadable, colours instead of ids, another depth, or values outside the table; the file is named.
    """
    ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if ids is None:
        raise InputError(f"{path} is not a readable image; write it again")
    if ids.ndim != 2 or ids.dtype != np.uint8:
        raise InputError(f"{path} is {ids.dtype} {ids.shape}; a label map is uint8 with one channel: ids, not colours")
    if encoding.layout == "camvid":
        ids = np.where(ids == CAMVID_VOID, np.uint8(IGNORE), ids)
    elif ids_in_name or not encoding.train_ids:
        try:
            return ids_to_train_ids(ids)
        except ValueError as error:
            hint = "" if ids_in_name else "; if these are trainIds, say --train-ids"
            raise InputError(f"{path}: {error}{hint}") from None
    wrong = [value for value in np.unique(ids).tolist() if encoding.label_set.num_classes <= value < IGNORE]
    if wrong:
        wanted = f"0..{encoding.label_set.num_classes - 1} and {IGNORE} (void)"
        raise InputError(f"{path} contains {wrong}, outside the trainIds {wanted}; if these are ids, say --ids")
    return ids


def read_maps(paths: Sequence[Path], encoding: Encoding) -> np.ndarray:
    """Read label maps of one clip: uint8 (T,H,W).

    Raises:
        ValueError: as `read_map`, or sizes differ.
    """
    maps = [read_map(path, encoding) for path in paths]
    for path, one in zip(paths, maps, strict=True):
        require_size(path, one.shape, paths[0], maps[0].shape)
    return np.stack(maps)


def require_size(path: Path, shape: tuple[int, ...], other: Path, wanted: tuple[int, ...]) -> None:
    """Refuse a file whose (H,W,...) is not that of the file it belongs to.

    Raises:
        ValueError: both are named.
    """
    if shape[:2] != wanted[:2]:
        raise InputError(
            f"{path} is {shape[1]}x{shape[0]} but {other} is {wanted[1]}x{wanted[0]}; resize the logits to the frame's "
            "size, then take the best class"
        )
