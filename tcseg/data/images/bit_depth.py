"""How many bits the 16-bit pictures of a folder use, and their conversion to 8 bits."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import cv2
import numpy as np

from tcseg.data.images.listing import IMAGES, in_order, is_hidden
from tcseg.data.images.whole_files import read_bytes
from tcseg.errors import InputError

_DEPTHS = (8, 10, 12, 14, 16)  # bit depths of cameras
_LOOKED_AT = 5  # number of pictures of a folder that are examined
_used: dict[tuple[str, int], int] = {}
_use_lock = threading.Lock()


def bits_used(path: Path) -> int:
    """The number of bits that the 16-bit pictures of a folder use: 8, 10, 12, 14 or 16.

    Cameras write 12-bit values into the upper or the lower bits of 16-bit files. They are in the lower bits if all values are below
    4096 and the last bits are used. Since one picture may be dark, several pictures of the folder are examined, and all are scaled
    equally; a brighter picture that is read later changes the result from then on.

    Args:
        path: a picture in the folder.

    Returns:
        16 for a folder without 16-bit pictures.
    """
    folder = path.parent
    try:
        key = os.path.realpath(folder), folder.stat().st_mtime_ns
    except OSError:
        return 16
    with _use_lock:
        if key not in _used:
            files = in_order(one for one in folder.iterdir() if one.suffix.lower() in IMAGES and not is_hidden(one.name))
            files = [one for one in files if one.suffix.lower() == path.suffix.lower()]
            some = {round(place) for place in np.linspace(0, len(files) - 1, min(_LOOKED_AT, len(files)))} if files else ()
            _used[key] = max((_bits_of_file(files[place]) for place in sorted(some)), default=0)
        return _used[key] or 16


def depth_note(source: Path) -> str | None:
    """A note about the bits of a picture or folder; None for 8 bits, or if all 16 bits are used."""
    if not source.exists():
        return None
    first = source
    if source.is_dir():
        pictures = [one for one in source.iterdir() if one.suffix.lower() in IMAGES and not is_hidden(one.name)]
        first = in_order(pictures)[0] if pictures else source
    if first.is_dir() or first.suffix.lower() not in IMAGES or not _is_deep(first) or (bits := bits_used(first)) == 16:
        return None
    return f"the 16-bit pictures of {source} use {bits} bits (values below {2**bits}); they are scaled to 8 bits"


def _is_deep(path: Path) -> bool:
    return (image := _deep(path)) is not None and image.dtype == np.uint16


def _deep(path: Path) -> np.ndarray | None:
    try:
        return opencv(read_bytes(path))
    except InputError:
        return None


def _bits_of_file(path: Path) -> int:
    """As `bits_used`, for one file; 0 if it has 8 bits, is black, or cannot be read."""
    image = _deep(path)
    return 0 if image is None or image.dtype != np.uint16 else _bits_of(image)


def _bits_of(image: np.ndarray) -> int:
    highest = int(image.max(initial=0))
    if highest == 0:
        return 0
    bits = next(depth for depth in _DEPTHS if highest < 2**depth)
    last = int(np.bitwise_or.reduce(image, axis=None)) & (2 ** (16 - bits) - 1)
    of_eight = not (image % 257).any()  # v * 257: 8-bit values scaled to 16 bits, which use all of them
    return 16 if of_eight or not last else bits


def eight_bits(path: Path, image: np.ndarray) -> np.ndarray:
    """Convert a picture to 8 bits, by the bits that its folder uses, or its own if it uses more."""
    if image.dtype == np.uint8:
        return image
    bits, own = bits_used(path), _bits_of(image)
    if own > bits:
        bits, folder = own, os.path.realpath(path.parent)
        with _use_lock:
            for key in [key for key in _used if key[0] == folder]:
                _used[key] = max(_used[key], own)
    return (image >> (bits - 8)).astype(np.uint8)


def opencv(data: bytes) -> np.ndarray | None:
    """Decode as RGB (H,W,3) with 8 or 16 bits, without rotating it; None if OpenCV cannot decode it."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
