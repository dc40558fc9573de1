"""Read images and label maps from files: complete and upright, with a clear error for files that cannot be read.

Four rules apply to every folder of pictures. All subfolders are searched and links are followed, but hidden files and the folders
of archives and file servers (`__MACOSX`, `@eaDir`) are skipped. A truncated or damaged file is an error, even if a decoder would
fill the missing part with grey. Pictures are rotated as their metadata says (EXIF orientation). Pictures with 10, 12 or 14 bits in
16-bit files are scaled by the number of bits that their folder uses (`bits_used`).
"""

from __future__ import annotations

import io
import os
import re
import struct
import threading
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from tcseg.errors import InputError

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".tif", ".tiff", ".webp")
"""Suffixes of picture files in lower case; files may have them in any case."""
LEFT_BY_PROGRAMS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")
_PNG = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE = 0, 2, 3  # PNG's colour types; +4 = with transparency


# ------------------------------------------------------------------------------------------------ which files


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


# ------------------------------------------------------------------------------------------------ headers


@dataclass(frozen=True)
class Header:
    """The header of a picture file.

    Attributes:
        size: (W,H) of the upright picture.
        kind: "PNG", "JPEG", ...
        bits: bits per value.
        form: "grey", "palette", "colour" or another.
        lossy: whether the compression changes values (JPEG, WebP).
    """

    size: tuple[int, int]
    kind: str
    bits: int
    form: str
    lossy: bool


def read_header(path: Path) -> Header:
    """Read the header of a picture file.

    Raises:
        InputError: the file is empty, does not exist, or is not a picture.
    """
    data = _bytes(path, 1 << 16)
    try:
        with Image.open(path if len(data) == 1 << 16 else io.BytesIO(data)) as image:
            kind, mode, (width, height) = image.format or "", image.mode, image.size
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a picture ({_reason(error)}){_what_else(data)}; replace or remove it") from None
    # Pillow already swaps the sides of a rotated TIFF
    turned = kind != "TIFF" and _orientation(path.read_bytes(), kind) in (5, 6, 7, 8)
    bits, form = _depth_and_form(data, mode)
    return Header((height, width) if turned else (width, height), kind, bits, form, kind in ("JPEG", "MPO", "WEBP"))


def _depth_and_form(data: bytes, mode: str) -> tuple[int, str]:
    if data.startswith(_PNG):
        bits, colour = data[24], data[25]
        return bits, {_GREY: "grey", _PALETTE: "palette", _RGB: "colour"}.get(
            colour, "grey" if colour == 4 else "colour"
        )
    bits = 16 if mode.startswith("I;16") else 32 if mode in ("I", "F") else 1 if mode == "1" else 8
    return bits, {"P": "palette", "L": "grey", "1": "grey"}.get(mode, "grey" if mode.startswith("I") else "colour")


def _bytes(path: Path, most: int = -1) -> bytes:
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


def _reason(error: Exception) -> str:
    return re.sub(r"\s*<_io\.[^>]*>|\s*'[^']*'", "", (str(error).strip().splitlines() or [type(error).__name__])[0])


def _what_else(data: bytes) -> str:
    if data.startswith(b"version https://git-lfs"):
        return ": it is a Git LFS pointer, so run git lfs pull"
    if data.lstrip()[:1] in (b"<", b"{"):
        return ": it holds text, perhaps a web page that was saved under this name"
    return ""


# ------------------------------------------------------------------------------------------------ decoding


def read_rgb(path: Path) -> np.ndarray:
    """Read a frame: uint8 (H,W,3) RGB, upright. Transparency is dropped.

    Pictures with 16 bits are converted to the upper 8 of the bits that their folder uses: see `bits_used`.

    Raises:
        InputError: the file is missing, empty, truncated, damaged or not a picture; the message names it.
    """
    data = _bytes(path)
    if data.startswith(_PNG):
        _check_png(path, data)
        image = _opencv(data)
        if image is None:
            raise _damaged(path, "its pixels cannot be decoded")
        return _upright(_eight_bits(path, image), _orientation(data, "PNG"))
    if data.startswith(b"\xff\xd8") and not _is_cmyk(data):
        try:
            return _upright(simplejpeg.decode_jpeg(data, "RGB", strict=True), _orientation(data, "JPEG"))
        except ValueError as error:
            raise _damaged(path, _reason(error)) from None
    image = _pillow(path, data)
    return np.ascontiguousarray(_eight_bits(path, _colours(image, data)))


