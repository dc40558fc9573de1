"""Run ids: what changes one, what does not, and those of all committed rows."""

import json
import re
from functools import cache

import pytest

from tcseg.errors import PACKAGE, NotFoundError
from tcseg.models import registry
from tcseg.study import run_ids, runs
from tcseg.study.opening import open_rows
from tcseg.study.paths import FIGURES


def test_code_key_is_the_same_in_every_python(tmp_path, monkeypatch):
    """Python 3.12 gives each function a list of type parameters, and 3.13 shows no empty list: the same code is the same run."""
    monkeypatch.setattr(run_ids, "PACKAGE", tmp_path)
    (tmp_path / "m.py").write_text(
        'class A:\n    x: int = 1\n\n    def f(self, *a, b=2):\n        return f"{a!r} {b:>3}"\n'
    )
    run_ids.code_key.cache_clear()
    assert run_ids.code_key(("m",)) == "72b4c5c0ba18"
    run_ids.code_key.cache_clear()


CODE = """import math


def f(x, n=2):
    total = x**n + math.tau
    return total * 3


class A:
    size: int = 4
"""


@pytest.fixture
def key_of(tmp_path, monkeypatch):
    """The key of modules with the given sources."""
    monkeypatch.setattr(run_ids, "PACKAGE", tmp_path)

    def key(*sources, entries=()):
        names = tuple("mno"[: len(sources)])
        for name, source in zip(names, sources, strict=True):
            (tmp_path / f"{name}.py").write_text(source)
        run_ids.code_key.cache_clear()
        return run_ids.code_key(entries or names)

    yield key
    run_ids.code_key.cache_clear()


def test_modules_of_one_entry_are_read_as_one_file(key_of):
    whole = "import math\n\n\ndef f():\n    return 1\n\n\ndef g():\n    return math.pi\n"
    first, second = "def f():\n    return 1\n", "import math\n\nfrom m import f\n\n\ndef g():\n    return math.pi\n"
    key = key_of(whole)
    assert key_of(first, second) != key == key_of(first, second, entries=("m n",))


@pytest.mark.parametrize(
    "change",
    [
        lambda code: '"""What it is for."""\n\n' + code,
        lambda code: code.replace("n=2):", 'n=2):\n    """What it does."""'),
        lambda code: code.replace("class A:", 'class A:\n    """What it holds."""\n'),
        lambda code: code + '"""What A is."""\n',
        lambda code: code.replace("total = ", "# why\n    total = ").replace("* 3", "* 3  # times"),
        lambda code: code.replace("total * 3", "(\n        total\n        * 3\n    )"),
        lambda code: code.replace("\n\n", "\n\n\n\n"),
        lambda code: code.replace("    ", "\t"),
        lambda code: "from os import path\n" + code,
        lambda code: code.replace("import math\n", "").replace("total =", "import math\n\n    total ="),
    ],
    ids="module function class attribute comments brackets blank tabs import moved".split(),
)
def test_code_key_ignores_prose(change, key_of):
    assert change(CODE) != CODE, "else the test could not fail"
    assert key_of(change(CODE)) == key_of(CODE)


@pytest.mark.parametrize(
    "old, new",
    [
        ("* 3", "* 0"), ("* 3", "+ 3"), ("x**n", "n**x"), ("math.tau", "math.pi"), ("n=2", "n=3"), ("int = 4", "int = 5"),
        ("return total * 3", "return 'total * 3'"), ("def f", "def g"), ("x, n=2", "n=2, x=1"), ("    return total * 3\n", ""),
        ("class A:", "@f\nclass A:"), ("size: int", "size: float"),
    ],
)  # fmt: skip
def test_code_key_sees_what_a_program_does(old, new, key_of):
    assert old in CODE and key_of(CODE.replace(old, new)) != key_of(CODE)


def test_code_key_is_of_all_modules_in_their_order(key_of):
    one, two = CODE, CODE.replace("* 3", "* 0")
    assert len({key_of(one), key_of(one, one), key_of(one, two), key_of(two, one), key_of(two, two)}) == 5


ROWS = [json.loads(path.read_text()) for path in sorted((FIGURES / "runs").glob("*.json"))]


def test_the_committed_rows_are_of_today_s_training_code_or_of_a_known_earlier_one():
    """An edit of a hashed module that changes no network needs its entry in `SAME_CODE`; one that does needs new rows."""
    for row in ROWS:
        if row["recipe"]["teacher"] == "none":
            assert row["training_code"] == run_ids.training_code(row["recipe"])
        else:
            assert row["training_code"] in {run_ids.code_key(run_ids.TRAINING_CODE), *run_ids.earlier()}


def test_only_recipes_without_a_teacher_keep_the_ids_of_the_code_before(monkeypatch):
    monkeypatch.setattr(run_ids, "UNTAUGHT", {run_ids.code_key(run_ids.TRAINING_CODE): "before"})
    plain, taught = {"teacher": "none", "temporal": 3.0}, {"teacher": "plain"}
    assert (
        run_ids.training_code(plain)
        == "before"
        != run_ids.training_code(taught)
        == run_ids.code_key(run_ids.TRAINING_CODE)
    )
    assert run_ids.other_code({"recipe": plain, "training_code": "before"}) == ""
    assert "trained by code before" in run_ids.other_code({"recipe": taught, "training_code": "before"})
    assert run_ids.other_code({"recipe": taught, "training_code": "before"}, "before") == ""
    assert run_ids.run_id_of("a", 0, plain, 1) == run_ids.id_of(
        {"recipe_name": "a", "seed": 0, "recipe": plain, "inputs": 1, "training_code": "before"}
    )


