"""The report: executed notebooks and the pages of notebooks/ as one offline folder of HTML, by Sphinx and MyST-NB.

The source is assembled in a temporary folder: the pages of notebooks/, those that are filled from the study's tables
(tcseg/templates), and the executed notebooks (pictures with their alt text, no widgets). Nothing is executed here. A page
that would fetch something from the network, a picture without alt text, or an unknown value in the prose fails.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tcseg.atomic_files import beside
from tcseg.errors import CannotRunError
from tcseg.study.figures.captions import without_number
from tcseg.study.figures.interactive import film
from tcseg.study.notebooks import address
from tcseg.study.notebooks.colab import with_links, with_pages
from tcseg.study.notebooks.pages import prepare, with_files, with_papers
from tcseg.study.notebooks.workbook import with_text_fields
from tcseg.study.paths import NOTEBOOKS
from tcseg.study.report.documents import HERO
from tcseg.study.report.documents import pages as rendered

STUDY_PAGES = (
    "methods",
    "results",
    "speed",
    "limits",
    "reproducibility",
    "use",
    "your_data",
    "cluster",
    "api",
    "help",
    "glossary",
    "bibliography",
    "about",
)
HERO_ALT = (
    "One drive, and one small network trained in two ways. "
    "Orange pixels change their class although nothing in the street did."
)
PAGES = Path(__file__).resolve().parents[3] / "notebooks"
NEEDED = {
    "sphinx": "sphinx",
    "myst_nb": "myst-nb",
    "sphinx_book_theme": "sphinx-book-theme",
    "latex2mathml": "latex2mathml",
}
# What a browser fetches when a page opens: tag -> attribute.
FETCHED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "video": "src",
    "source": "src",
    "embed": "src",
    "object": "data",
}


class ReportError(CannotRunError):
    """A report that cannot be built, or that would not be complete offline. The message says what to mend."""


def build_report(folder: Path, out: Path | None = None, pages: Path = PAGES) -> Path:
    """Build the report of an executed study.

    Args:
        folder: The study's folder: notebooks/ (executed), tables/, figures/.
        out: Where the HTML goes; `folder`/report by default. A report that is there is replaced by the finished one.
        pages: The folder of conf.py and the Markdown pages.

    Returns:
        The path of index.html.

    Raises:
        ReportError: An extra is not installed, no notebook has been executed, Sphinx complains, a picture has no alt
            text, or a page refers to the network.
    """
    lacking = [name for module, name in NEEDED.items() if find_spec(module) is None]
    if lacking:
        raise ReportError(f"the report needs {', '.join(lacking)}: pip install 'tcseg[report]'")
    found = sorted((folder / "notebooks").glob("[0-9]*.ipynb"))
    notebooks = [path for path in found if not path.stem.endswith(".failed")]
    if not notebooks:
        raise ReportError(f"no executed notebook in {folder / 'notebooks'}: run the study first")
    out = out or folder / "report"
    with tempfile.TemporaryDirectory() as work:
        source, built = Path(work) / "source", Path(work) / "html"
        assemble(folder, notebooks, pages, source)
        _sphinx(source, built)
        if problems := check_site(built):
            raise ReportError("the report is not complete:\n" + "\n".join(f"  {problem}" for problem in problems))
        aside = beside(out)
        shutil.copytree(built, aside)
    shutil.rmtree(out, ignore_errors=True)
    os.replace(aside, out)
    return out / "index.html"


def assemble(folder: Path, notebooks: list[Path], pages: Path, source: Path) -> None:
    """Lay out the Sphinx source: pages, executed notebooks with pictures as files."""
    source.mkdir(parents=True)
    shutil.copytree(pages / "_static", source / "_static")
    shutil.copy(pages / "conf.py", source)
    for page in pages.glob("*.md"):
        (source / page.name).write_text(with_papers(page.read_text(encoding="utf-8")), encoding="utf-8")
    titles = {}
    for path in notebooks:
        notebook = nbformat.read(path, as_version=4)
        titles[path.stem] = title_of(notebook)
        if path.stem in NOTEBOOKS:
            notebook = with_links(notebook, f"[Open this chapter in Colab]({address.colab(path.stem)})")
            notebook = with_text_fields(with_pages(notebook, "{}.md".format))  # pages of the same folder
        prepare(notebook, folder / "figures", source / "_static" / "pictures", path.stem)
        nbformat.write(notebook, source / path.name)
    moving = _hero(folder / "figures" / HERO, source / "_static")
    files = source / "_files"  # what the pages offer to take away
    files.mkdir()
    for path in (*(folder / "tables").glob("*.csv"), *(folder / "figures").glob("*.[psg][nvi][gf]")):
        shutil.copy(path, files)
    toc = "\n".join([*_toctree("The course", titles), "", *_toctree("The study", STUDY_PAGES)])
    for name, text in rendered(folder, titles, toc).items():
        (source / f"{name}.md").write_text(text.replace("<!-- hero -->", moving), encoding="utf-8")


def _hero(path: Path, static: Path) -> str:
    """The film of the first page with its button; empty where there is none."""
    if not path.exists():
        return ""
    shutil.copy(path, static)  # at an address of its own, for links that somebody shares
    return with_files(without_number(film(path, HERO_ALT).data), static / "pictures")


def _toctree(caption: str, pages: Iterable[str]) -> list[str]:
    return ["```{toctree}", f":caption: {caption}", ":hidden:", "", *pages, "```"]


def title_of(notebook: NotebookNode) -> str:
    """The first heading of a notebook."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (found := re.search(r"^#\s+(.+)$", cell.source, re.MULTILINE)):
            return found[1].strip()
    return "Untitled"


