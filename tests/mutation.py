"""Break the science on purpose and see which tests notice: cosmic-ray makes the mutants, a process forked for each tries them.

    pip install cosmic-ray  # 8.7; not one of the project's dependencies
    python tests/mutation.py training.temporal_losses metrics.temporal --sample 60

A mutant is a module with one operator, comparison, number, condition or decorator changed. It is killed if a test of the module
fails, or if it crashes or takes ten times as long as the unbroken module; it survives if all tests pass. Each survivor is a test
that is missing, or the same program: `mutation_survivors.csv` has a column for the word, which a later run keeps. What was killed
stays killed until its module changes (`--state`), so that an interrupted run goes on, and a run with better tests tries the
survivors only. A sample is drawn by a seed.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import csv
import hashlib
import os
import random
import re
import sys
import tempfile
from collections.abc import Iterator
from difflib import SequenceMatcher
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from forked import Subject, attempt, prepare

ROOT = Path(__file__).resolve().parents[1]
TESTS = {
    "training.losses": "training/test_losses training/test_recipe",
    "training.temporal_losses": "training/test_temporal_losses training/test_recipe",
    "training.recipe": "training/test_recipe",
    "training.teacher_targets": "training/test_teacher_targets",
    "data.augmentation": "data/test_augmentation",
    "data.flow_sources": "data/test_flow_sources",
    "metrics.temporal": "metrics/test_temporal",
    "metrics.trajectories": "metrics/test_temporal",
    "metrics.segmentation": "metrics/test_segmentation",
    "metrics.intervals": "metrics/test_intervals",
    "metrics.seed_clip_effects": "metrics/test_intervals",
}
"""Module -> the files whose tests are to notice."""
POINTLESS = (
    r"core/ReplaceBinaryOperator_BitOr_.*"  # `X | None` in annotations, which are never read
    r"|core/ReplaceBinaryOperator_(Add|Sub|Mul|Div|FloorDiv|Mod|Pow)_(RShift|LShift|BitOr|BitAnd|BitXor)"  # mostly TypeErrors
    r"|core/ReplaceComparisonOperator_.*_(Is|IsNot)|core/ExceptionReplacer"
)
"""Mutations that nobody makes by mistake: they would die of a TypeError, and flatter the tests."""


class Mutant(NamedTuple):
    """A changed module: by which operator, where (line, text before and after), and its whole source."""

    operator: str
    occurrence: int
    line: int
    before: str
    after: str
    source: str


def mutants(path: Path) -> Iterator[Mutant]:
    """All changes of a module that give another program, by cosmic-ray's operators and by place."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    parts = [(part.get_code(), list(ast_nodes(part))) for part in get_ast(path.read_text()).children]  # quicker than the whole
    for name in operator_names():
        kind = get_operator(name)
        if re.match(POINTLESS, name) or kind.arguments():
            continue
        occurrence = -1
        for index, (old, nodes) in enumerate(parts):
            before, after = ("".join(code for code, _ in some) for some in (parts[:index], parts[index + 1 :]))
            for place in range(sum(len(list(kind().mutation_positions(node))) for node in nodes)):
                occurrence += 1
                new = mutate_code(old, kind(), place)
                with contextlib.suppress(SyntaxError):
                    if ast.dump(ast.parse(new)) != ast.dump(ast.parse(old)):
                        line, *texts = _change(old.splitlines(), new.splitlines())
                        line += before.count("\n")
                        yield Mutant(name.split("/")[1], occurrence, line, *texts, before + new + after)


def _change(old: list[str], new: list[str]) -> tuple[int, str, str]:
    """Where the first difference is, and the text there, before and after."""
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
            subject = Subject(f"tcseg.{name}", ROOT / "tcseg" / f"{name.replace('.', '/')}.py", tests)
            found, tried, survivors = run(subject, options.sample, options.seed, options.state)
            counts = [name, found, tried, tried - len(survivors), len(survivors)]
            write(options.table, "module mutants tried killed survived", [counts], name)
            why = {tuple(row[:4]): row[4] for row in _rows(named)}
            keys = [(name, mutant.operator, mutant.before, mutant.after) for mutant in survivors]
            write(named, "module operator before after why", [[*key, why.get(key, "")] for key in keys], name)
            print(f"{name}: {counts[3]} of {tried} mutants killed", flush=True)


if __name__ == "__main__":
    main()
