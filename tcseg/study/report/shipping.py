"""Put trained students into the package, in half precision: those of the study, and those for real streets."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pandas as pd

from tcseg.errors import CannotRunError
from tcseg.models import registry
from tcseg.study.paths import MEASURED
from tcseg.study.recipes import PRIMARY
from tcseg.study.runs import Run

MAX_BYTES = 1_000_000  # of a committed file
SHIPPED_AS = dict(zip(PRIMARY, registry.SHIPPED, strict=True))  # recipe -> name under tcseg/weights


class PublishError(CannotRunError):
    """Results that cannot be published, or that no longer belong to the code. The message says which and what to do."""


def ship_students(study: Path, weights: Path = registry.WEIGHTS) -> list[Path]:
    """Write the first seeds of `student` and `consistent` to tcseg/weights, in half precision.

    Raises:
        PublishError: The study has no such run, or several.
    """
    return [ship(_first_seed(study, recipe), name, weights) for recipe, name in SHIPPED_AS.items()]


def ship_street(source: Path = MEASURED, weights: Path = registry.WEIGHTS / "street") -> list[Path]:
    """Write the students for real streets that `tcseg measure street` made here to tcseg/weights/street, in half precision.

    Their cards go with them. Returns the files written; none where nothing was made.
    """
    weights.mkdir(parents=True, exist_ok=True)
    written = []
    for name in registry.STREET:
        made = source / "street" / f"{name}.safetensors"
        if not made.exists():
            continue
        network, notes = registry.load_weights(made), json.loads(made.with_suffix(".json").read_text())
        of_network = ("arch", "num_classes", "classes", "colors", "class_set", "architecture", "size", "dataset")
        facts = {key: value for key, value in notes.items() if key not in of_network}
        registry.save_weights(network, weights / made.name, half=True, **facts)
        (weights / made.name).chmod(0o644)
        shutil.copyfile(made.with_suffix(".md"), weights / f"{name}.md")
        written.append(weights / made.name)
    return written


def ship(run: Run, name: str, weights: Path = registry.WEIGHTS) -> Path:
    """Write a run's network to tcseg/weights, in half precision.

    Raises:
        PublishError: It is too large.
    """
    path, aside = weights / f"{name}.safetensors", weights / f".{name}.safetensors"
    meta = {key: run.record[key] for key in ("run_id", "dataset", "profile", "size", "metrics")}
    registry.save_weights(run.model(), aside, half=True, recipe=run.name, **meta)
    if aside.stat().st_size > MAX_BYTES:
        raise PublishError(f"{name} has {aside.stat().st_size / 1e6:.1f} MB in half precision; at most 1 MB ships")
    aside.chmod(0o644)  # safetensors writes for the owner alone
    for suffix in (".json", ".safetensors"):
        os.replace(aside.with_suffix(suffix), path.with_suffix(suffix))
    return path


def _first_seed(study: Path, recipe: str) -> Run:
    named = set(pd.read_csv(study / "tables" / "ablation.csv").query("recipe == @recipe and seed == 0")["run_id"])
    if len(named) != 1:
        raise PublishError(f"{study} has {len(named)} runs of {recipe} with seed 0 in its ablation; one is needed")
    folder = study / "runs" / named.pop()
    return Run(json.loads((folder / "record.json").read_text()), folder)