def _sphinx(source: Path, out: Path) -> None:
    """Build the HTML; any warning is an error."""
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    command += ["-d", str(out.with_name("doctrees")), str(source), str(out)]
    # Sphinx's and its extensions' deprecations are not the reader's to mend.
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    if done.returncode != 0:
        words = done.stderr.replace(f"{source}{os.sep}", "").strip().splitlines()
        raise ReportError("Sphinx could not build the report:\n" + "\n".join(f"  {line}" for line in words[-30:]))
    _lighten(out)


def _lighten(out: Path) -> None:
    """Take out what no page needs: the theme's sources, and 1.5 MB of script that draws its dozen icons (tcseg.css has them)."""
    static = out / "_static"
    for file in (*static.glob("*.html"), *static.rglob("*.map"), *static.rglob("fontawesome.js")):
        file.unlink()
    for page in out.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(re.sub(r"<script[^>]*fontawesome\.js[^>]*></script>", "", text), encoding="utf-8")


# ------------------------------------------------------------------------------------------------ complete, and offline


class _Page(HTMLParser):
    """Collects what a page fetches when it opens, and the pictures without alt text."""

    def __init__(self) -> None:
        super().__init__()
        self.fetches: list[str] = []
        self.pictures: list[str] = []
        self.nameless: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called by HTMLParser for each tag."""
        given = {name: value or "" for name, value in attrs}
        if tag in FETCHED and given.get(FETCHED[tag]):
            self.fetches.append(given[FETCHED[tag]])
        if tag == "link" and given.get("rel") not in {"next", "prev", "author", "search", "index", "canonical"}:
            self.fetches.append(given.get("href", ""))
        if tag == "img":
            self.pictures.append(given.get("src", ""))
            if not given.get("alt", "").strip():
                self.nameless.append(given.get("src", ""))


def weights(site: Path) -> dict[str, int]:
    """Page -> bytes of all that a browser reads when it opens: the page, its scripts and styles, its pictures."""
    found = {}
    for page in sorted(site.rglob("*.html")):
        parser = _Page()
        parser.feed(page.read_text(encoding="utf-8"))
        local = {
            page.parent / re.split(r"[?#]", url)[0] for url in parser.fetches if "//" not in url and ":" not in url
        }
        found[page.relative_to(site).as_posix()] = sum(path.stat().st_size for path in {page, *local} if path.is_file())
    return found


def check_site(site: Path) -> list[str]:
    """What is wrong with a built site: resources from the network or missing on disk, pictures without alt text.

    Args:
        site: The folder of HTML.

    Returns:
        One line for each problem.
    """
    problems = []
    for page in sorted(site.rglob("*.html")):
        parser, name = _Page(), page.relative_to(site).as_posix()
        parser.feed(page.read_text(encoding="utf-8"))
        for url in parser.fetches:
            path = url.split("?")[0].split("#")[0]
            if re.match(r"(?:[a-z][a-z0-9+.-]*:)?//", url):
                problems.append(f"{name} fetches {url} from the network")
            elif path and not url.startswith("data:") and not (page.parent / path).exists():
                problems.append(f"{name} needs {path}, which is not there")
        problems += [
            f"{name}: picture {src[:80]} has no alt text (study.figure(..., alt=...))" for src in parser.nameless
        ]
    for style in sorted(site.rglob("*.css")):
        for url in re.findall(
            r"url\(\s*['\"]?((?:https?:)?//[^'\")]+)", style.read_text(encoding="utf-8", errors="replace")
        ):
            problems.append(f"{style.relative_to(site).as_posix()} fetches {url} from the network")
    return problems
