"""The notebooks as a dependency graph: each runs after the previous ones, and only if one of its inputs has changed.

Hashes of what each notebook was made of (the notebook, the package, the earlier notebooks' tables) are in the study's folder, so
a finished study opens in a second, and one that failed or was interrupted goes on with the notebook that it stopped in;
inside that notebook the runs go on from their checkpoints (see runs.py). Nothing but the study's folder is written.
"""

from __future__ import annotations

import hashlib
import json
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from tcseg.atomic_files import exclusive_lock, write_json
from tcseg.errors import as_message, debugging
from tcseg.study.notebooks import timings
from tcseg.study.notebooks.execution import NotebookError, Progress, check_parameters, execute
from tcseg.study.paths import NOTEBOOKS


@dataclass(frozen=True)
class Course:
    """What is to be run: the notebooks in order, their parameters, and where everything goes."""

    artefacts: Mapping[str, Sequence[str]]  # notebook (no suffix), in order -> files it must leave in `folder`
    source: Path  # folder of the notebooks
    folder: Path  # of the study
    parameters: Mapping[str, Any]
    inputs: Sequence[Path] = ()  # files that every notebook depends on: the package
    data: str = ""  # fingerprint of the data set
    environment: Mapping[str, str] = field(default_factory=dict)  # variables for the kernels
    expected: Mapping[str, float] = field(default_factory=dict)  # seconds a notebook took before, for the estimate
    again: str = ""  # the command that goes on after a failure

    def output(self, name: str) -> Path:
        """Where the executed notebook goes."""
        return self.folder / "notebooks" / f"{name}.ipynb"

    def missing(self, name: str) -> list[str]:
        """The declared artefacts of a notebook that are not there."""
        return [file for file in self.artefacts[name] if not (self.folder / file).is_file()]

    def state(self, name: str) -> str:
        """Everything but the earlier notebooks' tables that a notebook is made of, as one string."""
        source = self.source / f"{name}.ipynb"
        parts = [dict(self.parameters), self.data, dict(self.environment), digest([source, *self.inputs])]
        return json.dumps(parts, sort_keys=True)

    def earlier_tables(self, name: str) -> list[Path]:
        """The tables that the notebooks before this one leave."""
        before = list(self.artefacts)[: list(self.artefacts).index(name)]
        return [self.folder / file for other in before for file in self.artefacts[other] if file.endswith(".csv")]


def digest(files: Iterable[Path]) -> str:
    """SHA-256 over the names and contents of files, in the order of their names."""
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


