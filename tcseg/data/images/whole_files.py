"""Picture files as bytes: whether they are whole, and which way up they are; nothing is decoded."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tcseg.errors import InputError

PNG = b"\x89PNG\r\n\x1a\n"


def read_bytes(path: Path, most: int = -1) -> bytes:
    """The bytes of a file, or the first ones.

    Raises:
        InputError: the file does not exist, is empty, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist or is a broken link; restore or remove it") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({(error.strerror or str(error)).lower()}); check its permissions") from None
    if not data:
        raise InputError(f"{path} is empty (0 bytes); replace or remove it")
    return data


def reason(error: Exception) -> str:
    """The first line of a decoder's message, without the names of its objects."""
    return re.sub(r"\s*<_io\.[^>]*>|\s*'[^']*'", "", (str(error).strip().splitlines() or [type(error).__name__])[0])


def damaged(path: Path, why: str) -> InputError:
    """The error for a file that is not whole."""
    return InputError(f"{path} is cut off or damaged ({why}); replace or remove it")


def require_whole(path: Path) -> None:
    """Check that a PNG is complete, without decoding it; for formats that `read_rgb` and `read_values` do not read.

    Raises:
        InputError: the file is missing, empty, truncated or damaged.
    """
    data = read_bytes(path)
    if data.startswith(PNG):
        check_png(path, data)


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """A PNG's chunks: name, start and end of the content."""
    at = len(PNG)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 8], at + 8, at + 8 + length
        at += 12 + length


def check_png(path: Path, data: bytes) -> None:
    """Check the chunks of a PNG: each has a checksum, and the last one is IEND, so missing or changed bytes are found."""
    last = b""
    for name, start, end in chunks(data):
        if end + 4 > len(data):
            raise damaged(path, f"{end + 4 - len(data)} bytes are missing")
        if zlib.crc32(data[start - 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise damaged(path, f"the checksum of its part {name.decode('latin-1')} is wrong")
        last = name
        if name == b"IEND":
            return
    raise damaged(path, f"its end is missing (the last part is {last.decode('latin-1') or 'none'})")


def orientation_of(data: bytes, kind: str) -> int:
    """EXIF's number, 1 = upright."""
    if kind == "PNG" and not any(name in (b"eXIf", b"tEXt", b"zTXt", b"iTXt") for name, _, _ in chunks(data)):
        return 1
    if kind == "JPEG" and b"Exif\0\0" not in data[: 1 << 17] and b"tiff:Orientation" not in data:
        return 1
    try:
        with Image.open(io.BytesIO(data)) as image:
            return int(image.getexif().get(0x0112, 1))
    except Exception:  # Pillow's formats raise many kinds; the pixels tell whether the file is whole
        return 1


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (H,W,C) as EXIF's orientation says."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
