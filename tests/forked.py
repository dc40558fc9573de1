"""Run a module's tests on another source of it, in a process forked for that: torch and the like are imported once, before.

The source is never written to disk: the forked process imports it in the module's place. For `mutation.py`.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import importlib
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from multiprocessing.connection import Connection
from pathlib import Path
from types import CodeType
from typing import NamedTuple

import pytest

CHOICE = "not the_measurement_names and not intervals_cover and not of_tc_cover and not is_detected and not rarely_finds"
"""Without seconds of timing, and of simulations, which say little of a line."""
MEMORY = 12 * 2**30  # bytes that a process may take before it dies


class Subject(NamedTuple):
    """A module, and the tests that are to notice when it breaks."""

    name: str
    path: Path
    tests: tuple[Path, ...]


class Replacing(SourceFileLoader):
    """Imports one module from another source, and everything else as ever."""

    def __init__(self, subject: Subject, source: str) -> None:
        super().__init__(subject.name, str(subject.path))
        self.source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.source, self.path, "exec", dont_inherit=True)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return spec_from_file_location(name, self.path, loader=self) if name == self.name else None


class Order:
    """Quick tests first; tells at the end whether any failed and how long each took, and does not wait for cleaning up."""

    def __init__(self, seconds: dict[str, float], report: Connection) -> None:
        self.before, self.report, self.seconds, self.failed = seconds, report, {}, []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self.before.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        self.failed += [report.nodeid] if report.failed else []

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self.report.send((int(exitstatus), self.failed, self.seconds, [] if self.before else list(sys.modules)))
        os._exit(0)


def reached(before: str, after: str) -> set[str] | None:
    """Functions and classes that may do something else now: the changed one, and who names it; None = any."""
    old, new = ast.parse(before).body, ast.parse(after).body
    changed = [a for a, b in zip(old, new, strict=True) if ast.dump(a) != ast.dump(b)]
    if not all(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in changed):
        return None
    names, size = {node.name for node in changed}, -1
    named = {n.name: {x.id for x in ast.walk(n) if isinstance(x, ast.Name)} for n in old if hasattr(n, "name")}
    while len(names) != size:
        size = len(names)
        names |= {name for name, uses in named.items() if uses & names}
    return names


def compile_anew(names: set[str] | None) -> None:
    """Kernels that a mutant reaches are compiled, not read from numba's cache, whose key does not see that a constant changed."""
    with contextlib.suppress(ImportError):
        from numba.core.dispatcher import Dispatcher

        cached = Dispatcher.enable_caching

        def enable_caching(self: Dispatcher) -> None:
            if names is not None and not names & {self.py_func.__name__, *self.py_func.__code__.co_names}:
                cached(self)

        Dispatcher.enable_caching = enable_caching


def _run(subject: Subject, source: str, order: dict[str, float], timeout: float, report: Connection) -> None:
    os.setsid()
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1), os.dup2(sink, 2)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (int(timeout) + 1, int(timeout) + 1))  # ends it where nobody waits any more
    if source != (text := subject.path.read_text()):
        compile_anew(reached(text, source))
    sys.meta_path.insert(0, Replacing(subject, source))
    options = f"-x -q --tb=no --assert=plain -p no:cacheprovider --basetemp={tempfile.gettempdir()}/mutant -o addopts=".split()
    choice = ["-m", "not slow", "-k", CHOICE, *map(str, subject.tests)]
    report.send((int(pytest.main(options + choice, plugins=[Order(order, report)])), [], {}, []))  # had no session


def attempt(subject: Subject, source: str, timeout: float, order: dict[str, float] | None = None) -> tuple[str, tuple]:
    """Run the tests on a module with this source, in a process of its own: killed, survived or timeout; and what it told.

    Raises:
        RuntimeError: pytest found no test.
    """
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_run, args=(subject, source, order or {}, timeout, send))
    child.start()
    send.close()
    outcome, told = "timeout", (1, ["hangs or crashes"], {}, [])
    if receive.poll(timeout):
        with contextlib.suppress(EOFError):  # it crashed
            told = receive.recv()
        outcome = "killed" if told[0] else "survived"
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.join()
    if told[0] in (pytest.ExitCode.NO_TESTS_COLLECTED, pytest.ExitCode.USAGE_ERROR):
        raise RuntimeError(f"pytest found no test for {subject.name} in {subject.tests}")
    return outcome, told


def prepare(subject: Subject) -> tuple[float, dict[str, float]]:
    """Import here what the tests import from elsewhere; how long the unbroken module takes, and each of its tests.

    Raises:
        RuntimeError: a test fails with nothing broken.
    """
    package = subject.name.split(".")[0]
    folders = {folder for test in subject.tests for folder in test.parents[:2]}  # of the tests, and of what they share
    order, mine = {}, {package, *(path.stem for folder in folders for path in folder.glob("*.py"))}
    for _ in range(2):  # the second time in the order that mutants meet, with everything imported and compiled
        start = time.perf_counter()
        outcome, (_, failed, order, imported) = attempt(subject, subject.path.read_text(), 600, order)
        if outcome != "survived":
            raise RuntimeError(f"{subject.name}: {failed} with nothing broken")
        for name in imported:
            with contextlib.suppress(Exception):  # a name that only stands in sys.modules
                name.split(".")[0] in mine or importlib.import_module(name)
        if package in sys.modules:
            raise RuntimeError(f"{package} is imported here: what is forked would not see a mutant")
    gc.freeze()
    return time.perf_counter() - start, order
