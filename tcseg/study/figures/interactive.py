"""Interactive figures without a kernel: flip books, before and after, tables with filters.

Each gives HTML that carries its own pictures and a few lines of script, so that it works in a notebook and in the rendered report,
from the disk, without a network. Without scripts the first picture, or the whole table, stays: the static twin.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import pandas as pd
from IPython.display import HTML

from tcseg.errors import InputError

BOOK = 512
"""Pixels that a book's pictures are wide, at most."""
STYLE = (
    "max-width:100%;font-family:sans-serif;font-size:0.9em;margin:0.5em 0",
    "width:100%;max-width:{width}px;image-rendering:auto;display:block;border-radius:4px",
)


def _shrunk(picture: np.ndarray) -> np.ndarray:
    """At most `BOOK` pixels wide: a book has many pictures, and a page that holds them all must still load."""
    height, width = picture.shape[:2]
    size = (BOOK, max(1, round(height * BOOK / width)))
    return picture if width <= BOOK else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _uri(picture: np.ndarray) -> str:
    """uint8 (H,W,3) RGB -> a JPEG as a data URI."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InputError(f"picture is {picture.dtype} {picture.shape}; it must be uint8 (H,W,3) RGB")
    done, content = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    if not done:
        raise InputError(f"a picture of shape {picture.shape} cannot be written as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode()


def _script(value: object) -> str:
    """A value as a script may hold it."""
    return json.dumps(value).replace("</", "<\\/")


def _name(*parts: object) -> str:
    """An id that depends on the content alone, so that the same page is the same file."""
    return "x" + hashlib.sha256(repr(parts).encode()).hexdigest()[:10]


def flip_book(
    layers: Mapping[str, Sequence[np.ndarray]], alt: str, label: str = "frame", captions: Sequence[str] | None = None
) -> HTML:
    """Pictures under a slider; with several layers, buttons that choose which of them is shown at that place.

    Args:
        layers: name -> pictures, uint8 (H,W,3) RGB, as many in each.
        alt: what is to be seen, in a sentence.
        label: of the slider.
        captions: a text for each place of the slider.

    Raises:
        ValueError: no picture, layers or captions of different lengths, pictures that are not RGB.
    """
    lengths = {len(pictures) for pictures in layers.values()} | ({len(captions)} if captions is not None else set())
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(
            f"layers and captions have {sorted(lengths) or 'no'} pictures; each needs as many, at least one"
        )
    (count,) = lengths
    uris = {name: [_uri(_shrunk(picture)) for picture in pictures] for name, pictures in layers.items()}
    first = next(iter(uris))
    width = max(512, next(iter(layers.values()))[0].shape[1])
    own = _name(uris, captions, label)
    buttons = "".join(
        f'<button type="button" data-layer="{html.escape(name)}" aria-pressed="{str(name == first).lower()}" '
        f'style="margin:0 0.4em 0.3em 0">{html.escape(name)}</button>'
        for name in (layers if len(layers) > 1 else ())
    )
    return HTML(f"""<div id="{own}" class="tcseg-flip" style="{STYLE[0]}">
<div>{buttons}</div>
<img src="{uris[first][0]}" alt="{html.escape(alt)}" style="{STYLE[1].format(width=width)}">
<label style="display:block">{html.escape(label)}
<input type="range" min="0" max="{count - 1}" value="0" step="1" style="width:60%;vertical-align:middle">
<output>0</output></label>
<script>(function () {{
  const box = document.getElementById("{own}"), data = {_script(uris)}, told = {_script(captions)};
  const img = box.querySelector("img"), range = box.querySelector("input"), out = box.querySelector("output");
  let layer = {_script(first)};
  function show() {{
    img.src = data[layer][range.value];
    out.textContent = told ? told[range.value] : range.value;
    box.querySelectorAll("button").forEach(b => b.setAttribute("aria-pressed", b.dataset.layer === layer));
    box.querySelectorAll("button").forEach(b => b.style.fontWeight = b.dataset.layer === layer ? "bold" : "normal");
  }}
  range.addEventListener("input", show);
  box.querySelectorAll("button").forEach(b => b.addEventListener("click", () => {{ layer = b.dataset.layer; show(); }}));
  show();
}})();</script></div>""")


def before_after(left: np.ndarray, right: np.ndarray, names: tuple[str, str], alt: str) -> HTML:
    """Two pictures on top of each other, with a border between them to drag.

    Args:
        left, right: uint8 (H,W,3) RGB, one size.
        names: of the two.
        alt: what is to be seen, in a sentence.

    Raises:
        ValueError: pictures of different sizes, or not RGB.
    """
    if left.shape != right.shape:
        raise InputError(f"left is {left.shape}, right is {right.shape}; both need one shape")
    uris = _uri(left), _uri(right)
    own, width = _name(uris, names), max(512, left.shape[1])
    return HTML(f"""<div id="{own}" class="tcseg-before-after" style="{STYLE[0]}">
<div style="position:relative;max-width:{width}px">
<img src="{uris[1]}" alt="{html.escape(alt)}" style="{STYLE[1].format(width=width)}">
<img src="{uris[0]}" alt="{html.escape(names[0])}"
 style="{STYLE[1].format(width=width)};position:absolute;top:0;left:0;clip-path:inset(0 50% 0 0)">
<span style="position:absolute;top:0;bottom:0;left:50%;border-left:2px solid #fff;box-shadow:0 0 0 1px #000"></span></div>
<label style="display:block">{html.escape(names[0])}
<input type="range" min="0" max="100" value="50" aria-label="border between the two"
 style="width:50%;vertical-align:middle"> {html.escape(names[1])}</label>
<script>(function () {{
  const box = document.getElementById("{own}"), range = box.querySelector("input");
  const top = box.querySelectorAll("img")[1], line = box.querySelector("span");
  range.addEventListener("input", () => {{
    top.style.clipPath = "inset(0 " + (100 - range.value) + "% 0 0)";
    line.style.left = range.value + "%";
  }});
}})();</script></div>""")


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
    own = _name(table.to_csv(), tuple(by))
    values = {name: list(dict.fromkeys(table[name].astype(str))) for name in by}
    menus = "".join(
        f'<label style="margin-right:1em">{html.escape(name)} <select data-by="{index}"><option value="">all</option>'
        + "".join(f"<option>{html.escape(value)}</option>" for value in found)
        + "</select></label>"
        for index, (name, found) in enumerate(values.items())
    )
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in table)
    body = "".join(_line(row, by) for row in table.to_dict("records"))
    return HTML(f"""<div id="{own}" class="tcseg-pick" style="{STYLE[0]}"><div>{menus}</div>
<table class="dataframe"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>
<script>(function () {{
  const box = document.getElementById("{own}"), menus = box.querySelectorAll("select");
  menus.forEach(menu => menu.addEventListener("change", () => box.querySelectorAll("tbody tr").forEach(row => {{
    const fits = Array.from(menus).every(m => !m.value || row.getAttribute("data-" + m.dataset.by) === m.value);
    row.style.display = fits ? "" : "none";
  }})));
}})();</script></div>""")


def _line(row: Mapping[str, object], by: Sequence[str]) -> str:
    marks = " ".join(f'data-{index}="{html.escape(str(row[name]))}"' for index, name in enumerate(by))
    cells = (f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values())
    return f"<tr {marks}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
