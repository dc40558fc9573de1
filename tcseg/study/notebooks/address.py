"""The project's addresses on the web: `[project.urls]` of pyproject.toml says where the repository is, others follow from it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tcseg.errors import InputError
from tcseg.study.paths import FIGURES

PROJECT = FIGURES.parent / "pyproject.toml"
COLAB_BRANCH = "colab"
"""The branch that the workflow `pages` puts the chapters for Colab on; nobody edits it."""


def repository(project: Path = PROJECT) -> str:
    """The repository's address, without a slash at the end.

    Raises:
        ValueError: it is not a repository on GitHub, so that Pages and Colab cannot be derived from it.
    """
    address = tomllib.loads(project.read_text(encoding="utf-8"))["project"].get("urls", {}).get("Repository", "")
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        raise InputError(
            f"Repository under [project.urls] of {project.name} is {address!r}; give https://github.com/OWNER/NAME"
        )
    return address


def _owner_and_name(project: Path) -> list[str]:
    return repository(project).split("/")[-2:]


def page(name: str = "index", project: Path = PROJECT) -> str:
    """A page of the published report; the first one by default."""
    owner, repository_name = _owner_and_name(project)
    return f"https://{owner.lower()}.github.io/{repository_name}/" + ("" if name == "index" else f"{name}.html")


def colab(chapter: str, project: Path = PROJECT) -> str:
    """Where Colab opens a chapter."""
    where = "/".join(_owner_and_name(project))
    return f"https://colab.research.google.com/github/{where}/blob/{COLAB_BRANCH}/{chapter}.ipynb"
