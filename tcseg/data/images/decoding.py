"""Decode frames and label maps: whole, upright, frames in 8 bits, label maps with their values unchanged."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from tcseg.data.images.bit_depth import eight_bits, opencv
from tcseg.data.images.headers import read_header
from tcseg.data.images.whole_files import PNG, check_png, damaged, orientation_of, read_bytes, reason, upright
from tcseg.errors import InputError


def read_rgb(path: Path) -> np.ndarray:
    """Read a frame: uint8 (H,W,3) RGB, upright. Transparency is dropped.

    Pictures with 16 bits are converted to the upper 8 of the bits that their folder uses: see `bits_used`.

    Raises:
        InputError: the file is missing, empty, truncated, damaged or not a picture; the message names it.
    """
    data = read_bytes(path)
    if data.startswith(PNG):
        check_png(path, data)
        image = opencv(data)
        if image is None:
            raise damaged(path, "its pixels cannot be decoded")
        return upright(eight_bits(path, image), orientation_of(data, "PNG"))
    if data.startswith(b"\xff\xd8") and not _is_cmyk(data):
        try:
            return upright(simplejpeg.decode_jpeg(data, "RGB", strict=True), orientation_of(data, "JPEG"))
        except ValueError as error:
            raise damaged(path, reason(error)) from None
    image = _pillow(path, data)
    return np.ascontiguousarray(eight_bits(path, _colours(image, data)))


def read_values(path: Path) -> np.ndarray:
    """Read the values of a label map, unchanged and upright: (H,W) integers, or uint8 (H,W,3) RGB if it has colours.

    In a palette image, the *index* is the value (as mmsegmentation writes it), unless the palette contains only greys: then a
    program that shrinks PNGs made it, and the grey is the value. Grey images of fewer than 8 bits hold small numbers, not shades.

    Raises:
        InputError: as `read_rgb`; or the format is lossy.
    """
    header, data = read_header(path), read_bytes(path)
    if header.lossy:
        raise InputError(f"{path} is a {header.kind}, whose compression changes values; save label maps as PNG")
    if data.startswith(PNG):
        check_png(path, data)
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


def _colours(image: Image.Image, data: bytes) -> np.ndarray:
    """A decoded picture as (H,W,3) with 8 or 16 bits. Pillow reduces colour TIFFs to 8 bits, so OpenCV decodes these."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        return np.repeat(values.clip(0, 65535).astype(np.uint16)[..., None], 3, 2)
    if image.format in (None, "TIFF") and data[:2] in (b"II", b"MM"):
        deep = opencv(data)
        if deep is not None and deep.dtype == np.uint16:
            return upright(deep, orientation_of(data, "TIFF"))
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
    except Exception as error:  # Pillow's formats raise many kinds: OSError, SyntaxError, struct.error, DecompressionBombError
        raise damaged(path, reason(error)) from None
    if getattr(image, "n_frames", 1) > 1:
        raise InputError(f"{path} contains {image.n_frames} pictures; save each picture as a separate file")
    return ImageOps.exif_transpose(image)


def _is_cmyk(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.mode == "CMYK"
    except Exception:  # too damaged to be recognised as a JPEG
        return False