def _opencv(data: bytes) -> np.ndarray | None:
    """Decode as RGB (H,W,3) with 8 or 16 bits, without rotating it; None if OpenCV cannot decode it."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _colours(image: Image.Image, data: bytes) -> np.ndarray:
    """A decoded picture as (H,W,3) with 8 or 16 bits. Pillow reduces colour TIFFs to 8 bits, so OpenCV decodes these."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        return np.repeat(values.clip(0, 65535).astype(np.uint16)[..., None], 3, 2)
    if image.format in (None, "TIFF") and data[:2] in (b"II", b"MM"):
        deep = _opencv(data)
        if deep is not None and deep.dtype == np.uint16:
            return _upright(deep, _orientation(data, "TIFF"))
    return np.asarray(image.convert("RGB"))


# ------------------------------------------------------------------------------------------------ bits that are used


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
        return _opencv(_bytes(path))
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


def _eight_bits(path: Path, image: np.ndarray) -> np.ndarray:
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


def require_whole(path: Path) -> None:
    """Check that a PNG is complete, without decoding it; for formats that `read_rgb` and `read_values` do not read.

    Raises:
        InputError: the file is missing, empty, truncated or damaged.
    """
    data = _bytes(path)
    if data.startswith(_PNG):
        _check_png(path, data)


def read_values(path: Path) -> np.ndarray:
    """Read the values of a label map, unchanged and upright: (H,W) integers, or uint8 (H,W,3) RGB if it has colours.

    In a palette image, the *index* is the value (as mmsegmentation writes it), unless the palette contains only greys: then a
    program that shrinks PNGs made it, and the grey is the value. Grey images of fewer than 8 bits hold small numbers, not shades.

    Raises:
        InputError: as `read_rgb`; or the format is lossy.
    """
    header, data = read_header(path), _bytes(path)
    if header.lossy:
        raise InputError(f"{path} is a {header.kind}, whose compression changes values; save label maps as PNG")
    if data.startswith(_PNG):
        _check_png(path, data)
    image = _pillow(path, data)
    if header.form == "palette":
        return _palette_values(image)
    if header.bits < 8 and header.form == "grey":  # Pillow spreads 0..3 over 0..255
        return np.asarray(image.convert("L")) // np.uint8(255 // (2**header.bits - 1))
    if header.form == "grey":
        values = np.asarray(image)
        values = values[..., 0] if values.ndim == 3 else values  # drop transparency
        return values.astype(np.uint8) if values.dtype == np.bool_ else values
    return np.asarray(image.convert("RGB"))


def _palette_values(image: Image.Image) -> np.ndarray:
    index = np.asarray(image)
    colours = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    if len(colours) and (colours == colours[:, :1]).all():
        table = np.zeros(256, np.uint8)
        table[: len(colours)] = colours[:, 0]
        return table[index]
    return index


def _pillow(path: Path, data: bytes) -> Image.Image:
    """Decode with Pillow, which raises an error for truncated files; upright."""
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (OSError, SyntaxError, ValueError, zlib.error) as error:
        raise _damaged(path, _reason(error)) from None
    if getattr(image, "n_frames", 1) > 1:
        raise InputError(f"{path} contains {image.n_frames} pictures; save each picture as a separate file")
    return ImageOps.exif_transpose(image)


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"{path} is cut off or damaged ({why}); replace or remove it")


def _is_cmyk(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.mode == "CMYK"
    except (OSError, SyntaxError, ValueError):  # too damaged to be recognised as a JPEG
        return False


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """A PNG's chunks: name, start and end of the content."""
    at = len(_PNG)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 8], at + 8, at + 8 + length
        at += 12 + length


def _check_png(path: Path, data: bytes) -> None:
    """Check the chunks of a PNG: each has a checksum, and the last one is IEND, so missing or changed bytes are found."""
    last = b""
    for name, start, end in _chunks(data):
        if end + 4 > len(data):
            raise _damaged(path, f"{end + 4 - len(data)} bytes are missing")
        if zlib.crc32(data[start - 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise _damaged(path, f"the checksum of its part {name.decode('latin-1')} is wrong")
        last = name
        if name == b"IEND":
            return
    raise _damaged(path, f"its end is missing (the last part is {last.decode('latin-1') or 'none'})")


def _orientation(data: bytes, kind: str) -> int:
    """EXIF's number, 1 = upright."""
    if kind == "PNG" and not any(name in (b"eXIf", b"tEXt", b"zTXt", b"iTXt") for name, _, _ in _chunks(data)):
        return 1
    if kind == "JPEG" and b"Exif\0\0" not in data[: 1 << 17] and b"tiff:Orientation" not in data:
        return 1
    try:
        with Image.open(io.BytesIO(data)) as image:
            return int(image.getexif().get(0x0112, 1))
    except (OSError, SyntaxError, ValueError):
        return 1


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (H,W,C) as EXIF's orientation says."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
