"""Fixtures that several test files share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

matplotlib.use("Agg")  # before anything imports pyplot: no test needs a screen

PARAMETERS = """dataset: str = "procity"  # procity | camvid | cityscapes
profile: str = "smoke"  # smoke | laptop | full
runs: str = "train"  # train | reference
interactive: bool = True  # widgets as well as static pictures"""


@pytest.fixture
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of the project's data/: what a test makes there is gone after it."""
    from tcseg import data, study

    folder = tmp_path / "data"
    folder.mkdir()
    for module in (data, study):
        monkeypatch.setattr(module, "data_root", lambda: folder)
    monkeypatch.delenv("TCSEG_DATA", raising=False)
    return folder


@pytest.fixture(scope="session")
def write_notebook() -> Callable[..., Path]:
    """Write a notebook with the course's parameters cell and the given code cells: (path, *cells, parameters=...)."""

    def write(path: Path, *cells: str, parameters: str = PARAMETERS, title: str = "1 · A lesson") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        first = new_code_cell(parameters, metadata={"tags": ["parameters"]})
        notebook = new_notebook(cells=[new_markdown_cell(f"# {title}"), first, *map(new_code_cell, cells)])
        nbformat.write(notebook, path)
        return path

    return write
