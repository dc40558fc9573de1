"""The report: offline, described pictures, formulas, themes and search, in a real browser where there is one."""

import base64
import html
import io
import os
import re
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from browsing import barriers, troubles
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import tcseg
from tcseg.study.figures import captions, interactive
from tcseg.study.report import sphinx_build
from tcseg.study.report.sphinx_build import ReportError, build_report, check_site

LESSON = r"""# {title}

A formula in the line, $\hat p_{{t+1}}$, and one below:

$$\mathcal{{L}} = \frac{{\sum_x v(x)\,\lVert p_t(x) - \hat p_{{t+1}}(x)\rVert^2}}{{\sum_x v(x)}}$$

## A findable section about zebras
"""


GREY = np.full((32, 64, 3), 128, np.uint8)


def picture() -> str:
    figure, axes = plt.subplots(figsize=(2, 1))
    axes.plot([1, 3, 2])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode()


def executed(
    path: Path, title: str, profile: str = "smoke", alt: str = "A line [that] rises", source: str = "1"
) -> None:
    """An executed notebook as papermill leaves it: a picture with alt text, a slider, a banner."""
    metadata = {"image/png": {"alt": alt}} if alt else {}
    outputs = [
        new_output("display_data", {"image/png": picture()}, metadata=metadata),
        new_output(
            "display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "Slider"}
        ),
        new_output("display_data", {"text/markdown": "> Data: procity  \n> **Smoke** $x^2$"}),
        new_output("display_data", {"text/html": interactive.flip_book({"a": [GREY, GREY // 2]}, "A book.").data}),
        new_output("display_data", {"text/html": captions.beneath("A line [that] rises", "Figure 9")}),
        new_output(
            "display_data", {"text/html": '<table class="dataframe"><tr><td>' + "wide " * 90 + "</td></tr></table>"}
        ),
        new_output("stream", name="stderr", text="decoding 3 clips"),
    ]
    notebook = new_notebook(
        cells=[
            new_markdown_cell(LESSON.format(title=title)),
            new_code_cell("seed = 1  # the code of the learner", metadata={"tags": ["parameters"]}),
            new_code_cell("seed = 2", metadata={"tags": ["injected-parameters"]}, execution_count=1),
            new_code_cell(source, outputs=outputs, execution_count=2),
        ],
        metadata={
            "papermill": {"parameters": {"dataset": "procity", "profile": profile, "runs": "train"}, "duration": 2.0},
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        },
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    study = tmp_path_factory.mktemp("study")
    executed(study / "notebooks" / "01_first.ipynb", "1 · First")
    executed(study / "notebooks" / "02_second.ipynb", "2 · Second")
    executed(study / "notebooks" / "03_third.failed.ipynb", "3 · Failed")
    index = build_report(study)
    assert index == study / "report" / "index.html"
    return index.parent


def test_without_notebooks_there_is_no_report(tmp_path):
    with pytest.raises(ReportError, match="no executed notebook in .*: run the study first"):
        build_report(tmp_path)


def test_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sphinx_build, "find_spec", lambda name: None if name == "myst_nb" else object())
    with pytest.raises(ReportError, match=r"the report needs myst-nb: pip install 'tcseg\[report\]'"):
        build_report(tmp_path)


def test_problems_of_a_site_are_found(tmp_path):
    (tmp_path / "there.png").touch()
    (tmp_path / "page.html").write_text(
        '<img src="there.png" alt="x"><img src="there.png"><img src="gone.png" alt="y">'
        '<script src="https://cdn.example/x.js"></script><link rel="stylesheet" href="//cdn.example/x.css">'
        '<a href="https://arxiv.org">a link is no fetch</a>'
    )
    (tmp_path / "style.css").write_text("body { background: url(https://cdn.example/x.png) }")
    assert check_site(tmp_path) == [
        "page.html needs gone.png, which is not there",
        "page.html fetches https://cdn.example/x.js from the network",
        "page.html fetches //cdn.example/x.css from the network",
        "page.html: picture there.png has no alt text (study.figure(..., alt=...))",
        "style.css fetches https://cdn.example/x.png from the network",
    ]


@pytest.mark.slow
def test_pages_are_complete(site):
    assert check_site(site) == []
    assert sorted(path.name for path in site.glob("0*.html")) == ["01_first.html", "02_second.html"]
    page = (site / "01_first.html").read_text()
    assert 'alt="A line [that] rises"' in page
    assert page.count("<math") == 3 and "\\lVert" not in page
    assert "widget-view" not in page and "require.js" not in page
    for name in sphinx_build.STUDY_PAGES:
        assert f'href="{name}.html"' in page and (site / f"{name}.html").exists(), name
    index = (site / "index.html").read_text()
    assert "its numbers have no meaning" in index
    assert '<a class="reference internal" href="01_first.html">' in index
    assert os.listdir(site.parent) == ["notebooks", "report"] or set(os.listdir(site.parent)) == {"notebooks", "report"}


@pytest.mark.slow
def test_code_is_folded_and_what_was_said_while_running_is_gone(site):
    page = (site / "01_first.html").read_text()
    assert re.search(r'<details class="[^"]*hide[^"]*above-input', page) and "decoding 3 clips" not in page
    assert "the code of the learner" not in page, "papermill's parameters replaced these"
    assert re.search(r"_static/pictures/[0-9a-f]{16}\.jpeg", page) and "data:image/jpeg" not in page


@pytest.mark.slow
def test_each_figure_has_one_caption_with_a_number(site):
    page = (site / "01_first.html").read_text()
    found = re.findall(r'<figcaption><b class="tcseg-number">(.*?)</b> (.*?)</figcaption>', page)
    assert found == [("Figure 1.1.", "A line [that] rises"), ("Figure 1.2.", "A book.")]
    assert page.count("<img") == page.count("<figure"), "a picture without a caption"


@pytest.mark.slow
def test_papers_are_links(site):
    page = (site / "bibliography.html").read_text()
    assert page.count('href="https://arxiv.org/abs/') >= 15
    entries = re.findall(r"<dd><p>(.*?)</p>", page, re.DOTALL)
    assert entries and all("<a " in entry for entry in entries), [entry for entry in entries if "<a " not in entry]


@pytest.mark.slow
def test_a_page_is_light_and_says_what_it_is(site):
    assert max(sphinx_build.weights(site).values()) < 3e6
    assert not list(site.rglob("fontawesome.js")) and not list(site.rglob("*.map"))
    index = (site / "index.html").read_text()
    assert "<title>A course on video segmentation without flicker &#8212; tcseg</title>" in index
    assert 'rel="icon" href="_static/favicon.svg"' in index or "favicon.svg" in index
    for page in ("index", "01_first", "glossary"):
        (words,) = re.findall(r'<meta name="description" content="([^"]+)">', (site / f"{page}.html").read_text())
        assert 40 < len(html.unescape(words)) <= 160, page


@pytest.mark.slow
def test_the_first_page_has_a_card_a_chapter_and_two_buttons(site):
    index = (site / "index.html").read_text()
    assert index.count('class="chapter docutils container"') == 2
    assert re.findall(r'<a class="[^"]*\bbutton\b[^"]*" href="([^"]+)"', index) == ["01_first.html", "results.html"]


@pytest.mark.slow
def test_the_api_page_has_signatures_arguments_and_examples(site):
    page = html.unescape(re.sub(r"<[^>]+>", "", (site / "api.html").read_text()))
    for name in tcseg.__all__:
        assert f"tcseg.{name}" in page or name == "__version__", name
    assert re.search(r"tcseg\.predict\(\s*model: .*\s*frames: .*\s*size: .*\s*\) → ndarray", page)
    assert "Parameters:" in page and "Returns:" in page and "steps, seed – length of the schedule" in page
    assert '>>> model = tcseg.load_model("student")' in page and "Args:" not in page and "<function" not in page
    assert page.count(">>> ") >= 20, "the examples of the public names"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alt": ""}, "01_first.html: picture .* has no alt text"),
        ({"title": r"1 · $\left($"}, "cannot be converted to MathML"),
        ({"title": "1 · {{ student_miuo }}"}, "student_miuo"),
    ],
)
def test_what_a_reader_would_miss_fails_the_build(tmp_path, change, message):
    executed(tmp_path / "notebooks" / "01_first.ipynb", **({"title": "1 · First"} | change))
    with pytest.raises(ReportError, match=message):
        build_report(tmp_path)
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_alt_text_saved_beside_the_figure_serves_too(tmp_path):
    executed(
        tmp_path / "notebooks" / "01_first.ipynb",
        "1 · First",
        alt="",
        source='study.figure("effects", draw, alt=words)',
    )
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "effects.json").write_text('{"alt": "Saved words"}')
    assert 'alt="Saved words"' in build_report(tmp_path).with_name("01_first.html").read_text()


# ------------------------------------------------------------------------------------------------ in a browser

CUT = """return [...document.querySelectorAll('.bd-article table')].filter(t => t.scrollWidth > t.parentElement.clientWidth + 1
  && getComputedStyle(t.parentElement).overflowX !== 'auto').length"""
WIDE = """return [...document.querySelectorAll('.bd-article table')].filter(t => t.scrollWidth > t.parentElement.clientWidth + 1)
  .map(t => t.innerText.slice(0, 80))"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_everything_to_everyone(site, browser, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for page in ("index", "01_first", "results", "bibliography", "api", "about"):
        browser.get((site / f"{page}.html").as_uri())
        sizes = browser.execute_script("return [...document.images].map(i => [i.src, i.complete, i.naturalWidth])")
        assert [src for src, complete, wide in sizes if not complete or wide == 0] == []
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, (
            f"{page} scrolls sideways"
        )
        assert barriers(browser, AUTODOC if page == "api" else ()) == [], page
        assert troubles(browser) == []
        assert browser.execute_script(CUT) == 0, f"a table of {page} is cut off"
        if page == "results" and width > 1000:
            assert browser.execute_script(WIDE) == [], "a table of results is not whole"
    heights = browser.execute_script("return [...document.querySelectorAll('math')].map(m => m.clientHeight)")
    assert all(height > 0 for height in heights)


AUTODOC = ("definition-list", "dlitem")  # how Sphinx writes signatures


def _shown(browser, css):
    """The first element of a selector that is displayed, or None: menus take a moment to open."""
    return next((one for one in browser.find_elements("css selector", css) if one.is_displayed()), None)


@pytest.mark.slow
def test_dark_theme_and_search_work(site, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    wide = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", wide)
    browser.get((site / "index.html").as_uri())
    grounds = {}
    for mode in ("light", "dark"):
        for button in ("theme-switch-button", f"theme-change-button[data-mode={mode}]"):
            WebDriverWait(browser, 10).until(lambda b, css=f"button.{button}": _shown(b, css)).click()
        assert browser.execute_script("return document.documentElement.dataset.theme") == mode
        grounds[mode] = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert barriers(browser) == [], mode
    assert grounds["light"] == "rgb(255, 255, 255)" and grounds["dark"] != grounds["light"]
    browser.get((site / "01_first.html").as_uri())
    assert browser.execute_script("return document.documentElement.dataset.theme") == "dark"
    assert barriers(browser) == []
    button = browser.execute_script("return getComputedStyle(document.querySelector('.tcseg-play')).backgroundColor")
    assert button not in ("rgb(255, 255, 255)", "rgb(239, 239, 239)"), "a book follows the theme"
    for word, page in (("zebras", "01_first.html"), ("kl_distillation", "api.html"), ("load_model", "api.html")):
        browser.get((site / "search.html").as_uri() + f"?q={word}")
        WebDriverWait(browser, 20).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#search-results li a"))
        found = [link.get_attribute("href") for link in browser.find_elements(By.CSS_SELECTOR, "#search-results li a")]
        assert any(page in link for link in found), word
    assert troubles(browser) == []
