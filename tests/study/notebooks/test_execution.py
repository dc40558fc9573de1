"""One notebook, strictly: parameters, failures, what is kept."""

import io
import os
import sys

import nbformat
import pytest
from papermill.exceptions import PapermillExecutionError

from tcseg.errors import PACKAGE
from tcseg.study.notebooks import execution
from tcseg.study.notebooks.execution import NotebookError, Progress, check_parameters, clock, execute


def test_known_parameters_pass(tmp_path, write_notebook):
    notebook = write_notebook(tmp_path / "a.ipynb", parameters='name: str = "x"\nrate: float = 1.0')
    check_parameters(notebook, {"name": "y", "rate": 2})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epoch": 3}, "a.ipynb has no parameter 'epoch'; it knows dataset, profile, runs"),
        ({"profile": 3}, r"parameter 'profile' of a.ipynb must be str; got 3 \(int\)"),
        ({"runs": False}, r"parameter 'runs' of a.ipynb must be str; got False \(bool\)"),
    ],
)
def test_wrong_parameters_are_named(tmp_path, write_notebook, given, message):
    with pytest.raises(NotebookError, match=message):
        check_parameters(write_notebook(tmp_path / "a.ipynb"), given)


def test_unannotated_parameters_are_refused(tmp_path, write_notebook):
    notebook = write_notebook(tmp_path / "a.ipynb", parameters="seed = 0")
    with pytest.raises(NotebookError, match="'seed' of a.ipynb has no type: write 'seed: int = ...'"):
        check_parameters(notebook, {"seed": 1})


def test_one_parameters_cell(tmp_path, write_notebook):
    path = write_notebook(tmp_path / "a.ipynb")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].metadata["tags"] = []
    nbformat.write(notebook, path)
    with pytest.raises(NotebookError, match="has 0 cells tagged 'parameters'"):
        check_parameters(path, {})
    with pytest.raises(NotebookError, match=r"no notebook b\.ipynb"):
        check_parameters(tmp_path / "b.ipynb", {})


def test_clock():
    assert [clock(s) for s in (0, 59.6, 245, 3845)] == ["0:00", "1:00", "4:05", "1:04:05"]


def test_progress_says_where_and_how_long():
    stream = io.StringIO()
    progress = Progress({"a": 30, "b": 90}, stream)
    progress.start("1/2", "a", ("b",))
    assert progress.remaining() == "  left about 2:00"
    progress.start("2/2", "b", ("c",))  # never timed: no estimate rather than a wrong one
    assert progress.remaining() == ""
    progress.stop("done")
    assert "[1/2] a  starting a kernel  elapsed 0:00  left about 2:00\n" in stream.getvalue()
    assert stream.getvalue().endswith("[2/2] b  done in 0:00\n")


def test_a_cell_that_did_not_run_is_an_error(tmp_path, write_notebook):
    with pytest.raises(NotebookError, match=r"a: code cell 1 did not run: dataset: str"):
        execution._check_complete(write_notebook(tmp_path / "a.ipynb"), "a")


@pytest.mark.slow
def test_runs_in_this_interpreter_and_leaves_the_output_last(tmp_path, write_notebook):
    cell = "import os, sys\nprint(sys.executable, os.environ['COLOUR'], profile)"
    source = write_notebook(tmp_path / "a.ipynb", cell)
    output = tmp_path / "out" / "a.ipynb"
    execute(source, output, {"profile": "laptop"}, environment={"COLOUR": "green"}, verify=lambda: check_absent(output))
    assert f"{sys.executable} green laptop" in output.read_text()
    assert os.listdir(output.parent) == ["a.ipynb"]


def check_absent(output):
    assert not output.exists()


