"""`tcseg doctor`: check the machine and suggest fixes. Imports no package that could itself be broken.

The large packages are imported in separate processes: a missing libGL, a torchvision for another torch, or a crash
on import becomes a line in the table.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from tcseg.data.folders import DATASETS, VARIABLE, data_root, variable_folder, variable_problem
from tcseg.data.folders import find_dataset as find_data
from tcseg.machine import (
    EXTRAS,
    PACKAGES,
    compiled_code,
    cpu_name,
    free_disk_gib,
    is_temporary,
    memory_gib,
    package_version,
    usable_cores,
    writable,
)

IMPORTS = {
    "numpy": "numpy",
    "torch": "torch",
    "torchvision": "torchvision",
    "opencv-python": "cv2",
    "numba": "numba",
}  # distribution -> module: these are imported, the others only looked up
PYTHONS = ((3, 11), (3, 13))
NEED_GIB = 3.0  # free disk for a study at profile laptop
GOOD, WARN, BAD, INFO = "ok", "warn", "BROKEN", "-"
_TORCH = """
import torch
gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
gpu = gpu or ("Apple GPU (MPS)" if torch.backends.mps.is_available() else "none")
print("GPU:", gpu, "| threads:", torch.get_num_threads(), flush=True)
"""
# torchvision by its compiled library, which must fit this torch: to import it whole takes twice as long as torch, since it imports
# torch's compiler.
_TORCHVISION = """
import importlib.util, pathlib, sys
spec = importlib.util.find_spec("torchvision")
if spec is None:
    sys.exit("ModuleNotFoundError: No module named 'torchvision'")
libraries = [path for path in pathlib.Path(spec.origin).parent.glob("_C*") if path.suffix in (".so", ".pyd", ".dylib")]
if not libraries:
    sys.exit("ImportError: torchvision has no compiled library")
for path in libraries:
    torch.ops.load_library(path)
torch.ops.torchvision.nms
"""


@dataclass(frozen=True)
class Line:
    """One row of the table: what, its state ("ok", "warn", "BROKEN", "-"), what was found, and the fix."""

    what: str
    state: str
    detail: str
    fix: str = ""


def _import_in_process(module: str) -> subprocess.Popen:
    code = _TORCH + _TORCHVISION if module == "torch" else f"import {module}"
    # -P: a numpy.py in the current folder must not be imported.
    command = [sys.executable, "-P", "-c", code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def import_fix(module: str, error: str) -> str:
    """How to fix an import that failed with this message."""
    if "libGL" in error or "libgthread" in error or "libglib" in error:
        return (
            "install OpenCV's system library: sudo apt install libgl1 libglib2.0-0 (Debian, Ubuntu), "
            "sudo dnf install mesa-libGL glib2 (Fedora), brew install mesa (macOS); "
            "or: pip install opencv-python-headless"
        )
    if "No module named" in error:
        return "make env, or pip install -e . in the repository"
    if module == "torchvision":
        return "its version does not match torch: pip install --upgrade torch torchvision, both from the same index"
    distribution = next((name for name, known in IMPORTS.items() if known == module), module)
    return f"pip install --force-reinstall {distribution}; for the full message: python -c 'import {module}'"


def check_imports() -> list[Line]:
    """Import each of `IMPORTS` in separate processes, in parallel; torchvision in that of torch."""
    running = {name: _import_in_process(module) for name, module in IMPORTS.items() if module != "torchvision"}
    lines = []
    for name, process in running.items():
        try:
            output, error = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            output, error = "", "the import takes longer than two minutes"
        problem = error or f"it ended with exit code {process.returncode}" if process.returncode else ""
        if name != "torch":
            lines.append(_imported(name, problem))
            continue
        device = [line.strip() for line in output.splitlines() if line.startswith("GPU:")]  # torch itself was imported
        lines.append(_imported("torch", "" if device else problem))
        lines += [Line("device", GOOD, line) for line in device]
        lines.append(_imported("torchvision", problem if device else "torch comes first"))
    return lines


def _imported(name: str, problem: str) -> Line:
    version = package_version(name) or "not installed"
    if not problem:
        return Line(name, GOOD, version)
    last = problem.strip().splitlines()[-1]
    return Line(name, BAD, f"{version}, but it cannot be imported ({last})", import_fix(IMPORTS[name], problem))


def check_python() -> Line:
    """Python's own version."""
    version = ".".join(map(str, sys.version_info[:3]))
    low, high = PYTHONS
    if low <= sys.version_info[:2] <= high:
        return Line("python", GOOD, f"{version} ({sys.prefix})")
    return Line(
        "python", BAD, version, f"use Python {low[0]}.{low[1]} to {high[0]}.{high[1]}: make study PYTHON=python3.12"
    )


