"""The notebooks as a workbook: each solution is replaced by a stub, or (for the tests) inserted as a code cell.

`tcseg lab` opens a copy in which each solution stays, folded, below its stub: what is run or written there leaves the
repository as it is.

There is one source, the notebooks, where a solution is folded under its question. A solution is functions, each with a docstring
that says what goes in and what comes out, and the lines that call and check them. A stub keeps these; the body is yours.
`workbook_check` runs what a reader has written.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tcseg.atomic_files import beside, write_json
from tcseg.errors import CannotWriteError, NotFoundError, require_writable

EXERCISE = re.compile(
    r"\*\*(?P<number>\d)\.\*\* (?P<question>.+?)\n\n"
    r"<details><summary>Hint</summary>\n\n(?P<hint>.+?)\n\n</details>\n"
    r"<details><summary>Solution</summary>\n\n```python\n(?P<solution>.+?)```\n\n(?P<answer>.+?)\n\n</details>\n*",
    re.DOTALL,
)


@dataclass(frozen=True)
class Exercise:
    """An exercise of a chapter."""

    notebook: str
    number: int
    question: str
    hint: str
    solution: str  # Python
    answer: str  # what there is to see in it

    @property
    def stub(self) -> str:
        """The solution with the bodies of its functions taken out: they raise NotImplementedError."""
        lines = self.solution.splitlines()
        functions = [node for node in ast.parse(self.solution).body if isinstance(node, ast.FunctionDef)]
        for function in reversed(functions):  # from the end, so that line numbers stay right
            docstring = function.body[0]
            todo = f'    raise NotImplementedError("exercise {self.number} of {self.notebook}: your lines go here")'
            lines[docstring.end_lineno : function.end_lineno] = [todo]
        return "\n".join(lines)


def exercises(notebook: NotebookNode, name: str) -> list[Exercise]:
    """The exercises of a notebook, in order."""
    list_of_exercises = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            list_of_exercises += [_exercise(name, match) for match in EXERCISE.finditer(cell.source)]
    return list_of_exercises


def _exercise(name: str, match: re.Match[str]) -> Exercise:
    return Exercise(name, int(match["number"]), match["question"], match["hint"], match["solution"], match["answer"])


def without_solution(notebook: NotebookNode, name: str, code: Callable[[Exercise], str]) -> NotebookNode:
    """A copy in which each folded solution has become a code cell below its question and hint.

    Args:
        notebook: As it is in the repository; stays as it is.
        name: Its file's name without suffix.
        code: What goes into the cell: `Exercise.stub`'s text for a reader, `Exercise.solution` for the tests.
    """
    return _with_cells(notebook, name, code, folded=False)


def with_folded_solution(notebook: NotebookNode, name: str) -> NotebookNode:
    """A copy in which a stub to complete stands between each question and its folded solution."""
    return _with_cells(notebook, name, lambda one: one.stub, folded=True)


def _with_cells(
    notebook: NotebookNode, name: str, code: Callable[[Exercise], str], folded: bool
) -> NotebookNode:
    copy = deepcopy(notebook)
    cells: list[NotebookNode] = []
    for cell in copy.cells:
        matches = list(EXERCISE.finditer(cell.source)) if cell.cell_type == "markdown" else []
        if not matches:
            cells.append(cell)
            continue
        begin = 0
        for match in matches:
            one = _exercise(name, match)
            fold = cell.source.index("<details><summary>Solution</summary>", match.start())
            cells += [
                _cell(nbformat.v4.new_markdown_cell, f"question-{one.number}", cell.source[begin:fold].strip()),
                _cell(nbformat.v4.new_code_cell, f"exercise-{one.number}", code(one).strip()),
            ]
            begin = match.end()
            if folded:
                solution = cell.source[fold:begin].strip()
                cells.append(_cell(nbformat.v4.new_markdown_cell, f"solution-{one.number}", solution))
        if rest := cell.source[begin:].strip():
            cells.append(_cell(nbformat.v4.new_markdown_cell, f"{cell.id}-after", rest))
    copy.cells = cells
    return copy


def _cell(make: Callable[..., NotebookNode], name: str, source: str) -> NotebookNode:
    return make(source, id=name)


FIELD = '<textarea rows="2" style="width: 100%" aria-label="Your prediction" placeholder="Your prediction"></textarea>'


def with_text_fields(notebook: NotebookNode) -> NotebookNode:
    """A copy for a web page: a field to write in takes the place of each cell that is kept for a prediction."""
    copy = deepcopy(notebook)
    for cell in copy.cells:
        if "prediction" in cell.metadata.get("tags", []):
            cell.source = FIELD
    return copy


def _first_existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    return next(one for one in (path, *path.absolute().parents) if one.exists())


def chapters_of(source: Path) -> list[Path]:
    """The chapters in a folder, in order.

    Raises:
        FileNotFoundError: there are none.
    """
    if chapters := sorted(source.glob("[0-9]*.ipynb")):
        return chapters
    raise NotFoundError(f"no notebooks in {source}: run from a clone of the repository")


def chapters_to_copy(source: Path, goal: Path, advice: str = "give another folder") -> list[Path]:
    """The chapters of `source`, whose copies can be written to `goal`.

    Raises:
        FileNotFoundError: there are no notebooks in `source`.
        CannotWriteError: `goal` cannot be written, or is the folder of the chapters.
    """
    chapters = chapters_of(source)
    if goal.resolve() == source.resolve():
        raise CannotWriteError(f"{goal} holds the chapters themselves: give another folder")
    require_writable(goal, advice)
    return chapters


def write_workbook(source: Path, goal: Path) -> list[Path]:
    """Write every chapter of `source` to `goal`, with stubs in place of the solutions.

    Returns:
        The files written.

    Raises:
        FileNotFoundError: there are no notebooks in `source`.
        CannotWriteError: `goal` is a file, lies in one, or already holds a chapter, which is left as it is.
    """
    chapters = chapters_of(source)
    if not _first_existing(goal).is_dir():
        raise CannotWriteError(f"{goal} is, or lies in, a file: give a folder")
    if existing := [path.name for path in chapters if (goal / path.name).exists()]:
        raise CannotWriteError(f"{goal} already holds {existing[0]}, perhaps with your solutions: give another folder")
    require_writable(goal, "give another folder")
    for path in chapters:
        notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
        _write(goal / path.name, nbformat.writes(without_solution(notebook, path.stem, lambda one: one.stub)))
    return [goal / path.name for path in chapters]


NOTED = ".copies.json"
"""In a folder of copies: the digest of each copy as it was written."""


def refresh_copies(source: Path, goal: Path) -> list[str]:
    """Write the chapters to `goal` with their solutions folded; a copy that somebody has run or changed stays as it is.

    Returns:
        The names of copies that stayed although their chapter has changed since.

    Raises:
        FileNotFoundError: there are no notebooks in `source`.
        CannotWriteError: `goal` cannot be written, or is the folder of the chapters.
    """
    chapters = chapters_to_copy(source, goal, "give another folder with --out")
    noted = json.loads((goal / NOTED).read_text()) if (goal / NOTED).exists() else {}
    old = []
    for path in chapters:
        copy, known = goal / path.name, noted.get(path.name)
        notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
        text = nbformat.writes(with_folded_solution(notebook, path.stem))
        if copy.exists() and _digest(copy.read_text(encoding="utf-8")) != known:
            old += [path.name] if known != _digest(text) else []
            continue
        _write(copy, text)
        noted[path.name] = _digest(text)
    write_json(goal / NOTED, noted)
    return old


def _write(path: Path, text: str) -> None:
    aside = beside(path)
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
