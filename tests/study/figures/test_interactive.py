"""What can be moved without a kernel: that it answers, in a real browser where there is one, and what it refuses."""

from __future__ import annotations

import re
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browsing import barriers, troubles
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tcseg.study.figures import interactive


def picture(level: int, size: tuple[int, int] = (64, 32)) -> np.ndarray:
    return np.full((size[1], size[0], 3), level, np.uint8)


LAYERS = {"frame": [picture(level) for level in (10, 80, 160)], "error": [picture(level) for level in (20, 90, 170)]}
TABLE = pd.DataFrame({"model": ["a", "a", "b"], "size": [1, 2, 1], "ms": [1.234, 2.0, 3.5]})


def test_the_same_content_is_the_same_page():
    pages = [interactive.flip_book(LAYERS, "Levels of grey.").data for _ in range(2)]
    assert pages[0] == pages[1] and "http" not in pages[0]
    one_layer = interactive.flip_book({"frame": LAYERS["frame"]}, "x").data
    assert one_layer.count("<button") == 1 and "Play" in one_layer
    assert interactive.flip_book({"frame": LAYERS["frame"][:1]}, "x").data.count("<button") == 0, "nothing to play"


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(ValueError, match=r"layers and captions have \[2, 3\] pictures"):
        interactive.flip_book(LAYERS, "x", captions=["one", "two"])
    with pytest.raises(ValueError, match="layers and captions have no pictures"):
        interactive.flip_book({}, "x")
    with pytest.raises(ValueError, match=r"picture is float64 \(4, 4, 3\); it must be uint8"):
        interactive.flip_book({"a": [np.zeros((4, 4, 3))]}, "x")
    with pytest.raises(ValueError, match="which is no GIF"):
        interactive.film(Path(__file__), "x")
    with pytest.raises(ValueError, match="both need one shape"):
        interactive.before_after(picture(0), picture(0, (32, 32)), ("a", "b"), "x")
    with pytest.raises(ValueError, match="it needs rows, and model, colour"):
        interactive.pick(TABLE, ["model", "colour"])


def test_words_cannot_leave_their_place():
    layers = dict.fromkeys(("</script><b>", "other"), LAYERS["frame"])
    page = interactive.flip_book(layers, 'a "quoted" word', captions=["1", "</script>", "3"]).data
    assert page.count("</script>") == 1 and 'data-layer="&lt;/script&gt;&lt;b&gt;"' in page
    assert 'alt="a &#34;quoted&#34; word"' in page


@pytest.fixture
def shown(browser, tmp_path):
    """Open a piece of HTML as a page; gives the browser. Whatever the test did, it leaves no barrier and no complaint."""

    def open_page(piece) -> object:
        head = "<!doctype html><html lang='en'><meta charset='utf-8'><title>A widget</title><main><h1>A widget</h1>"
        (tmp_path / "page.html").write_text(f"{head}{piece.data}</main></html>")
        browser.get((tmp_path / "page.html").as_uri())
        return browser

    yield open_page
    assert barriers(browser) == [] and troubles(browser) == []


def press(browser, css: str, *keys: str) -> None:
    browser.execute_script("document.querySelector(arguments[0]).focus()", css)
    browser.switch_to.active_element.send_keys(*keys)


@pytest.mark.slow
def test_a_flip_book_turns_plays_and_listens_to_the_keyboard(shown):
    page = shown(interactive.flip_book(LAYERS, "Levels of grey.", captions=["one", "two", "three"], fps=20))

    def state() -> list:
        return page.execute_script("return [document.images[0].src, document.querySelector('output').textContent]")

    sources = {state()[0]}
    press(page, "input", Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert state()[1] == "three"
    sources.add(state()[0])
    press(page, "[data-layer=error]", Keys.ENTER)
    sources.add(state()[0])
    assert len(sources) == 3 and page.execute_script("return document.images[0].naturalWidth") == 64
    press(page, ".tcseg-play", Keys.ENTER)
    seen = set()
    WebDriverWait(page, 10, 0.02).until(lambda _: seen.add(state()[1]) or len(seen) == 3)
    press(page, ".tcseg-play", Keys.ENTER)
    rest = state()[1]
    time.sleep(0.3)
    assert state()[1] == rest, "it was paused"


@pytest.mark.slow
def test_the_border_between_two_pictures_is_dragged_and_moved_by_keys(shown):
    page = shown(interactive.before_after(picture(0), picture(255), ("dark", "light"), "Dark and light."))
    border = page.find_element("css selector", "[role=slider]")
    place = partial(border.get_attribute, "aria-valuenow")
    wide = page.execute_script("return document.querySelector('.tcseg-pair').clientWidth")
    ActionChains(page).drag_and_drop_by_offset(border, -wide // 4, 0).perform()
    clip = page.execute_script("return document.images[1].style.clipPath")
    assert 23 <= float(place()) <= 27 and re.search(r"7[4-6](\.\d+)?%", clip)
    press(page, "[role=slider]", Keys.ARROW_RIGHT)
    assert 28 <= float(place()) <= 32
    press(page, "[role=slider]", Keys.HOME)
    assert place() == "0"


@pytest.mark.slow
def test_a_film_stops_and_goes_on(shown, tmp_path):
    frames = [Image.fromarray(picture(level)) for level in (10, 200)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:], duration=50, loop=0)
    page = shown(interactive.film(tmp_path / "film.gif", "Grey that changes."))

    def kind() -> str:
        return page.execute_script("return document.images[0].src.slice(5, 15)")

    found = [kind()]
    for _ in range(2):
        press(page, ".tcseg-play", Keys.ENTER)
        found.append(kind())
    assert found == ["image/gif;", "image/jpeg", "image/gif;"]


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
    assert row.split() == ["a", "2", "2.00"]
    assert page.execute_script("return document.querySelector('output').textContent") == "1 row"
