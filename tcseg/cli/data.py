"""Is this machine ready, and are the data? `tcseg doctor`, `tcseg data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcseg.errors import InputError, NotFoundError
from tcseg.sizes import parse_size

from .app import app, data_app, trees


@app.command()
def doctor() -> None:
    """Check this machine, and say what to do next.

    Versions, device, threads, memory, disk, data, extras. Exit code 1 if something required is broken.

    Example: tcseg doctor
    """
    from tcseg import doctor as checks

    lines = checks.examine()
    typer.echo(checks.as_text(lines))
    typer.echo(f"\nnext: {checks.next_step(lines)}")
    if any(line.state == checks.BAD for line in lines):
        raise typer.Exit(1)


@data_app.command()
def procity(
    out: Annotated[Path | None, typer.Option(help="Folder to write; default one in data/procity.")] = None,
    size: Annotated[str, typer.Option(help="Of the frames, width x height.")] = "256x128",
    train: Annotated[int, typer.Option(min=0, help="Snippets for training.")] = 160,
    val: Annotated[int, typer.Option(min=0, help="Snippets for validation.")] = 24,
    test: Annotated[int, typer.Option(min=0, help="Snippets for test.")] = 6,
    neighbours: Annotated[
        int, typer.Option(min=0, help="Frames on each side of a training snippet's labelled one.")
    ] = 2,
    seed: Annotated[int, typer.Option(help="Another seed is another city.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default one a core.")] = None,
) -> None:
    """Make the embedded data set.

    A procedural city in the Cityscapes layout, with exact labels and flow. The default is what `tcseg study` uses and would make
    itself; what `tcseg study --size 512x256` uses comes with --size 512x256.

    Example: tcseg data procity --size 512x256
    """
    from tcseg import procity as city
    from tcseg.doctor import data_root
    from tcseg.recipes import PROFILES

    wanted = parse_size(size)
    asked = (train, val, test, neighbours, seed)
    profiles = [
        p for p in PROFILES.values() if asked == (p.train_snippets, p.val_snippets, p.test_snippets, p.neighbours, 0)
    ]
    name = city.tree_name(wanted, train, val, test)
    if not profiles:  # no study looks for these: they must not lie where it looks for its own
        name += f"-{neighbours}-seed{seed}"
    root = out or data_root() / "procity" / name
    city.generate(root, wanted, train, val, test, neighbours, seed, workers, progress=True)
    typer.echo(f"{root}: {train} + {val} + {test} snippets at {size}")
    if profiles and not out:
        again = "" if wanted == profiles[0].size else f" --size {size}"
        again = ("" if profiles[0].name == "laptop" else f" --profile {profiles[0].name}") + again
        typer.echo(f"next: tcseg study{again}")


@data_app.command()
def check(
    root: Annotated[Path | None, typer.Argument(help="A data set's folder; default: every data set found.")] = None,
    mend: Annotated[bool, typer.Option(help="Make what is missing or damaged again (procity only).")] = False,
) -> None:
    """Name what is missing or damaged in a data set.

    Exit code 1 if there is anything.

    Example: tcseg data check data/procity --mend
    """
    from tcseg import data
    from tcseg import procity as city
    from tcseg.doctor import DATASETS, find_data

    if root is not None and not root.is_dir():
        raise NotFoundError(f"{root} is not a folder; give a data set's folder, as data/procity")
    folders = {None: root} if root else {name: find_data(name) for name in DATASETS}
    found = {tree: name or _kind(tree) for name, folder in folders.items() for tree in trees(folder)}
    if not found:
        raise NotFoundError("no data set here; make one with: tcseg data procity")
    failed = False
    for folder, name in found.items():
        if mend and name == "procity":
            city.mend(folder)
        problems = data.check(folder, name)
        failed = failed or bool(problems)
        typer.echo(f"{name} ({folder}): {f'{len(problems)} problems' if problems else 'complete'}")
        for problem in problems[:20]:
            typer.echo(f"  {problem}")
        if len(problems) > 20:
            typer.echo(f"  ... and {len(problems) - 20} more")
    if failed:
        raise typer.Exit(1)


def _kind(root: Path) -> str:
    """Which data set a folder holds, by its layout."""
    if (root / "valannot").is_dir() or (root / "trainannot").is_dir():
        return "camvid"
    if (root / "flow").is_dir() or "procity" in root.name:
        return "procity"
    if (root / "leftImg8bit_sequence").is_dir() or (root / "gtFine").is_dir():
        return "cityscapes"
    raise InputError(
        f"{root} has the layout of no known data set (leftImg8bit_sequence + gtFine, or train + trainannot)"
    )