def check_packages() -> list[Line]:
    """The light packages by their metadata, and the optional extras."""
    lines = []
    for name in PACKAGES:
        if name in IMPORTS:
            continue
        version = package_version(name)
        fix = "" if version else "make env, or pip install -e . in the repository"
        lines.append(Line(name, GOOD if version else BAD, version or "not installed", fix))
    for extra, names in EXTRAS.items():
        absent = [name for name in names if package_version(name) is None]
        have = ", ".join(f"{name} {package_version(name)}" for name in names if name not in absent)
        fix = f"optional: pip install -e '.[{extra}]'" if absent else ""
        detail = "; ".join(filter(None, [have, f"missing: {', '.join(absent)}" if absent else ""]))
        lines.append(Line(f"extra {extra}", INFO if absent else GOOD, detail, fix))
    return lines


def check_machine() -> list[Line]:
    """Processor, memory, disk."""
    memory = memory_gib()
    root = data_root() if data_root().exists() else data_root().parent
    free = free_disk_gib(root)
    return [
        Line("processor", GOOD, f"{cpu_name()}, {usable_cores()} cores"),
        Line("memory", GOOD if memory > 3.5 else WARN, f"{memory:.1f} GiB", "" if memory > 3.5 else "a study needs 4 GiB"),
        Line(
            "disk",
            GOOD if free > NEED_GIB else WARN,
            f"{free:.1f} GiB free at {root}",
            "" if free > NEED_GIB else f"a study needs {NEED_GIB:.0f} GiB",
        ),
    ]


def check_caches() -> Line:
    """Check the folder in which compiled code is cached."""
    what, place = "compiled code", compiled_code()
    if place is None:
        detail = "no folder is writable: neither in the package, nor in HOME, nor a temporary one"
        return Line(what, BAD, detail, "export NUMBA_CACHE_DIR=FOLDER, with a writable folder")
    called, folder = place
    if is_temporary(folder):
        detail = f"{folder}, because neither the package's folder nor HOME is writable"
        return Line(what, WARN, detail, "export NUMBA_CACHE_DIR=FOLDER, with a permanent folder, to keep the compiled code")
    return Line(what, GOOD, f"{folder} ({called})")


def check_results() -> Line:
    """Check whether the default folder for results is writable."""
    root = data_root()
    if writable(root):
        return Line("results", GOOD, str(root))
    return Line("results", WARN, f"{root} is not writable", "pass --out FOLDER to study, sweep, measure and data procity")


def check_variable() -> list[Line]:
    """Check TCSEG_DATA if it is set: a wrong value looks like missing data."""
    named, problem = variable_folder(), variable_problem()
    if named is None:
        blank = os.environ.get(VARIABLE)
        return [Line(VARIABLE, WARN, f"{blank!r} is blank, so it is ignored", f"unset {VARIABLE}")] if blank else []
    if problem:
        return [Line(VARIABLE, WARN, f"{named.value!r}: {problem[0]}", problem[1])]
    if named.read_as:
        fix = f"write the full path, which other programs understand too: export {VARIABLE}={shlex.quote(str(named.folder))}"
        return [Line(VARIABLE, WARN, f"{named.value!r}, {named.read_as}", fix)]
    if not named.folder.is_absolute():
        fix = f"write the full path, since a notebook may run in another folder: export {VARIABLE}={named.folder.resolve()}"
        return [Line(VARIABLE, WARN, f"{named.value!r}, relative to the current folder", fix)]
    return [Line(VARIABLE, GOOD, named.value)]


