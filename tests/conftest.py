"""Fixtures that several test files share."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import matplotlib
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

if "PYTEST_XDIST_WORKER" in os.environ:  # a process a core: threads of several would wait for each other
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

# Minutes long each: they start first, a process each, so that no core waits at the end (with --no-loadscope-reorder).
LONGEST = ("test_opened_notebooks.py", "test_smoke_study.py", "test_cityscapes_way.py", "test_measurements.py", "test_caches.py")

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it, and tests send it
matplotlib.use("Agg")  # before anything imports pyplot: no test needs a screen

PARAMETERS = """dataset: str = "procity"  # procity | camvid | cityscapes | a folder
profile: str = "laptop"  # smoke | laptop | full
runs: str = "reference"  # train | reference"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of `LONGEST` first, in that order; the others stay as they are."""
    place = {name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


@pytest.fixture
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of the project's data/: what a test makes there is gone after it."""
    from tcseg.data import folders
    from tcseg.study import study

    folder = tmp_path / "data"
    folder.mkdir()
    for module in (folders, study):
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


FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync""".split()


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Chromium without a screen, which logs what its console says and what it requests; skipped where there is none."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium and chromedriver here (Debian: apt-get install chromium chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    browser.get("about:blank")  # and forget what the browser's own start page asked for
    for log in ("browser", "performance"):
        browser.get_log(log)
    yield browser
    browser.quit()
