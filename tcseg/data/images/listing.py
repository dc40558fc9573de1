"""Which pictures a folder has, and in which order."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".tif", ".tiff", ".webp")
"""Suffixes of picture files in lower case; files may have them in any case."""
LEFT_BY_PROGRAMS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")


def is_hidden(name: str) -> bool:
    """Whether a file or folder with this name is not data: `.DS_Store`, `._berlin.png`, `__MACOSX`."""
    return name.startswith(".") or name in LEFT_BY_PROGRAMS


def files_below(folder: Path, suffixes: Collection[str] = IMAGES) -> list[Path]:
    """Files with one of these suffixes (lower case; "" = all files) in a folder and all folders below it, sorted.

    Links are followed, except those to a parent folder. Broken links are listed too, so that reading them raises an error.
    """
    files: list[Path] = []
    _walk(Path(folder), suffixes, files, ())
    return sorted(files)


def _walk(folder: Path, suffixes: Collection[str], files: list[Path], above: tuple[str, ...]) -> None:
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if _is_folder(entry):
                _walk(folder / entry.name, suffixes, files, (*above, real))
            elif "" in suffixes or os.path.splitext(entry.name)[1].lower() in suffixes:
                files.append(folder / entry.name)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def natural(name: str) -> tuple:
    """A key that sorts frame2 before frame10, by each number in the name. Leading zeros make no difference.

    A number is a sequence of digits of any script; `1.5` has two numbers, so `1.10` comes after `1.9`. `in_order` sorts files.
    """
    return tuple(int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name))


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Files in the natural order of their names, folder by folder; equal numbers (`1`, `01`) are sorted as text."""
    return sorted(paths, key=lambda path: ([natural(part) for part in path.parts[:-1]], natural(path.stem), path.parts))
