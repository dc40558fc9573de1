"""A notebook as a page: numbers of figures, drawings instead of pixels, films that stop, tables in boxes."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from tcseg import atomic_files
from tcseg.study.figures import captions, interactive
from tcseg.study.notebooks import pages

GREY = np.full((32, 64, 3), 128, np.uint8)


@pytest.fixture
def drawn(tmp_path: Path) -> bytes:
    """figures/line.png, .svg and .json; the bytes of the PNG."""
    figure = Figure(figsize=(4, 2))
    figure.subplots().plot([1, 2])
    return atomic_files.write_figure(tmp_path / "figures" / "line.png", figure, "A line.", lines=True).read_bytes()


def made(folder: Path, *outputs: dict, source: str = "1", **metadata: object) -> str:
    """The HTML of a cell's outputs on a page of chapter 4."""
    found = [new_output("display_data", data, metadata=noted) for data, noted in outputs]
    notebook = new_notebook(cells=[new_code_cell(source, outputs=found, metadata=metadata)])
    pages.prepare(notebook, folder / "figures", folder / "_static" / "pictures", "04_lesson")
    return "\n".join("".join(output.data.get("text/html", "")) for output in notebook.cells[0].outputs)


def shown(content: bytes, **noted: str) -> tuple[dict, dict]:
    return {"image/png": base64.b64encode(content).decode()}, {"image/png": noted}


def numbers_of(page: str) -> list[str]:
    return re.findall(r'<b class="tcseg-number">(.*?)</b>', page)


def test_a_drawing_is_shown_as_svg_with_its_caption(tmp_path, drawn):
    page = made(tmp_path, shown(drawn, figure="line", alt="A <b> line."))
    (source,) = re.findall(r'src="(_static/pictures/\w+\.svg)"', page)
    assert (tmp_path / source).read_bytes().startswith(b"<?xml")
    assert "A &lt;b&gt; line.</figcaption>" in page and numbers_of(page) == ["Figure 4.1."]
    (tmp_path / "figures" / "line.svg").unlink()
    assert ".png" in made(tmp_path, shown(drawn, figure="line", alt="x"))


def test_figures_of_all_kinds_are_numbered_in_order(tmp_path, drawn):
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, format="GIF", save_all=True, append_images=[Image.fromarray(GREY // 2)])
    gif = {"image/gif": base64.b64encode(buffer.getvalue()).decode()}, {"image/gif": {"alt": "A bare film."}}
    book = {"text/html": interactive.flip_book({"a": [GREY]}, "A book.").data}, {}
    own = {"text/html": captions.beneath("A line.", "Figure 9.9")}, {}
    page = made(tmp_path, shown(drawn, figure="line", alt="A line."), own, book, gif)
    assert numbers_of(page) == ["Figure 4.1.", "Figure 4.2.", "Figure 4.3."] and "9.9" not in page
    assert page.count("<figcaption") == 3 and "data:image" not in page and "A bare film." in page
    for source in re.findall(r'(?:src|data-still)="([^"]+)"', page):
        assert (tmp_path / source).exists(), source


def test_tables_scroll_in_boxes_of_their_own(tmp_path):
    page = made(tmp_path, ({"text/html": "<div><table><tr></tr></table><table></table></div>"}, {}))
    assert page.count('<div class="tcseg-scroll"><table') == 2


def test_papers_become_links():
    assert pages.with_papers("2015, arXiv 1503.02531.") == "2015, [arXiv 1503.02531](https://arxiv.org/abs/1503.02531)."
    linked = pages.with_papers("arXiv 2011.13256")
    assert pages.with_papers(linked) == linked


def test_numbers_stay_when_a_cell_runs_again():
    numbers = captions.Numbers()
    numbers.begin("03_distill_student")
    assert [numbers.of(name) for name in ("a", "b", "a")] == ["Figure 3.1", "Figure 3.2", "Figure 3.1"]
    numbers.begin("03_distill_student")
    assert numbers.of("b") == "Figure 3.2"
    numbers.begin("04_temporal_consistency")
    assert numbers.of("b") == "Figure 4.1"


def test_a_widget_gets_its_number_when_it_is_shown(monkeypatch):
    monkeypatch.setattr(captions, "NUMBERS", captions.Numbers())
    captions.NUMBERS.begin("05_ablations")
    book = interactive.flip_book({"a": [GREY]}, "A book.")
    assert "5.1" not in book.data and numbers_of(book._repr_html_()) == numbers_of(book._repr_html_()) == [
        "Figure 5.1."
    ]
