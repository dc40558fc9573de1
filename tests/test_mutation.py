"""The mutation tester itself, on a toy: what dies, what survives, and that the file on disk is never the mutant."""

import json
import re
import subprocess
import sys
from pathlib import Path

import forked
import mutation
import pytest

MODULE = """LIMIT = 3

def larger(a, b):
    return a > b

def small(a):
    return not larger(a, LIMIT)

def other(a):
    return a
"""
TESTS = """from toy.order import larger, small

def test_larger():
    assert larger(2, 1) and not larger(1, 2) and small(2)
"""
TRY = """import json, pathlib, sys
import forked
subject = forked.Subject("toy.order", pathlib.Path("toy/order.py"), (pathlib.Path("test_toy.py"),))
_, order = forked.prepare(subject)
print(json.dumps([forked.attempt(subject, source, 1 if 'while' in source else 60, order)[0] for source in json.load(sys.stdin)]))
"""


def changed(old, new):
    assert MODULE.count(old) == 1
    return MODULE.replace(old, new)


def in_a_toy(folder, tests, sources):
    (folder / "toy").mkdir()
    for name, text in {"toy/__init__.py": "", "toy/order.py": MODULE, "test_toy.py": tests, "pytest.ini": "[pytest]"}.items():
        (folder / name).write_text(text)
    paths = {"PYTHONPATH": f"{folder}:{Path(mutation.__file__).parent}"}
    command, told = [sys.executable, "-c", TRY], json.dumps(sources)
    done = subprocess.run(command, cwd=folder, env=paths, input=told, capture_output=True, text=True)
    assert (folder / "toy" / "order.py").read_text() == MODULE
    return done


def test_a_mutant_dies_of_a_failed_test_a_crash_or_standing_still_and_survives_otherwise(tmp_path):
    sources = {
        changed("a > b", "a < b"): "killed",
        changed("a > b", "a >= b"): "survived",  # the toy's test says nothing of equal numbers
        changed("return a > b", "import os; os.abort()"): "killed",
        changed("return a > b", "while True: pass"): "timeout",
    }
    done = in_a_toy(tmp_path, TESTS, list(sources))
    assert json.loads(done.stdout) == list(sources.values()), done.stderr


@pytest.mark.parametrize(("tests", "why"), [(TESTS + "    assert False\n", "test_larger.*nothing broken"), ("", "no test")])
def test_nothing_is_tried_where_the_tests_fail_anyway_or_are_missing(tmp_path, tests, why):
    done = in_a_toy(tmp_path, tests, [MODULE])
    assert done.returncode and re.search(why, done.stderr.splitlines()[-1])


def test_a_change_reaches_all_that_name_it():
    assert forked.reached(MODULE, changed("a > b", "a < b")) == {"larger", "small"}
    assert forked.reached(MODULE, changed("return a\n", "return 1\n")) == {"other"}
    assert forked.reached(MODULE, changed("LIMIT = 3", "LIMIT = 4")) is None, "a constant may be used anywhere"


def test_every_mutant_is_another_program(tmp_path):
    pytest.importorskip("cosmic_ray")
    path = tmp_path / "order.py"
    path.write_text(MODULE)
    found = list(mutation.mutants(path))
    assert {(m.before, m.after) for m in found} >= {("return a > b", "return a < b"), ("LIMIT = 3", "LIMIT = 4")}
    assert len({m.source for m in found} | {MODULE}) == len(found) + 1


def test_a_table_keeps_the_rows_of_other_modules(tmp_path):
    path = tmp_path / "table.csv"
    mutation.write(path, "module killed", [["metrics.temporal", 1]], "metrics.temporal")
    mutation.write(path, "module killed", [["training.losses", 2]], "training.losses")
    mutation.write(path, "module killed", [["metrics.temporal", 3]], "metrics.temporal")
    assert path.read_text() == "module,killed\ntraining.losses,2\nmetrics.temporal,3\n"
