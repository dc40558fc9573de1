"""Measured time of notebooks and sections."""

import re

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tcseg.study.notebooks import timings


def executed(path, *cells):
    """A notebook as papermill leaves it: text, or the seconds of a code cell."""
    made = [
        new_markdown_cell(cell)
        if isinstance(cell, str)
        else new_code_cell("1", metadata={"papermill": {"duration": cell}})
        for cell in cells
    ]
    nbformat.write(new_notebook(cells=made, metadata={"papermill": {"duration": 100.0}}), path)
    return path


@pytest.fixture
def chapter(tmp_path):
    return executed(
        tmp_path / "02_b.ipynb",
        "# 2 B",
        1.0,
        2.0,
        "## 2.1 One\n\ntext",
        4.0,
        "## 2.2 Two\n\n### deeper",
        "more",
        8.0,
        16.0,
    )


def test_a_section_is_what_stands_below_its_heading(chapter):
    assert timings.sections(chapter) == {timings.OPENING: 3.0, "2.1 One": 4.0, "2.2 Two": 24.0}
    assert timings.seconds(chapter) == 100.0


def test_a_run_that_only_loaded_replaces_no_run_that_trained(chapter, tmp_path):
    order = ["01_a", "02_b"]
    timings.write(tmp_path, chapter, order, "smoke", trained=1, loaded=0)
    timings.write(tmp_path, executed(tmp_path / "01_a.ipynb", "# 1 A", 5.0), order, "smoke", trained=0, loaded=0)
    timings.write(tmp_path, executed(tmp_path / "02_b.ipynb", "## 2.1 One", 0.5), order, "smoke", trained=0, loaded=1)
    table = pd.read_csv(tmp_path / "sections.csv")
    assert table.values.tolist() == [
        ["smoke", "01_a", timings.OPENING, 5.0],
        ["smoke", "02_b", timings.OPENING, 3.0],
        ["smoke", "02_b", "2.1 One", 4.0],
        ["smoke", "02_b", "2.2 Two", 24.0],
    ]
    assert pd.read_csv(tmp_path / "notebooks.csv")["notebook"].tolist() == order


def test_the_page_shows_each_profile_and_your_own_time_before_the_committed_one(chapter, tmp_path):
    committed, mine = tmp_path / "committed", tmp_path / "mine"
    for folder, profile in ((committed, "laptop"), (committed, "smoke"), (mine, "smoke")):
        folder.mkdir(exist_ok=True)
        timings.write(folder / profile, chapter, ["02_b"], profile, 1, 0)
    for folder in (committed, mine):
        tables = [pd.read_csv(path) for path in sorted(folder.glob("*/sections.csv"))]
        pd.concat(tables).assign(seconds=lambda t, f=folder: t["seconds"] * (30 if f == committed else 1)).to_csv(
            folder / "sections.csv", index=False
        )
    table = timings.of_sections([committed, mine], ["smoke", "laptop"], "02_b")
    assert table.loc["2.2 Two"].to_dict() == {"smoke": 24.0, "laptop": 720.0}
    text = timings.as_markdown(table)
    assert "Measured time: 31 s at <code>smoke</code>, 15.5 min at <code>laptop</code>; by section" in text
    assert re.search(r"\| 2\.2 Two +\| +24 s \| +12\.0 min \|", text)
    assert timings.as_markdown(timings.of_sections([committed], ["full"], "02_b")) == ""