def check_students(folder: Path) -> Line:
    """Whether the weights of each student that ships are there; its notes say that it should be."""
    notes = sorted(folder.rglob("*.json"), key=lambda path: path.stem)
    lacking = [path.stem for path in notes if not path.with_suffix(".safetensors").exists()]
    if notes and not lacking:
        return Line("students", GOOD, ", ".join(path.stem for path in notes))
    fix = "the package data is missing: run pip install -e . in the repository"
    return Line("students", WARN, f"no weights of {', '.join(lacking) or 'any student'}", fix)


def check_data() -> list[Line]:
    """Which data sets and studies exist, and whether the trained students are whole."""
    lines = check_variable()
    hints = {
        "procity": "tcseg study generates it; or run: tcseg data procity",
        "cityscapes": "optional; see data/README.md",
        "camvid": "optional; see data/README.md",
    }
    for name in DATASETS:
        folder = find_data(name)
        if folder and not any(folder.iterdir()):
            lines.append(Line(f"data {name}", WARN, f"{folder} is empty", hints[name]))
        elif folder:
            lines.append(Line(f"data {name}", GOOD, str(folder)))
        else:
            lines.append(Line(f"data {name}", INFO, "not found", hints[name]))
    lines.append(check_students(Path(__file__).parents[1] / "weights"))
    studies = sorted(path.name for path in (data_root() / "study").glob("*-*") if path.is_dir())
    lines.append(Line("studies", INFO, ", ".join(studies) or "none yet"))
    return lines


def next_step(lines: Iterable[Line]) -> str:
    """The next step for the user."""
    broken = [line for line in lines if line.state == BAD]
    if broken:
        return f"repair {', '.join(line.what for line in broken)} (the lines marked {BAD}), then run tcseg doctor again"
    if any((data_root() / "study").glob("*-*")):
        return "tcseg study continues where it stopped; tcseg segment VIDEO --out X.mp4 tries a trained student"
    return "make study runs the whole study; tcseg segment VIDEO --out X.mp4 tries a trained student"


def examine() -> list[Line]:
    """Every check, in the order of the table."""
    mine = [check_caches(), check_results()]
    return [check_python(), *check_imports(), *check_packages(), *check_machine(), *mine, *check_data()]


def brief() -> list[Line]:
    """The checks for a notebook: quick, without the folders of this machine.

    Packages are not imported, because a notebook that calls this has imported them. Only packages with problems are listed.
    """
    packages = [line for line in check_packages() if line.state != GOOD]
    lines = [check_python(), *check_machine(), *packages, *check_data()]
    lines = [line for line in lines if line.what != VARIABLE or line.state != GOOD]
    return [replace(line, detail=_without_folders(line.detail)) for line in lines]


def _without_folders(text: str) -> str:
    """A text with this machine's folders replaced by generic names."""
    names = {str(data_root()): "data", str(data_root().parent): "the repository", sys.prefix: Path(sys.prefix).name}
    if named := variable_folder():
        names |= {text: f"${VARIABLE}" for text in (named.value, str(named.folder)) if len(text) > 1}
    for folder in sorted(names, key=len, reverse=True):
        text = text.replace(folder, names[folder])
    return text


def as_text(lines: list[Line]) -> str:
    """The table as text, with each fix below its line."""
    width = max(len(line.what) for line in lines)
    rows = []
    for line in lines:
        rows.append(f"{line.what:<{width}}  {line.state:<6}  {line.detail}")
        if line.fix:
            rows.append(f"{'':<{width}}  {'':<6}  -> {line.fix}")
    return "\n".join(rows)
