"""Begin a data set of one's own: frames of a film that are to be labelled, each among its neighbours (`tcseg data new`)."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tcseg.data.class_tables import CAMVID_TABLE, CITYSCAPES_TABLE, KNOWN, ClassTable, class_table
from tcseg.data.own.films import Film, frame_count, frame_rate
from tcseg.data.own.layout import CLASSES
from tcseg.errors import CannotWriteError, InputError, NotFoundError
from tcseg.labels import own_classes
from tcseg.machine import require_disk

TO_LABEL = "to_label"
QUALITY = 95  # of JPEG: films have lost more
_BYTES = 0.6  # a pixel, at most, at this quality


def require_new(root: Path) -> Path:
    """Make a folder that must not hold anything yet.

    Raises:
        CannotWriteError: it exists and is not empty.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise CannotWriteError(f"{root} exists and is not empty; give a new folder")
    root.mkdir(parents=True, exist_ok=True)
    return root


def read_every(text: str, rate: float) -> int:
    """Frames between two labelled ones: "1s", "0.5s", or "12f" for frames.

    Raises:
        InputError: the text is neither, or less than a frame.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([sf])", text.strip())
    step = 0 if not match else round(float(match[1]) * (rate if match[2] == "s" else 1))
    if step < 1:
        raise InputError(f"every is {text!r}; it must be a time or a number of frames, at least one frame, such as 1s or 12f")
    return step


def read_classes(text: str) -> ClassTable:
    """Classes as they are given: "cityscapes", "camvid", a YAML file, or names with commas ("road,car,rest").

    Raises:
        InputError, NotFoundError: the file is wrong or not there, or two names are equal.
    """
    if text in KNOWN:
        return {"cityscapes": CITYSCAPES_TABLE, "camvid": CAMVID_TABLE}[text]
    if text.lower().endswith((".yaml", ".yml", ".json")):
        return class_table(text)
    names = [name.strip() for name in text.split(",")]
    if len({name.casefold() for name in names}) < len(names):
        raise InputError(f"classes is {text!r}; each name must be there once")
    return ClassTable(own_classes(names), tuple(range(len(names))))


def write_classes(root: Path, table: ClassTable) -> None:
    """Write classes.yaml."""
    colors = table.label_set.colors.tolist()
    rows = zip(table.label_set.classes, table.ids, colors, strict=True)
    lines = [f"  - {{name: {json.dumps(n, ensure_ascii=False)}, id: {i}, color: {c}}}" for n, i, c in rows]
    (root / CLASSES).write_text("\n".join(["classes:", *lines, f"ignore: {sorted(table.void)}", ""]), encoding="utf-8")


def from_films(root: Path, films: Sequence[Path], every: str, around: int, classes: str) -> dict[str, int]:
    """Lay out the frames of films that are to be labelled.

    `frames/<film>_<frame>/` has each of them and its neighbours, `to_label/<film>_<frame>/<frame>.jpg` the frame itself: its label
    map goes to `labels/<film>_<frame>/<frame>.png`.

    Args:
        root: a new folder.
        films: video files with different names.
        every: see `read_every`.
        around: frames on each side.
        classes: see `read_classes`.

    Returns:
        Clip -> number of its frames.

    Raises:
        NotFoundError, InputError: a film is not there or cannot be read; an option is wrong.
        CannotWriteError: the folder is not empty, or the disk too small.
    """
    table, plans = read_classes(classes), {}
    for film in films:
        if not film.is_file():
            raise NotFoundError(f"there is no film {film}")
        count, step = frame_count(film), read_every(every, frame_rate(film))
        plans[film] = list(range(min(step // 2, count - 1), count, step)), count
    stems = [film.stem for film in films]
    if len({stem.casefold() for stem in stems}) < len(stems):
        raise InputError(f"films are {', '.join(map(str, films))}; two have one name: rename one")
    require_new(root)
    write_classes(root, table)
    (root / "labels").mkdir()
    written: dict[str, int] = {}
    for film, (centres, count) in plans.items():
        reader = Film(film)
        height, width = reader.frame(0).shape[:2]
        require_disk(root, int(len(centres) * (2 * around + 2) * height * width * _BYTES), "the frames")
        for centre in centres:
            name = f"{film.stem}_{centre:06d}"
            at = range(max(0, centre - around), min(count, centre + around + 1))
            written[name] = _write_window(root, name, reader, at, centre)
        reader.close()
    return written


def _write_window(root: Path, name: str, reader: Film, at: range, centre: int) -> int:
    """One clip; a film may end before its header says."""
    done = 0
    for number in at:
        try:
            frame = reader.frame(number)
        except InputError:
            if number <= centre:
                shutil.rmtree(root / "frames" / name, ignore_errors=True)
                return 0
            break
        _write_jpeg(root / "frames" / name / f"{number:06d}.jpg", frame)
        done += 1
        if number == centre:
            _write_jpeg(root / TO_LABEL / name / f"{number:06d}.jpg", frame)
    return done


def _write_jpeg(path: Path, frame: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY]):
        raise CannotWriteError(f"{path} cannot be written; is the disk full?")


def write_label(path: Path, ids: np.ndarray) -> None:
    """Write a label map uint8 (H,W)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), ids):
        raise CannotWriteError(f"{path} cannot be written; is the disk full?")


def place(source: Path, target: Path) -> None:
    """Put a file elsewhere without a second copy where the disk allows it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk
        shutil.copyfile(source, target)
