"""The chapters on the web: their links, and the copies for Colab; one is run in test_opened_notebooks.py."""

import re
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement

from tcseg.errors import CannotWriteError
from tcseg.study.notebooks import address, colab
from tcseg.study.paths import NOTEBOOKS

ROOT = Path(__file__).resolve().parents[3]
SOURCE = ROOT / "notebooks"


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


@pytest.fixture(scope="module")
def copies(tmp_path_factory) -> dict[str, nbformat.NotebookNode]:
    goal = tmp_path_factory.mktemp("colab")
    written = colab.write_colab(SOURCE, goal)
    assert sorted(goal.iterdir()) == written, "and nothing else"
    return {path.stem: read(path) for path in written}


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    path = tmp_path / "pyproject.toml"
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    path.write_text(text.replace(address.repository(), "https://github.com/Me/streets"), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_committed_links_are_those_of_today(name):
    path = SOURCE / f"{name}.ipynb"
    assert path.read_text(encoding="utf-8") == colab.linked_chapters(SOURCE)[path], "run: make documents"


def test_another_address_changes_the_links_and_nothing_else(elsewhere):
    for path, text in colab.linked_chapters(SOURCE, elsewhere).items():
        old, new = read(path), nbformat.reads(text, as_version=nbformat.NO_CONVERT)
        line = colab.links(path.stem, elsewhere)
        assert "me.github.io/streets" in line and new.cells[0].source.splitlines()[2] == line
        back = colab.with_pages(new, address.page)
        assert back.cells[1:] == old.cells[1:] and new.metadata == old.metadata
        assert address.page() not in text, "a link to a page stayed behind"
        again = colab.with_links(new, colab.links(path.stem))
        assert colab.with_links(again, "").cells[0] == colab.with_links(old, "").cells[0], "the text around it stays"


def test_a_copy_is_the_chapter_with_one_more_cell(copies):
    assert tuple(copies) == tuple(NOTEBOOKS)
    for name, copy in copies.items():
        nbformat.validate(copy)
        chapter = read(SOURCE / f"{name}.ipynb")
        assert copy.cells[2:] == chapter.cells[1:] and copy.cells[0].source.startswith(chapter.cells[0].source.splitlines()[0])
        assert copy.cells[1].metadata.tags == ["install"]
        parameters = copy.cells[2].source
        assert 'runs: str = "reference"' in parameters and 'dataset: str = "procity"' in parameters, "nothing is trained"


def test_the_first_cell_installs_what_the_package_asks_for_and_leaves_colabs_own(copies, elsewhere):
    install = copies["00_start_here"].cells[1].source
    asked = {Requirement(text).name for text in re.findall(r"'([^']+)'", install)}
    assert {"torch", "timm", "numba", "onnxruntime", "openvino"} <= asked
    assert not asked & {"jupyterlab", "ipykernel", "ipywidgets", "sphinx", "pytest"}
    assert "git clone --quiet --depth 1 https://github.com/Me/streets.git /content/streets" in colab.install_cell(elsewhere).source


def test_copies_do_not_replace_the_chapters(tmp_path):
    with pytest.raises(CannotWriteError, match="holds the chapters themselves: give another folder"):
        colab.write_colab(SOURCE, SOURCE)
    with pytest.raises(FileNotFoundError, match="no notebooks in"):
        colab.write_colab(tmp_path, tmp_path / "copies")
