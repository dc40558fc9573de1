"""The commands of the study: `tcseg study`, `sweep`, `measure`, `report`, `workbook`, `lab`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tcseg.data.frame_size import parse_size
from tcseg.errors import require_one_of, require_writable
from tcseg.machine import writable

from .app import app

NOTHING_TO_DO = "nothing to do: all runs of these sweeps are finished"


@app.command()
def study(
    dataset: Annotated[str, typer.Option(help="procity, camvid, cityscapes, or a folder of your own.")] = "procity",
    profile: Annotated[str, typer.Option(help="smoke, laptop or full.")] = "laptop",
    runs: Annotated[str, typer.Option(help="train, or reference (show the committed runs without training).")] = "train",
    notebook: Annotated[
        list[str] | None, typer.Option(help="Run the chapters up to this notebook (name or number); repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder. Default: data/study/<dataset>-<profile>.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds per recipe. Default: from the profile.")] = None,
    size: Annotated[str | None, typer.Option(help="Size of the frames, such as 512x256. Default: from the profile.")] = None,
    report: Annotated[bool, typer.Option(help="Build the report at the end.")] = True,
) -> None:
    """Run the study: data, eight notebooks, report.

    An interrupted study continues where it stopped.

    Example: tcseg study --dataset camvid --profile laptop
    """
    from tcseg.study.run_study import run_study

    _require_known(dataset, profile, runs)
    if size is not None:
        parse_size(size)
    raise typer.Exit(run_study(dataset, profile, runs, notebook or None, out, seeds, report, size))


def _require_known(dataset: str, profile: str, runs: str = "train") -> None:
    """Refuse what no study has, before `run_study`, which prints its own errors."""
    from tcseg.data.own.lookup import require_dataset
    from tcseg.study.reference_rows import STUDIES

    require_dataset(dataset)
    require_one_of("profile", profile, STUDIES)
    require_one_of("runs", runs, ("train", "reference"))


@app.command()
def sweep(
    dataset: Annotated[str, typer.Option(help="procity, camvid, cityscapes, or a folder of your own.")] = "procity",
    profile: Annotated[str, typer.Option(help="smoke, laptop, full or bench.")] = "laptop",
    only: Annotated[list[str] | None, typer.Option(help="Name of a sweep; repeatable. Default: all sweeps.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs in parallel. Default: one per core (on a GPU: one).")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many runs.")] = None,
    part: Annotated[
        str | None, typer.Option(help="I/N: every N-th run alone, from the I-th on. N machines share no run, and need no network.")
    ] = None,
    on: Annotated[
        str, typer.Option(help="Where: local, ray (extra cluster), or auto: ray where RAY_ADDRESS is set, else local.")
    ] = "auto",
    missing: Annotated[bool, typer.Option("--list", help="List the missing runs and their training time.")] = False,
    out: Annotated[Path | None, typer.Option(help="Output folder. Default: data/study/<dataset>-<profile>.")] = None,
) -> None:
    """Train the missing runs of the ablation's sweeps.

    This takes hours at profile laptop. You can stop it at any time and run it again to continue. A run that fails does not stop the
    others; it is listed at the end with its error. Then run: make rows.

    Example: tcseg sweep --only pareto --only schedule
    """
    from tcseg.study.opening import open_study
    from tcseg.study.paths import require_checkout
    from tcseg.study.sweeps import forecast, plan, read_part, run_sweeps, take_part

    own = None if part is None else read_part(part)
    if missing:  # what is committed is not missing
        require_checkout("tcseg sweep --list", "figures/runs")
    study = open_study(dataset, profile, folder=out)
    if missing:
        remaining = forecast(study, take_part(plan(only, dataset, profile), own))
        runs, hours = remaining["runs"].sum(), (remaining["runs"] * remaining["minutes_each"]).sum() / 60
        text = f"{remaining.to_string(index=False)}\n{runs} runs, about {hours:.1f} hours on one core (where known)"
        typer.echo(text if runs else NOTHING_TO_DO)
        return
    trained = run_sweeps(study, only, workers, limit, own, on)
    typer.echo(f"{trained} runs trained" if trained else NOTHING_TO_DO)


@app.command()
def measure(
    name: Annotated[
        str,
        typer.Argument(
            help="procity, transfer, zero_shot, adapt, street, metrics, coverage, cost, latency, gpu, speeds, layouts, "
            "half_resolution, pipeline, steadiness, still_camera, precision or flow."
        ),
    ],
    quick: Annotated[bool, typer.Option(help="Only test the command, in seconds; the numbers mean nothing.")] = False,
    out: Annotated[Path | None, typer.Option(help="Output folder. Default: data/study/measurements.")] = None,
    anyway: Annotated[bool, typer.Option(help="Report timings even if the machine is busy.")] = False,
) -> None:
    """Run one of the long measurements, which are not part of the study.

    The table is printed and saved; `make reference` copies it to figures/. Timings need an idle machine.

    Example: tcseg measure procity
    """
    import pandas as pd

    from tcseg.study.measurements import measure as make
    from tcseg.study.paths import MEASURED, PASS_OUT

    usual = MEASURED.with_name(f"{MEASURED.name}-quick") if quick else MEASURED  # no real one is written over
    where = require_writable(out or usual, PASS_OUT)
    if out and not writable(MEASURED):  # the studies that it reads cannot be in their usual folder
        os.environ.setdefault("TCSEG_STUDIES", str(out.resolve() / "studies"))
    written = make(name, where, quick, anyway)
    typer.echo(pd.read_csv(written[0]).to_string(index=False, na_rep="-"))
    typer.echo("\n".join(str(path) for path in written))


@app.command()
def report(
    dataset: Annotated[str, typer.Option(help="procity, camvid, cityscapes, or a folder of your own.")] = "procity",
    profile: Annotated[str, typer.Option(help="smoke, laptop or full.")] = "laptop",
    mine: Annotated[bool, typer.Option(help="Report on your own study in data/study instead of the committed results.")] = False,
) -> None:
    """Build the report from the committed results, without training.

    With --mine, build it from your own study; missing parts of that study are run first.

    Example: tcseg report --mine --profile smoke
    """
    from tcseg.study.run_study import run_study

    _require_known(dataset, profile)
    raise typer.Exit(run_study(dataset, profile, "train" if mine else "reference"))


@app.command()
def workbook(
    out: Annotated[Path, typer.Argument(help="A new folder for your copy; with --check, the folder of your copy.")],
    check: Annotated[bool, typer.Option("--check", help="Run the exercises that you have written; count what passes.")] = False,
) -> None:
    """Write the chapters without the solutions of the exercises.

    Below each question is a cell with a function for you to complete, and a check. With --check, the exit code is 1 if an exercise
    that you have written fails.

    Example: tcseg workbook my_course
    """
    from tcseg.study.notebooks.workbook import write_workbook
    from tcseg.study.run_study import ROOT

    if check:
        from tcseg.study.notebooks.workbook_check import FAILS, check_workbook, summary

        results = check_workbook(ROOT / "notebooks", out, typer.echo)
        typer.echo("\n".join(summary(results)))
        raise typer.Exit(any(result.state == FAILS for result in results))
    written = write_workbook(ROOT / "notebooks", out)
    typer.echo(f"{len(written)} chapters in {out}. Next: jupyter lab {out}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(
    context: typer.Context,
    chapter: Annotated[str | None, typer.Option(help="Open this chapter (name or number).")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of your copy. Default: data/course.")] = None,
) -> None:
    """Open your copy of the course in JupyterLab; the chapters in the repository stay as they are.

    Other options go to JupyterLab. A chapter that you have run or changed is never overwritten.

    Example: tcseg lab --chapter 4 --no-browser
    """
    from tcseg.study.notebooks.workbook import refresh_copies
    from tcseg.study.paths import COPIES
    from tcseg.study.run_study import ROOT, known_notebook

    folder = (out or COPIES).absolute()
    name = known_notebook(chapter) if chapter else None
    for old in refresh_copies(ROOT / "notebooks", folder):
        typer.echo(f"{old} has changed in the repository; yours is kept: rename it to get the new one", err=True)
    place = folder / f"{name}.ipynb" if name else folder
    arguments = [sys.executable, "-m", "jupyterlab", str(place), f"--ServerApp.root_dir={folder}", *context.args]
    os.execv(sys.executable, arguments)
