"""All notebooks at profile smoke through the runner, on procity.

The study is made once, in a temporary folder; the tests look at what it left, and spoil it on purpose.
"""

import os
import re
import shutil
from dataclasses import replace

import nbformat
import numpy as np
import pandas as pd
import pytest
from courses import private, run

from tcseg.study.notebooks.dependency_graph import Course
from tcseg.study.notebooks.execution import NotebookError
from tcseg.study.notebooks.workbook import without_solution
from tcseg.study.paths import NOTEBOOKS
from tcseg.study.report.sphinx_build import build_report, check_site
from tcseg.study.run_study import course_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def procity(tmp_path_factory) -> Course:
    folder = tmp_path_factory.mktemp("procity")
    course = private(course_of("procity", "smoke", out=folder / "study"), folder)
    for name in NOTEBOOKS:  # the folded solutions run with the chapters that they belong to, their checks, too
        path = course.source / f"{name}.ipynb"
        notebook = without_solution(nbformat.read(path, as_version=4), name, lambda one: one.solution)
        nbformat.write(notebook, path)
    code, said = run(course)
    assert code == 0, said
    return course


def test_every_notebook_leaves_what_it_declares(procity):
    for name in NOTEBOOKS:
        assert procity.missing(name) == []
        notebook = nbformat.read(procity.output(name), as_version=4)
        assert notebook.metadata.papermill.parameters == procity.parameters
    times = pd.read_csv(procity.folder / "tables" / "notebooks.csv")
    assert times["notebook"].tolist() == list(NOTEBOOKS)
    assert times["runs_trained"].sum() > 0 and (times["seconds"] > 0.5).all()


@pytest.mark.parametrize("name", ["05_ablations", "06_realtime_benchmark"])
def test_a_section_has_few_tables_and_they_fit(name, procity):
    """Results and Speed have the others. Eight columns fit the text's width."""
    section, by_section = "", {}
    for cell in nbformat.read(procity.output(name), as_version=4).cells:
        if cell.cell_type == "markdown":
            section = (re.findall(r"^## (.+)$", cell.source, re.MULTILINE) or [section])[-1]
        elif not cell.id.startswith("exercise-"):
            pages = ("".join(output.get("data", {}).get("text/html", "")) for output in cell.outputs)
            by_section.setdefault(section, []).extend(page for page in pages if "<table" in page)
    assert all(len(found) <= 2 for found in by_section.values()), {key: len(found) for key, found in by_section.items()}
    for table in (table for found in by_section.values() for table in found):
        assert table.split("</tr>")[0].count("<th") <= 8 and table.count("<tr") <= 30
        assert not re.search(r"<th[^>]*>[^<]*[a-z]_[a-z]", table.split("</thead>")[0]), "a column's name is of the file"


def test_tables_keep_the_contract(procity):
    ablation = pd.read_csv(procity.folder / "tables" / "ablation.csv")
    columns = """dataset profile split recipe seed flow miou tc tc_ceiling flicker harmful_flicker pixel_accuracy
        train_seconds run_id""".split()
    assert ablation.columns.tolist() == columns
    assert set(ablation["flow"]) == {"exact", "dis"} and ablation["tc_ceiling"].notna().all()
    latency = pd.read_csv(procity.folder / "tables" / "latency_here.csv")
    columns = "machine model runtime precision height width threads scope n p50_ms p90_ms p99_ms fps".split()
    assert [column for column in latency.columns if column in columns] == columns  # and perhaps more
    assert (latency["p50_ms"] <= latency["p99_ms"]).all()


def test_smoke_numbers_are_golden(procity):
    """What a smoke study must find on any machine; training for a few steps is only held to where it starts."""
    ablation = pd.read_csv(procity.folder / "tables" / "ablation.csv").set_index(["recipe", "flow"])
    teacher = ablation.loc["teacher"]
    assert teacher["tc_ceiling"].to_dict() == pytest.approx({"exact": 0.8845, "dis": 0.8438}, abs=0.01)
    constant = ablation.loc["constant map"]
    assert constant.loc["exact", "tc"] == 1 and constant.loc["exact", "flicker"] == 0
    assert constant.loc["exact", "pixel_accuracy"] == pytest.approx(0.283, abs=0.01)
    logs = sorted(procity.folder.glob("runs/*/log.jsonl"))
    first = [pd.read_json(log, lines=True).iloc[0]["ce"] for log in logs]
    assert first == pytest.approx([np.log(19)] * len(logs), abs=0.4)  # an untrained network knows nothing


def test_a_study_writes_to_its_folder_only(procity):
    assert {path.name for path in procity.folder.parent.iterdir()} == {"notebooks", "study"}
    assert not list(procity.source.glob("*.failed.ipynb"))
    assert {path.name for path in procity.source.glob("*.ipynb")} == {f"{name}.ipynb" for name in NOTEBOOKS}


def test_a_finished_study_runs_nothing_again(procity):
    code, said = run(procity)
    assert code == 0
    assert said.count("up to date") == len(NOTEBOOKS) and "cell" not in said


def test_its_report_is_complete_offline(procity):
    index = build_report(procity.folder)
    assert check_site(index.parent) == []
    text = index.read_text()
    assert "its numbers have no meaning" in text and "consistent" in text
    if keep := os.environ.get("TCSEG_KEEP_REPORT"):  # CI uploads it
        shutil.copytree(index.parent, keep, dirs_exist_ok=True)


def test_an_unknown_parameter_stops_the_study(procity):
    wrong = replace(procity, parameters={**procity.parameters, "epochs": 3})
    with pytest.raises(NotebookError, match="has no parameter 'epochs'; it knows dataset, profile, runs"):
        run(wrong)


def test_a_broken_notebook_fails_with_its_cell_and_mended_goes_on(procity):
    path = procity.source / "02_train_teacher.ipynb"
    good = path.read_text()
    notebook = nbformat.read(path, as_version=4)
    last = [cell for cell in notebook.cells if cell.cell_type == "code"][1]
    last.source += "\nraise RuntimeError('broken on purpose')"
    nbformat.write(notebook, path)
    code, said = run(procity)
    assert code == 1
    assert re.search(r"02_train_teacher.ipynb failed in cell \[\d+\]", said)
    assert "RuntimeError: broken on purpose" in said and "\x1b" not in said
    assert "up to date" in said.splitlines()[0]  # 01 has nothing to do with it

    path.write_text(good)
    code, said = run(procity)
    assert code == 0, said
