"""What the report's API page asks about the public names of `import tcseg`. Sphinx' autodoc shows their docstrings."""

from __future__ import annotations

import re
from inspect import cleandoc, isclass, isroutine
from operator import attrgetter

import tcseg


def _value(name: str) -> object:
    """What "losses" or "metrics.temporal" names in tcseg."""
    return attrgetter(name.removeprefix("tcseg."))(tcseg)


def directive(name: str) -> str:
    """The directive of autodoc that shows a public name."""
    value = _value(name)
    return "autoclass" if isclass(value) else "autofunction" if isroutine(value) else "autodata"


def first_paragraph(name: str) -> str:
    """The first paragraph of a docstring as one line of Markdown: what is not in backticks is plain text."""
    text = " ".join(cleandoc(_value(name).__doc__ or "").split("\n\n")[0].split())
    return "".join(part if part[:1] == "`" else _plain(part) for part in re.split(r"(`[^`]*`)", text))


def _plain(text: str) -> str:
    """Text without markup; "nan" as people write it, for `render` takes it for a number that is missing."""
    return re.sub(r"([*_\[\]<>|$\\])", r"\\\1", re.sub(r"\bnan\b", "NaN", text))


def public(name: str) -> list[str]:
    """Functions and classes that a public module defines, in the order of its text."""
    module = _value(name)
    found = {key: value for key, value in vars(module).items() if key[0] != "_" and (isroutine(value) or isclass(value))}
    return [key for key, value in found.items() if value.__module__ == module.__name__]
