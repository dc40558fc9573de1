"""`tcseg workbook --check`: what a reader has written is run in a copy, and counted."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from typer.testing import CliRunner

from tcseg.cli.app import app
from tcseg.errors import InputError, NotFoundError
from tcseg.study import run_study
from tcseg.study.notebooks.workbook import exercises, write_workbook
from tcseg.study.notebooks.workbook_check import FAILS, PASSES, TO_DO, check_workbook, summary

QUESTION = """**{n}.** Add {n} to a number.

<details><summary>Hint</summary>

Use a plus.

</details>
<details><summary>Solution</summary>

```python
def add{n}(x):
    \"\"\"The number x plus {n}.\"\"\"
    return x + {n}


assert add{n}(start) == {n}, "is it the sum?"
```

Done.

</details>"""


@pytest.fixture
def course(tmp_path):
    """A chapter of three exercises, a second one without any, and copies of both."""
    source = tmp_path / "notebooks"
    source.mkdir()
    cells = [new_code_cell("start = 0", id="start"), *(new_markdown_cell(QUESTION.format(n=n), id=f"q{n}") for n in (1, 2, 3))]
    nbformat.write(new_notebook(cells=[*cells, new_code_cell("raise SystemExit", id="later")]), source / "01_sums.ipynb")
    nbformat.write(new_notebook(cells=[new_markdown_cell("Nothing to do.", id="text")]), source / "02_rest.ipynb")
    write_workbook(source, tmp_path / "mine")
    return source, tmp_path / "mine"


def write(folder, **bodies: str) -> None:
    """Complete stubs of the first chapter: exercise1="return x + 1"."""
    path = folder / "01_sums.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if body := bodies.get(cell.id.replace("-", "")):
            lines = [f"    {body}" if "NotImplementedError" in line else line for line in cell.source.splitlines()]
            cell.source = "\n".join(lines)
    nbformat.write(notebook, path)


def test_untouched_copies_are_not_run(course):
    said = []
    results = check_workbook(*course, said.append)
    assert [(one.chapter, one.number, one.state) for one in results] == [("01_sums", n, TO_DO) for n in (1, 2, 3)]
    assert said == [] and summary(results)[-1] == "0 of 3 exercises pass"


def test_what_is_written_is_counted(course):
    write(course[1], exercise1="return x + 1", exercise3="return x")
    before = (course[1] / "01_sums.ipynb").read_bytes()
    said = []
    results = check_workbook(*course, said.append)
    assert [one.state for one in results] == [PASSES, TO_DO, FAILS]
    assert results[2].why == "AssertionError: is it the sum?"
    assert said == ["01_sums: running it up to exercise 3"]
    assert summary(results) == [
        "01_sums: 1 passes, 2 to do, 3 fails", "  exercise 3: AssertionError: is it the sum?", "1 of 3 exercises pass",
    ]  # fmt: skip
    assert (course[1] / "01_sums.ipynb").read_bytes() == before, "a copy is its reader's"


def test_a_broken_cell_above_is_named(course):
    path = course[1] / "01_sums.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source = "begin = 0"
    nbformat.write(notebook, path)
    write(course[1], exercise1="return x + 1")
    (one, *_) = check_workbook(*course, lambda _: None)
    assert one.state == FAILS and one.why == "NameError: name 'start' is not defined"
    notebook.cells[0].source = "start = 1 / 0"
    notebook.cells[2].source = exercises(nbformat.read(course[0] / "01_sums.ipynb", 4), "01_sums")[0].solution
    nbformat.write(notebook, path)
    (one, *_) = check_workbook(*course, lambda _: None)
    assert one.why.endswith("; the cell start above it fails first: ZeroDivisionError: division by zero")


def test_what_is_no_copy_is_refused(course, tmp_path):
    with pytest.raises(NotFoundError, match="no chapter in .*: write a copy of the course with tcseg workbook FOLDER"):
        check_workbook(course[0], tmp_path / "nowhere")
    (course[1] / "01_sums.ipynb").write_text("no notebook")
    with pytest.raises(InputError, match="01_sums.ipynb cannot be read as a notebook"):
        check_workbook(*course)


def test_the_command_fails_where_an_exercise_does(course, monkeypatch):
    monkeypatch.setattr(run_study, "ROOT", course[0].parent)
    write(course[1], exercise1="return x + 1")
    done = CliRunner().invoke(app, ["workbook", "--check", str(course[1])])
    assert done.exit_code == 0 and done.output.endswith("1 of 3 exercises pass\n")
    write(course[1], exercise2="return 0")
    assert CliRunner().invoke(app, ["workbook", "--check", str(course[1])]).exit_code == 1
