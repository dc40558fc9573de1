"""The doctor must work where nothing else does, and say what to type."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tcseg.cli import doctor
from tcseg.cli.doctor import BAD, GOOD, Line, as_text, check_data, import_fix, next_step
from tcseg.data import folders

BROKEN_CV2 = "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')\n"


@pytest.mark.parametrize(
    ("module", "error", "fix"),
    [
        ("cv2", "ImportError: libGL.so.1: cannot open shared object file", "apt install libgl1"),
        ("cv2", "ImportError: libgthread-2.0.so.0: cannot open", "libglib2.0-0"),
        ("cv2", "ModuleNotFoundError: No module named 'cv2'", "pip install -e ."),
        ("torchvision", "RuntimeError: operator torchvision::nms does not exist", "same index"),
        ("cv2", "SyntaxError: what", "--force-reinstall opencv-python"),
    ],
)
def test_fixes(module: str, error: str, fix: str) -> None:
    assert fix in import_fix(module, error)


def test_next_step_names_what_is_broken() -> None:
    lines = [Line("python", GOOD, "3"), Line("torch", BAD, "gone", "pip install torch")]
    assert next_step(lines).startswith("repair torch")
    assert "make study" in next_step(lines[:1]) or "tcseg study" in next_step(lines[:1])
    text = as_text(lines).splitlines()
    assert text[1].split()[:2] == ["torch", "BROKEN"] and "-> pip install torch" in text[2]


def test_finds_the_same_data_as_the_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "camvid" / "val").mkdir(parents=True)
    monkeypatch.setenv("TCSEG_DATA", str(tmp_path))
    for name in doctor.DATASETS:
        assert doctor.find_data(name) == folders.find_dataset(name)
    assert next(line for line in check_data() if line.what == "data camvid").detail == str(tmp_path / "camvid")


def test_the_brief_names_no_folder_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "camvid" / "val").mkdir(parents=True)
    monkeypatch.setenv("TCSEG_DATA", str(tmp_path))
    found = {line.what: line.detail for line in doctor.brief()}
    assert found["data camvid"] == os.path.join("$TCSEG_DATA", "camvid")
    assert {"python", "processor", "memory", "disk", "students"} <= set(found) and "pandas" not in found
    folders = {str(tmp_path), sys.prefix, str(doctor.data_root())}
    assert [text for text in found.values() if any(folder in text for folder in folders)] == []


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["cv2", "torch"])
def test_reports_a_broken_import_and_exits_with_1(tmp_path: Path, broken: str) -> None:
    """A stand-in package that fails as cv2 does without libGL comes first on the path."""
    (tmp_path / f"{broken}.py").write_text(BROKEN_CV2)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "tcseg", "doctor"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "libGL.so.1" in result.stdout and "apt install libgl1" in result.stdout and "BROKEN" in result.stdout
    assert "next: repair" in result.stdout and "Traceback" not in result.stdout + result.stderr
    other = [*command[:-1], "segment", "x.mp4"]
    result = subprocess.run(other, capture_output=True, text=True, env=environment, timeout=200)
    assert result.returncode == 2 and result.stderr.startswith("error: libGL"), result.stderr
    assert "run: tcseg doctor" in result.stderr


def test_an_empty_folder_is_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cityscapes").mkdir()
    monkeypatch.setenv("TCSEG_DATA", str(tmp_path))
    line = next(line for line in check_data() if line.what == "data cityscapes")
    assert line.state == doctor.WARN and line.detail.endswith("cityscapes is empty")


def test_every_student_that_ships_is_named_and_a_missing_one_is_told(tmp_path: Path) -> None:
    for name in ("student", "street/student-street"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        for suffix in (".json", ".safetensors"):
            (tmp_path / name).with_suffix(suffix).touch()
    assert doctor.check_students(tmp_path) == Line("students", GOOD, "student, student-street")
    (tmp_path / "street" / "student-street.safetensors").unlink()
    assert doctor.check_students(tmp_path).detail == "no weights of student-street"
    assert doctor.check_students(tmp_path / "none").detail == "no weights of any student"
