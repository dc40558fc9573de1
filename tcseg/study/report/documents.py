"""The documents and pages: their templates and the values that fill them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from tcseg import __version__
from tcseg.data.own.lookup import name_of
from tcseg.errors import NotFoundError
from tcseg.models import registry
from tcseg.models.students import CHOSEN
from tcseg.study.comparisons import scope_of
from tcseg.study.notebooks import address
from tcseg.study.paths import FIGURES
from tcseg.study.recipes import ABLATION_SWEEPS, PROFILES, RECIPES, VARIATIONS, variations
from tcseg.study.runs import find_reference

from . import chapters, effect_tables, public_names, reproduction, results
from .render import render
from .tables import DATA_NAMES, Tables, parameters_of, read_json, read_table

HERO = "first_drive.gif"
"""The film of the first page, which chapter 0 makes; `sphinx_build` sets it in, since its bytes may spell anything."""
PAGES = ("index", "results", "speed", "reproducibility", "api", "about")
"""Pages of the report that are made from tables, or from docstrings; the others are Markdown in notebooks/."""


def documents(figures: Path = FIGURES) -> dict[str, str]:
    """Path in the repository -> text of each committed document.

    Raises:
        StaleTextError: A template has a value that no table has, or says what the tables no longer say.
        FileNotFoundError: The record of a student that ships is not committed.
    """
    return {
        "README.md": readme(figures),
        "MODEL_CARD.md": model_card(figures),
        "data/README.md": data_card(figures),
        "CITATION.cff": render("CITATION.cff", version=__version__, address=address),
    }


def _shared(folder: Path) -> dict[str, object]:
    """What templates of README and report have in common: the committed studies, and functions that read them."""
    own = {dataset: Tables(folder, dataset, committed=folder) for dataset in DATA_NAMES}
    return {
        "studies": own,
        "effects": {name: effect_tables.comparison(tables("effects")) for name, tables in own.items()},
        "classes": results.per_class(own["procity"].records()),
        "table": lambda name: read_table(folder, name),
        "profiles": PROFILES,
        "chosen": CHOSEN,
        "data_names": DATA_NAMES,
        "titles": chapters.titles(),
        "cost": chapters.costs(folder),
        "address": address,
        **{module.__name__.rpartition(".")[2]: module for module in (chapters, effect_tables, reproduction, results)},
    }


def readme(figures: Path = FIGURES) -> str:
    """README.md."""
    return render("README.md", **_shared(figures), six=tuple(RECIPES))


def pages(folder: Path, titles: Mapping[str, str], toc: str) -> dict[str, str]:
    """Name -> Markdown of `PAGES`, from a study's folder, else from figures/; `titles` by notebook; `toc` ends the home page."""
    given = {"dataset": "procity", "profile": "laptop"} | parameters_of(folder)
    given["dataset"] = name_of(given["dataset"])
    own = Tables(folder, given["dataset"], given["profile"])
    context = _shared(FIGURES) | {
        "titles": titles,
        "given": given,
        "own": own,
        "changes": own("sweep_effects"),
        "sweeps": ABLATION_SWEEPS,
        "variations": variations,
        "variation_names": list(VARIATIONS),
        "scope": _scope,
        "tables": sorted(path.name for path in (folder / "tables").glob("*.csv")),
        "pictures": sorted(path.name for path in (folder / "figures").glob("*.[ps][nv]g")),
        "moving": (folder / "figures" / HERO).exists(),
        "stamp": reproduction.stamp(folder),
        **{name: getattr(public_names, name) for name in ("directive", "first_paragraph", "public")},
        "figures": FIGURES,
        "toc": toc,
    }
    return {name: render(f"{name}.md", **context) for name in PAGES}


def _scope(dataset: str, profile: str) -> str:
    """What the intervals of a committed study speak of; empty where it has no rows."""
    try:
        return scope_of(find_reference(FIGURES / "runs", dataset, profile)[0].record["per_clip"])
    except FileNotFoundError:
        return ""


def reproduced(table: pd.DataFrame) -> str:
    """`reference.compare`'s table in a sentence a machine; empty where nothing was compared."""
    return render("reproduced.md", table=table).strip()


# ------------------------------------------------------------------------------------------------ cards


def data_card(figures: Path = FIGURES) -> str:
    """data/README.md."""
    tables = {name: read_table(figures, name) for name in ("procity", "procity_classes", "transfer")}
    value = dict(tables["procity"].set_index("name")["value"].astype(float)) if len(tables["procity"]) else {}
    return render("DATA_CARD.md", value=value, sizes=("256x128", "512x256", "1024x512"), **tables)


def model_card(figures: Path = FIGURES) -> str:
    """MODEL_CARD.md, from the weights' sidecars, the committed records and the committed tables.

    Raises:
        FileNotFoundError: The record of a student that ships is not committed.
    """
    names = (*registry.SHIPPED, registry.FAST)
    notes = {name: registry.shipped_notes(name) for name in names}
    records = {name: _record(figures, notes[name]["run_id"]) for name in names}
    iou = {name: records[name]["per_class"]["iou"] for name in registry.SHIPPED}
    return render(
        "MODEL_CARD.md",
        notes=notes,
        records=records,
        pair=registry.SHIPPED,
        fast=registry.FAST,
        street=registry.STREET,
        profiles=PROFILES,
        kilobytes={name: (registry.WEIGHTS / f"{name}.safetensors").stat().st_size / 1000 for name in names},
        what={name: registry.spec_of(note["arch"]).description for name, note in notes.items()},
        iou=pd.DataFrame(iou, notes[registry.SHIPPED[-1]]["classes"], dtype=float).rename_axis("class"),
        table=lambda name: read_table(figures, name),
    )


def sections(figures: Path = FIGURES) -> dict[str, str]:
    """Title -> Markdown of the model card's sections without pictures, for chapter 7."""
    text = re.sub(r"^!\[.*\n+\*.*\n", "", model_card(figures), flags=re.MULTILINE)
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)[1:]
    return {title: section.strip() for title, section in zip(parts[::2], parts[1::2], strict=True)}


def _record(figures: Path, run_id: str) -> dict:
    path = figures / "runs" / f"{run_id}.json"
    if not path.exists():
        raise NotFoundError(
            f"{path.name} is not in {path.parent}; the weights and their records are published together: make reference"
        )
    return read_json(path)
