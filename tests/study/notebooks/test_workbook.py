"""The reader's copy: every solution taken out, every check left in, nothing else changed."""

import ast
from pathlib import Path

import nbformat
import pytest

from tcseg.errors import CannotWriteError
from tcseg.study.notebooks.workbook import exercises, without_solution, write_workbook

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
