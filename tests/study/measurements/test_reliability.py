"""Damaged files are refused in a line with their name; and whatever does worse is noticed."""

from __future__ import annotations

import json
import os
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcseg.errors import InputError
from tcseg.study.measurements.faults import bad_inputs, damage, reliability, trials
from tcseg.study.measurements.faults.bad_inputs import KINDS, Kind

BY_NAME = {kind.name: kind for kind in KINDS}


@pytest.mark.parametrize("one", dict.fromkeys(damage.TEXT), ids=lambda one: one.__name__)
def test_damage_is_repeatable_and_changes_something(one: damage.Damage) -> None:
    data = json.dumps({"a": [1, 2, {"b": None}], "c": "text " * 20}).encode()
    several = [[one(data, np.random.default_rng(seed)) for seed in range(20)] for _ in range(2)]
    assert several[0] == several[1] and sum(made != data for made in several[0]) > 15


def read(kind: Kind, path: Path, expected: str = "") -> str:
    return trials._read_here(kind, path, expected).what


def test_what_counts_as_right(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"whole")

    def raises(error: Exception) -> Kind:
        def reader(path: Path) -> None:
            raise error

        return Kind("k", lambda folder: path, reader)

    assert read(raises(InputError(f"{path} is damaged")), path) == trials.REFUSED
    assert read(raises(InputError("something is damaged")), path) == trials.UNNAMED
    assert read(raises(InputError(f"{path} is\ndamaged")), path) == trials.UNNAMED
    assert read(raises(ValueError(f"{path} is damaged")), path) == trials.TRACEBACK, "nobody foresaw it"
    plain = Kind("k", lambda folder: path, Path.read_bytes)
    assert read(plain, path) == trials.READ
    assert read(plain, path, trials.digest_of(b"whole")) == trials.READ
    assert read(plain, path, trials.digest_of(b"other")) == trials.WRONG


def test_a_reader_that_hangs_dies_or_runs_what_it_reads_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(path: Path) -> None:
        exec(path.read_text())  # noqa: S102 (what must be noticed)

    kind = Kind("runs", lambda folder: folder / "code", run)
    monkeypatch.setattr(trials, "KINDS", (kind,))
    monkeypatch.setattr(trials, "PATIENCE", 1.0)
    monkeypatch.setattr(trials, "forkserver", lambda: get_context("fork"))
    found = {}
    with trials.Reader(tmp_path / "reader") as reader:
        for what in ("import time; time.sleep(60)", "import os; os._exit(9)", f"open({damage.MARKER!r}, 'w')", "pass"):
            (tmp_path / "code").write_text(what)
            began = time.monotonic()
            found[what] = reader.read(kind, tmp_path / "code").what
            assert time.monotonic() - began < 30
    assert list(found.values()) == [trials.HUNG, trials.DIED, trials.EXECUTED, trials.READ]


def test_a_small_file_of_a_huge_picture_is_refused(tmp_path: Path) -> None:
    kind = BY_NAME["PNG frame"]
    assert read(kind, bad_inputs.bomb(tmp_path)) == trials.REFUSED
    assert read(BY_NAME["label map"], tmp_path / "bomb.png") == trials.REFUSED


LIGHT = ["PNG frame", "JPEG frame", "label map", "flow", "table", "class table", "configuration of a teacher", "notebook"]


@pytest.mark.parametrize("name", LIGHT)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=300), head=st.booleans())
def test_any_bytes_are_read_or_refused(name: str, content: bytes, head: bool, tmp_path: Path) -> None:
    kind = BY_NAME[name]
    folder = tmp_path / "made"
    if not folder.exists():
        folder.mkdir()
        (folder / "whole").write_bytes(kind.make(folder).read_bytes())
    path = next(one for one in folder.iterdir() if one.name != "whole")
    path.write_bytes(((folder / "whole").read_bytes()[:40] if head else b"") + content)
    assert read(kind, path) in trials.RIGHT


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("classes name id color ignore".split()), inner),
    max_leaves=12,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=VALUES)
def test_any_yaml_is_a_class_table_or_refused(value: object, tmp_path: Path) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
    assert read(BY_NAME["class table"], path) in trials.RIGHT


def test_a_manifest_names_no_file_outside_of_its_data_set(tmp_path: Path) -> None:
    """What an older manifest lists is removed before the data set is made again."""
    manifest = bad_inputs._make_tree(tmp_path)
    (tmp_path / "precious").write_text("mine")
    whole = json.loads(manifest.read_text())
    for name in ("../precious", str(tmp_path / "precious"), "a/../../precious"):
        manifest.write_text(json.dumps(whole | {"version": "0", "files": {**whole["files"], name: "0"}}))
        bad_inputs._make_tree(tmp_path)
        assert (tmp_path / "precious").exists(), name


def test_a_torch_export_of_a_stranger_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "network.pt2").write_bytes(damage.PICKLE)
    with pytest.raises(InputError, match="network.pt2 was not written by this process; torch.export.load unpickles"):
        bad_inputs.open_file(tmp_path / "network.pt2")
    assert not os.path.exists(damage.MARKER)


def test_a_row_counts_what_came_of_it() -> None:
    found = ["read", "refused", "refused", "wrong", "hung", "died", "traceback", "executed", "unnamed"]
    counts = {"tried": 9, "right": 3, "refused": 2, "lost": 1, "hung": 1, "traceback": 3}
    assert reliability.row("x", found) == {"case": "x", **counts}
    assert list(reliability.row("x", [])) == reliability.COLUMNS


@pytest.mark.slow
def test_a_tenth_of_all_damage_is_right(tmp_path: Path) -> None:
    *_, table = reliability.measure(tmp_path, quick=True)
    assert len(table) == len(KINDS) and table["tried"].sum() == len(KINDS) * reliability.FEW_FILES
    wrong = table[(table["right"] < table["tried"]) | (table[["lost", "hung", "traceback"]].sum(axis=1) > 0)]
    assert wrong.empty, wrong.to_string()
