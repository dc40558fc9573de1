"""Every notebook as it opens, run alone and without parameters; the first one as Colab's copy of it, in a clone."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import nbformat
import numpy as np
import pandas as pd
import pytest

from tcseg.study.notebooks import colab
from tcseg.study.opening import open_study
from tcseg.study.paths import NOTEBOOKS, REPOSITORY
from tcseg.study.run_study import course_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ON_COLAB = "00_start_here"
ALONE = """
import sys
from pathlib import Path
from tcseg.study.notebooks.execution import execute
source, folder, *study = map(Path, sys.argv[1:])
execute(source, folder / "notebooks" / source.name, {}, environment={"TCSEG_STUDY_FOLDER": str(one) for one in study})
"""


def clone_repository(goal: Path) -> bool:
    """Copy what the cell that installs would fetch: the files that git has, and no others. False without git."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True)
    for name in filter(None, files.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (goal / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, goal / name)
    return files.returncode == 0


def colab_copy(place: Path, clone: Path) -> Path:
    """Colab's copy of the first chapter; instead of the cell that installs, the kernel stands in a clone."""
    colab.write_colab(REPOSITORY / "notebooks", place)
    path = place / f"{ON_COLAB}.ipynb"
    copy = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    assert copy.cells[1].source.splitlines()[-1] == "%cd -q /content/tcseg"
    copy.cells[1].source = f"import sys\n\nsys.path.insert(0, {str(clone)!r})\n%cd -q {clone}"
    copy.cells.insert(2, nbformat.v4.new_code_cell("import tcseg\n\nprint(tcseg.__file__)", id="in-place"))
    nbformat.write(copy, path)
    return path


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path | None:
    folder = tmp_path_factory.mktemp("content") / "tcseg"
    return folder if clone_repository(folder) else None


@pytest.fixture(scope="module")
def opened(tmp_path_factory, clone) -> dict[str, tuple[Path, str]]:
    """Two notebooks at a time: the study's folder, and why it failed. The data are drawn and decoded once for all."""
    place = tmp_path_factory.mktemp("opened")
    shared = open_study("procity", "laptop", "reference", folder=place / "shared")
    for split in ("val", "train"):
        shared.clips(split)
    chapters, tree = course_of("procity", "smoke").source, shared.data_folder()

    def run_alone(name: str) -> tuple[Path, str]:
        folder, source, own = place / name, chapters / f"{name}.ipynb", [str(place / name)]
        if name == ON_COLAB and clone is not None:
            folder, source, own = clone / "data" / "study" / "procity-laptop-reference", colab_copy(place / "colab", clone), []
            (clone / "data" / "procity").mkdir(parents=True)
            (clone / "data" / "procity" / tree.name).symlink_to(tree)
        folder.mkdir(parents=True)
        (folder / "cache").symlink_to(place / "shared" / "cache")
        command = [sys.executable, "-c", ALONE, str(source), str(folder), *own]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        return folder, done.stderr if done.returncode else ""

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(NOTEBOOKS, pool.map(run_alone, NOTEBOOKS), strict=True))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_as_it_opens(name, opened):
    folder, failure = opened[name]
    assert not failure, failure
    assert [file for file in NOTEBOOKS[name] if not (folder / file).is_file()] == []
    assert not list(folder.glob("runs/*")), "something was trained"
    pictures = {path.name: cv2.imread(str(path)) for path in folder.glob("figures/*.png")}
    assert len(pictures) >= 3 and all(len(np.unique(picture)) > 8 for picture in pictures.values())
    text = (folder / "notebooks" / f"{name}.ipynb").read_text()
    assert "numbers have no meaning" not in text and "Not shown:" not in text


def test_chapter_4_opens_on_networks_that_see(opened):
    """At smoke, two flat grey rectangles proved the wrong lesson: mIoU 1.3 %, flicker 0."""
    folder, _ = opened["04_temporal_consistency"]
    table = pd.read_csv(folder / "tables" / "metrics_controls.csv")
    scores = table[table["flow"].isna()].pivot_table(index="predictor", columns="metric", values="value")
    for name in ("student", "consistent"):
        assert scores.loc[name, "miou"] > 0.35 > scores.loc[name, "flicker"] > 0.02
    frame, answer, following, changed = halves(cv2.imread(str(folder / "figures" / "two_frames.png")))
    assert len(np.unique(answer.reshape(-1, 3), axis=0)) > 8, "an answer of many classes"
    assert (answer != following).any() and (changed != frame).any()


def halves(picture: np.ndarray) -> list[np.ndarray]:
    """The four quarters of a picture."""
    height, width = (side // 2 for side in picture.shape[:2])
    return [picture[y : y + height, x : x + width] for y in (0, height) for x in (0, width)]


def test_colabs_copy_runs_in_a_clone(opened, clone):
    if clone is None:
        pytest.skip("not a git checkout")
    folder, failure = opened[ON_COLAB]
    assert not failure, failure
    done = nbformat.read(folder / "notebooks" / f"{ON_COLAB}.ipynb", as_version=nbformat.NO_CONVERT)
    said = next(cell for cell in done.cells if cell.id == "in-place").outputs[0].text.strip()
    assert said == str(clone / "tcseg" / "__init__.py"), "the clone's, not ours"
    assert folder.is_relative_to(clone)
