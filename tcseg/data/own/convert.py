"""Exports of annotation tools as a folder of one's own: COCO polygons, CVAT's masks, Cityscapes' files (`tcseg data new`)."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from warnings import catch_warnings

import numpy as np

from tcseg.data.class_tables import CITYSCAPES_TABLE, ClassTable
from tcseg.data.clip_files import window_of
from tcseg.data.images import files_below, read_header, read_rgb
from tcseg.data.own.create import place, require_new, write_classes, write_label
from tcseg.data.own.layout import SPLIT
from tcseg.data.palettes import fill
from tcseg.data.splits import FRAME_ENDING, LABEL_ENDINGS, index_cityscapes
from tcseg.errors import CannotRunError, InputError, NotFoundError
from tcseg.labels import IGNORE, MOST_CLASSES, LabelSet

FORMATS = ("coco", "cvat", "cityscapes")
REST = "background"
"""The class of pixels that nobody annotated; the first one, with id 0."""
VAL_EVERY = 5  # of unrelated pictures, one in so many is for validation


def convert(root: Path, form: str, source: Path, frames: Path | None = None) -> str:
    """Write a folder of one's own from an export.

    Args:
        root: a new folder.
        form: one of `FORMATS`.
        source: COCO: the JSON file. CVAT ("Segmentation mask"): the zip file, or the folder. Cityscapes: the folder with gtFine.
        frames: the folder of pictures, where the export has none (CVAT: without JPEGImages; COCO: always).

    Returns:
        What was written, in one line.

    Raises:
        NotFoundError, InputError: the export lacks something, by name. CannotRunError: COCO without pycocotools.
    """
    if not source.exists():
        raise NotFoundError(f"there is no {source}; give the {form} export with --source")
    work: dict[str, Callable[[Path, Path, Path | None], int]] = {"coco": _coco, "cvat": _cvat, "cityscapes": _cityscapes}
    count = work[form](root, source, frames)
    return f"{count} labels in {root}"


# ------------------------------------------------------------------------------------------------ pictures that belong to no clip


class _Writer:
    """Frames and labels by name; names in folders are clips, all others stills, of which every fifth is for validation."""

    def __init__(self, root: Path, table: ClassTable) -> None:
        self.root, self.count, self.stills = require_new(root), 0, 0
        write_classes(root, table)
        self.clips: dict[str, None] = {}

    def add(self, name: str, frame: Path, ids: np.ndarray) -> None:
        """One picture with its label map; `name` may have folders, but no suffix."""
        size = read_header(frame).size
        if ids.shape[::-1] != size:
            label = f"{ids.shape[1]}x{ids.shape[0]}"
            raise InputError(f"{frame} is {size[0]}x{size[1]}, but its label is {label}; both must have one size")
        *folders, stem = name.split("/")
        clip = "_".join(folders)
        if not folders:
            clip, self.stills = ("stills_val" if self.stills % VAL_EVERY == VAL_EVERY - 1 else "stills_train"), self.stills + 1
        self.clips[clip] = None
        place(frame, self.root / "frames" / clip / f"{stem}{frame.suffix.lower()}")
        write_label(self.root / "labels" / clip / f"{stem}.png", ids)
        self.count += 1

    def finish(self) -> int:
        """Write split.yaml if there are stills; returns the number of labels."""
        if self.count == 0:
            raise InputError(f"the export has no labelled picture; {self.root} is left without any")
        own = [clip for clip in self.clips if not clip.startswith("stills_")]
        stills = [clip for clip in self.clips if clip.startswith("stills_")]
        if stills:
            val = [clip for clip in stills if clip.endswith("val")] or own[-1:]
            train = [clip for clip in (*stills, *own) if clip not in val]
            text = f"train: {json.dumps(train)}\nval: {json.dumps(val)}\nstills: {json.dumps(stills)}\n"
            (self.root / SPLIT).write_text(text, encoding="utf-8")
        return self.count


def _pictures(folder: Path) -> dict[str, Path]:
    """Pictures below a folder by their names, with the folders and without."""
    found: dict[str, Path] = {}
    for path in files_below(folder):
        relative = path.relative_to(folder).with_suffix("")
        found.setdefault(relative.name, path)
        found[relative.as_posix()] = path
    return found


def _table(names: list[str], colors: list[tuple[int, int, int] | None]) -> ClassTable:
    if len(names) > MOST_CLASSES:
        raise InputError(f"the export has {len(names)} classes; label maps of 8 bits allow at most {MOST_CLASSES}")
    label_set = LabelSet("own", tuple(names), np.array(fill(colors), np.uint8))
    return ClassTable(label_set, tuple(range(len(names))))


# ------------------------------------------------------------------------------------------------ COCO


def _coco(root: Path, source: Path, frames: Path | None) -> int:
    """Polygons and masks; where instances overlap, the smaller one is in front."""
    try:
        from pycocotools.coco import COCO
    except ImportError:
        raise CannotRunError("COCO needs the package pycocotools; run: pip install tcseg[data]") from None
    if frames is None or not frames.is_dir():
        raise NotFoundError("COCO's file has no pictures; give their folder with --frames")
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
        images, categories = content["images"], content["categories"]
    except (ValueError, KeyError, TypeError, UnicodeDecodeError):
        raise InputError(f"{source} is no COCO file: it must be JSON with images, annotations and categories") from None
    coco = COCO()
    coco.dataset = content
    with redirect_stdout(StringIO()):  # it prints what it does
        coco.createIndex()
    names = [REST, *(str(one["name"]) for one in categories if str(one["name"]).casefold() != REST)]
    place_of = {one["id"]: 0 if str(one["name"]).casefold() == REST else names.index(str(one["name"])) for one in categories}
    there = _pictures(frames)
    writer = _Writer(root, _table(names, [(0, 0, 60), *[None] * (len(names) - 1)]))
    for image in sorted(images, key=lambda one: str(one["file_name"])):
        path = there.get(Path(image["file_name"]).with_suffix("").as_posix()) or there.get(Path(image["file_name"]).stem)
        if path is None:
            raise NotFoundError(f"{frames} has no {image['file_name']}, which {source} names; give the right folder with --frames")
        ids = np.zeros((image["height"], image["width"]), np.uint8)
        for one in sorted(coco.imgToAnns[image["id"]], key=lambda one: -one.get("area", 0)):
            if one["category_id"] not in place_of:
                raise InputError(f"{source}: annotation {one.get('id')} has the unknown category {one['category_id']}")
            with catch_warnings(action="ignore", category=DeprecationWarning):  # it does not know numpy 2 yet
                mask = coco.annToMask(one).astype(bool)
            ids[mask] = IGNORE if one.get("iscrowd") else place_of[one["category_id"]]
        writer.add(Path(image["file_name"]).with_suffix("").as_posix(), path, ids)
    return writer.finish()


# ------------------------------------------------------------------------------------------------ CVAT


@contextmanager
def _unpacked(source: Path) -> Iterator[Path]:
    if source.is_dir():
        yield source
        return
    if not zipfile.is_zipfile(source):
        raise InputError(f"{source} is neither a folder nor a zip file; give the export as CVAT wrote it")
    with TemporaryDirectory() as folder, zipfile.ZipFile(source) as archive:
        archive.extractall(folder)
        yield Path(folder)


def _cvat(root: Path, source: Path, frames: Path | None) -> int:
    """CVAT's "Segmentation mask": colours in SegmentationClass, what they mean in labelmap.txt."""
    with _unpacked(source) as folder:
        colors = _labelmap(folder / "labelmap.txt", source)
        masks = folder / "SegmentationClass"
        if not masks.is_dir():
            raise NotFoundError(f"{source} has no SegmentationClass; export it from CVAT as Segmentation mask 1.1")
        there = _pictures(frames or folder / "JPEGImages") if (frames or folder / "JPEGImages").is_dir() else {}
        if not there:
            raise NotFoundError(f"{source} has no pictures (JPEGImages); export it with images, or give their folder with --frames")
        packed = {_packed(np.array(color, np.uint8)): index for index, color in enumerate(colors.values())}
        writer = _Writer(root, _table(list(colors), list(colors.values())))
        for path in files_below(masks, (".png",)):
            name = path.relative_to(masks).with_suffix("").as_posix()
            frame = there.get(name) or there.get(path.stem)
            if frame is None:
                raise NotFoundError(f"there is no frame {name} for {path.name}; give the right folder with --frames")
            writer.add(name, frame, _by_color(path, packed))
        return writer.finish()


