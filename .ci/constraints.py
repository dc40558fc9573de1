"""Print constraints.txt: the version of each package that the project needs, directly or through another, as installed here.

usage: make constraints. Local parts (+cpu) are left out, so that one file serves PyTorch for CPUs and for CUDA.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
HEAD = f"""# `make constraints` wrote this: versions that pass the tests together, on Python {PYTHON}. Use it by
#     make env CONSTRAINTS=constraints.txt
# It holds versions only; what is installed is said by pyproject.toml."""


def needed(project: str = "tcseg") -> dict[str, str]:
    """Name -> version of all that the project and its extras need, and is installed."""
    found: dict[str, str] = {}
    extras = distribution(project).metadata.get_all("Provides-Extra") or []
    waiting = [(project, frozenset(extras))]
    seen = set(waiting)
    while waiting:
        name, wanted = waiting.pop()
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            continue  # of another system or Python
        if name != project:
            found[canonicalize_name(name)] = installed.version.split("+")[0]
        for text in installed.requires or []:
            requirement = Requirement(text)
            if requirement.marker and not any(requirement.marker.evaluate({"extra": one}) for one in ("", *wanted)):
                continue
            entry = (requirement.name, frozenset(requirement.extras))
            if entry not in seen:
                seen.add(entry)
                waiting.append(entry)
    return found


if __name__ == "__main__":
    pins = {name: version for name, version in needed().items() if not re.match(r"nvidia-|cuda-|triton$", name)}
    print(HEAD)
    print("\n".join(f"{name}=={version}" for name, version in sorted(pins.items())))
