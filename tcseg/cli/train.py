"""The command that trains one recipe: `tcseg train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcseg.errors import require_one_of

from .app import app


@app.command()
def train(
    recipe: Annotated[str | None, typer.Argument(help="Name of a recipe, such as student or consistent.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of initial weights, order and augmentation.")] = 0,
    dataset: Annotated[str, typer.Option(help="procity, camvid or cityscapes.")] = "procity",
    profile: Annotated[str, typer.Option(help="smoke, laptop, full or bench.")] = "laptop",
    out: Annotated[Path | None, typer.Option(help="Output folder. Default: data/study/<dataset>-<profile>.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of the training. Default: as many as tcseg sweep gives a run.")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the recipes, their steps and the finished seeds.")] = False,
) -> None:
    """Train one recipe with one seed, and score it.

    The run is the one that tcseg study and tcseg sweep would make: they find it finished. A teacher that it needs is trained first.
    You can stop it at any time and run it again to continue.

    With several GPUs: torchrun --nproc-per-node 4 -m tcseg train consistent. The recipe's batch is divided among the processes;
    their number is part of the run's id.

    Example: tcseg train consistent --seed 1
    """
    from tcseg.labels import DATASETS
    from tcseg.study.opening import open_rows, open_study
    from tcseg.study.recipes import PROFILES
    from tcseg.study.sweeps.one_run import list_recipes, require_recipe, train_one, train_together
    from tcseg.training import together

    require_one_of("dataset", dataset, DATASETS)
    require_one_of("profile", profile, PROFILES)
    if listed:
        typer.echo(list_recipes(open_rows(dataset, profile, out)).to_string(index=False))
        return
    if recipe is None:
        raise typer.BadParameter("give the name of a recipe; tcseg train --list names all", param_hint="'RECIPE'")
    require_recipe(recipe)
    study = open_study(dataset, profile, folder=out)
    several = together.processes() > 1
    run = train_together(study, recipe, seed) if several else train_one(study, recipe, seed, threads)
    if run is None:  # the first of the processes speaks for all
        return
    done = f"trained in {run.record['cost']['train_seconds']:.0f} s" if run.trained_now else "was finished before"
    scores = ", ".join(f"{name} {run.metrics[name]:.4f}" for name in ("miou", "flicker") if run.metrics.get(name) is not None)
    typer.echo(f"{run.id} {done}: {scores}\n{run.weights}")
