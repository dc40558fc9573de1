"""What can be moved without a kernel: that it answers, in a real browser where there is one, and what it refuses."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from browsing import troubles

from tcseg.study.figures import interactive


def picture(level: int, size: tuple[int, int] = (64, 32)) -> np.ndarray:
    return np.full((size[1], size[0], 3), level, np.uint8)


LAYERS = {"frame": [picture(level) for level in (10, 80, 160)], "error": [picture(level) for level in (20, 90, 170)]}
TABLE = pd.DataFrame({"model": ["a", "a", "b"], "size": [1, 2, 1], "ms": [1.234, 2.0, 3.5]})


def test_the_same_content_is_the_same_page():
    pages = [interactive.flip_book(LAYERS, "Levels of grey.").data for _ in range(2)]
    assert pages[0] == pages[1] and "http" not in pages[0]
    assert interactive.flip_book({"frame": LAYERS["frame"]}, "x").data.count("<button") == 0


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(ValueError, match=r"layers and captions have \[2, 3\] pictures"):
        interactive.flip_book(LAYERS, "x", captions=["one", "two"])
    with pytest.raises(ValueError, match="layers and captions have no pictures"):
        interactive.flip_book({}, "x")
    with pytest.raises(ValueError, match=r"picture is float64 \(4, 4, 3\); it must be uint8"):
        interactive.flip_book({"a": [np.zeros((4, 4, 3))]}, "x")
    with pytest.raises(ValueError, match="both need one shape"):
        interactive.before_after(picture(0), picture(0, (32, 32)), ("a", "b"), "x")
    with pytest.raises(ValueError, match="it needs rows, and model, colour"):
        interactive.pick(TABLE, ["model", "colour"])


def test_words_cannot_leave_their_place():
    page = interactive.flip_book(
        {"</script><b>": LAYERS["frame"]}, 'a "quoted" word', captions=["1", "</script>", "3"]
    ).data
    assert page.count("</script>") == 1 and 'alt="a &quot;quoted&quot; word"' in page


@pytest.fixture
def shown(browser, tmp_path):
    """Open a piece of HTML as a page; gives the browser."""

    def open_page(piece) -> object:
        (tmp_path / "page.html").write_text(f"<!doctype html><meta charset='utf-8'><body>{piece.data}</body>")
        browser.get((tmp_path / "page.html").as_uri())
        return browser

    return open_page


def move(browser, value: int) -> None:
    browser.execute_script(
        "const r = document.querySelector('input[type=range]'); r.value = arguments[0]; r.dispatchEvent(new Event('input'))",
        value,
    )


@pytest.mark.slow
def test_a_flip_book_turns(shown):
    page = shown(interactive.flip_book(LAYERS, "Levels of grey.", captions=["one", "two", "three"]))

    def state() -> list:
        script = "return [document.images[0].src, document.querySelector('output').textContent]"
        return page.execute_script(script)

    sources = {state()[0]}
    move(page, 2)
    assert state()[1] == "three"
    sources.add(state()[0])
    page.execute_script("document.querySelectorAll('button')[1].click()")
    sources.add(state()[0])
    assert len(sources) == 3 and troubles(page) == []
    assert page.execute_script("return document.images[0].naturalWidth") == 64


@pytest.mark.slow
def test_the_border_between_two_pictures_moves(shown):
    page = shown(interactive.before_after(picture(0), picture(255), ("dark", "light"), "Dark and light."))
    move(page, 25)
    clip = page.execute_script("return document.images[1].style.clipPath")
    assert re.search(r"75%", clip) and troubles(page) == []


@pytest.mark.slow
def test_menus_choose_rows(shown):
    page = shown(interactive.pick(TABLE, ["model", "size"]))

    def visible() -> list[str]:
        script = "return [...document.querySelectorAll('tbody tr')].filter(r => r.style.display !== 'none').map(r => r.innerText)"
        return page.execute_script(script)

    choose = (
        "const m = document.querySelectorAll('select')[arguments[0]]; m.value = arguments[1];"
        "m.dispatchEvent(new Event('change'))"
    )
    assert len(visible()) == 3
    page.execute_script(choose, 0, "a")
    assert len(visible()) == 2
    page.execute_script(choose, 1, "2")
    (row,) = visible()
    assert row.split() == ["a", "2", "2.00"] and troubles(page) == []
