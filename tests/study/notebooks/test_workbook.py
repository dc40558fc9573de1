"""The reader's copy: every solution taken out, every check left in, nothing else changed."""

import ast
import shutil
from pathlib import Path

import nbformat
import pytest

from tcseg.errors import CannotWriteError
from tcseg.study.notebooks.workbook import (
    exercises,
    refresh_copies,
    with_folded_solution,
    with_text_fields,
    without_solution,
    write_workbook,
)

CHAPTERS = sorted((Path(__file__).resolve().parents[3] / "notebooks").glob("[0-9]*.ipynb"))


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def chapter(request):
    return request.param.stem, nbformat.read(request.param, as_version=nbformat.NO_CONVERT)


def stubs(source: str) -> dict:
    """The functions of a stub, which can be called; the lines around them, which need the chapter, are left out."""
    body = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    space: dict = {}
    exec(compile(ast.Module(body, []), "stub", "exec"), space)  # noqa: S102
    return {node.name: (space[node.name], len(node.args.args)) for node in body}


def test_every_stub_asks_for_its_lines(chapter):
    name, notebook = chapter
    for one in exercises(notebook, name):
        functions = stubs(one.stub)
        assert functions
        for function, arguments in functions.values():
            assert function.__doc__, "what goes in and what comes out is left for the reader"
            with pytest.raises(NotImplementedError, match=f"exercise {one.number} of {name}: your lines go here"):
                function(*[None] * arguments)


def test_a_stub_keeps_the_lines_around_its_functions(chapter):
    name, notebook = chapter
    for one in exercises(notebook, name):
        kept, whole = (
            [ast.dump(node) for node in ast.parse(code).body if not isinstance(node, ast.FunctionDef)]
            for code in (one.stub, one.solution)
        )
        assert kept == whole
        assert one.stub.count("assert ") == one.solution.count("assert ")


def test_the_copy_holds_no_solution_and_all_else(chapter):
    name, notebook = chapter
    before = nbformat.writes(notebook)
    copy = without_solution(notebook, name, lambda one: one.stub)
    nbformat.validate(copy)
    assert nbformat.writes(notebook) == before, "the source must not be touched"
    text = "\n".join(cell.source for cell in copy.cells)
    assert "<summary>Solution</summary>" not in text and "## What went wrong" in text and "## References" in text
    for one in exercises(notebook, name):
        assert one.question in text and one.hint in text and one.answer not in text
    ours = [cell.source for cell in copy.cells if cell.cell_type == "code" and not cell.id.startswith("exercise-")]
    assert ours == [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def test_what_a_reader_wrote_is_not_overwritten(tmp_path):
    written = write_workbook(CHAPTERS[0].parent, tmp_path / "mine")
    assert [path.name for path in written] == [path.name for path in CHAPTERS]
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [path.name for path in CHAPTERS]
    with pytest.raises(CannotWriteError, match=r"already holds 00_start_here.ipynb, perhaps with your solutions"):
        write_workbook(CHAPTERS[0].parent, tmp_path / "mine")
    with pytest.raises(FileNotFoundError, match="no notebooks in"):
        write_workbook(tmp_path, tmp_path / "other")
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CannotWriteError, match="is, or lies in, a file: give a folder"):
            write_workbook(CHAPTERS[0].parent, wrong)


# ------------------------------------------------------------------------------------------------ the copy that `make lab` opens


def test_a_copy_has_a_stub_to_complete_and_the_solution_folded_below_it(chapter):
    name, notebook = chapter
    before = nbformat.writes(notebook)
    copy = with_folded_solution(notebook, name)
    nbformat.validate(copy)
    assert nbformat.writes(notebook) == before, "the source must not be touched"
    ids = [cell.id for cell in copy.cells]
    for one in exercises(notebook, name):
        place = ids.index(f"exercise-{one.number}")
        question, stub, solution = copy.cells[place - 1 : place + 2]
        assert one.question in question.source and "Solution" not in question.source
        assert stub.cell_type == "code" and stub.source == one.stub.strip()
        assert solution.source.startswith("<details>") and solution.source.endswith("</details>")
        assert one.solution in solution.source and one.answer in solution.source


@pytest.fixture
def repository(tmp_path):
    """Two chapters of ours, which a test may change, and the folder of the copies."""
    source = tmp_path / "notebooks"
    source.mkdir()
    for path in CHAPTERS[:2]:
        shutil.copy(path, source)
    return source, tmp_path / "course"


def edit(path: Path, line: str) -> None:
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    notebook.cells[-1].source += f"\n{line}"
    nbformat.write(notebook, path)


def test_working_on_a_copy_leaves_the_chapter_as_it_is(repository):
    source, goal = repository
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    assert refresh_copies(source, goal) == []
    edit(goal / CHAPTERS[0].name, "mine")
    assert refresh_copies(source, goal) == [], "the chapter is the same"
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before
    assert "mine" in (goal / CHAPTERS[0].name).read_text()


def test_a_chapter_that_changed_is_copied_again_where_nobody_worked_on_it(repository):
    source, goal = repository
    refresh_copies(source, goal)
    edit(goal / CHAPTERS[0].name, "mine")
    for path in source.iterdir():
        edit(path, "theirs")
    assert refresh_copies(source, goal) == [CHAPTERS[0].name], "one is old, and kept"
    mine, other = ((goal / path.name).read_text() for path in CHAPTERS[:2])
    assert "mine" in mine and "theirs" not in mine and "theirs" in other
    (goal / CHAPTERS[0].name).unlink()
    assert refresh_copies(source, goal) == [] and "theirs" in (goal / CHAPTERS[0].name).read_text()


def test_a_notebook_of_somebody_else_is_not_overwritten(repository):
    source, goal = repository
    goal.mkdir()
    (goal / CHAPTERS[0].name).write_text("mine")
    assert refresh_copies(source, goal) == [CHAPTERS[0].name]
    assert (goal / CHAPTERS[0].name).read_text() == "mine"
    with pytest.raises(CannotWriteError, match="holds the chapters themselves: give another folder"):
        refresh_copies(source, source)


def test_a_prediction_is_a_field_to_write_in_on_a_web_page(chapter):
    _, notebook = chapter
    before = nbformat.writes(notebook)
    page = with_text_fields(notebook)
    kept = [cell.id for cell in notebook.cells if "prediction" in cell.metadata.get("tags", [])]
    assert [cell.id for cell in page.cells if cell.source.startswith("<textarea")] == kept
    assert nbformat.writes(notebook) == before, "the source must not be touched"
    others = [(cell.id, cell.source) for cell in notebook.cells if cell.id not in kept]
    assert [(cell.id, cell.source) for cell in page.cells if cell.id not in kept] == others