class _Run:
    """One go at a course."""

    def __init__(self, course: Course, names: Sequence[str], stream: TextIO | None) -> None:
        self.course, self.names = course, list(names)
        self.progress = Progress(course.expected, stream)
        self.errors = stream or sys.stderr
        # Taken before the study starts: an edit made meanwhile must not pass for what a notebook ran with.
        self.states = {name: course.state(name) for name in course.artefacts}
        self.notes = course.folder / ".finished.json"
        self.made_of = self._read_notes()
        self.error: BaseException | None = None

    def _read_notes(self) -> dict[str, list[str]]:
        """What each finished notebook was made of; nothing where the notes are damaged."""
        try:
            return json.loads(self.notes.read_text())
        except FileNotFoundError:
            return {}
        except ValueError:
            self.progress.log(f"{self.notes} was damaged, and is begun anew: every notebook runs once more")
            return {}

    def _note(self, made_of: dict[str, list[str]]) -> None:
        self.made_of = made_of
        write_json(self.notes, made_of)

    def _inputs(self, name: str) -> list[str]:
        return [self.states[name], digest(self.course.earlier_tables(name))]

    def go(self) -> int:
        """Each notebook that is not up to date; what has finished is on disk before the next begins."""
        for position, name in enumerate(self.names, start=1):
            try:
                left = self.course.output(name).exists() and not self.course.missing(name)
                if left and self.made_of.get(name) == self._inputs(name):
                    self.progress.log(f"[{position}/{len(self.names)}] {name}  up to date")
                    continue
                self._note({other: made_of for other, made_of in self.made_of.items() if other != name})
                self._execute(name)
                self._note(self.made_of | {name: self._inputs(name)})
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # SystemExit as well: a study that has not finished must not end in silence
                self._log(name, self.error or error)
                return 1
        return 0

    def _log(self, name: str, error: BaseException) -> None:
        """What failed: the whole of it, how to go on, and in the last line why."""
        if isinstance(error, NotebookError):
            whole, last = str(error), error.last
        else:
            lines = str(error).strip().splitlines()
            whole = "\n".join(lines) if len(lines) > 1 else ""
            whole = "".join(traceback.format_exception(error)).rstrip() if debugging() else whole
            last = f"{name}: {as_message(error)}"
        if whole and whole != last:
            self.progress.log(whole)
        self.progress.log(f"Correct it, then continue with: {self.course.again}")
        print(last, file=self.errors, flush=True)

    def _execute(self, name: str) -> None:
        course, position = self.course, self.names.index(name)
        shared = {file for other, files in course.artefacts.items() if other != name for file in files}
        # An old artefact must not pass for one that this run did not write.
        for file in set(course.artefacts[name]) - shared:
            (course.folder / file).unlink(missing_ok=True)
        self.progress.start(f"{position + 1}/{len(self.names)}", name, tuple(self.names[position + 1 :]))
        outcome = "interrupted"
        try:
            source, verify = course.source / f"{name}.ipynb", partial(self._verify, name)
            execute(source, course.output(name), course.parameters, self.progress, course.environment, verify)
            outcome = "done"
        except Exception as error:
            self.error, outcome = error, "failed"  # kept here: to say that it failed may fail, too
            raise
        finally:
            self.progress.stop(outcome)
        if course.parameters.get("runs", "train") == "train":
            write_times(course, name)

    def _verify(self, name: str) -> None:
        if missing := self.course.missing(name):
            raise NotebookError(f"{name} ran, but left no {', '.join(missing)} in {self.course.folder}")


def upto(names: Sequence[str] | None, order: Sequence[str] = tuple(NOTEBOOKS)) -> list[str]:
    """The notebooks that are run to have these: all up to the last of them; all where none is named."""
    last = max((order.index(name) for name in names or ()), default=len(order) - 1)
    return list(order[: last + 1])


def run_course(course: Course, names: Sequence[str] | None = None, stream: TextIO | None = None) -> int:
    """Run what is not up to date; see the module's head.

    Args:
        course: What to run, and where.
        names: Stop after the last of these; all notebooks by default. Earlier ones are brought up to date, as always.
        stream: For progress and failures; by default standard output, and standard error for the line that says why it failed.

    Returns:
        0; 1 where a notebook failed (its cell and traceback have been written, or the exception and where it came from), 130 after
        Ctrl-C.

    Raises:
        NotebookError: The course cannot start: a parameter does not fit a notebook, or another study is at work in the
            folder.
    """
    # All of them before the first starts: a mistyped parameter must not cost the hours before it.
    for name in course.artefacts:
        check_parameters(course.source / f"{name}.ipynb", course.parameters)
    course.folder.mkdir(parents=True, exist_ok=True)
    with lock(course.folder):
        run = _Run(course, upto(names, list(course.artefacts)), stream)
        try:
            return run.go()
        except KeyboardInterrupt:
            run.progress.log(f"Interrupted. Finished notebooks are kept; continue with: {course.again}")
            return 130


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a study's folder against a second runner; the system frees it when the process ends, however it ends.

    Raises:
        NotebookError: Another process holds it.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive_lock(folder / ".lock", wait=False))
        except BlockingIOError:
            message = f"another study is at work in {folder}: wait for it, or give this one another folder (--out)"
            raise NotebookError(message) from None
        yield


def write_times(course: Course, name: str) -> None:
    """Note how long a notebook that has just been executed took, and its sections; see timings.py."""
    usage = course.folder / "usage" / f"{name}.json"
    counts = json.loads(usage.read_text()) if usage.exists() else {}
    trained, loaded = counts.get("runs_trained", 0), counts.get("runs_loaded", 0)
    profile = course.parameters.get("profile", "")
    timings.write(course.folder / "tables", course.output(name), list(course.artefacts), profile, trained, loaded)
