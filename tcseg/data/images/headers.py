"""What the header of a picture file says: its size, format, and bits; no pixel is decoded."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tcseg.data.images.whole_files import PNG, orientation_of, read_bytes, reason
from tcseg.errors import InputError

_GREY, _RGB, _PALETTE = 0, 2, 3  # PNG's colour types; +4 = with transparency


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
    data = read_bytes(path, 1 << 16)
    try:
        with Image.open(path if len(data) == 1 << 16 else io.BytesIO(data)) as image:
            kind, mode, (width, height) = image.format or "", image.mode, image.size
    except Exception as error:  # Pillow's formats raise many kinds
        raise InputError(f"{path} cannot be read as a picture ({reason(error)}){_what_else(data)}; replace or remove it") from None
    # Pillow already swaps the sides of a rotated TIFF
    turned = kind != "TIFF" and orientation_of(path.read_bytes(), kind) in (5, 6, 7, 8)
    bits, form = _depth_and_form(data, mode)
    return Header((height, width) if turned else (width, height), kind, bits, form, kind in ("JPEG", "MPO", "WEBP"))


def _depth_and_form(data: bytes, mode: str) -> tuple[int, str]:
    if data.startswith(PNG):
        bits, colour = data[24], data[25]
        return bits, {_GREY: "grey", _PALETTE: "palette", _RGB: "colour"}.get(
            colour, "grey" if colour == 4 else "colour"
        )
    bits = 16 if mode.startswith("I;16") else 32 if mode in ("I", "F") else 1 if mode == "1" else 8
    return bits, {"P": "palette", "L": "grey", "1": "grey"}.get(mode, "grey" if mode.startswith("I") else "colour")


def _what_else(data: bytes) -> str:
    if data.startswith(b"version https://git-lfs"):
        return ": it is a Git LFS pointer, so run git lfs pull"
    if data.lstrip()[:1] in (b"<", b"{"):
        return ": it holds text, perhaps a web page that was saved under this name"
    return ""
