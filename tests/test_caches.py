"""Where the package's folder and HOME cannot be written, caches are temporary, and what cannot be written says what to pass."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tcseg import machine
from tcseg.cli import doctor
from tcseg.errors import CannotWriteError, require_writable

PACKAGE = Path(machine.__file__).parent
CHOSEN = ("NUMBA_CACHE_DIR", *machine.BELOW_HOME)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="permission bits")


def mere_user() -> None:
    """Take from this process what lets root write where nobody may: for a child, before its program starts."""
    if os.getuid() == 0 and sys.platform == "linux":
        libc = ctypes.CDLL(None)
        for capability in (1, 2, 3):  # to pass over permission bits: when writing, when reading, when changing them
            libc.prctl(24, capability, 0, 0, 0)


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A copy of the package, and a home beside it, that nobody may write to."""
    root = tmp_path / "locked"
    shutil.copytree(PACKAGE, root / "repository" / "tcseg", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "repository" / "pyproject.toml").touch()
    (root / "repository" / "figures" / "runs").mkdir(parents=True)
    (root / "home").mkdir()
    (tmp_path / "t").mkdir()
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield root
    for folder in folders:
        folder.chmod(0o755)


def as_user(locked: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if name not in (*CHOSEN, "TEMP", "TMP", "TCSEG_DATA")}
    plain |= {"HOME": str(locked / "home"), "TMPDIR": str(locked.parent / "t"), "PYTHONPATH": str(locked / "repository")}
    command = [sys.executable, "-P", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=plain | environment, preexec_fn=mere_user, cwd=locked, check=False
    )


SHOW = f"import os, tcseg; print([os.environ.get(name) for name in {CHOSEN!r}])"


def test_nothing_is_set_where_the_usual_places_can_be_written(locked: Path) -> None:
    for folder in (locked / "repository" / "tcseg", locked / "repository" / "tcseg" / "procity", locked / "home"):
        folder.chmod(0o755)
    assert eval(as_user(locked, "-c", SHOW).stdout) == [None] * len(CHOSEN)
    assert not list((locked.parent / "t").iterdir())


def test_one_of_numbas_places_is_enough(locked: Path) -> None:
    (locked / "home").chmod(0o755)  # the package cannot be written, HOME can
    assert eval(as_user(locked, "-c", SHOW).stdout) == [None] * len(CHOSEN)
    (locked / "repository" / "tcseg").chmod(0o755)
    (locked / "home").chmod(0o555)  # a part of the package can be written: not enough
    assert eval(as_user(locked, "-c", SHOW).stdout)[0] is not None


def test_a_private_temporary_folder_serves_where_nothing_else_can_be_written(locked: Path) -> None:
    chosen = eval(as_user(locked, "-c", SHOW).stdout)
    home = locked.parent / "t" / f"tcseg-{os.getuid()}"
    assert [Path(value).parent for value in chosen] == [home] * len(CHOSEN), "all below one folder"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert eval(as_user(locked, "-c", SHOW).stdout) == chosen, "the same in every process: compiled once"
    own = dict.fromkeys(machine.BELOW_HOME, str(locked / "mine"))
    assert eval(as_user(locked, "-c", SHOW, **own).stdout) == [chosen[0], *own.values()], "what the user chose stays"


def test_a_cache_that_can_be_read_is_kept(locked: Path) -> None:
    """Downloaded weights lie there."""
    (locked / "home").chmod(0o755)
    (locked / "home" / ".cache").mkdir(mode=0o555)
    (locked / "home").chmod(0o555)
    chosen = dict(zip(CHOSEN, eval(as_user(locked, "-c", SHOW).stdout), strict=True))
    assert chosen["XDG_CACHE_HOME"] is None and chosen["NUMBA_CACHE_DIR"] and chosen["MPLCONFIGDIR"]


