"""What the bytes of a video file say, without decoding it: its codec's name, and whether its end is missing."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ISO = (b"ftyp", b"moov", b"mdat", b"wide", b"free")  # how an MP4 or MOV begins


def head_of(path: Path) -> bytes:
    """A file's first bytes."""
    with path.open("rb") as file:
        return file.read(1 << 12)


def codec_tag(path: Path) -> str:
    """The four letters by which an MP4 or AVI calls its codec, or Matroska's name of it; "" = not found."""
    head = head_of(path)
    for kind, start, end in boxes(path) if head[4:8] in ISO else ():
        if kind == b"moov":
            with path.open("rb") as file:
                file.seek(start)
                head = file.read(min(end - start, 1 << 24))
    found = re.search(rb"vide.*?stsd.{12}(.{4})|vids(.{4})|(V_[A-Z0-9_/]+)", head, re.DOTALL)
    return next(filter(None, found.groups())).decode("latin-1") if found else ""


def cut_off(path: Path) -> str:
    """Why a file's own structure says that its end is missing; "" where it says no such thing.

    The number of frames in a header is a hint alone: a trimmed file has fewer, and one with a varying rate another number.
    """
    size = path.stat().st_size
    head, missing = head_of(path), 0
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        missing = struct.unpack_from("<I", head, 4)[0] + 8 - size
        missing = 0 if struct.unpack_from("<I", head, 4)[0] == 0 else missing
    elif head[4:8] in ISO:
        missing = max((end for _, _, end in boxes(path)), default=0) - size
    elif head[:4] == b"\x1a\x45\xdf\xa3":
        missing = _matroska_end(head) - size
    elif head[:1] == b"\x47" and head[188:189] == b"\x47" and size % 188:
        return "its last packet is incomplete"
    elif head[:3] == b"FLV" and not _flv_is_whole(path, size):
        return "its last part is incomplete"
    return f"{missing} bytes are missing at its end" if missing > 0 else ""


def boxes(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """The outermost boxes of an MP4: kind, start and end as it says."""
    size, at = path.stat().st_size, 0
    with path.open("rb") as file:
        while at + 8 <= size:
            file.seek(at)
            length, kind = struct.unpack(">I4s", file.read(8))
            if length == 1:
                wide = file.read(8)
                length = struct.unpack(">Q", wide)[0] if len(wide) == 8 else 16
            end = size if length == 0 else at + length
            if end <= at:
                return
            yield kind, at, end
            at = end


def _matroska_end(head: bytes) -> int:
    """Where a Matroska file says that it ends; 0 = it does not say."""

    def number(at: int) -> tuple[int, int]:  # an EBML length, and where it ends
        width = 9 - head[at].bit_length()
        value = int.from_bytes(head[at : at + width], "big") & ((1 << 7 * width) - 1)
        return (-1 if value == (1 << 7 * width) - 1 else value), at + width

    with suppress(IndexError):
        length, at = number(4)
        at += length
        if head[at : at + 4] == b"\x18\x53\x80\x67":
            length, at = number(at + 4)
            return 0 if length < 0 else at + length
    return 0


def _flv_is_whole(path: Path, size: int) -> bool:
    """Whether the last number of an FLV is the length of the tag before it."""
    with path.open("rb") as file:
        file.seek(max(0, size - 4))
        length = int.from_bytes(file.read(4), "big")
        at = size - 4 - length
        if length < 11 or at < 9:
            return False
        file.seek(at)
        tag = file.read(4)
    return tag[0] & 0x1F in (8, 9, 18) and int.from_bytes(tag[1:4], "big") == length - 11
