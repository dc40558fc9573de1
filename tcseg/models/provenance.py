"""Where weights are from, and under which licence: noted on a network when it is loaded, by the sidecar of its weights."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from tcseg import __version__

WEIGHTS = Path(__file__).parents[1] / "weights"
"""The weights that ship; those for real streets lie in a folder of their own below, with their licence."""
UNSTATED = "not stated"


def note(model: nn.Module, path: Path, meta: dict) -> None:
    """Note on a network what `of` tells."""
    ships = WEIGHTS in path.parents
    told = {"weights": f"{path.stem}, shipped with tcseg {__version__}" if ships else path.name}
    told["licence"] = licence_of(path, meta) or UNSTATED
    teacher = meta.get("teacher")
    if isinstance(teacher, dict) and "source" in teacher:
        told["teacher"] = f"{teacher['source']} (licence: {teacher.get('licence') or UNSTATED})"
    model.provenance = told


def of(model: nn.Module) -> dict[str, str]:
    """Where a network's weights are from: `weights`, `licence`, of an adapted student `teacher`; {} = unknown."""
    return dict(getattr(model, "provenance", {}))


def licence_of(path: Path, meta: dict) -> str:
    """The licence of weights by their sidecar, or of those that ship; "" where nothing says."""
    return str(meta.get("licence") or ("MIT" if path.parent == WEIGHTS else ""))
