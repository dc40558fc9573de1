"""CONTRIBUTING names what there is: every path, command, package and name in it is looked up."""

import importlib
import inspect
import re
import shlex
import tomllib
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

from tcseg.cli import app

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
CODE = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL))
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
NOT_OURS = {"Figure", "to_jshtml", "student-cpu"}


def problem(code: str) -> str:
    """What is wrong with a piece of code; empty when what it names is there."""
    first, *words = shlex.split(code.split("  #")[0])
    if words and not re.match(r"[\w.]+\(", code):
        return command_problem(first, words)
    if "/" in first or (ROOT / first).exists():
        return "" if (ROOT / first).exists() else "no such file"
    name = first.partition("(")[0]
    return "" if name in NOT_OURS or name in known() or dotted(name) else "no such name"


def command_problem(program: str, words: list[str]) -> str:
    """A make target, a command of tcseg, or another program with files of ours."""
    if program == "make":
        return "" if set(words) <= TARGETS else "no such target"
    if program == "tcseg":
        return "" if words[0] in get_command(app).commands else "no such command"
    paths = [word for word in words if "/" in word]
    return "" if program in ("python", "nbstripout") and all(any(ROOT.glob(path)) for path in paths) else "not known"


def dotted(name: str) -> bool:
    """Whether `models.fingerprints.PINNED` is in the package, or `study.figure` a method of a study."""
    module, _, last = name.rpartition(".")
    if not module:
        return False
    if module == "study":
        from tcseg.study import Study

        return hasattr(Study, last)
    return hasattr(importlib.import_module(f"tcseg.{module}"), last)


@cache
def known() -> set[str]:
    """Names that the files named in the text define."""
    paths = [ROOT / code for code in CODE if code.startswith("tcseg/")]
    files = [path for path in paths if path.suffix == ".py"]
    files += [one for path in paths if path.is_dir() for one in path.glob("*.py")] + [ROOT / "tcseg/study/run_ids.py"]
    return set(re.findall(r"^(?:def |class )?(\w+)(?=\(|:| =)", "\n".join(path.read_text() for path in files), re.MULTILINE)) | {
        path.name for path in files
    }


@pytest.mark.parametrize("code", sorted({*CODE, *(line for line in BLOCKS["bash"].splitlines())}))
def test_what_the_text_names_is_there(code):
    assert problem(code) == ""


@pytest.mark.parametrize(
    "code",
    [
        "tcseg/training/loss.py",
        "make tests",
        "tcseg mesure NAME",
        "study.run_ids.SAMECODE",
        "METHODZ",
        "measuring(out, quick)",
        "study.measuredd(name)",
    ],
)
def test_what_is_not_there_is_found(code):
    assert problem(code) != ""


def test_the_drawing_has_the_floors_of_import_linter():
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    drawn = [re.split(r"\s{2,}", line)[0] for line in BLOCKS["text"].splitlines()]
    assert drawn == layers[1:], "all but __main__"


def test_a_measurement_is_as_the_text_says():
    from tcseg.study import measurements

    for name in measurements.MEASUREMENTS:
        parameters = list(inspect.signature(measurements._module_of(name).measure).parameters)
        assert parameters[:2] == ["out", "quick"], name


def test_it_is_one_page():
    assert len(TEXT.splitlines()) <= 85 and TEXT.count("](") == 0
