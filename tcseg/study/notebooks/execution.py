"""Execute one notebook strictly: problems that papermill ignores are errors here.

papermill alone accepts an unknown parameter, pastes values without a look at their type, and says nothing of cells that
never ran. `execute` compares the parameters with the notebook's annotated parameters cell, runs it in a kernel of this
interpreter (whatever kernel specs are installed), tells where it is, and keeps a failed notebook next to the last good one.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.models import Parameter
from papermill.translators import PythonTranslator

from tcseg.errors import PACKAGE, CannotRunError, TcsegError

ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# Quiets a notice of the kernel's start that nobody can act on, and progress bars that nobody watches (loop.py).
KERNEL_ENVIRONMENT = {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "TCSEG_QUIET": "1"}
TAIL_LINES = 40  # lines of a traceback that a failure shows; the kept notebook has them all


class NotebookError(CannotRunError):
    """A notebook that cannot run, or that ran and did not keep its promises. The message is meant for a terminal.

    Attributes:
        last: the one line that says why, where the message is longer: for the end of what is printed.
    """

    def __init__(self, message: str, last: str = "") -> None:
        super().__init__(message)
        self.last = last or message


def known_parameters(notebook: Path) -> dict[str, Parameter]:
    """The parameters that a notebook takes, read from its one cell tagged `parameters`.

    Args:
        notebook: Path of the .ipynb.

    Returns:
        Name -> papermill's description (`.inferred_type_name`, `.default`, `.help`).

    Raises:
        NotebookError: There is no notebook there, or not exactly one parameters cell.
    """
    if not notebook.is_file():
        raise NotebookError(f"no notebook {notebook.name} in {notebook.parent}: run from a clone of the repository")
    try:
        cells = nbformat.read(notebook, as_version=4).cells
        tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
        known = [PythonTranslator.inspect(cell) for cell in tagged]
    except Exception as error:  # no JSON, or none of a notebook: the library raises many kinds
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise NotebookError(f"{notebook} is no notebook that can be read: {why}") from error
    if len(tagged) != 1:
        raise NotebookError(f"{notebook.name} has {len(tagged)} cells tagged 'parameters'; it must have exactly one")
    return {parameter.name: parameter for parameter in known[0]}


def check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> None:
    """Hold parameters against the notebook's own: every name known, every value of the annotated type.

    Args:
        notebook: Path of the .ipynb.
        parameters: Name -> value, as they will be pasted into the notebook.

    Raises:
        NotebookError: A name is unknown (the known ones are listed) or a value has another type than its annotation.
    """
    declared = known_parameters(notebook)
    for name, value in parameters.items():
        if name not in declared:
            raise NotebookError(f"{notebook.name} has no parameter '{name}'; it knows {', '.join(declared)}")
        expected, actual = declared[name].inferred_type_name, type(value).__name__
        if expected == "None":
            raise NotebookError(f"parameter '{name}' of {notebook.name} has no type: write '{name}: {actual} = ...'")
        if actual != expected and (actual, expected) != ("int", "float"):
            raise NotebookError(f"parameter '{name}' of {notebook.name} must be {expected}; got {value!r} ({actual})")


class Progress:
    """Where a study is: which notebook, which cell, elapsed, estimated left.

    Rewrites one line on a terminal, and logs few lines elsewhere.

    Args:
        expected: Notebook -> seconds that it took before, for the estimate; notebooks without an entry make it unknown.
        stream: Where to write; standard output by default.
    """

    LOG_EVERY = 30.0  # seconds between lines where the line cannot be rewritten

    def __init__(self, expected: Mapping[str, float], stream: TextIO | None = None) -> None:
        self.expected = dict(expected)
        self.stream = stream or sys.stdout
        self.rewrites = self.stream.isatty()
        self.started = time.monotonic()
        self.title, self.later, self.notebook_started, self.cell, self.cells = "", (), 0.0, 0, 0
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None
        self._broken: Exception | None = None

    def start(self, position: str, notebook: str, later: tuple[str, ...]) -> None:
        """A notebook begins: `position` is "2/6", `later` names the ones that follow."""
        self.title, self.notebook, self.later = f"[{position}] {notebook}", notebook, later
        self.notebook_started, self.cell, self.cells = time.monotonic(), 0, 0
        self._stop.clear()
        self._ticker = threading.Thread(target=self._tick, daemon=True)
        self._write()
        self._ticker.start()

    def stop(self, outcome: str) -> None:
        """The notebook has ended: one line with how, and how long it took; raises what kept the clock from running."""
        self._stop.set()
        if self._ticker is not None:
            self._ticker.join()
        if self._broken is not None:
            raise self._broken
        seconds = time.monotonic() - self.notebook_started
        self.log(f"{self.title}  {outcome} in {clock(seconds)}")

    def log(self, line: str) -> None:
        """Write one line that stays."""
        self.stream.write(("\r\x1b[K" if self.rewrites else "") + line + "\n")
        self.stream.flush()

    def remaining(self) -> str:
        """The estimate of what is left of the study; empty where a notebook has never been timed."""
        names = (self.notebook, *self.later)
        if any(name not in self.expected for name in names):
            return ""
        current = max(0.0, self.expected[self.notebook] - (time.monotonic() - self.notebook_started))
        return f"  left about {clock(current + sum(self.expected[name] for name in self.later))}"

    def _write(self) -> None:
        where = f"cell {self.cell}/{self.cells}" if self.cells else "starting a kernel"
        line = f"{self.title}  {where}  elapsed {clock(time.monotonic() - self.started)}{self.remaining()}"
        self.stream.write(f"\r\x1b[K{line}" if self.rewrites else f"{line}\n")
        self.stream.flush()

    def _tick(self) -> None:
        try:
            while not self._stop.wait(1.0 if self.rewrites else self.LOG_EVERY):
                self._write()
        except Exception as error:  # `stop` reports it: nobody reads what a thread prints
            self._broken = error


def clock(seconds: float) -> str:
    """Seconds as 4:05 or 1:04:05."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class _Engine(NBClientEngine):
    """papermill's own engine that also reports each cell as it starts."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, progress: Progress | None = None, **kwargs: Any
    ) -> Any:
        """Run the notebook held by `nb_man`; see papermill.engines.NBClientEngine."""
        report_start = nb_man.cell_start
        order = {index: n for n, index in enumerate(_code_cells(nb_man.nb), start=1)}

        def cell_start(cell: Any, cell_index: int | None = None, **more: Any) -> None:
            report_start(cell, cell_index, **more)
            if progress is not None and cell_index in order:
                progress.cell, progress.cells = order[cell_index], len(order)

        nb_man.cell_start = cell_start
        return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)


papermill_engines.register("tcseg", _Engine)


def kernel_manager(environment: Mapping[str, str], log: Path) -> type[AsyncKernelManager]:
    """A manager whose kernel is this interpreter, whatever kernel specs there are; its stderr goes to `log`."""

    class ThisInterpreter(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=argv, display_name="Python 3", language="python")

        async def _async_start_kernel(self, **kwargs: Any) -> None:
            with log.open("ab") as stream:  # the child has its own copy of the descriptor
                kwargs["env"] = {**os.environ, **KERNEL_ENVIRONMENT, **environment, **kwargs.get("env", {})}
                kwargs["stderr"] = stream
                await super()._async_start_kernel(**kwargs)

        start_kernel = _async_start_kernel

    return ThisInterpreter


def execute(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, Any],
    progress: Progress | None = None,
    environment: Mapping[str, str] | None = None,
    verify: Callable[[], None] | None = None,
) -> None:
    """Run one notebook from top to bottom in a fresh kernel; `output` appears only when it has finished.

    A failed notebook is kept as <name>.failed.ipynb beside `output`, and goes away with the next success.

    Args:
        notebook: Source .ipynb with one annotated parameters cell.
        output: Where the executed notebook goes.
        parameters: Name -> value; all known to the notebook and of the annotated type.
        progress: Told of each cell as it starts.
        environment: Variables that the kernel sees besides this process's own.
        verify: Called once all cells have run; raises NotebookError where the notebook did not leave what it must.

    Raises:
        NotebookError: A parameter does not fit, ipykernel is missing, a cell failed (with its traceback), the kernel
            died, or a cell did not run; or what `verify` raises.
    """
    check_parameters(notebook, parameters)
    if importlib.util.find_spec("ipykernel") is None:
        raise NotebookError(f"{sys.executable} has no Jupyter kernel: {sys.executable} -m pip install ipykernel")
    output.parent.mkdir(parents=True, exist_ok=True)
    running, failed = output.with_name(f".{output.stem}.running.ipynb"), output.with_suffix(".failed.ipynb")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "kernel.log"
        manager = kernel_manager(environment or {}, log)
        try:
            papermill.execute_notebook(
                str(notebook),
                str(running),
                dict(parameters),
                engine_name="tcseg",
                kernel_name="python3",  # the name that goes into the notebook; the kernel itself is the manager's
                language="python",
                progress_bar=False,
                autosave_cell_every=60,
                progress=progress,
                kernel_manager_class=manager,
            )
            _check_complete(running, notebook.name)
            if verify is not None:
                verify()
            os.replace(running, output)
        except (PapermillExecutionError, DeadKernelError, NotebookError) as error:
            if running.exists():
                os.replace(running, failed)
            raise _explain(error, notebook.name, failed, log) from error
        finally:
            running.unlink(missing_ok=True)
    failed.unlink(missing_ok=True)


def _code_cells(notebook: Any) -> list[int]:
    """Indices of the code cells that have anything to run."""
    return [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code" and cell.source.strip()]


def _check_complete(executed: Path, name: str) -> None:
    """Raise NotebookError if a code cell did not run (papermill itself looks for cells that left an error)."""
    notebook = nbformat.read(executed, as_version=4)
    for n, index in enumerate(_code_cells(notebook), start=1):
        cell = notebook.cells[index]
        if cell.execution_count is None:
            raise NotebookError(f"{name}: code cell {n} did not run: {cell.source.strip().splitlines()[0]}")


def _explain(error: Exception, name: str, failed: Path, log: Path) -> NotebookError:
    """What a reader needs of a failure: the cell, the traceback without colour codes, where the notebook is kept; and why, last."""
    kept = f"\nThe notebook up to there: {failed}" if failed.exists() else ""
    if isinstance(error, PapermillExecutionError):
        traceback = ANSI.sub("", "\n".join(error.traceback)).splitlines()
        body = "\n".join(f"    {line}" for line in traceback[-TAIL_LINES:])
        source = "\n".join(f"    {line}" for line in error.source.strip().splitlines()[:TAIL_LINES])
        message = f"{name} failed in cell [{error.exec_count}]:\n{source}\n\n{body}{kept}"
        return NotebookError(message, f"{name}, cell [{error.exec_count}]: {_of_cell(error, traceback)}")
    if isinstance(error, DeadKernelError):
        words = ANSI.sub("", log.read_text(errors="replace")).splitlines() if log.exists() else []
        tail = "".join(f"\n    {line}" for line in words[-10:] if "IPKernelApp" not in line)
        why = f"{name}: the kernel died, most often for want of memory; a smaller profile needs less."
        return NotebookError(f"{why}{tail}{kept}", why)
    return NotebookError(f"{error}{kept}", str(error))


def _of_cell(error: PapermillExecutionError, traceback: list[str]) -> str:
    """A cell's exception as `errors.one_line` tells one; of the kernel's, only the name, the text and the traceback are here."""
    text = ANSI.sub("", str(error.evalue)).strip()
    if error.ename in _names(TcsegError) and text:
        return text
    places = [_place(line) for line in traceback]
    where = next((place for place in reversed(places) if place), "")
    return f"{error.ename}: {(text.splitlines() or ['no message'])[0]}" + (f" ({where})" if where else "")


def _names(kind: type) -> set[str]:
    return {kind.__name__}.union(*map(_names, kind.__subclasses__()))


def _place(line: str) -> str:
    """The frame of this package that a line of IPython's traceback names, as `errors.place_of` writes it; else nothing."""
    frame = re.match(r"\s*File (?P<file>.+?):(?P<line>\d+), in (?P<name>[\w<>.]+)", line)
    if frame is None or PACKAGE not in Path(frame["file"]).parents:
        return ""
    return f"{Path(frame['file']).relative_to(PACKAGE.parent).as_posix()}:{frame['line']} in {frame['name']}"
