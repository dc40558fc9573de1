"""Read images and label maps from files: complete and upright, with a clear error for files that cannot be read.

Four rules that hold wherever a folder of pictures is read. *Which*: every folder below, links included; hidden files and what
archives and file servers leave (`__MACOSX`, `@eaDir`) are no pictures. *Whole*: a file that is cut off or damaged is an error, also
where a decoder would fill the rest with grey. *Upright*: a picture whose metadata turns it (EXIF orientation) is turned.
*As bright as it was*: a camera's 10, 12 or 14 bits in a file of 16 are scaled by what the folder uses of the 16 (`bits_used`).
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
"""Suffixes of pictures, in lower case; files may have them in any case."""
LEFT_BY_PROGRAMS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")
_PNG = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE = 0, 2, 3  # PNG's colour types; +4 = with transparency


# ------------------------------------------------------------------------------------------------ which files


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is no data: `.DS_Store`, `._berlin.png`, `__MACOSX`."""
    return name.startswith(".") or name in LEFT_BY_PROGRAMS


def files_below(folder: Path, suffixes: Collection[str] = IMAGES) -> list[Path]:
    """Files with one of these suffixes (lower case; "" takes all) in a folder and in all below it, links followed, sorted.

    A link that leads back to a folder above itself is not followed again. A link to nothing is listed: whoever reads it says so.
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
    """A key that sorts frame2 before frame10, by each number in the name. Names that differ in leading zeros alone have one key.

    A number is a run of digits (of any script): `1.5` has two, so that clip.frame `1.10` comes after `1.9`. `in_order` sorts files.
    """
    return tuple(int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name))


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Files in the natural order of their names, folder by folder; of equal numbers (`1`, `01`) in the order of characters."""
    return sorted(paths, key=lambda path: ([natural(part) for part in path.parts[:-1]], natural(path.stem), path.parts))


# ------------------------------------------------------------------------------------------------ what a file is


@dataclass(frozen=True)
class Header:
    """What a file says of its picture before it is decoded.

    Attributes:
        size: (W,H), upright.
        kind: "PNG", "JPEG", ...
        bits: of a value.
        form: "grey", "palette", "colour" or another.
        lossy: values come out changed (JPEG; WebP, unless it says otherwise).
    """

    size: tuple[int, int]
    kind: str
    bits: int
    form: str
    lossy: bool


def read_header(path: Path) -> Header:
    """Look at a file's header.

    Raises:
        InputError: the file is empty, is a link to nothing, or is no picture.
    """
    data = _bytes(path, 1 << 16)
    try:
        with Image.open(path if len(data) == 1 << 16 else io.BytesIO(data)) as image:
            kind, mode, (width, height) = image.format or "", image.mode, image.size
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path} is not a picture that can be read ({_reason(error)}){_what_else(data)}") from None
    # Pillow turns the size of a TIFF by itself
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
        raise InputError(f"{path} is a link to nothing; remove it, or repair it") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({(error.strerror or str(error)).lower()})") from None
    if not data:
        raise InputError(f"{path} is empty (0 bytes); get it again, or remove it")
    return data


def _reason(error: Exception) -> str:
    return re.sub(r"\s*<_io\.[^>]*>|\s*'[^']*'", "", (str(error).strip().splitlines() or [type(error).__name__])[0])


def _what_else(data: bytes) -> str:
    if data.startswith(b"version https://git-lfs"):
        return ": it is a Git LFS pointer; run git lfs pull"
    if data.lstrip()[:1] in (b"<", b"{"):
        return ": it holds text; was a web page saved under its name?"
    return ""


# ------------------------------------------------------------------------------------------------ decoding