def test_every_committed_id_is_what_its_row_says():
    """Without any data set: recipe, inputs and code stand in the row, and the inputs are those of a row of today."""
    teachers = {row["run_id"]: row for row in ROWS if row["recipe"]["arch"] == "teacher"}
    assert len(ROWS) >= 232 and {row["run_id"] for row in ROWS} == {run_ids.id_of(row) for row in ROWS}
    for row in ROWS:
        recipe, (data, spec, taught_by) = row["recipe"], row["inputs"]
        if row["training_code"] not in run_ids.earlier() or recipe["teacher"] == "none":
            assert row["run_id"] == run_ids.run_id_of(row["recipe_name"], row["seed"], recipe, row["inputs"])
        assert (data, spec) == (row["data_key"][0], registry.spec_key(recipe["arch"])), row["run_id"]
        assert (taught_by is None) == (recipe["teacher"] == "none"), row["run_id"]
        if taught_by:
            teacher = teachers[taught_by]
            assert teacher["data_key"] == row["data_key"]
            assert teacher["recipe"]["labelled_share"] == recipe["labelled_share"]


def test_an_altered_row_has_another_id():
    row = ROWS[0]
    assert run_ids.id_of(row) == row["run_id"]
    others = [
        {"recipe": row["recipe"] | {"temporal": 9}},
        {"seed": 8},
        {"inputs": ["x", *row["inputs"][1:]]},
        {"training_code": "0"},
    ]
    assert all(run_ids.id_of(row | change) != row["run_id"] for change in others)


STUDIES = [("procity", "laptop"), ("procity", "bench"), ("camvid", "laptop")]


training_code_of = lambda row: run_ids.training_code(row["recipe"])  # noqa: E731


NAMES = ["student", "student,arch=patch16-32-o8,steps=4x", "student"]


def changed_code(folder, monkeypatch, module, old, new):
    """Let `code_key` read a copy of the hashed modules, one of which is edited."""
    for name in {name for entry in (*run_ids.TRAINING_CODE, *run_ids.EVALUATION_CODE) for name in entry.split()}:
        path = f"{name.replace('.', '/')}.py"
        text = (PACKAGE / path).read_text()
        assert name != module or text.count(old) >= 1
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text.replace(old, new) if name == module else text)
    monkeypatch.setattr(run_ids, "PACKAGE", folder)
    monkeypatch.setattr(run_ids, "code_key", cache(run_ids.code_key.__wrapped__))


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("training.recipe", 'total = parts["ce"] +', 'total = 0 * parts["ce"] +'),
        ("training.recipe", "+ temporal * parts", "+ 0 * temporal * parts"),
        ("training.temporal_losses", "return ", "return 0 * "),
        ("training.losses", "return ", "return 0 * "),
    ],
)
def test_a_loss_multiplied_by_nought_makes_every_committed_row_stale(module, old, new, tmp_path, monkeypatch):
    studies = {key: open_rows(*key, tmp_path / "study") for key in STUDIES}
    of = [
        (studies[row["dataset"], row["profile"]], row) for row in ROWS if row["training_code"] == training_code_of(row)
    ]
    assert len(of) > 80 and not any(study.why_stale(row) for study, row in of)
    assert all(study.finished_runs(name) for name, study in zip(NAMES, map(studies.get, STUDIES), strict=True))
    changed_code(tmp_path, monkeypatch, module, old, new)
    told = {study.why_stale(row) for study, row in of}
    assert all(re.fullmatch(r"trained by code [0-9a-f]{12}, which is now [0-9a-f]{12}", one) for one in told)
    assert len({one[-12:] for one in told}) == 1
    for (dataset, profile), study in studies.items():
        assert not any(study.finished_runs(name) for name in NAMES)
        with pytest.raises(
            NotFoundError, match=r"reference rows of .* are stale: trained by code [0-9a-f]{12}, which is now"
        ):
            runs.find_reference(FIGURES / "runs", dataset, profile)


def test_prose_imports_and_layout_make_no_row_stale(tmp_path, monkeypatch):
    changed_code(
        tmp_path,
        monkeypatch,
        "training.recipe",
        "from tcseg.training import losses, temporal_losses",
        "import os  # why\n",
    )
    assert not any(run_ids.other_code(row) for row in ROWS if row["recipe"]["teacher"] == "none")
    assert runs.find_reference(FIGURES / "runs", "procity", "laptop")


def test_a_code_that_is_another_s_alias_is_the_same(monkeypatch):
    monkeypatch.setitem(run_ids.SAME_CODE, "an older key", run_ids.code_key(run_ids.TRAINING_CODE))
    row = {"recipe": {"teacher": "plain"}}
    assert run_ids.other_code(row | {"training_code": "an older key"}) == ""
    assert run_ids.other_code(row | {"training_code": "another"}) != ""


def test_what_differs_between_evaluation_codes_is_known():
    assert {row["evaluation_code"] for row in ROWS} == set(run_ids.EVALUATED)
