"""An executed notebook as a page of the report: pictures as files, each with a numbered caption, and code folded."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import struct
from pathlib import Path

from nbformat import NotebookNode

from tcseg.study.figures.captions import BENEATH, Numbers, framed, numbered
from tcseg.study.figures.interactive import film

PICTURES = {"image/png": "png", "image/gif": "gif", "image/jpeg": "jpeg"}
WIDGET = "application/vnd.jupyter.widget-view+json"
DRAWN = 1.3
"""How much larger than on paper a drawing is shown at most: 10 points are then as large as the text."""


def prepare(notebook: NotebookNode, figures: Path, pictures: Path, name: str) -> None:
    """Make an executed notebook a page, in place.

    Args:
        notebook: what papermill left.
        figures: the study's folder of figures: their SVG files and alt texts.
        pictures: the folder for the page's pictures, two below the page.
        name: of the notebook; its number is in the numbers of its figures.
    """
    notebook.metadata.pop("widgets", None)
    replaced = any("injected-parameters" in cell.metadata.get("tags", []) for cell in notebook.cells)
    numbers = Numbers()
    numbers.begin(name)
    for place, cell in enumerate(notebook.cells):
        cell.metadata.pop("papermill", None)
        if cell.cell_type != "code":
            cell.source = with_papers(cell.source)
            continue
        tags = cell.metadata.get("tags", [])
        cell.metadata["tags"] = [*tags, "remove-cell" if replaced and "parameters" in tags else "hide-input"]
        cell.outputs = [output for output in cell.outputs if not _is_passing(output)]
        shown = re.findall(r"""\.figure\(\s*f?["']([\w-]+)["']""", cell.source)
        for index, output in enumerate(cell.outputs):
            page = _page_of(output, cell, shown, figures, pictures)
            if page is None:
                continue
            if "<figcaption" in page:
                page = numbered(page, numbers.of(f"{place}-{index}"))
            output.data = NotebookNode({"text/html": page})
            output.metadata = NotebookNode()


def _is_passing(output: NotebookNode) -> bool:
    """Whether an output is of the run, not of the page: a widget, what was said on standard error, a caption that is set anew."""
    page = "".join(output.get("data", {}).get("text/html", ""))
    return WIDGET in output.get("data", {}) or output.get("name") == "stderr" or BENEATH in page


def _page_of(output: NotebookNode, cell: NotebookNode, shown: list[str], figures: Path, pictures: Path) -> str | None:
    """The HTML that an output becomes; None where it stays as it is. Takes from `shown` the name of the figure."""
    data, noted = output.get("data", {}), output.get("metadata", {})
    if "text/html" in data:
        return scrolling(with_files("".join(data["text/html"]), pictures))
    mime = next((mime for mime in PICTURES if mime in data), None)
    if mime is None:
        return None
    noted = {**noted.get(mime, {}), **noted}
    figure = noted.get("figure") or (shown.pop(0) if shown and not noted.get("alt") else "")
    alt = noted.get("alt") or _saved_alt(figures / f"{figure}.json")
    alt = alt or cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
    content, kind, drawing = base64.b64decode(data[mime]), PICTURES[mime], figures / f"{figure}.svg"
    if kind == "gif":
        path = pictures / "film.gif"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        page = film(path, alt).data
        path.unlink()
        return with_files(page, pictures)
    if figure and drawing.exists():
        content, kind = drawing.read_bytes(), "svg"
    width, height = _size(content, kind)
    source = _as_file(content, kind, pictures)
    look = f'class="drawn" style="width:100%;max-width:{DRAWN * width:.0f}px"' if kind == "svg" else 'class="photo"'
    words = html.escape(re.sub(r"\s+", " ", alt).strip())
    return framed(f'<img src="{source}" alt="{words}" width="{width:.0f}" height="{height:.0f}" {look}>', alt)


def _size(content: bytes, kind: str) -> tuple[float, float]:
    """Pixels of a browser that a picture is wide and high."""
    if kind == "svg":
        points = re.search(rb'width="([\d.]+)pt" height="([\d.]+)pt"', content)
        return tuple(float(number) * 4 / 3 for number in points.groups())
    if kind == "png":
        return struct.unpack(">II", content[16:24])
    import cv2
    import numpy as np

    height, width = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    return width, height


def with_files(page: str, pictures: Path) -> str:
    """HTML with its pictures as files: a browser then fetches those of a flip book one by one, as they are shown."""

    def moved(match: re.Match[str]) -> str:
        return _as_file(base64.b64decode(match["content"]), match["kind"], pictures)

    return re.sub(r"data:image/(?P<kind>jpeg|png|gif);base64,(?P<content>[A-Za-z0-9+/=]+)", moved, page)


def _as_file(content: bytes, kind: str, pictures: Path) -> str:
    """Write a picture, named by its content; its address from a page."""
    path = pictures / f"{hashlib.sha256(content).hexdigest()[:16]}.{kind}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return f"_static/{pictures.name}/{path.name}"


def with_papers(text: str) -> str:
    """Markdown in which "arXiv 1503.02531" is a link."""
    return re.sub(r"(?<!\[)\barXiv (\d{4}\.\d{4,5})\b", r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def scrolling(page: str) -> str:
    """HTML whose tables scroll inside a box of their own."""
    if "tcseg-scroll" in page:
        return page
    return re.sub(r"(<table\b.*?</table>)", r'<div class="tcseg-scroll">\1</div>', page, flags=re.DOTALL)


def _saved_alt(path: Path) -> str:
    return json.loads(path.read_text())["alt"] if path.exists() else ""