def read_rgb(path: Path) -> np.ndarray:
    """Read a frame: uint8 (H,W,3) RGB, upright. Transparency is dropped.

    Of a picture of 16 bits, the upper 8 are kept of those that its folder uses: see `bits_used`.

    Raises:
        InputError: the file is missing, empty, cut off or damaged, or no picture; the message names it.
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
    """Decode as RGB (H,W,3) of 8 or 16 bits, not turned; None if OpenCV cannot."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _colours(image: Image.Image, data: bytes) -> np.ndarray:
    """A decoded picture as (H,W,3) of 8 or 16 bits; of a TIFF in colour, Pillow keeps 8 of 16, and OpenCV all."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        return np.repeat(values.clip(0, 65535).astype(np.uint16)[..., None], 3, 2)
    if image.format in (None, "TIFF") and data[:2] in (b"II", b"MM"):
        deep = _opencv(data)
        if deep is not None and deep.dtype == np.uint16:
            return _upright(deep, _orientation(data, "TIFF"))
    return np.asarray(image.convert("RGB"))


# ------------------------------------------------------------------------------------------------ bits that are used


_DEPTHS = (8, 10, 12, 14, 16)  # that cameras have
_LOOKED_AT = 5  # pictures of a folder, spread over it
_used: dict[tuple[str, int], int] = {}
_use_lock = threading.Lock()


def bits_used(path: Path) -> int:
    """How many of the 16 bits of a folder's pictures hold something: 8, 10, 12, 14 or 16.

    Cameras write 12 bits into files of 16, at their upper or at their lower end. The lower end is recognised by values that stay
    below 4096 and use the last bits. One picture may be dark by itself, so several of the folder are looked at, and all of it
    are scaled alike; a brighter one that comes later counts from then on.

    Args:
        path: of one of the folder's pictures.

    Returns:
        16 for a folder without pictures of 16 bits.
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
    """What is to be said of a picture's or folder's bits; None where they are 8, or all 16 are used."""
    if not source.exists():
        return None
    first = source
    if source.is_dir():
        pictures = [one for one in source.iterdir() if one.suffix.lower() in IMAGES and not is_hidden(one.name)]
        first = in_order(pictures)[0] if pictures else source
    if first.is_dir() or first.suffix.lower() not in IMAGES or not _is_deep(first) or (bits := bits_used(first)) == 16:
        return None
    return f"{source} has {bits} bits in pictures of 16 (values below {2**bits}): scaled to 8 bits"


def _is_deep(path: Path) -> bool:
    return (image := _deep(path)) is not None and image.dtype == np.uint16


def _deep(path: Path) -> np.ndarray | None:
    try:
        return _opencv(_bytes(path))
    except InputError:
        return None


def _bits_of_file(path: Path) -> int:
    """As `bits_used`, of a file; 0 for one that says nothing: it has 8 bits, is black, or cannot be read."""
    image = _deep(path)
    return 0 if image is None or image.dtype != np.uint16 else _bits_of(image)


def _bits_of(image: np.ndarray) -> int:
    highest = int(image.max(initial=0))
    if highest == 0:
        return 0
    bits = next(depth for depth in _DEPTHS if highest < 2**depth)
    last = int(np.bitwise_or.reduce(image, axis=None)) & (2 ** (16 - bits) - 1)
    of_eight = not (image % 257).any()  # v * 257: 8 bits spread over 16, all of which are used
    return 16 if of_eight or not last else bits


def _eight_bits(path: Path, image: np.ndarray) -> np.ndarray:
    """A picture of 8 or 16 bits in 8, by the bits that its folder uses, or itself if it uses more."""
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
    """Look whether a PNG is complete, without decoding it: for kinds that neither `read_rgb` nor `read_values` reads.

    Raises:
        InputError: it is missing, empty, cut off or damaged.
    """
    data = _bytes(path)
    if data.startswith(_PNG):
        _check_png(path, data)


def read_values(path: Path) -> np.ndarray:
    """Read what a label map holds, untouched and upright: (H,W) integers, or uint8 (H,W,3) RGB where it has colours.

    A palette's *index* is the value (as mmsegmentation writes), unless the palette is one of greys: then a program that shrinks
    PNGs made it, and the value is the grey. Grey of fewer than 8 bits holds small numbers, not shades.

    Raises:
        InputError: as `read_rgb`; or the file is a JPEG, or of another kind that changes values.
    """
    header, data = read_header(path), _bytes(path)
    if header.lossy:
        raise InputError(f"{path} is a {header.kind}, which changes values: a label map must be lossless; write PNG")
    if data.startswith(_PNG):
        _check_png(path, data)
    image = _pillow(path, data)
    if header.form == "palette":
        return _palette_values(image)
    if header.bits < 8 and header.form == "grey":  # Pillow spreads 0..3 over 0..255
        return np.asarray(image.convert("L")) // np.uint8(255 // (2**header.bits - 1))
    if header.form == "grey":
        values = np.asarray(image)
        values = values[..., 0] if values.ndim == 3 else values  # with transparency
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
    """Decode with Pillow, which refuses what is cut off; upright."""
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (OSError, SyntaxError, ValueError, zlib.error) as error:
        raise _damaged(path, _reason(error)) from None
    if getattr(image, "n_frames", 1) > 1:
        raise InputError(f"{path} holds {image.n_frames} pictures; write each into a file of its own")
    return ImageOps.exif_transpose(image)


def _damaged(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} is cut off or damaged ({why}); get it again, or remove it"
    )


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
    """Refuse a PNG of which a byte is missing or changed: each chunk has a checksum, and the last one is called IEND."""
    last = b""
    for name, start, end in _chunks(data):
        if end + 4 > len(data):
            raise _damaged(path, f"{end + 4 - len(data)} bytes are missing")
        if zlib.crc32(data[start - 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise _damaged(path, f"a checksum of {name.decode('latin-1')} is wrong")
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
