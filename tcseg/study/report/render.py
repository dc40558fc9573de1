"""Fill a template. An undefined value, a nan, or a sentence that the tables no longer support is an error."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import pandas as pd

import tcseg
from tcseg.errors import CannotRunError

from . import tables

TEMPLATES = Path(tcseg.__file__).parent / "templates"
FILTERS = ("percent", "amount", "change", "interval", "markdown", "columns", "minutes", "seed_count")


class StaleTextError(CannotRunError):
    """A text that the tables do not support: a value is undefined or missing, or a sentence is no longer true."""


def render(name: str, **context: object) -> str:
    """A template of tcseg/templates, filled.

    Args:
        name: Of the file, without ".j2".
        context: What its expressions may name.

    Raises:
        StaleTextError: A name is unknown, a number is nan, or a claim does not hold any more.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    environment.filters |= {name: getattr(tables, name) for name in FILTERS}
    environment.globals |= {"claim": claim, "row": row, "interval": tables.interval}
    try:
        text = environment.get_template(f"{name}.j2").render(**context)
    except jinja2.UndefinedError as error:
        raise StaleTextError(f"{TEMPLATES.name}/{name}.j2 uses a value that nothing defines: {error}") from error
    if found := re.search(r".*(?<![\w-])nan(?![\w-]).*", text):
        raise StaleTextError(f"{TEMPLATES.name}/{name}.j2 shows a number that was not measured: {found[0].strip()}")
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def claim(holds: object, sentence: str) -> str:
    """Nothing, where a sentence of a template is still true.

    Raises:
        StaleTextError: It is not: the template must say something else.
    """
    if not bool(holds):
        raise StaleTextError(f"the tables no longer support a sentence: {sentence}; change the template that says so")
    return ""


def row(table: pd.DataFrame, **wanted: object) -> pd.Series:
    """The first row with these values.

    Raises:
        StaleTextError: There is none.
    """
    found = table
    for column, value in wanted.items():
        found = found[found[column] == value]
    if found.empty:
        raise StaleTextError(f"no row has {', '.join(f'{column} {value}' for column, value in wanted.items())}")
    return found.iloc[0]
