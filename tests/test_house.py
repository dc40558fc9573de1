"""The rules of the house: who imports whom, what notebooks look like in git, what may be committed."""

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest

from tcseg.execution import known_parameters
from tcseg.places import NOTEBOOKS

ROOT = Path(__file__).resolve().parents[1]
# A module imports only modules above it. `figures` and `measurements` are folders of rooms, each one module to the others.
# `procity` is a wing: imported by datacheck, drives, study, publish, measurements and cli alone.
ORDER = """
    caches errors datafolders images labels machine quiet roofline sizes flow losses temporal_losses metrics temporal trajectories
    stats
    crossed procity splits snippets datacheck trained data drives tiles motion augment networks students peers models postprocess
    targets
    objective training evaluation steady controls folding quantize deployed export gpulabels torch_folding torch_runtimes
    runtimes coldstart benchmark repeats stability class_tables map_values videofiles window pipeline video throughput artefacts
    timings runs layouts map_counts map_tables labelmaps recipes places reference banners figures explore study effects contest
    sweeps summary wording again readme pages measurements datacard modelcard publish report execution course workbook runner
    doctor cli __main__
""".split()
MACHINE_PATHS = re.compile(r"(?<![\w./~-])/(?:home|root|Users|work|mnt|tmp)/[\w.-]+")
TEXT = {".py", ".md", ".ipynb", ".toml", ".yml", ".yaml", ".cff", ".json", ".csv", ".css", ".svg", ""}


def imports(path: Path) -> set[str]:
    """Modules of tcseg that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "tcseg" and not node.level:
            names |= {alias.name for alias in node.names if alias.name != "__version__"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tcseg.") and not node.level:
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("tcseg.")}
    return names


MODULE_FILES = sorted(path for path in (ROOT / "tcseg").rglob("*.py") if path.parent.name != "procity")


def module(path: Path) -> str:
    """The module that a file belongs to: its package's name where it is a room of one."""
    return path.stem if path.parent.name == "tcseg" else path.parent.name


def test_every_module_has_its_place():
    assert {module(path) for path in MODULE_FILES} - set(ORDER) - {"__init__"} == set()


@pytest.mark.parametrize("path", MODULE_FILES, ids=lambda path: "/".join(path.parts[-2:]))
def test_a_module_imports_only_modules_above_it(path):
    own = module(path)
    above = ORDER[: ORDER.index(own)] if own in ORDER else []
    assert imports(path) - {own} - set(above) == set()


def test_the_procedural_city_stands_alone():
    for path in (ROOT / "tcseg" / "procity").glob("*.py"):
        assert imports(path) <= {"errors", "labels", "procity"}, path.name
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