def _packed(rgb: np.ndarray) -> np.ndarray:
    return rgb[..., 0].astype(np.int64) << 16 | rgb[..., 1].astype(np.int64) << 8 | rgb[..., 2]


def _by_color(path: Path, packed: dict[int, int]) -> np.ndarray:
    values, places = np.unique(_packed(read_rgb(path)), return_inverse=True)
    if unknown := [value for value in values.tolist() if value not in packed]:
        rgb = unknown[0] >> 16, unknown[0] >> 8 & 255, unknown[0] & 255
        raise InputError(f"{path.name} has the color {rgb}, which labelmap.txt does not have; export it again as PNG masks")
    ids = np.array([packed[value] for value in values.tolist()], np.uint8)
    return ids[places].reshape(read_header(path).size[::-1])


def _labelmap(path: Path, source: Path) -> dict[str, tuple[int, int, int]]:
    if not path.is_file():
        raise NotFoundError(f"{source} has no labelmap.txt; export it from CVAT as Segmentation mask 1.1")
    found: dict[str, tuple[int, int, int]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        parts = line.split(":")
        if line.startswith("#") or len(parts) < 2 or not parts[1]:
            continue
        numbers = parts[1].split(",")
        if len(numbers) != 3 or not all(one.strip().isdecimal() and int(one) < 256 for one in numbers):
            raise InputError(f"{path.name} of {source}: {line!r} has no color; it must be name:red,green,blue")
        found[parts[0]] = tuple(int(one) for one in numbers)
    if len(set(found.values())) < len(found):
        raise InputError(f"{path.name} of {source}: two classes have one color; give each its own in CVAT, and export again")
    return dict(sorted(found.items(), key=lambda one: one[0].casefold() != REST))


# ------------------------------------------------------------------------------------------------ Cityscapes


def _cityscapes(root: Path, source: Path, frames: Path | None) -> int:
    """A clip for each labelled frame with the frames around it; where there are annotated frames alone, they are stills."""
    splits = [split for split in ("train", "val") if (source / "gtFine" / split).is_dir()]
    if not splits:
        raise NotFoundError(f"{source} has no gtFine/train and no gtFine/val; give the folder that has gtFine")
    require_new(root)
    write_classes(root, CITYSCAPES_TABLE)
    clips, stills, count = {split: [] for split in splits}, [], 0
    for split in splits:
        labels = index_cityscapes(source / "gtFine" / split, LABEL_ENDINGS[0]).require_single()
        moving = index_cityscapes(source / "leftImg8bit_sequence" / split, FRAME_ENDING).require_single()
        alone = index_cityscapes((frames or source / "leftImg8bit") / split, FRAME_ENDING).require_single()
        for sequence, numbers in labels.files.items():
            for number, label in numbers.items():
                have = {n: p for n, p in moving.files.get(sequence, {}).items() if n in window_of(number)}
                if number not in have:
                    have = {number: alone.files.get(sequence, {}).get(number)}
                if have[number] is None:
                    raise NotFoundError(f"there is no frame for {label}; leftImg8bit_sequence or leftImg8bit must have it")
                clip = f"{sequence}_{number:06d}"
                for n, path in have.items():
                    place(path, root / "frames" / clip / f"{n:06d}{path.suffix.lower()}")
                place(label, root / "labels" / clip / f"{number:06d}.png")
                clips[split].append(clip)
                stills += [clip] if len(have) == 1 else []
                count += 1
    if not count:
        raise NotFoundError(f"{source / 'gtFine'} has no *{LABEL_ENDINGS[0]}.png")
    text = "".join(f"{split}: {json.dumps(names)}\n" for split, names in clips.items())
    (root / SPLIT).write_text(text + (f"stills: {json.dumps(stills)}\n" if stills else ""), encoding="utf-8")
    return count


