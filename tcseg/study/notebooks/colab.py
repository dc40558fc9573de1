"""The chapters on the web: the line of links below each title, and copies that Google Colab opens and runs.

A copy is the chapter with one more cell, which fetches the repository and installs what Colab lacks. The copies are made by
`make colab` and by the workflow `pages`, and are never committed to main: so none can be older than its chapter.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tcseg.atomic_files import beside
from tcseg.study.notebooks import address
from tcseg.study.notebooks.workbook import chapters_of, chapters_to_copy

LINKS = re.compile(r"\A(?P<title># .+\n)\n(?:\[.+\]\(https://.+\)\n\n)?")
PAGES = re.compile(r"https://[\w.-]+\.github\.io/[\w.-]+/(?P<name>\w+)\.html")
"""A link to a page of the published report."""
EXTRAS = ("deploy",)
"""Extras that a chapter uses; chapter 6 exports networks."""
BROUGHT = ("jupyterlab", "ipykernel", "ipywidgets")
"""What Colab brings in versions of its own, and needs in these."""


def links(name: str, project: Path = address.PROJECT) -> str:
    """The line of links of a chapter: its page in the published report, and Colab."""
    return f"[See it with its results]({address.page(name, project)}) · [Open in Colab]({address.colab(name, project)})"


def with_links(notebook: NotebookNode, line: str) -> NotebookNode:
    """A copy whose first cell has this line below its title, in place of the one that was there; without one for ""."""
    copy = deepcopy(notebook)
    first = copy.cells[0]
    first.source = LINKS.sub(rf"\g<title>\n{line}\n\n" if line else r"\g<title>\n", first.source, count=1)
    return copy


def with_pages(notebook: NotebookNode, place: Callable[[str], str]) -> NotebookNode:
    """A copy whose links to pages of the report go to `place(name of the page)`."""
    copy = deepcopy(notebook)
    for cell in copy.cells:
        if cell.cell_type == "markdown":
            cell.source = PAGES.sub(lambda match: place(match["name"]), cell.source)
    return copy


def linked_chapters(source: Path, project: Path = address.PROJECT) -> dict[Path, str]:
    """Path of each chapter -> its text with the links of today."""
    texts = {}
    for path in chapters_of(source):
        notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
        linked = with_pages(with_links(notebook, links(path.stem, project)), lambda name: address.page(name, project))
        texts[path] = nbformat.writes(linked) + "\n"
    return texts


def requirements(project: Path = address.PROJECT) -> list[str]:
    """What the chapters need of pyproject.toml, less what Colab brings in versions of its own."""
    declared = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    wanted = [*declared["dependencies"], *(one for extra in EXTRAS for one in declared["optional-dependencies"][extra])]
    return [one for one in wanted if not one.startswith(BROUGHT)]


def install_cell(project: Path = address.PROJECT) -> NotebookNode:
    """The cell that a copy begins with. It may be run twice."""
    folder = address.repository(project).rpartition("/")[2]
    lines = [
        "# Google Colab: fetch the course and install what it needs. Nothing is trained; a chapter then takes minutes.",
        "import os",
        "",
        f'if not os.path.isdir("/content/{folder}"):',
        f"    !git clone --quiet --depth 1 {address.repository(project)}.git /content/{folder}",
        f"%pip install --quiet {' '.join(repr(one) for one in requirements(project))}",
        f"%cd -q /content/{folder}",
    ]
    return nbformat.v4.new_code_cell("\n".join(lines), id="install", metadata={"tags": ["install"]})


def for_colab(notebook: NotebookNode, name: str, project: Path = address.PROJECT) -> NotebookNode:
    """A copy of a chapter that runs in Colab: the cell that installs stands below the title."""
    copy = with_links(notebook, f"[See it with its results]({address.page(name, project)})")
    copy.cells.insert(1, install_cell(project))
    copy.metadata["colab"] = {"provenance": []}
    return copy


def write_colab(source: Path, goal: Path, project: Path = address.PROJECT) -> list[Path]:
    """Write a copy of every chapter of `source` to `goal`; copies that are there are replaced.

    Returns:
        The files written.

    Raises:
        FileNotFoundError: there are no notebooks in `source`.
        CannotWriteError: `goal` cannot be written, or is the folder of the chapters.
    """
    written = []
    for path in chapters_to_copy(source, goal):
        notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
        aside = beside(goal / path.name)
        nbformat.write(for_colab(notebook, path.stem, project), aside)
        written.append(aside.replace(goal / path.name))
    return written
