"""Parse frame sizes such as "1024x512"."""

from __future__ import annotations

import re

from tcseg.errors import InputError


def parse_size(text: str, multiple: int = 1) -> tuple[int, int]:
    """Read a size: "1024x512" -> (1024, 512).

    Args:
        text: WIDTHxHEIGHT.
        multiple: both sides must be multiples of this; 32 for frames that a network takes without resizing.

    Raises:
        ValueError: the text is not two such numbers above zero.
    """
    match = re.fullmatch(r"(\d+)[xX](\d+)", text.strip())
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if min(size) < 1 or any(side % multiple for side in size):
        sides = f", both multiples of {multiple}" if multiple > 1 else ""
        raise InputError(f"size is {text!r}; it must be WIDTHxHEIGHT{sides}, such as 1024x512")
    return size