def test_a_folder_of_somebody_else_is_not_used(locked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in numba's cache is run."""
    mine = locked.parent / "t" / f"tcseg-{os.getuid()}"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    mine.symlink_to(elsewhere)
    chosen = eval(as_user(locked, "-c", SHOW).stdout)
    assert Path(chosen[0]).parent.parent == locked.parent / "t" and Path(chosen[0]).parent != mine
    assert not list(elsewhere.iterdir()) and not Path(chosen[0]).exists(), "one of its own, gone at the end"
    mine.unlink()
    mine.mkdir(mode=0o777)
    mine.chmod(0o777)
    assert Path(eval(as_user(locked, "-c", SHOW).stdout)[0]).parent == mine and stat.S_IMODE(mine.stat().st_mode) == 0o700

    monkeypatch.setenv("TMPDIR", str(locked.parent / "t"))
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    (locked.parent / "t" / "tcseg-4242").mkdir(mode=0o700)  # of the true user, and so not of number 4242
    assert machine.temporary().name.startswith("tcseg-4242-")


def test_numba_that_is_imported_already_is_told(locked: Path) -> None:
    code = "import numba, os, tcseg; print(numba.config.CACHE_DIR == os.environ['NUMBA_CACHE_DIR'])"
    assert as_user(locked, "-c", code).stdout == "True\n"


@pytest.mark.parametrize("temporary", ["", "/nonexistent", "relative"])
def test_a_temporary_folder_that_is_none_is_passed_over(temporary: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", temporary)
    monkeypatch.delenv("TEMP", raising=False)
    monkeypatch.delenv("TMP", raising=False)
    assert all(root.is_absolute() and root.is_dir() for root in machine._temporary_roots())


def test_no_home_is_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda text: text)  # HOME is unset and the user has no entry
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert machine._home() is None and machine._user_wide() is None


def test_the_doctor_says_where_compiled_code_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    line = doctor.check_caches()
    assert (line.state, line.detail) == (doctor.GOOD, f"{tmp_path} ($NUMBA_CACHE_DIR)")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "tcseg-7" / "numba"))
    line = doctor.check_caches()
    assert line.state == doctor.WARN and str(tmp_path / "tcseg-7" / "numba") in line.detail and "NUMBA_CACHE_DIR" in line.fix
    monkeypatch.setattr(machine, "writable", lambda folder: False)
    line = doctor.check_caches()
    assert line.state == doctor.BAD and "NUMBA_CACHE_DIR=FOLDER" in line.fix
    monkeypatch.setattr(doctor, "writable", lambda folder: False)
    assert doctor.check_results().state == doctor.WARN and "--out FOLDER" in doctor.check_results().fix


def test_a_place_that_cannot_be_written_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for wrong, why in ((tmp_path / "file", "file exists"), (tmp_path / "file" / "x", "not a directory")):
        with pytest.raises(CannotWriteError, match=rf"{wrong} cannot be written \({why}\): pass --out FOLDER"):
            require_writable(wrong, "pass --out FOLDER")
    assert require_writable(tmp_path / "a" / "b", "").is_dir() and not list((tmp_path / "a" / "b").iterdir())


@pytest.mark.slow
def test_segment_and_export_work_where_only_their_outputs_can_be_written(locked: Path, tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    for i in range(2):
        cv2.imwrite(str(tmp_path / "clip" / f"{i}.png"), np.full((64, 96, 3), 90, np.uint8))
    made = as_user(locked, "-m", "tcseg", "segment", str(tmp_path / "clip"), "--labels", str(tmp_path / "labels"))
    assert made.returncode == 0 and len(list((tmp_path / "labels").glob("*.png"))) == 2, made.stderr
    assert "Traceback" not in made.stderr and "atplotlib created" not in made.stderr
    made = as_user(locked, "-m", "tcseg", "export", str(tmp_path / "x.pt2"))
    assert made.returncode == 0 and (tmp_path / "x.pt2").exists(), made.stderr
    assert list((tmp_path / "t" / f"tcseg-{os.getuid()}" / "numba").rglob("*.nbi")), "compiled once, for all processes"


REFUSED = """
import sys
from tcseg.cli import app
for command in sys.argv[1:]:
    print("next", file=sys.stderr)
    try:
        app(command.split())
    except SystemExit as end:
        print("code", end.code, file=sys.stderr)
"""


@pytest.mark.slow
def test_a_read_only_repository_says_what_to_pass(locked: Path) -> None:
    """One process runs them all: to import the package takes longer than to refuse."""
    commands = ["study --profile smoke", "measure metrics --quick", "sweep --profile smoke --list", "bench --all"]
    commands += ["data procity --train 1 --val 0 --test 0", f"bench --out {locked / 'x.csv'}", f"export {locked / 'x.onnx'}"]
    made = as_user(locked, "-c", REFUSED, *commands)
    said = made.stderr.split("next\n")[1:]
    assert len(said) == len(commands), made.stderr
    for command, text in zip(commands, said, strict=True):
        (line,) = (line for line in text.splitlines() if line.startswith(("error: ", "tcseg study: ")))
        assert text.endswith("code 2\n") and "Errno" not in line and str(locked) in line, (command, text)
        assert "--out" in line or "another folder" in line, line
