"""The notebooks as a dependency graph: each runs after the previous ones, and only if one of its inputs has changed.

doit keeps the content hashes (of the notebook, the package, the earlier notebooks' tables) in the study's folder, so
a finished study opens in a second, and one that failed or was interrupted goes on with the notebook that it stopped in;
inside that notebook the runs go on from their checkpoints (see runs.py). Nothing but the study's folder is written.
"""

from __future__ import annotations

import hashlib
import json
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from doit.api import run_tasks
from doit.cmd_base import ModuleTaskLoader
from doit.exceptions import BaseFail
from doit.reporter import ZeroReporter
from doit.tools import config_changed

from tcseg.atomic_files import exclusive_lock
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

    def task(self, name: str, state: str, action: Callable[[], bool]) -> dict[str, Any]:
        """The doit task of one notebook.

        The sources go in by a state taken before the study starts: doit's own hashes are taken when a task has
        finished, and would take an edit made meanwhile for what the notebook ran with.
        """
        before = list(self.artefacts)[: list(self.artefacts).index(name)]
        earlier = [str(self.folder / file) for other in before for file in self.artefacts[other]]
        return {
            "basename": name,
            "actions": [action],
            "file_dep": [file for file in earlier if file.endswith(".csv")],
            "task_dep": before[-1:],
            "targets": [str(self.output(name)), *(str(self.folder / file) for file in self.artefacts[name])],
            "uptodate": [config_changed(state)],
            "verbosity": 2,
        }


def digest(files: Iterable[Path]) -> str:
    """SHA-256 over the names and contents of files, in the order of their names."""
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


class _Reporter(ZeroReporter):
    """Keeps what doit has to say of failures that are its own: a dependency that is not there, a task that cannot be."""

    messages: list[str]

    def add_failure(self, task: Any, fail: BaseFail) -> None:
        """A task failed."""
        self.messages.append(fail.get_msg().strip())

    def cleanup_error(self, exception: BaseFail) -> None:
        """Cleaning up failed."""
        self.messages.append(exception.get_msg().strip())

    def runtime_error(self, msg: str) -> None:
        """The run itself failed."""
        self.messages.append(msg.strip())


class _Run:
    """One go at a course."""

    def __init__(self, course: Course, names: Sequence[str], stream: TextIO | None) -> None:
        self.course, self.names = course, list(names)
        self.progress = Progress(course.expected, stream)
        self.errors = stream or sys.stderr
        self.states = {name: course.state(name) for name in course.artefacts}
        self.executed: set[str] = set()
        self.error: BaseException | None = None
        self.of_doit: list[str] = []

    @property
    def database(self) -> Path:
        """Where doit notes what is up to date."""
        return self.course.folder / ".doit.json"

    def check_bookkeeping(self) -> None:
        """Begin doit's notes anew where they were cut off, as by a kill while they were written: doit would refuse to start."""
        try:
            json.loads(self.database.read_text())
        except FileNotFoundError:
            return
        except ValueError:
            self.database.unlink()
            self.progress.log(f"{self.database} was damaged, and is begun anew: every notebook runs once more")

    def go(self) -> int:
        """Each notebook through doit, one call each, so that what has finished is on disk before the next begins."""
        for position, name in enumerate(self.names, start=1):
            code = self._keep(lambda name=name: run_tasks(ModuleTaskLoader(self._graph()), {name: {}}))
            if self.error is not None or code != 0:
                self._log(name, code)
                return 1
            if name not in self.executed:
                self.progress.log(f"[{position}/{len(self.names)}] {name}  up to date")
        return 0

    def _keep(self, work: Callable[[], Any]) -> Any:
        """What `work` returns; None where it raises: the first exception is kept, since doit leaves nothing of one but a code."""
        try:
            return work()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit as well: a study that has not finished must not end in silence
            self.error = self.error or error
            return None

    def _log(self, name: str, code: int | None) -> None:
        """What failed: the whole of it, how to go on, and in the last line why."""
        error = self.error
        if error is None:
            whole = "\n".join(self.of_doit)
            last = f"{name}: {(whole.splitlines() or [f'doit stopped with code {code}'])[-1]}"
        elif isinstance(error, NotebookError):
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

    def _graph(self) -> dict[str, Any]:
        def tasks() -> Iterator[dict[str, Any]]:
            for name in self.course.artefacts:
                action = partial(self._keep, partial(self._execute, name))
                yield self.course.task(name, self.states[name], lambda action=action: action() is not None)

        reporter = type("Reporter", (_Reporter,), {"messages": self.of_doit})
        config = {"dep_file": str(self.database), "backend": "json", "reporter": reporter}
        return {"DOIT_CONFIG": config, "task_notebooks": tasks}

    def _execute(self, name: str) -> bool:
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
        self.executed.add(name)
        if course.parameters.get("runs", "train") == "train":
            write_times(course, name)
        return True

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
    run = _Run(course, upto(names, list(course.artefacts)), stream)
    with lock(course.folder):
        run.check_bookkeeping()
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