@pytest.mark.slow
def test_a_failure_shows_cell_and_traceback_and_keeps_the_notebook(tmp_path, write_notebook):
    source = write_notebook(tmp_path / "a.ipynb", "def half(x):\n    return x / 0", "half(3)", "1")
    output = tmp_path / "out" / "a.ipynb"
    with pytest.raises(NotebookError) as caught:
        execute(source, output, {"profile": "smoke"})
    message = str(caught.value)
    assert message.startswith("a.ipynb failed in cell [4]:\n    half(3)")  # parameters, injected parameters, half, this
    assert "----> 2     return x / 0" in message and "ZeroDivisionError: division by zero" in message
    assert "\x1b" not in message
    assert os.listdir(output.parent) == ["a.failed.ipynb"]

    execute(write_notebook(source, "1"), output, {"profile": "smoke"})
    assert os.listdir(output.parent) == ["a.ipynb"]


@pytest.mark.slow
def test_a_dead_kernel_is_explained(tmp_path, write_notebook):
    source = write_notebook(tmp_path / "a.ipynb", "import os\nos.write(2, b'last words\\n')\nos._exit(9)")
    with pytest.raises(NotebookError, match=r"a.ipynb: the kernel died, most often for want of memory"):
        execute(source, tmp_path / "out" / "a.ipynb", {})


def test_without_ipykernel_the_fix_is_named(tmp_path, write_notebook, monkeypatch):
    monkeypatch.setattr(execution.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotebookError, match=f"{sys.executable} -m pip install ipykernel"):
        execute(write_notebook(tmp_path / "a.ipynb"), tmp_path / "out.ipynb", {})


def cell_error(ename, evalue, *traceback):
    return PapermillExecutionError(
        cell_index=2, exec_count=3, source="x", ename=ename, evalue=evalue, traceback=traceback
    )


OURS = f"File {PACKAGE / 'flow.py'}:12, in warp(frame, flow)"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (cell_error("InputError", "size is 3; write 512x256", OURS), "size is 3; write 512x256"),
        (cell_error("NoRowsError", "runs is 'reference'", OURS), "runs is 'reference'"),
        (cell_error("InputError", "", OURS), "InputError: no message (tcseg/flow.py:12 in warp)"),
        (cell_error("MemoryError", ""), "MemoryError: no message"),
        (cell_error("ValueError", "one\ntwo"), "ValueError: one"),
        (
            cell_error("KeyError", "'a'", OURS, "    12 text", "File /usr/lib/python3.11/json.py:3, in load(x)"),
            "KeyError: 'a' (tcseg/flow.py:12 in warp)",
        ),
        (
            cell_error("RuntimeError", "x", f"\x1b[0;32mFile {PACKAGE / 'cli' / 'app.py'}:7\x1b[0m, in f()"),
            "RuntimeError: x (tcseg/cli/app.py:7 in f)",
        ),
    ],
)
def test_a_cell_s_exception_is_told_as_any_other(error, line, tmp_path):
    told = execution._explain(error, "a.ipynb", tmp_path / "none", tmp_path / "none.log")
    assert told.last == f"a.ipynb, cell [3]: {line}" and str(told).startswith("a.ipynb failed in cell [3]:\n    x")


def test_what_is_no_notebook_is_named(tmp_path):
    for number, text in enumerate(("", "{", "[1]", '{"cells": 3, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}')):
        path = tmp_path / f"{number}.ipynb"
        path.write_text(text)
        with pytest.raises(NotebookError, match=rf"{number}\.ipynb is no notebook that can be read: \S"):
            check_parameters(path, {})


@pytest.mark.slow
def test_a_cell_s_message_for_people_comes_last(tmp_path, write_notebook):
    cells = "from tcseg.study import open_study", "open_study(profile='smoke', runs='reference')"
    with pytest.raises(NotebookError) as caught:
        execute(write_notebook(tmp_path / "a.ipynb", *cells), tmp_path / "out" / "a.ipynb", {})
    assert caught.value.last.startswith(
        "a.ipynb, cell [3]: runs is 'reference', but no reference rows for procity-smoke"
    )
    assert caught.value.last.endswith("use profile='laptop', or runs='train'")
