"""The rules of the house: who imports whom, what notebooks look like in git, what may be committed."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tcseg.execution import known_parameters
from tcseg.places import NOTEBOOKS

ROOT = Path(__file__).resolve().parents[1]
# A module imports only modules above it. `figures` and `measurements` are folders of rooms, each one module to the others.
# `procity` is a wing: imported by datacheck, drives, study, publish, measurements and cli alone.
ORDER = """
    caches __init__ errors datafolders images labels machine quiet roofline sizes flow losses temporal_losses metrics temporal
    trajectories streaming stats
    crossed procity splits snippets datacheck trained data drives tiles motion augment networks students peers
    architectures models postprocess targets
    objective training evaluation steady controls folding quantize deployed export gpulabels torch_folding torch_runtimes
    runtimes coldstart benchmark repeats stability class_tables map_values videofiles window pipeline video throughput artefacts
    timings runs layouts map_counts map_tables labelmaps recipes places reference banners figures explore study effects contest
    sweeps summary wording again readme pages measurements datacard modelcard publish report execution course workbook runner
    doctor cli __main__
""".split()
MACHINE_PATHS = re.compile(r"(?<![\w./~-])/(?:home|root|Users|work|mnt|tmp)/[\w.-]+")
TEXT = {".py", ".md", ".ipynb", ".toml", ".yml", ".yaml", ".cff", ".json", ".csv", ".css", ".svg", ""}


def imports(path: Path) -> set[str]:
    """Modules of tcseg that a file imports, wherever in it: absolute, relative, or by `importlib` with a name written out."""
    package = ["tcseg", *path.relative_to(ROOT / "tcseg").parent.parts] if path.is_relative_to(ROOT / "tcseg") else []
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = [*above, *(node.module or "").split(".")] if node.module else above
            found |= {(*origin, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in IMPORTERS:
            found |= {tuple(a.value.split(".")) for a in node.args if isinstance(getattr(a, "value", None), str)}
    return {name[1] for name in found if name[0] == "tcseg" and len(name) > 1} - {"__version__"}


IMPORTERS = ("import_module", "__import__")
MODULE_FILES = sorted(path for path in (ROOT / "tcseg").rglob("*.py") if path.parent.name != "procity")


def module(path: Path) -> str:
    """The module that a file belongs to: its package's name where it is a room of one."""
    return path.stem if path.parent.name == "tcseg" else path.parent.name


def test_every_module_has_its_place():
    assert {module(path) for path in MODULE_FILES} - set(ORDER) == set()


@pytest.mark.parametrize("path", MODULE_FILES, ids=lambda path: "/".join(path.parts[-2:]))
def test_a_module_imports_only_modules_above_it(path):
    own = module(path)
    above = ORDER[: ORDER.index(own)] if own in ORDER else []
    assert imports(path) - {own} - set(above) == set()


@pytest.mark.parametrize(
    "line, found",
    [
        ("import numpy, tcseg.flow as f", {"flow"}),
        ("from tcseg import flow, __version__", {"flow"}),
        ("from tcseg.flow import warp", {"flow"}),
        ("from tcseg.cli.app import app", {"cli"}),
        ("from ..flow import warp", {"flow"}),
        ("from .. import flow, labels", {"flow", "labels"}),
        ("from ..cli.app import app", {"cli"}),
        ("from . import scene", {"procity"}),
        ("from .scene import Scene", {"procity"}),
        ("def f():\n    from ..flow import warp", {"flow"}),
        ("import importlib\nimportlib.import_module('tcseg.flow')", {"flow"}),
        ("__import__('tcseg.flow')", {"flow"}),
        ("from os import path\nimport math", set()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_way_to_import_is_seen(line, found, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "tcseg" / "procity" / "x.py"
    path.parent.mkdir(parents=True)
    path.write_text(line + "\n")
    assert imports(path) == found


ALONE = {"errors", "labels", "machine", "procity"}  # errors to raise, classes to paint, cores to paint on


def test_the_procedural_city_stands_alone():
    rooms = list((ROOT / "tcseg" / "procity").glob("*.py"))
    assert {path.name: imports(path) - ALONE for path in rooms} == {path.name: set() for path in rooms}
    users = {module(path) for path in MODULE_FILES if "procity" in imports(path)}
    assert users <= {"datacheck", "drives", "study", "publish", "measurements", "cli"}


# ------------------------------------------------------------------------------------------------ notebooks


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_one_annotated_parameters_cell(name):
    known = known_parameters(ROOT / "notebooks" / f"{name}.ipynb")
    types = {parameter.name: parameter.inferred_type_name for parameter in known.values()}
    own = {"video": "str"} if name == "07_your_own_video" else {}
    assert types == {"dataset": "str", "profile": "str", "runs": "str", "interactive": "bool"} | own
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
            for hit in MACHINE_PATHS.findall(path.read_text(encoding="utf-8", errors="replace")):
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
