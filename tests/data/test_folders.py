"""TCSEG_DATA: what it may say, and what is told when it says something else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tcseg.cli.app import real_frames
from tcseg.cli.doctor import GOOD, WARN, check_data
from tcseg.data.folders import (
    explain_missing,
    explain_variable,
    find_dataset,
    kind_of,
    variable_folder,
    variable_problem,
)
from tcseg.errors import TcsegError
from tcseg.study.opening import open_study
from tcseg.study.run_study import course_of


@pytest.fixture
def disk(tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with data sets, and none in the project: disk/home/data/{camvid,cityscapes}."""
    home = tmp_path / "disk" / "home"
    for folder in ("camvid/train", "camvid/trainannot", "cityscapes/gtFine/val", "cityscapes/leftImg8bit_sequence/val"):
        (home / "data" / folder).mkdir(parents=True)
    (home / "empty").mkdir()
    (home / "a file").touch()
    (home / "gone").symlink_to(home / "nowhere")
    (home / "other" / "CamVid" / "valannot").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(home)
    return home


READ = {"{h}/data": "", "~/data": "~ expanded", " {h}/data\n": "blanks", "'{h}/data'": "quotes", "{h}/data/": "", "data": ""}


@pytest.mark.parametrize("value", READ)
def test_what_is_read(disk: Path, monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv("TCSEG_DATA", value.format(h=disk))
    found = find_dataset("camvid")
    assert found is not None and found.resolve() == disk / "data" / "camvid"
    told = explain_variable()
    assert READ[value] in told and bool(told) == bool(READ[value])
    line = next(line for line in check_data() if line.what == "TCSEG_DATA")
    assert line.state == (WARN if READ[value] or value == "data" else GOOD)
    if line.state == WARN:
        assert f"export TCSEG_DATA={disk}/data" in line.fix


WRONG = {
    "{h}/absent": ("absent does not exist (only {h} exists)", "set TCSEG_DATA to the folder that holds"),
    "~/absent": ("with ~ expanded", "does not exist"),
    "{h}/a file": ("a file is a file", "set TCSEG_DATA to the folder that holds"),
    "{h}/gone": ("is a broken link", "repair the link"),
    "{h}/data/camvid": ("is the data set camvid itself", "export TCSEG_DATA={h}/data"),
    "{h}/data/camvid/train": ("is a part of the data set {h}/data/camvid", "export TCSEG_DATA={h}/data"),
    "{h}/data/cityscapes/gtFine/val": ("is a part of the data set {h}/data/cityscapes", "export TCSEG_DATA={h}/data"),
    "{h}": ("contains none of procity/, cityscapes/, camvid/", "export TCSEG_DATA={h}/data"),
    "{h}/..": ("but there is {h}/../home/data/cityscapes", "export TCSEG_DATA={h}/../home/data"),
    "{h}/empty": ("contains none of procity/, cityscapes/, camvid/", "set TCSEG_DATA to the folder that holds"),
    "{h}/other": ("but there is {h}/other/CamVid", "rename {h}/other/CamVid to camvid"),
    "{h}/other/CamVid": ("is the data set camvid itself", "rename {h}/other/CamVid to camvid"),
    "{h}/empty:{h}/data": ("lists several folders, but only one is allowed", "export TCSEG_DATA={h}/data"),
    "{h}/data, {h}/empty": ("lists several folders, but only one is allowed", "export TCSEG_DATA={h}/data"),
}


@pytest.mark.parametrize("value", WRONG)
def test_what_is_wrong_is_named_by_everyone(disk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str):
    value_here = value.format(h=disk)
    monkeypatch.setenv("TCSEG_DATA", value_here)
    assert find_dataset("camvid") is None
    line = next(line for line in check_data() if line.what == "TCSEG_DATA")
    assert line.state == WARN
    wanted = [text.format(h=disk) for text in WRONG[value]]
    said = {"doctor": f"{line.detail}; {line.fix}", "missing": explain_missing("camvid"), "variable": explain_variable()}
    for name, call in {
        "study": lambda: open_study("camvid", "smoke", folder=tmp_path / "study"),
        "runner": lambda: course_of("camvid", "smoke"),
    }.items():
        with pytest.raises(TcsegError) as error:
            call()
        said[name] = str(error.value)
    said["frames"] = real_frames((32, 32), 1, None)[1]
    for name, text in said.items():
        missing = [part for part in wanted if part not in text and not (name == "variable" and "expanded" in part)]
        assert not missing or (name in ("doctor", "variable", "frames") and "~" in value), (name, text)
        assert repr(value_here) in text
    assert f"neither {variable_folder().folder / 'camvid'} nor" in said["study"]


def test_nothing_set_and_blanks(disk: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch):
    for value in (None, "", "  \n"):
        if value is not None:
            monkeypatch.setenv("TCSEG_DATA", value)
        assert variable_folder() is None and variable_problem() is None and explain_variable() == ""
        told = explain_missing("cityscapes")
        assert f"there is no folder {data_root / 'cityscapes'}" in told and "data/README.md" in told
    assert any(line.what == "TCSEG_DATA" and "blank" in line.detail for line in check_data())


def test_one_data_set_lacks_where_others_are(disk: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TCSEG_DATA", str(disk / "data"))
    (disk / "data/cityscapes").rename(disk / "data/Cityscapes")
    told = explain_missing("cityscapes")
    assert f"there is {disk / 'data/Cityscapes'}: rename it to cityscapes" in told
    (disk / "data/Cityscapes").rename(disk / "elsewhere")
    assert f"{disk / 'data'} has no folder cityscapes/: create it" in explain_missing("cityscapes")
    assert variable_problem() is None


def test_the_project_s_own_folder_is_the_second_choice(disk: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch):
    (data_root / "camvid").mkdir()
    assert find_dataset("camvid") == data_root / "camvid"
    monkeypatch.setenv("TCSEG_DATA", str(disk / "data"))
    assert find_dataset("camvid") == disk / "data" / "camvid"
    monkeypatch.setenv("TCSEG_DATA", str(disk / "absent"))
    assert find_dataset("camvid") == data_root / "camvid" and "does not exist" in explain_variable()


def test_kinds(disk: Path):
    assert kind_of(disk / "data/camvid") == "camvid" and kind_of(disk / "data/cityscapes") == "cityscapes"
    assert kind_of(disk / "data") is kind_of(disk / "absent") is kind_of(disk) is None
    (disk / "empty/manifest.json").touch()
    assert kind_of(disk / "empty") is None, "many things have a manifest"
    (disk / "empty/gtFine").mkdir()
    assert kind_of(disk / "empty") == "procity"


def test_a_folder_that_may_not_be_read_is_no_crash(disk: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TCSEG_DATA", str(disk))
    monkeypatch.setattr(os, "scandir", lambda _: (_ for _ in ()).throw(PermissionError(13, "denied")))
    assert "contains none of" in explain_missing("camvid")
