"""Where the repository is stands in pyproject.toml alone: everything else has it from there."""

import re
import subprocess
from pathlib import Path

import pytest

from tcseg.study.notebooks import address
from tcseg.study.paths import NOTEBOOKS

ROOT = Path(__file__).resolve().parents[3]
DERIVED = {"README.md", "CITATION.cff", *(f"notebooks/{name}.ipynb" for name in NOTEBOOKS)}
"""Files that `make documents` writes the address into."""


@pytest.fixture
def project(tmp_path):
    def write(line: str) -> Path:
        path = tmp_path / "pyproject.toml"
        path.write_text(f"[project]\nname = 'x'\n[project.urls]\n{line}\n")
        return path

    return write


def test_pages_and_colab_follow_from_the_repository(project):
    mine = project('Repository = "https://github.com/Some-One/streets"')
    assert address.repository(mine) == "https://github.com/Some-One/streets"
    assert address.page(project=mine) == "https://some-one.github.io/streets/"
    assert address.page("04_temporal_consistency", mine) == "https://some-one.github.io/streets/04_temporal_consistency.html"
    opened = "https://colab.research.google.com/github/Some-One/streets/blob/colab/00_start_here.ipynb"
    assert address.colab("00_start_here", mine) == opened


@pytest.mark.parametrize("line", ["", 'Repository = "https://gitlab.com/a/b"', 'Repository = "https://github.com/a/b/"'])
def test_another_address_is_refused_with_the_fix(project, line):
    with pytest.raises(ValueError, match=r"Repository under \[project.urls\] of pyproject.toml is .*; give https://github.com/OWNER/NAME"):
        address.page(project=project(line))


def test_no_other_file_holds_the_address():
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if files.returncode != 0:
        pytest.skip("not a git checkout")
    here = re.compile("|".join(map(re.escape, (address.repository(), address.page().rstrip("/")))))
    names = [name for name in files.stdout.split("\0") if name and not name.endswith((".png", ".gif", ".csv"))]
    texts = {name: (ROOT / name).read_text("utf-8", "ignore") for name in names if (ROOT / name).is_file()}
    holders = {name for name, text in texts.items() if here.search(text)}
    assert "pyproject.toml" in holders and holders - {"pyproject.toml"} <= DERIVED
