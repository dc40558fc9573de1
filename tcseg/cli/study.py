"""The study: `tcseg study`, `sweep`, `measure`, `report`, and the course as a workbook."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tcseg.errors import require_writable
from tcseg.machine import writable

from .app import app

NOTHING_TO_DO = "nothing to do: every run of these sweeps is there"


@app.command()
def study(
    dataset: Annotated[str, typer.Option(help="procity, camvid or cityscapes.")] = "procity",
    profile: Annotated[str, typer.Option(help="smoke, laptop or full.")] = "laptop",
    runs: Annotated[str, typer.Option(help="train, or reference: show the committed runs, train nothing.")] = "train",
    notebook: Annotated[
        list[str] | None, typer.Option(help="Stop after this notebook (name or number); repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; default data/study/<dataset>-<profile>.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds of each recipe; default the profile's.")] = None,
    size: Annotated[str | None, typer.Option(help="Of the frames, as 512x256; default the profile's.")] = None,
    report: Annotated[bool, typer.Option(help="Build the report at the end.")] = True,
) -> None:
    """Run the study: data, eight notebooks, report.

    It goes on where it stopped.

    Example: tcseg study --dataset camvid --profile laptop
    """
    from tcseg.study.run_study import run_study

    raise typer.Exit(run_study(dataset, profile, runs, notebook or None, out, seeds, report, size))


@app.command()
def sweep(
    dataset: Annotated[str, typer.Option(help="procity, camvid or cityscapes.")] = "procity",
    profile: Annotated[str, typer.Option(help="smoke, laptop, full or bench.")] = "laptop",
    only: Annotated[list[str] | None, typer.Option(help="A sweep's name; repeatable. Default all.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs side by side; default one a core (GPU: one).")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many runs in this sitting.")] = None,
    missing: Annotated[bool, typer.Option("--list", help="Say what is missing and how long it takes.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder; default data/study/<dataset>-<profile>.")] = None,
) -> None:
    """Train the runs of the ablation's sweeps that are missing.

    Hours at laptop; stop it at any time, it goes on where it was. Then: make rows.

    Example: tcseg sweep --only pareto --only schedule
    """
    from tcseg.study.study import open_study
    from tcseg.study.sweeps import forecast, plan, run_sweeps

    study = open_study(dataset, profile, folder=out)
    if missing:
        remaining = forecast(study, plan(only, dataset, profile))
        runs, hours = remaining["runs"].sum(), (remaining["runs"] * remaining["minutes_each"]).sum() / 60
        text = f"{remaining.to_string(index=False)}\n{runs} runs, about {hours:.1f} hours of one core, as far as is known"
        typer.echo(text if runs else NOTHING_TO_DO)
        return
    trained = run_sweeps(study, only, workers, limit)
    typer.echo(f"{trained} runs made" if trained else NOTHING_TO_DO)


@app.command()
def measure(
    name: Annotated[
        str,
        typer.Argument(
            help="procity, transfer, zero_shot, metrics, coverage, cost, latency, gpu, speeds, layouts, half_resolution, "
            "pipeline, steadiness, precision or flow."
        ),
    ],
    quick: Annotated[bool, typer.Option(help="Seconds instead of minutes; the numbers mean nothing.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder; default data/study/measurements.")] = None,
    anyway: Annotated[bool, typer.Option(help="Report times although the machine is busy.")] = False,
) -> None:
    """Make one of the long measurements that a study need not repeat.

    Its table is printed and written; `make reference` copies it to figures/. Timings want an idle machine.

    Example: tcseg measure procity
    """
    import pandas as pd

    from tcseg.study.measurements import measure as make
    from tcseg.study.paths import MEASURED, PASS_OUT

    usual = MEASURED.with_name(f"{MEASURED.name}-quick") if quick else MEASURED  # no real one is written over
    where = require_writable(out or usual, PASS_OUT)
    if out and not writable(MEASURED):  # the studies that it looks into cannot lie where they usually do
        os.environ.setdefault("TCSEG_STUDIES", str(out.resolve() / "studies"))
    written = make(name, where, quick, anyway)
    typer.echo(pd.read_csv(written[0]).to_string(index=False, na_rep="-"))
    typer.echo("\n".join(str(path) for path in written))


@app.command()
def report(
    dataset: Annotated[str, typer.Option(help="procity, camvid or cityscapes.")] = "procity",
    profile: Annotated[str, typer.Option(help="smoke, laptop or full.")] = "laptop",
    mine: Annotated[bool, typer.Option(help="Of the study under data/study, not of the committed figures.")] = False,
) -> None:
    """Build the report; nothing is trained.

    From the committed figures, or with --mine from your own study (which must be complete, or is completed).

    Example: tcseg report --mine --profile smoke
    """
    from tcseg.study.run_study import run_study

    raise typer.Exit(run_study(dataset, profile, "train" if mine else "reference"))


@app.command()
def workbook(
    out: Annotated[Path, typer.Argument(help="A new folder for your copy.")],
) -> None:
    """Write the chapters with the exercises' solutions taken out.

    Below each question is a cell with a function for you to fill in, and with the lines that check it.

    Example: tcseg workbook my_course
    """
    from tcseg.study.notebooks.workbook import write_workbook
    from tcseg.study.run_study import ROOT

    written = write_workbook(ROOT / "notebooks", out)
    typer.echo(f"{len(written)} chapters in {out}. Next: jupyter lab {out}")
