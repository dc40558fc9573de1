"""The rules of this repository: who imports whom, what notebooks look like in git, what may be committed."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tcseg.machine import COMPILED
from tcseg.study.notebooks.execution import known_parameters
from tcseg.study.paths import NOTEBOOKS

ROOT = Path(__file__).resolve().parents[1]
MACHINE_PATHS = re.compile(r"(?<![\w./~-])/(?:home|root|Users|work|mnt|tmp)/[\w.-]+")
TEXT = {".py", ".md", ".ipynb", ".toml", ".yml", ".yaml", ".cff", ".json", ".csv", ".css", ".svg", ""}


# ------------------------------------------------------------------------------------------------ floors

LINT = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]


def lint(folder: Path) -> subprocess.CompletedProcess:
    """import-linter on the tcseg and the pyproject.toml of a folder."""
    environment = os.environ | {"PYTHONPATH": str(folder), "COLUMNS": "200"}
    return subprocess.run(LINT, cwd=folder, env=environment, capture_output=True, text=True)


def test_each_package_imports_only_from_floors_below_it():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line", "told"),
    [
        ("metrics/temporal.py", "from tcseg.study.run_ids import digest", "tcseg.metrics.temporal -> tcseg.study.run_ids"),
        ("metrics/temporal.py", "from ..study import runs", "tcseg.metrics.temporal -> tcseg.study.runs"),
        ("training/loop.py", "def f():\n    from ..study.run_ids import digest", "tcseg.training.loop -> tcseg.study.run_ids"),
        ("deploy/export.py", "from ..training import losses", "tcseg.deploy.export -> tcseg.training.losses"),
        ("models/peers.py", "import tcseg.procity as city", "tcseg.models.peers -> tcseg.procity"),
        ("study/recipes.py", "from . import runs", "tcseg.study.recipes -> tcseg.study.runs"),
        ("room/__init__.py", '"""A package that no floor holds."""', "tcseg.room"),
    ],
)
def test_an_import_from_above_fails(module, line, told, tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "tcseg", tmp_path / "tcseg", ignore=shutil.ignore_patterns("weights", "__pycache__"))
    path = tmp_path / "tcseg" / module
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + f"\n\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1 and told in done.stdout, done.stdout + done.stderr


FLAT = 6  # modules beside the packages, besides `__init__` and `__main__`
FILES = 12  # in a package, `__init__` among them


def test_packages_are_small_and_say_what_they_are_for():
    for folder in [path.parent for path in (ROOT / "tcseg").rglob("__init__.py")]:
        files = {path.name for path in folder.glob("*.py")}
        assert len(files) <= (FLAT + 2 if folder.name == "tcseg" else FILES), f"{folder}: {len(files)} files"
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder
    assert {path.parent for path in (ROOT / "tcseg").rglob("*.py")} == {p.parent for p in (ROOT / "tcseg").rglob("__init__.py")}


LINES, PARAMETERS = 60, 10  # of a function at most; its docstring is not counted
OPTIONS_OF_A_COMMAND = ("command",)
"""typer reads a command's options from its parameters."""
COMPILED_BY = ("njit", "jit")
"""numba and triton take arrays one by one: they know no dataclass."""


def decorators(function: ast.FunctionDef) -> set[str]:
    """Last words of a function's decorators: "command" of `@app.command()`."""
    calls = (node.func if isinstance(node, ast.Call) else node for node in function.decorator_list)
    return {node.attr if isinstance(node, ast.Attribute) else node.id for node in calls}


def too_large(source: str) -> list[str]:
    """Functions of a module that have too many lines, or too many parameters for their kind."""
    large = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        body = node.body[1:] if ast.get_docstring(node) else node.body
        lines = node.end_lineno - body[0].lineno + 1 if body else 0
        parameters = len(node.args.posonlyargs) + len(node.args.args) + len(node.args.kwonlyargs)
        free = decorators(node) & {*OPTIONS_OF_A_COMMAND, *COMPILED_BY}
        if lines > LINES or (parameters > PARAMETERS and not free):
            large.append(f"{node.name}: {lines} lines, {parameters} parameters")
    return large


def test_functions_fit_a_screen_and_take_few_parameters():
    large = {path.relative_to(ROOT).as_posix(): too_large(path.read_text()) for path in (ROOT / "tcseg").rglob("*.py")}
    assert {path: functions for path, functions in large.items() if functions} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f():\n" + "    x = 1\n" * 60, []),
        ("def f():\n" + "    x = 1\n" * 61, ["f: 61 lines, 0 parameters"]),
        ('def f():\n    """' + "A\n" * 70 + '"""\n    return 1\n', []),
        ("class A:\n    async def f(self):\n" + "        x = 1\n" * 61, ["f: 61 lines, 1 parameters"]),
        ("def f(a, b, c, d, e, f, g, h, i, j):\n    pass", []),
        ("def f(a, b, c, d, e, /, f, g, h, *, i, j, k):\n    pass", ["f: 1 lines, 11 parameters"]),
        ("@app.command()\ndef f(a, b, c, d, e, f, g, h, i, j, k):\n    pass", []),
        ("@njit(cache=True)\ndef f(a, b, c, d, e, f, g, h, i, j, k):\n    pass", []),
        ("@njit\ndef f():\n" + "    x = 1\n" * 61, ["f: 61 lines, 0 parameters"]),
        ("@cache\ndef f(a, b, c, d, e, f, g, h, i, j, k):\n    pass", ["f: 1 lines, 11 parameters"]),
    ],
)
def test_what_is_too_large_is_seen(source, found):
    assert too_large(source) == found


def test_folders_that_numba_compiles_for_are_known():
    compiled = {path.parent for path in (ROOT / "tcseg").rglob("*.py") if "njit" in path.read_text()}
    assert compiled == set(COMPILED)




# ------------------------------------------------------------------------------------------------ notebooks


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_one_annotated_parameters_cell(name):
    known = known_parameters(ROOT / "notebooks" / f"{name}.ipynb")
    types = {parameter.name: parameter.inferred_type_name for parameter in known.values()}
    own = {"video": "str"} if name == "07_your_own_video" else {}
    assert types == {"dataset": "str", "profile": "str", "runs": "str"} | own
    assert all(parameter.help for parameter in known.values()), "each parameter carries a comment"


# ------------------------------------------------------------------------------------------------ the repository


def tracked() -> list[Path]:
    """Files that git has or would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_large_files():
    large = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in tracked() if path.stat().st_size > 1e6}
    assert large == {}


def test_no_paths_of_one_machine():
    found = {}
    for path in tracked():
        if path.suffix in TEXT and path != Path(__file__).resolve():
            text = path.read_text(encoding="utf-8", errors="replace")
            if path.name in ("Dockerfile", "devcontainer.json"):
                text = text.replace("/home/learner", "")  # the container's own user
            for hit in MACHINE_PATHS.findall(text):
                found.setdefault(path.relative_to(ROOT).as_posix(), []).append(hit)
    assert found == {}


def test_nothing_of_a_real_data_set_is_committed():
    names = [path.relative_to(ROOT).as_posix() for path in tracked()]
    assert [name for name in names if name.startswith("data/") and name != "data/README.md"] == []
    assert [name for name in names if re.search(r"_leftImg8bit|_gtFine_|0016E5|0001TP|0006R0|Seq05VD", name)] == []


def test_records_are_json_of_today():
    for path in (ROOT / "figures" / "runs").glob("*.json"):
        record = json.loads(path.read_text())
        assert record["run_id"] == path.stem
