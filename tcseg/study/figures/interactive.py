"""Interactive figures without a kernel: flip books, before and after, films that can be stopped, tables with filters.

Each gives HTML that carries its own pictures and a few lines of script, so that it works in a notebook and in the rendered report,
from the disk, without a network, with the keyboard, in light and dark. Without scripts the first picture, or the whole table,
stays: the static twin. The HTML is in tcseg/templates/widget_*.html.j2.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import cv2
import jinja2
import numpy as np
import pandas as pd
from IPython.display import HTML
from jinja2.utils import markupsafe
from PIL import Image

import tcseg
from tcseg.errors import InputError

from .captions import Numbered, caption

BOOK = 512
"""Pixels that a book's pictures are wide, at most."""
TEMPLATES = Path(tcseg.__file__).parent / "templates"


@cache
def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def fill(kind: str, **values: object) -> str:
    """A template of a widget, filled; its id depends on the content alone, so that the same page is the same file."""
    own = "x" + hashlib.sha256(repr((kind, values)).encode()).hexdigest()[:10]
    return _environment().get_template(f"widget_{kind}.html.j2").render(own=own, **values)


def _shrunk(picture: np.ndarray) -> np.ndarray:
    """At most `BOOK` pixels wide: a book has many pictures, and a page that holds them all must still load."""
    height, width = picture.shape[:2]
    size = (BOOK, max(1, round(height * BOOK / width)))
    return picture if width <= BOOK else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def uri(picture: np.ndarray) -> str:
    """uint8 (H,W,3) RGB -> a JPEG as a data URI."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InputError(f"picture is {picture.dtype} {picture.shape}; it must be uint8 (H,W,3) RGB")
    done, content = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    if not done:
        raise InputError(f"a picture of shape {picture.shape} cannot be written as JPEG")
    return _data("jpeg", content.tobytes())


def _data(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(content).decode()


def _script(value: object) -> str:
    """A value as a script may hold it."""
    return markupsafe.Markup(json.dumps(value).replace("</", "<\\/"))


def flip_book(
    layers: Mapping[str, Sequence[np.ndarray]],
    alt: str,
    label: str = "frame",
    captions: Sequence[str] | None = None,
    fps: int = 5,
) -> HTML:
    """Pictures under a slider, with a button that plays them; with several layers, buttons that choose which of them is shown.

    Args:
        layers: name -> pictures, uint8 (H,W,3) RGB, as many in each.
        alt: what is to be seen, in a sentence; it is the caption, too.
        label: of the slider.
        captions: a text for each place of the slider.
        fps: pictures a second when it plays.

    Raises:
        ValueError: no picture, layers or captions of different lengths, pictures that are not RGB.
    """
    lengths = {len(pictures) for pictures in layers.values()} | ({len(captions)} if captions is not None else set())
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(
            f"layers and captions have {sorted(lengths) or 'no'} pictures; each needs as many, at least one"
        )
    (count,) = lengths
    uris = {str(name): [uri(_shrunk(picture)) for picture in pictures] for name, pictures in layers.items()}
    page = fill(
        "flip",
        names=list(uris),
        first=next(iter(uris.values()))[0],
        width=max(BOOK, next(iter(layers.values()))[0].shape[1]),
        count=count,
        label=label,
        alt=alt,
        caption=markupsafe.Markup(caption(alt)),
        data=_script(uris),
        told=_script(None if captions is None else list(captions)),
        fps=fps,
    )
    return Numbered(page)


def before_after(left: np.ndarray, right: np.ndarray, names: tuple[str, str], alt: str) -> HTML:
    """Two pictures on top of each other, with a border between them to drag, or to move with the arrow keys.

    Args:
        left, right: uint8 (H,W,3) RGB, one size.
        names: of the two.
        alt: what is to be seen, in a sentence; it is the caption, too.

    Raises:
        ValueError: pictures of different sizes, or not RGB.
    """
    if left.shape != right.shape:
        raise InputError(f"left is {left.shape}, right is {right.shape}; both need one shape")
    uris = {"left": uri(left), "right": uri(right)}
    width = max(BOOK, left.shape[1])
    return Numbered(fill("border", **uris, names=tuple(names), width=width, alt=alt, caption=markupsafe.Markup(caption(alt))))


def film(path: Path, alt: str) -> HTML:
    """A GIF with a button that stops it; it does not move where the reader's system asks for little motion.

    Args:
        path: of the GIF.
        alt: what is to be seen, in a sentence; it is the caption, too.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no GIF.
    """
    content = path.read_bytes()
    if not content.startswith(b"GIF8"):
        raise InputError(f"path is {path}, which is no GIF")
    with Image.open(io.BytesIO(content)) as opened:
        first = np.asarray(opened.convert("RGB"))
    values = {"film": _data("gif", content), "still": uri(first), "width": first.shape[1], "height": first.shape[0]}
    return Numbered(fill("moving", **values, alt=alt, caption=markupsafe.Markup(caption(alt))))


def pick(table: pd.DataFrame, by: Sequence[str]) -> HTML:
    """A table with a menu for each of some columns; it shows the rows that all menus agree on.

    Args:
        table: rows; floats are shown with two digits behind the point.
        by: columns to choose by; every value and "all" are in their menus.

    Raises:
        ValueError: the table is empty or lacks a column.
    """
    if table.empty or not set(by) <= set(table):
        raise InputError(
            f"table has {len(table)} rows and the columns {', '.join(table)}; it needs rows, and {', '.join(by)}"
        )
    rows = [
        {
            "by": [str(row[name]) for name in by],
            "cells": [f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()],
        }
        for row in table.to_dict("records")
    ]
    values = {name: list(dict.fromkeys(table[name].astype(str))) for name in by}
    return HTML(fill("pick", values=values, head=[str(name) for name in table], rows=rows))
