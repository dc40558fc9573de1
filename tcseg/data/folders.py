"""Find the folders of data sets (`$TCSEG_DATA/<name>`, then `data/<name>`) and explain why one is missing."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

DATASETS = ("procity", "cityscapes", "camvid")
VARIABLE = "TCSEG_DATA"
_PARENT = f"set {VARIABLE} to the folder that holds {' or '.join(f'{name}/' for name in DATASETS[1:])}"
OWN = "own"
"""The kind of a folder of one's own: frames, labels and classes.yaml (`tcseg.data.own`)."""
_MOST = 200  # entries of a folder that are searched for data sets


def data_root() -> Path:
    """The project's data folder: next to the package in a checkout, otherwise in the current folder."""
    checkout = Path(__file__).resolve().parents[2]
    return (checkout if (checkout / "pyproject.toml").exists() else Path.cwd()) / "data"


def find_dataset(name: str) -> Path | None:
    """The folder of a data set (`$TCSEG_DATA/<name>`, then `data/<name>`), or None; see `explain_missing`."""
    named = variable_folder()
    for folder in (*([named.folder / name] if named else []), data_root() / name):
        if os.path.isdir(folder):
            return folder
    return None


def kind_of(folder: Path) -> str | None:
    """The data set in a folder, detected by its layout: one of `DATASETS`, `OWN`, or None."""

    def has(*names: str) -> bool:
        return any(os.path.isdir(folder / name) for name in names)

    if has("trainannot", "valannot", "testannot"):
        return "camvid"
    texts = any(os.path.isfile(folder / name) for name in ("classes.yaml", "split.yaml"))
    if (has("frames") and has("labels")) or (texts and has("frames", "labels")):
        return OWN
    if not has("leftImg8bit_sequence", "leftImg8bit", "gtFine", "gtCoarse", "flow"):
        return None
    return "procity" if os.path.isfile(folder / "manifest.json") or has("flow", ".parts") else "cityscapes"


# ------------------------------------------------------------------------------------------------ the variable


@dataclass(frozen=True)
class VariableFolder:
    """The value of TCSEG_DATA.

    Attributes:
        value: the text itself.
        folder: the folder that it means.
        read_as: for messages: how the text was corrected; "" if it was not.
    """

    value: str
    folder: Path
    read_as: str = ""


def variable_folder() -> VariableFolder | None:
    """The folder in TCSEG_DATA, which may not exist; None if the variable is not set or blank.

    If the text is not a folder, blanks, line ends and quotes around it are removed and `~` is expanded.
    """
    value = os.environ.get(VARIABLE, "")
    bare = value.strip().strip("'\"").strip()
    if not bare:
        return None
    if os.path.isdir(value):
        return VariableFolder(value, Path(value))
    home = os.path.expanduser(bare)
    why = [
        *(["without the blanks or quotes around it"] if bare != value else []),
        *(["with ~ expanded"] if home != bare else []),
    ]
    return VariableFolder(value, Path(home), f"which was read as {home} ({', '.join(why)})" if why else "")


def variable_problem() -> tuple[str, str] | None:
    """What is wrong with TCSEG_DATA, and how to fix it; None if it is not set or contains a data set."""
    named = variable_folder()
    if named is None:
        return None
    folder = named.folder
    if not os.path.isdir(folder):
        return _no_folder(named)
    if any(os.path.isdir(folder / name) for name in DATASETS):
        return None
    if (kind := kind_of(folder)) in DATASETS:
        return f"{folder} is the data set {kind} itself", _set_to(folder.parent, folder.name, kind)
    for above in islice(folder.absolute().parents, 3):
        if (kind := kind_of(above)) in DATASETS:
            return f"{folder} is a part of the data set {above}", _set_to(above.parent, above.name, kind)
    what = f"{folder} contains none of {', '.join(f'{name}/' for name in DATASETS)}"
    for inner in (*_folders(folder), *(deep for one in _folders(folder) for deep in _folders(one))):
        kind = inner.name.lower() if inner.name.lower() in DATASETS[1:] else kind_of(inner)
        if kind in DATASETS[1:]:
            return f"{what}, but there is {inner}", _set_to(inner.parent, inner.name, kind)
        if below := [inner / name for name in DATASETS[1:] if os.path.isdir(inner / name)]:
            return f"{what}, but there is {below[0]}", _set_to(inner, below[0].name, below[0].name)
    return what, _PARENT


def _set_to(folder: Path, name: str, kind: str) -> str:
    """The command that sets the variable to the parent folder of a data set."""
    command = f"export {VARIABLE}={shlex.quote(str(folder))}"
    return command if name == kind else f"rename {folder / name} to {kind} (or link it under that name), then {command}"


def _no_folder(named: VariableFolder) -> tuple[str, str]:
    folder, value = named.folder, named.value.strip()
    parts = [part.strip() for mark in (os.pathsep, ";", ",") for part in value.split(mark) if mark in value]
    existing = [part for part in parts if os.path.isdir(os.path.expanduser(part))]
    if existing:
        best = max(existing, key=lambda part: any(os.path.isdir(Path(part).expanduser() / name) for name in DATASETS))
        return "it lists several folders, but only one is allowed", f"export {VARIABLE}={shlex.quote(best)}"
    if os.path.isfile(folder):
        return f"{folder} is a file", _PARENT
    if os.path.islink(folder):
        return f"{folder} is a broken link", f"repair the link, or {_PARENT}"
    above = next((one for one in folder.absolute().parents if os.path.isdir(one)), folder)
    return f"{folder} does not exist (only {above} exists)", _PARENT


def _folders(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            subfolders = [folder / one.name for one in islice(entries, _MOST) if not one.name.startswith(".")]
    except OSError:  # no permission
        subfolders = []
    return (one for one in sorted(subfolders) if os.path.isdir(one))


def explain_missing(name: str) -> str:
    """A message about a missing data set: the value of TCSEG_DATA, the folders that were searched, and how to fix it."""
    named, own = variable_folder(), data_root() / name
    if named is None:
        return (
            f"the data set {name} was not found: {VARIABLE} is not set and there is no folder {own}; create this folder, or set "
            f"{VARIABLE} to the folder that contains {name}/ ({_how_to_get(name)})"
        )
    places = f"neither {named.folder / name} nor {own} is a folder"
    wrong, do = variable_problem() or _lacks(named.folder, name)
    read_as = f", {named.read_as}" if named.read_as else ""
    return f"the data set {name} was not found: {VARIABLE} is {named.value!r}{read_as}, and {places}; {wrong}: {do}"


def _lacks(folder: Path, name: str) -> tuple[str, str]:
    """The problem and its solution if a folder lacks this data set or has it under a differently spelled name."""
    like = next((one for one in _folders(folder) if one.name.lower() == name or kind_of(one) == name), None)
    if like:
        return f"there is {like}", f"rename it to {name}, or link it under that name"
    return f"{folder} has no folder {name}/", f"create it ({_how_to_get(name)})"


def explain_variable() -> str:
    """A note about TCSEG_DATA: its problem, or how it was corrected; "" if it is fine or not set."""
    named, problem = variable_folder(), variable_problem()
    if named is None:
        return ""
    if problem:
        return f"{VARIABLE} is {named.value!r}: {problem[0]}; {problem[1]}"
    return f"{VARIABLE} is {named.value!r}, {named.read_as}" if named.read_as else ""


def _how_to_get(name: str) -> str:
    if name == "procity":
        return "generate it with: tcseg data procity"
    return f"data/README.md says how to get {name}; the data set procity needs no download"
