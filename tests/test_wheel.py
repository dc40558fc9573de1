"""The wheel by itself: built from the files that git has, installed where no checkout is near, and used there."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from tcseg import __version__, procity

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow
VARIABLES = {"PYTHONPATH", "TCSEG_DATA"}


def command(*words: object, cwd: Path, code: int = 0, **more: str) -> str:
    """Run a command away from the checkout; what it says, or the failure with what it said."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | more
    done = subprocess.run([*map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == code, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """The files that git has or would take, so that no old build/ and no ignored data can get into the wheel."""
    folder = tmp_path_factory.mktemp("checkout")
    files = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(files, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    for name in filter(None, done.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command(*pip, "--wheel-dir", folder, checkout, cwd=folder)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """A fresh environment with the wheel alone; the other packages are seen where this Python has them.

    `--system-site-packages` would show those of the Python that made this environment, not its own. A line in a .pth file shows
    a folder's packages, and leaves out its own .pth files: the editable installation of the checkout is one.
    """
    folder = tmp_path_factory.mktemp("elsewhere") / "venv"
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    ours = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    theirs = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    (Path(ours["purelib"]) / "packages_of_the_tests.pth").write_text("\n".join(sorted(theirs)) + "\n")
    python = Path(ours["scripts"]) / Path(sys.executable).name
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    command(*pip, "--force-reinstall", wheel, cwd=folder)
    return python


def test_the_wheel_has_every_file_of_the_package_and_no_other(checkout, wheel):
    wanted = {path.relative_to(checkout).as_posix() for path in (checkout / "tcseg").rglob("*") if path.is_file()}
    names = zipfile.ZipFile(wheel).namelist()
    held = {name for name in names if ".dist-info/" not in name}
    assert held == wanted, sorted(held ^ wanted)
    assert {"tcseg/py.typed", "tcseg/templates/README.md.j2", "tcseg/weights/student-cpu.safetensors"} <= held
    licences = {Path(name).name for name in names if "/licenses/" in name}
    assert licences == {"LICENSE", "LICENSE-TEXT"}
    assert wheel.stat().st_size < 5e6


def test_the_wheel_says_what_it_is_and_needs(wheel):
    files = zipfile.ZipFile(wheel)
    info = next(name.split("/")[0] for name in files.namelist() if name.endswith(".dist-info/METADATA"))
    about = HeaderParser().parsestr(files.read(f"{info}/METADATA").decode())
    assert (about["Name"], about["Version"], about["License-Expression"]) == ("tcseg", __version__, "MIT")
    assert set(about.get_all("Provides-Extra")) == {"deploy", "peers", "data", "report", "test", "cluster"}
    assert "tcseg = tcseg.cli:app" in files.read(f"{info}/entry_points.txt").decode()


def test_it_is_the_wheel_that_is_used(python, tmp_path):
    where = command(python, "-c", "import tcseg; print(tcseg.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(python.parent.parent)


def test_the_command_works_without_a_checkout(python, tmp_path):
    tcseg = python.with_name("tcseg")
    words = command(tcseg, "--help", cwd=tmp_path, COLUMNS="100")
    assert all(name in words for name in ("segment", "evaluate", "export", "bench", "study", "doctor"))
    assert "student-cpu" in command(tcseg, "doctor", cwd=tmp_path)

    scene = procity.Sequence("nordhaven", 8007, (128, 64))
    for number in range(3):
        (tmp_path / "drive").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "drive" / f"{number:06d}.png"), scene.render(number).image[..., ::-1])
    command(tcseg, "segment", "drive", "--out", "classes.mp4", "--labels", "maps", cwd=tmp_path)
    maps = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((tmp_path / "maps").glob("*.png"))]
    assert len(maps) == 3 and (tmp_path / "classes.mp4").stat().st_size > 1000
    assert {array.shape for array in maps} == {(64, 128)} and np.unique(maps).size > 3

    lines = (
        "import cv2, tcseg",
        "frame = cv2.imread('drive/000000.png')[..., ::-1]",
        "cv2.imwrite('map.png', tcseg.load_model('student-street-cpu').predict(frame))",
    )
    command(python, "-c", "; ".join(lines), cwd=tmp_path)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "map.png"), cv2.IMREAD_UNCHANGED), maps[0])


def test_what_needs_the_checkout_says_so(python, tmp_path):
    words = command(python.with_name("tcseg"), "study", "--profile", "smoke", cwd=tmp_path, code=1)
    assert "run from a clone of the repository" in words
    for arguments, code in ((("report",), 1), (("sweep", "--list"), 2)):
        words = command(python.with_name("tcseg"), *arguments, cwd=tmp_path, code=code)
        assert "figures/runs/, which the installed package does not have: run from a clone" in words
        assert words.count("\n") == 1, words
