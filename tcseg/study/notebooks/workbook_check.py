"""Which exercises of a reader's copy pass: `tcseg workbook --check`.

A chapter is run up to the last exercise that its reader has written; nothing in the copy changes. An exercise passes if its cell
runs without an error: the function, and the check below it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from tcseg.errors import InputError, NotFoundError
from tcseg.study.notebooks.execution import kernel_manager
from tcseg.study.notebooks.workbook import Exercise, chapters_of, exercises

PASSES, FAILS, TO_DO = "passes", "fails", "to do"


@dataclass(frozen=True)
class Result:
    """How an exercise of a copy stands: `PASSES`, `FAILS` (and why, in one line) or `TO_DO`."""

    chapter: str
    number: int
    state: str
    why: str = ""


def check_workbook(source: Path, folder: Path, log: Callable[[str], None] = print) -> list[Result]:
    """Run the exercises that somebody has written.

    Args:
        source: The folder of the chapters.
        folder: Of the copies, as `write_workbook` or `refresh_copies` left them; chapters that are not there are left out.
        log: Is told before a chapter is run, which takes a minute or two.

    Returns:
        One for each exercise of the copies, in order.

    Raises:
        NotFoundError: There is no copy of a chapter in `folder`.
        InputError: A copy is not a notebook.
    """
    pairs = [(path, folder / path.name) for path in chapters_of(source) if (folder / path.name).is_file()]
    if not pairs:
        raise NotFoundError(f"no chapter in {folder}: write a copy of the course with tcseg workbook FOLDER")
    results = []
    for path, copy in pairs:
        wanted = exercises(nbformat.read(path, as_version=nbformat.NO_CONVERT), path.stem)
        results += _check(_read(copy), wanted, path.stem, folder, log)
    return results


def _read(copy: Path) -> NotebookNode:
    try:
        return nbformat.read(copy, as_version=4)
    except Exception as error:  # nbformat has several, and JSON's own
        raise InputError(f"{copy} cannot be read as a notebook: {str(error).splitlines()[0]}") from error


def _check(
    notebook: NotebookNode, wanted: list[Exercise], chapter: str, folder: Path, log: Callable[[str], None]
) -> list[Result]:
    places = {cell.get("id"): index for index, cell in enumerate(notebook.cells)}
    written = {}
    for one in wanted:
        index = places.get(f"exercise-{one.number}")
        if index is not None and notebook.cells[index].source.strip() not in ("", one.stub.strip()):
            written[one.number] = index
    if not written:
        return [Result(chapter, one.number, TO_DO) for one in wanted]
    log(f"{chapter}: running it up to exercise {max(written, key=written.__getitem__)}")
    cells = _executed(notebook, max(written.values()) + 1, folder)
    return [_result(cells, chapter, one.number, written.get(one.number)) for one in wanted]


def _executed(notebook: NotebookNode, end: int, folder: Path) -> list[NotebookNode]:
    """The first cells after a run in which every cell may fail."""
    copy = deepcopy(notebook)
    copy.cells = copy.cells[:end]
    with tempfile.TemporaryDirectory() as work:
        client = NotebookClient(
            copy,
            timeout=None,
            allow_errors=True,
            kernel_manager_class=kernel_manager({}, Path(work) / "kernel.log"),
            resources={"metadata": {"path": str(folder)}},
        )
        client.execute()
    return copy.cells


def _result(cells: list[NotebookNode], chapter: str, number: int, index: int | None) -> Result:
    if index is None:
        return Result(chapter, number, TO_DO)
    error = _error(cells[index])
    if not error:
        return Result(chapter, number, PASSES)
    if error.startswith("NotImplementedError"):
        return Result(chapter, number, TO_DO)
    earlier = (cell for cell in cells[:index] if not cell.get("id", "").startswith("exercise-"))
    first = next((f"; the cell {cell.id} above it fails first: {said}" for cell in earlier if (said := _error(cell))), "")
    return Result(chapter, number, FAILS, error + first)


def _error(cell: NotebookNode) -> str:
    """The last line of a cell's error; empty where it ran."""
    for output in cell.get("outputs", ()):
        if output.output_type == "error":
            return f"{output.ename}: {output.evalue}".splitlines()[0]
    return ""


def summary(results: list[Result]) -> list[str]:
    """A line for each chapter, one for each exercise that fails, and the count of those that pass."""
    lines = []
    for chapter in dict.fromkeys(result.chapter for result in results):
        own = [result for result in results if result.chapter == chapter]
        lines.append(f"{chapter}: " + ", ".join(f"{result.number} {result.state}" for result in own))
        lines += [f"  exercise {result.number}: {result.why}" for result in own if result.why]
    passed = sum(result.state == PASSES for result in results)
    return [*lines, f"{passed} of {len(results)} exercises pass"]
