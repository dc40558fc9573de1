"""Break the science on purpose and see which tests notice: cosmic-ray makes the mutants, a process forked for each tries them.

    pip install cosmic-ray  # 8.7; not one of the project's dependencies
    python tests/mutation.py temporal_losses metrics --sample 60

A mutant is a module with one operator, comparison, number, condition or decorator changed. It is killed if a test of the module
fails, or if it crashes or takes ten times as long as the unbroken module; it survives if all tests pass. Each survivor is a test
that is missing, or the same program: `mutation_survivors.csv` has a column for the word, which a later run keeps. Torch and the
like are imported once; a mutant is never written to disk. What was killed stays killed until its module changes (`--state`), so
that an interrupted run goes on, and a run with better tests tries the survivors only. A sample is drawn by a seed.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import csv
import gc
import hashlib
import importlib
import multiprocessing
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from difflib import SequenceMatcher
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec, spec_from_file_location
from multiprocessing.connection import Connection
from pathlib import Path
from types import CodeType
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHOICE = "not the_measurement_names"  # seconds of timing, which say little of a line
TESTS = {
    "losses": "test_losses test_objective",
    "temporal_losses": "test_temporal_losses test_objective",
    "objective": "test_objective",
    "targets": "test_targets",
    "augment": "test_augment",
    "motion": "test_motion",
    "temporal": "test_temporal",
    "trajectories": "test_temporal",
    "metrics": "test_metrics",
    "stats": "test_stats",
    "crossed": "test_stats",
}
"""Module -> the files whose tests are to notice."""
POINTLESS = (
    r"core/ReplaceBinaryOperator_BitOr_.*"  # `X | None` in annotations, which are never read
    r"|core/ReplaceBinaryOperator_(Add|Sub|Mul|Div|FloorDiv|Mod|Pow)_(RShift|LShift|BitOr|BitAnd|BitXor)"  # mostly TypeErrors
    r"|core/ReplaceComparisonOperator_.*_(Is|IsNot)|core/ExceptionReplacer"
)
"""Mutations that nobody makes by mistake: they would die of a TypeError, and flatter the tests."""
MEMORY = 12 * 2**30  # bytes that a mutant may take before it dies


class Subject(NamedTuple):
    """A module, and the tests that are to notice when it breaks."""

    name: str
    path: Path
    tests: tuple[Path, ...]


class Mutant(NamedTuple):
    """A changed module: by which operator, where (line, text before and after), and its whole source."""

    operator: str
    occurrence: int
    line: int
    before: str
    after: str
    source: str


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


def _child(subject: Subject, source: str, order: dict[str, float], report: Connection) -> None:
    os.setsid()
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1), os.dup2(sink, 2)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
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
    child = context.Process(target=_child, args=(subject, source, order or {}, send))
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
    order, mine = {}, {package, *(path.stem for test in subject.tests for path in test.parent.glob("*.py"))}
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


def mutants(path: Path) -> Iterator[Mutant]:
    """All changes of a module that give another program, by cosmic-ray's operators and by place."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    text = path.read_text()
    nodes, lines, program = list(ast_nodes(get_ast(text))), text.splitlines(), ast.dump(ast.parse(text))
    for name in operator_names():
        kind = get_operator(name)
        if re.match(POINTLESS, name) or kind.arguments():
            continue
        for occurrence in range(sum(len(list(kind().mutation_positions(node))) for node in nodes)):
            source = mutate_code(text, kind(), occurrence)
            with contextlib.suppress(SyntaxError):
                if ast.dump(ast.parse(source)) != program:
                    line, *texts = _change(lines, source.splitlines())
                    yield Mutant(name.split("/")[1], occurrence, line, *texts, source)


def _change(old: list[str], new: list[str]) -> tuple[int, str, str]:
    _, i, j, k, n = next(part for part in SequenceMatcher(None, old, new, False).get_opcodes() if part[0] != "equal")
    return i + 1, " ".join(map(str.strip, old[i:j])), " ".join(map(str.strip, new[k:n]))


