"""Damage to a file: bytes changed, lost or exchanged, other content under its name, and values of the wrong type in text."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator

import numpy as np

Damage = Callable[[bytes, np.random.Generator], bytes]
MARKER = "executed"
"""The file that code hidden in a damaged one would write, in the current folder."""


class _Payload:
    def __reduce__(self) -> tuple:
        return open, (MARKER, "w")


PICKLE = pickle.dumps(_Payload())
OTHERS = {
    "empty": b"",
    "pickle": PICKLE,
    "web page": b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n",
    "lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n",
    "zeros": bytes(4096),
    "zip": b"PK\x05\x06" + bytes(18),
    "program": b"\x7fELF\x02\x01\x01" + bytes(200),
}
"""Content that files have after a download or a copy that failed, or that somebody hides behind a name."""
STRANGE = (
    *(None, [], {}, [[[]]], True, "", "..", "../../etc/passwd", "\0", "x" * 5000),
    *(-1, 0, 10**40, 1.5, float("nan"), float("inf")),
)
"""Values of another type, or out of any range, for one in a JSON file."""


def flip(data: bytes, rng: np.random.Generator) -> bytes:
    """One bit, or up to 16 bytes."""
    values = np.frombuffer(data, np.uint8).copy()
    for place in rng.integers(0, len(values), rng.choice([1, 1, 4, 16])):
        values[place] ^= 1 << rng.integers(8)
    return values.tobytes()


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    """The end is missing."""
    return data[: int(rng.integers(1, len(data)))]


def lose(data: bytes, rng: np.random.Generator) -> bytes:
    """A block in the middle is missing."""
    first, last = sorted(rng.integers(0, len(data), 2).tolist())
    return data[:first] + data[max(last, first + 1) :]


def blank(data: bytes, rng: np.random.Generator) -> bytes:
    """A block is zero, as after a crash of the system."""
    first, last = sorted(rng.integers(0, len(data), 2).tolist())
    return data[:first] + bytes(last - first) + data[last:]


def insert(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes too many."""
    place = int(rng.integers(0, len(data)))
    return data[:place] + rng.bytes(int(rng.integers(1, 64))) + data[place:]


def replace(data: bytes, rng: np.random.Generator) -> bytes:
    """Another file under this name."""
    return list(OTHERS.values())[int(rng.integers(len(OTHERS)))]


def retype(data: bytes, rng: np.random.Generator) -> bytes:
    """In JSON: one value, or the whole, is of another type, or missing."""
    whole = json.loads(data)
    places = [(None, None), *_places(whole)]
    holder, key = places[int(rng.integers(len(places)))]
    value = STRANGE[int(rng.integers(len(STRANGE)))]
    if holder is None:
        whole = value
    elif rng.random() < 0.3:
        del holder[key]
    else:
        holder[key] = value
    return json.dumps(whole).encode()


def _places(value: object, depth: int = 3) -> Iterator[tuple[object, object]]:
    """Where values stand: their holder, and their key in it."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys)[:40]:
        yield value, key
        if depth:
            yield from _places(value[key], depth - 1)


BYTES: tuple[Damage, ...] = (flip, flip, cut, lose, blank, insert, replace)
"""Of any file; `flip` twice, because it is the most usual and the hardest to see."""
TEXT: tuple[Damage, ...] = (*BYTES, retype, retype, retype)
"""Of JSON."""
