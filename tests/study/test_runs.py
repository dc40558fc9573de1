"""The run store: made once, found by content, never half."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Event

import pytest
import torch

from tcseg.atomic_files import exclusive_lock, write_json
from tcseg.errors import PACKAGE, NotFoundError
from tcseg.models import registry
from tcseg.study import runs
from tcseg.study.paths import FIGURES
from tcseg.study.study import open_rows


def make(store, recipe=None, inputs="data", fail=False, calls=None):
    calls = [] if calls is None else calls

    def train(folder):
        calls.append(folder)
        if fail:
            raise KeyboardInterrupt
        return registry.build("student", 19), {"train_seconds": 1.0, "steps": 1, "seconds_per_step": 1.0}

    def evaluate(model):
        return {"metrics": {"miou": 0.5}, "per_class": {}, "per_clip": {}}

    context = {"dataset": "procity", "profile": "smoke"}
    run = runs.run_or_load(store, "student", 0, recipe or {"steps": 1}, inputs, train, evaluate, context)
    return run, len(calls)


def test_a_run_is_made_once(tmp_path):
    first, made = make(tmp_path)
    again, loaded = make(tmp_path)
    assert (made, loaded) == (1, 0) and first.trained_now and not again.trained_now
    assert first.record == again.record and again.model().arch == "student"
    assert first.record["versions"]["torch"] and first.record["git"]["sha"]


def test_recipe_and_data_decide(tmp_path):
    assert (
        len({make(tmp_path, *key)[0].id for key in (({"steps": 1}, "a"), ({"steps": 2}, "a"), ({"steps": 1}, "b"))})
        == 3
    )


def test_an_interrupted_run_goes_on(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, fail=True)
    assert not list(tmp_path.glob("*/record.json"))
    run, made = make(tmp_path)
    assert made == 1 and run.metrics["miou"] == 0.5
    assert not list(tmp_path.rglob("*.part"))


def test_a_run_that_another_process_makes_is_waited_for(tmp_path):
    made, going = [], Event()

    def other():
        def train(folder):
            going.set()
            time.sleep(0.3)
            made.append(folder)
            return registry.build("student", 19), {"train_seconds": 1.0, "steps": 1, "seconds_per_step": 1.0}

        empty = {"metrics": {"miou": 0.7}, "per_class": {}, "per_clip": {}}
        runs.run_or_load(tmp_path, "student", 0, {"steps": 1}, "data", train, lambda model: empty, {})

    with ThreadPoolExecutor(1) as pool:  # a lock is of an open file: a thread stands for a process
        first = pool.submit(other)
        assert going.wait(10)
        run, trained = make(tmp_path)
        first.result()
    assert (trained, len(made), run.metrics["miou"]) == (0, 1, 0.7), "what the other made is taken"


def test_a_file_is_held_by_one(tmp_path):
    with (
        exclusive_lock(tmp_path / "deep" / ".lock"),
        pytest.raises(BlockingIOError),
        exclusive_lock(tmp_path / "deep" / ".lock", wait=False),
    ):
        pytest.fail("two hold it")
    with exclusive_lock(tmp_path / "deep" / ".lock", wait=False):
        pass


def test_changed_evaluation_measures_again_without_training(tmp_path):
    run, _ = make(tmp_path)
    record = json.loads((run.folder / "record.json").read_text())
    write_json(run.folder / "record.json", {**record, "evaluation_code": "old", "metrics": {"miou": 0.1}})
    again, made = make(tmp_path)
    assert made == 0 and again.metrics["miou"] == 0.5 and not again.trained_now


def test_code_key_is_the_same_in_every_python(tmp_path, monkeypatch):
    """Python 3.12 gives each function a list of type parameters, and 3.13 shows no empty list: the same code is the same run."""
    monkeypatch.setattr(runs, "PACKAGE", tmp_path)
    (tmp_path / "m.py").write_text(
        'class A:\n    x: int = 1\n\n    def f(self, *a, b=2):\n        return f"{a!r} {b:>3}"\n'
    )
    runs.code_key.cache_clear()
    assert runs.code_key(("m",)) == "72b4c5c0ba18"
    runs.code_key.cache_clear()


def test_modules_of_one_entry_are_read_as_one_file(key_of):
    whole = "import math\n\n\ndef f():\n    return 1\n\n\ndef g():\n    return math.pi\n"
    first, second = "def f():\n    return 1\n", "import math\n\nfrom m import f\n\n\ndef g():\n    return math.pi\n"
    key = key_of(whole)
    assert key_of(first, second) != key == key_of(first, second, entries=("m n",))


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
    monkeypatch.setattr(runs, "PACKAGE", tmp_path)

    def key(*sources, entries=()):
        names = tuple("mno"[: len(sources)])
        for name, source in zip(names, sources, strict=True):
            (tmp_path / f"{name}.py").write_text(source)
        runs.code_key.cache_clear()
        return runs.code_key(entries or names)

    yield key
    runs.code_key.cache_clear()


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


def test_reference_rows(tmp_path):
    row = {"run_id": "student-s0-x", "recipe_name": "student", "seed": 0, "dataset": "procity", "profile": "laptop"}
    write_json(tmp_path / "a.json", {**row, "metrics": {"miou": 0.4}})
    (run,) = runs.find_reference(tmp_path, "procity", "laptop")
    assert (run.name, run.seed, run.metrics["miou"]) == ("student", 0, 0.4)
    with pytest.raises(
        FileNotFoundError, match="student-s0-x is a committed row without weights; train it with runs='train'$"
    ):
        run.model()
    with pytest.raises(FileNotFoundError, match="student-s0-x is a committed row without log"):
        _ = run.log
    with pytest.raises(FileNotFoundError, match=r"no reference rows for camvid-full .*procity-laptop"):
        runs.find_reference(tmp_path, "camvid", "full")


@pytest.mark.parametrize("name", (*registry.SHIPPED, registry.FAST))
def test_a_committed_row_finds_the_network_that_ships(name):
    """By the run id in the sidecar: `student` at procity-laptop has a network, the very same recipe on CamVid has none."""
    note = registry.shipped_notes(name)
    rows = runs.find_reference(FIGURES / "runs", note["dataset"], note["profile"])
    (row,) = (run for run in rows if run.id == note["run_id"])
    assert row.folder is None and row.weights == registry.WEIGHTS / f"{name}.safetensors"
    for mine, theirs in zip(row.model().parameters(), registry.shipped(name).parameters(), strict=True):
        assert torch.equal(mine, theirs)
    others = [run for run in rows if run.name == row.name and run.seed != row.seed]
    assert others and all(run.weights is None for run in others)


def test_committed_rows_of_other_data_have_no_network():
    rows = runs.find_reference(FIGURES / "runs", "camvid", "laptop")
    assert rows and all(run.weights is None for run in rows)


def test_shipped_weights_are_told_by_the_run_not_by_the_file(tmp_path):
    (tmp_path / "renamed.json").write_text('{"run_id": "student-s0-x"}')
    (tmp_path / "student-s1-y.json").write_text('{"arch": "student"}')
    assert runs.shipped_weights("student-s0-x", tmp_path) is None, "a sidecar alone"
    (tmp_path / "renamed.safetensors").touch()
    assert runs.shipped_weights("student-s0-x", tmp_path) == tmp_path / "renamed.safetensors"
    assert runs.shipped_weights("student-s1-y", tmp_path) is None
    (tmp_path / "damaged.json").write_text("{")
    with pytest.raises(ValueError, match=r"damaged\.json is damaged; restore it from the repository"):
        runs.shipped_weights("student-s0-x", tmp_path)


def test_a_row_without_weights_says_how_long_training_took(tmp_path):
    run = runs.Run({"run_id": "kd-s0-x", "cost": {"train_seconds": 260.0}}, None)
    with pytest.raises(FileNotFoundError, match=r"train it with runs='train' \(it took 4 minutes\)"):
        run.model()


ROWS = [json.loads(path.read_text()) for path in sorted((FIGURES / "runs").glob("*.json"))]


def test_the_committed_rows_are_of_today_s_training_code_or_of_a_known_earlier_one():
    """An edit of a hashed module that changes no network needs its entry in `SAME_CODE`; one that does needs new rows."""
    for row in ROWS:
        if row["recipe"]["teacher"] == "none":
            assert row["training_code"] == runs.training_code(row["recipe"])
        else:
            assert row["training_code"] in {runs.code_key(runs.TRAINING_CODE), *runs.earlier()}


def test_only_recipes_without_a_teacher_keep_the_ids_of_the_code_before(monkeypatch):
    monkeypatch.setattr(runs, "UNTAUGHT", {runs.code_key(runs.TRAINING_CODE): "before"})
    plain, taught = {"teacher": "none", "temporal": 3.0}, {"teacher": "plain"}
    assert runs.training_code(plain) == "before" != runs.training_code(taught) == runs.code_key(runs.TRAINING_CODE)
    assert runs.other_code({"recipe": plain, "training_code": "before"}) == ""
    assert "trained by code before" in runs.other_code({"recipe": taught, "training_code": "before"})
    assert runs.other_code({"recipe": taught, "training_code": "before"}, "before") == ""
    assert runs.run_id_of("a", 0, plain, 1) == runs.id_of(
        {"recipe_name": "a", "seed": 0, "recipe": plain, "inputs": 1, "training_code": "before"}
    )


def test_every_committed_id_is_what_its_row_says():
    """Without any data set: recipe, inputs and code stand in the row, and the inputs are those of a row of today."""
    teachers = {row["run_id"]: row for row in ROWS if row["recipe"]["arch"] == "teacher"}
    assert len(ROWS) >= 232 and {row["run_id"] for row in ROWS} == {runs.id_of(row) for row in ROWS}
    for row in ROWS:
        recipe, (data, spec, taught_by) = row["recipe"], row["inputs"]
        if row["training_code"] not in runs.earlier() or recipe["teacher"] == "none":
            assert row["run_id"] == runs.run_id_of(row["recipe_name"], row["seed"], recipe, row["inputs"])
        assert (data, spec) == (row["data_key"][0], registry.spec_key(recipe["arch"])), row["run_id"]
        assert (taught_by is None) == (recipe["teacher"] == "none"), row["run_id"]
        if taught_by:
            teacher = teachers[taught_by]
            assert teacher["data_key"] == row["data_key"]
            assert teacher["recipe"]["labelled_share"] == recipe["labelled_share"]


def test_an_altered_row_has_another_id():
    row = ROWS[0]
    assert runs.id_of(row) == row["run_id"]
    others = [
        {"recipe": row["recipe"] | {"temporal": 9}},
        {"seed": 8},
        {"inputs": ["x", *row["inputs"][1:]]},
        {"training_code": "0"},
    ]
    assert all(runs.id_of(row | change) != row["run_id"] for change in others)


STUDIES = [("procity", "laptop"), ("procity", "bench"), ("camvid", "laptop")]
training_code_of = lambda row: runs.training_code(row["recipe"])  # noqa: E731
NAMES = ["student", "student,arch=patch16-32-o8,steps=4x", "student"]


def changed_code(folder, monkeypatch, module, old, new):
    """Let `code_key` read a copy of the hashed modules, one of which is edited."""
    for name in {name for entry in (*runs.TRAINING_CODE, *runs.EVALUATION_CODE) for name in entry.split()}:
        path = f"{name.replace('.', '/')}.py"
        text = (PACKAGE / path).read_text()
        assert name != module or text.count(old) >= 1
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text.replace(old, new) if name == module else text)
    monkeypatch.setattr(runs, "PACKAGE", folder)
    monkeypatch.setattr(runs, "code_key", cache(runs.code_key.__wrapped__))


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
    assert not any(runs.other_code(row) for row in ROWS if row["recipe"]["teacher"] == "none")
    assert runs.find_reference(FIGURES / "runs", "procity", "laptop")


def test_a_code_that_is_another_s_alias_is_the_same(monkeypatch):
    monkeypatch.setitem(runs.SAME_CODE, "an older key", runs.code_key(runs.TRAINING_CODE))
    row = {"recipe": {"teacher": "plain"}}
    assert runs.other_code(row | {"training_code": "an older key"}) == ""
    assert runs.other_code(row | {"training_code": "another"}) != ""


def test_a_record_holds_what_its_id_is_made_of(tmp_path):
    run, _ = make(tmp_path, {"steps": 3, "shares": (1, 2)}, ["data", ("a", 1), None])
    record = json.loads((run.folder / "record.json").read_text())
    assert runs.id_of(record) == run.id and record["inputs"] == ["data", ["a", 1], None]


def test_what_differs_between_evaluation_codes_is_known():
    assert {row["evaluation_code"] for row in ROWS} == set(runs.EVALUATED)