def run(subject: Subject, sample: int, seed: int, state: Path) -> tuple[int, int, list[Mutant]]:
    """How many mutants a module has, how many of them were tried, and the survivors."""
    found, digest = list(mutants(subject.path)), hashlib.sha256(subject.path.read_bytes()).hexdigest()[:12]
    chosen = random.Random(seed).sample(found, len(found))[: sample or None]  # a larger sample has the smaller one in it
    chosen.sort(key=lambda mutant: mutant.line)
    known = {tuple(row[:-1]) for row in _rows(state) if row[-1] != "survived"}
    keys = {mutant: (subject.name, digest, mutant.operator, str(mutant.occurrence)) for mutant in chosen}
    to_try = [mutant for mutant in chosen if keys[mutant] not in known]
    seconds, order = prepare(subject)
    print(f"{subject.name}: {len(to_try)} of {len(found)} mutants to try; the tests take {seconds:.1f} s", flush=True)
    survivors = []
    for mutant in to_try:
        outcome, _ = attempt(subject, mutant.source, max(20.0, 10 * seconds), order)
        with state.open("a", newline="") as file:
            csv.writer(file).writerow([*keys[mutant], outcome])
        if outcome == "survived":
            survivors.append(mutant)
            print(f"{subject.path.name}:{mutant.line}: {mutant.before}\n    -> {mutant.after}", flush=True)
    return len(found), len(chosen), survivors


def _rows(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines())) if path.exists() else []


def write(path: Path, header: str, rows: list[list], module: str) -> None:
    """Put a module's rows into a table, in the place of those it had; the modules keep their order."""
    rows = sorted([row for row in _rows(path)[1:] if row[0] != module] + rows, key=lambda row: [*TESTS].index(row[0]))
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header.split(), *rows])


def main() -> None:
    """Try mutants of the modules that are named, or of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", metavar="module", help=f"default: all of {', '.join(TESTS)}")
    parser.add_argument("--sample", type=int, default=0, help="mutants of each module; 0 = all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--state", type=Path, default=ROOT / "build" / "mutants.csv", help="what was found so far")
    parser.add_argument("--table", type=Path, default=ROOT / "figures/tables/mutation.csv", help="where the counts go")
    options = parser.parse_args()
    if unknown := sorted(set(options.modules) - set(TESTS)):
        parser.error(f"no module of the science: {', '.join(unknown)}; choose from {', '.join(TESTS)}")
    if find_spec("cosmic_ray") is None:
        parser.error(f"cosmic-ray is missing: {sys.executable} -m pip install cosmic-ray")
    options.state.parent.mkdir(parents=True, exist_ok=True)
    named = options.table.with_name(f"{options.table.stem}_survivors.csv")
    with tempfile.TemporaryDirectory(prefix="mutants-") as tempfile.tempdir:
        os.environ |= {"NUMBA_CACHE_DIR": tempfile.tempdir, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        sys.path.insert(0, str(ROOT))
        for name in options.modules or TESTS:
            tests = tuple(ROOT / "tests" / f"{file}.py" for file in TESTS[name].split())
            subject = Subject(f"tcseg.{name}", ROOT / "tcseg" / f"{name}.py", tests)
            found, tried, survivors = run(subject, options.sample, options.seed, options.state)
            counts = [name, found, tried, tried - len(survivors), len(survivors)]
            write(options.table, "module mutants tried killed survived", [counts], name)
            why = {tuple(row[:4]): row[4] for row in _rows(named)}
            keys = [(name, mutant.operator, mutant.before, mutant.after) for mutant in survivors]
            write(named, "module operator before after why", [[*key, why.get(key, "")] for key in keys], name)
            print(f"{name}: {counts[3]} of {tried} mutants killed", flush=True)


if __name__ == "__main__":
    main()
