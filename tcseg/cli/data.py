"""Check the machine and the data: `tcseg doctor`, `tcseg data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcseg.data.frame_size import parse_size
from tcseg.errors import InputError, NotFoundError

from .app import app, data_app, trees


@app.command()
def doctor() -> None:
    """Check this machine, and suggest the next step.

    Checks versions, device, threads, memory, disk, data and extras. The exit code is 1 if a required part is broken.

    Example: tcseg doctor
    """
    from tcseg.cli import doctor as checks

    lines = checks.examine()
    typer.echo(checks.as_text(lines))
    typer.echo(f"\nnext: {checks.next_step(lines)}")
    if any(line.state == checks.BAD for line in lines):
        raise typer.Exit(1)


@data_app.command()
def procity(
    out: Annotated[Path | None, typer.Option(help="Output folder. Default: a new folder in data/procity.")] = None,
    size: Annotated[str, typer.Option(help="Size of the frames, width x height.")] = "256x128",
    train: Annotated[int, typer.Option(min=0, help="Snippets for training.")] = 160,
    val: Annotated[int, typer.Option(min=0, help="Snippets for validation.")] = 24,
    test: Annotated[int, typer.Option(min=0, help="Snippets for test.")] = 6,
    neighbours: Annotated[
        int, typer.Option(min=0, help="Number of frames before and after the labelled frame of a training snippet.")
    ] = 2,
    seed: Annotated[int, typer.Option(help="Each seed generates another data set.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one per core.")] = None,
) -> None:
    """Generate the procity data set.

    procity is a procedural city in the layout of Cityscapes, with exact labels and flow. `tcseg study` generates the default
    by itself. For `tcseg study --size 512x256`, use --size 512x256 here.

    Example: tcseg data procity --size 512x256
    """
    from tcseg import procity as city
    from tcseg.data.folders import data_root
    from tcseg.study.recipes import PROFILES

    frame_size = parse_size(size)
    request = (train, val, test, neighbours, seed)
    profiles = [
        p for p in PROFILES.values() if request == (p.train_snippets, p.val_snippets, p.test_snippets, p.neighbours, 0)
    ]
    name = city.tree_name(frame_size, train, val, test)
    if not profiles:  # a study must not find this data set under the name of its own
        name += f"-{neighbours}-seed{seed}"
    root = out or data_root() / "procity" / name
    city.generate(root, frame_size, train, val, test, neighbours, seed, workers, progress=True)
    typer.echo(f"{root}: {train} + {val} + {test} snippets at {size}")
    if profiles and not out:
        options = "" if profiles[0].name == "laptop" else f" --profile {profiles[0].name}"
        options += "" if frame_size == profiles[0].size else f" --size {size}"
        typer.echo(f"next: tcseg study{options}")


@data_app.command()
def check(
    root: Annotated[
        Path | None, typer.Argument(help="Folder of a data set, or of several. Default: all data sets found.")
    ] = None,
    mend: Annotated[bool, typer.Option(help="Generate missing or damaged files again (procity only).")] = False,
    quick: Annotated[bool, typer.Option(help="Check only names, pairs and sizes, without decoding.")] = False,
) -> None:
    """Decode every file of a data set, match frames with labels, and list missing or damaged files.

    The exit code is 1 if there are any. A subset of Cityscapes or CamVid is reported as a subset, not as an error. A folder of your
    own has frames/<clip>/, labels/<clip>/ and classes.yaml.

    Example: tcseg data check data/procity --mend
    """
    from tcseg import procity as city
    from tcseg.data import integrity
    from tcseg.data.folders import OWN
    from tcseg.data.own.check import check as check_own

    failed = False
    for folder, name in _data_sets(root).items():
        if mend and name == "procity":
            city.mend(folder)
        report = check_own(folder, quick, True) if name == OWN else integrity.check(folder, name, quick, progress=True)
        failed = failed or bool(report.problems)
        typer.echo("\n".join(report.lines()))
    if failed:
        raise typer.Exit(1)


def _data_sets(root: Path | None) -> dict[Path, str]:
    """The data sets in a folder; without a folder, all data sets that are found.

    Raises:
        NotFoundError, InputError: there is none; the message mentions a problem with TCSEG_DATA.
    """
    from tcseg.data.folders import DATASETS, explain_variable, find_dataset, kind_of

    if root is None:
        note = explain_variable()
        if note:
            typer.echo(f"note: {note}", err=True)
        trees_found = {tree: name for name in DATASETS for tree in trees(find_dataset(name))}
        if not trees_found:
            raise NotFoundError(f"no data set was found; generate one with: tcseg data procity{f' ({note})' if note else ''}")
        return trees_found
    if not root.is_dir():
        raise NotFoundError(f"{root} is not a folder; pass the folder of a data set, such as data/procity")
    if name := kind_of(root) or _by_name(root):
        return dict.fromkeys(trees(root), name)
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]  # procity has several trees in a folder
    kinds = {tree: kind_of(tree) for folder in folders for tree in trees(folder)}
    if inner := {tree: name for tree, name in kinds.items() if name}:
        return inner
    above = next((one for one in root.absolute().parents if kind_of(one)), None)
    part = f"; it is part of the {kind_of(above)} data set {above}, so pass that folder" if above else ""
    raise InputError(
        f"{root} does not have the layout of a known data set (leftImg8bit_sequence + gtFine, train + trainannot, or "
        f"frames + labels + classes.yaml){part}"
    )


def _by_name(root: Path) -> str | None:
    """The data set with the name of a folder, for folders whose layout is unknown, such as empty ones."""
    from tcseg.data.folders import DATASETS

    return next((name for name in DATASETS if root.absolute().name.lower() == name), None)


@data_app.command()
def new(
    root: Annotated[Path, typer.Argument(help="A new folder.")],
    origin: Annotated[
        list[str], typer.Option("--from", help="A film (repeatable), or the format of an export: coco, cvat or cityscapes.")
    ],
    source: Annotated[
        Path | None, typer.Option(help="The export: COCO's JSON file, CVAT's zip file or folder, or the folder with gtFine.")
    ] = None,
    frames: Annotated[Path | None, typer.Option(help="Folder of the pictures, if the export has none.")] = None,
    every: Annotated[str, typer.Option(help="Of films: time or frames between two frames to label, such as 1s or 12f.")] = "1s",
    around: Annotated[int, typer.Option(min=0, help="Of films: frames before and after each of these.")] = 5,
    classes: Annotated[
        str, typer.Option(help="Of films: names with commas between them, cityscapes, camvid, or a YAML file.")
    ] = "cityscapes",
) -> None:
    """Begin a data set of your own: lay out frames of a film to be labelled, or convert an export of an annotation tool.

    Films: label the pictures in to_label, and save each label map under the same name (.png) in labels. The values of a label map
    are the ids in classes.yaml.

    Example: tcseg data new mine --from drive.mp4 --every 1s --classes road,car,rest
    """
    from tcseg.data.own import convert, create

    if len(origin) == 1 and origin[0] in convert.FORMATS:
        if source is None:
            raise InputError(f"--from {origin[0]} needs --source, the export")
        typer.echo(convert.convert(root, origin[0], source, frames))
        typer.echo(f"next: tcseg data check {root}")
        return
    if source is not None or frames is not None:
        raise InputError(f"--from is {', '.join(origin)}, a film; --source and --frames are for coco, cvat and cityscapes")
    written = create.from_films(root, [Path(film) for film in origin], every, around, classes)
    done = {name: count for name, count in written.items() if count}
    typer.echo(f"{len(done)} frames to label in {root / create.TO_LABEL}, {sum(done.values())} frames in {root / 'frames'}")
    typer.echo(f"next: save a label map for each as {root / 'labels'}/<clip>/<frame>.png, then: tcseg data check {root}")
