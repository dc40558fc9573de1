"""The command line. Nothing heavy is imported before a command needs it: `tcseg doctor` runs where torch does not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import typer.core

from tcseg import __version__
from tcseg.sizes import parse_size

if TYPE_CHECKING:
    import numpy as np

    from tcseg.networks import SegmentationModel


class _Group(typer.core.TyperGroup):
    """Our errors are one line; a traceback only on request."""

    def invoke(self, ctx: typer.Context) -> object:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from None
        except (ValueError, OSError, RuntimeError, ImportError) as error:
            if ctx.params.get("debug") or os.environ.get("TCSEG_DEBUG") == "1":
                raise
            text = str(error).strip() or type(error).__name__
            if isinstance(error, ImportError):
                text += " (run: tcseg doctor)"
            typer.echo(f"error: {text}", err=True)
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=_Group, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
data_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Make the embedded data set, and check data sets."
)
app.add_typer(data_app, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tcseg {__version__}")
        raise typer.Exit


@app.callback()
def main(
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error (or set TCSEG_DEBUG=1).")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Real-time, temporally consistent semantic segmentation of driving video.

    Is this machine ready:     tcseg doctor

    The whole study:           tcseg study

    Try a trained student:     tcseg segment drive.mp4 --out classes.mp4
    """


def load_model(name: str | None, weights: Path | None, default: str = "student-consistent") -> SegmentationModel:
    """The network that a command's --model and --weights name.

    Raises:
        ValueError: both are given, or the name is unknown.
        FileNotFoundError: there are no such weights.
    """
    from tcseg import models

    if name and weights:
        raise ValueError(f"give --model {name} or --weights {weights}, not both")
    return models.load_weights(weights) if weights else models.shipped(name or default)


def real_frames(size: tuple[int, int], count: int, source: Path | None) -> tuple[np.ndarray | None, str]:
    """Frames of `source`, else of a data set found here, resized: uint8 (N,H,W,3) RGB or None, and where from."""
    import cv2
    import numpy as np

    from tcseg.doctor import DATASETS, find_data
    from tcseg.videofiles import read_frames

    if source is None:
        patterns = ("leftImg8bit_sequence/val/*/*.png", "leftImg8bit_sequence/*/*/*.png", "val/*.png")
        folders = [tree for name in DATASETS for tree in _trees(find_data(name))]
        pictures = (path for folder in folders for pattern in patterns for path in folder.glob(pattern))
        first = next(pictures, None)
        if first is None:
            return None, "pictures without meaning (no data set here; give --frames)"
        source = first.parent
    frames = read_frames(source, count)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]), str(source)


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
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; default data/procity/<size>-<train>-<val>-<test>.")
    ] = None,
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

    wanted = parse_size(size)
    root = out or data_root() / "procity" / city.tree_name(wanted, train, val, test)
    city.generate(root, wanted, train, val, test, neighbours, seed, workers, progress=True)
    again = "" if wanted == (256, 128) else f" --size {size}"
    typer.echo(f"{root}: {train} + {val} + {test} snippets at {size}. Next: tcseg study{again}")


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
        raise FileNotFoundError(f"{root} is not a folder; give a data set's folder, as data/procity")
    found = {tree: _kind(tree) for folder in ([root] if root else map(find_data, DATASETS)) for tree in _trees(folder)}
    if not found:
        raise FileNotFoundError("no data set here; make one with: tcseg data procity")
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


def _trees(folder: Path | None) -> list[Path]:
    """The data sets in a folder: itself, or where it holds several of procity's, each of them."""
    if folder is None:
        return []
    several = sorted(inner.parent for inner in folder.glob("*/manifest.json"))
    return several or [folder]


def _kind(root: Path) -> str:
    """Which data set a folder holds, by its layout."""
    if (root / "valannot").is_dir() or (root / "trainannot").is_dir():
        return "camvid"
    if (root / "flow").is_dir() or "procity" in root.name:
        return "procity"
    if (root / "leftImg8bit_sequence").is_dir() or (root / "gtFine").is_dir():
        return "cityscapes"
    raise ValueError(
        f"{root} has the layout of no known data set (leftImg8bit_sequence + gtFine, or train + trainannot)"
    )


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
    from tcseg.runner import run_study

    raise typer.Exit(run_study(dataset, profile, runs, notebook or None, out, seeds, report, size))


@app.command()
def sweep(
    dataset: Annotated[str, typer.Option(help="procity, camvid or cityscapes.")] = "procity",
    profile: Annotated[str, typer.Option(help="smoke, laptop or full.")] = "laptop",
    only: Annotated[list[str] | None, typer.Option(help="A sweep's name; repeatable. Default all.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs side by side; default one a core (GPU: one).")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many runs in this sitting.")] = None,
) -> None:
    """Train the runs of the ablation's sweeps that are missing.

    Hours at laptop; stop it at any time, it goes on where it was. Then: make reference.

    Example: tcseg sweep --only pareto --only schedule
    """
    from tcseg.study import open_study
    from tcseg.sweeps import run_sweeps

    made = run_sweeps(open_study(dataset, profile), only, workers, limit)
    typer.echo(f"{made} runs made" if made else "nothing to do: every run of these sweeps is there")


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
    from tcseg.runner import run_study

    raise typer.Exit(run_study(dataset, profile, "train" if mine else "reference"))


@app.command()
def workbook(
    out: Annotated[Path, typer.Argument(help="A new folder for your copy.")],
) -> None:
    """Write the chapters with the exercises' solutions taken out.

    Below each question is a cell with a function for you to fill in, and with the lines that check it.

    Example: tcseg workbook my_course
    """
    from tcseg.runner import ROOT
    from tcseg.workbook import write_workbook

    written = write_workbook(ROOT / "notebooks", out)
    typer.echo(f"{len(written)} chapters in {out}. Next: jupyter lab {out}")


@app.command()
def segment(
    source: Annotated[str, typer.Argument(help="Video file, folder of images, camera number, or stream URL.")],
    out: Annotated[Path | None, typer.Option(help="X.mp4, X.avi or X.gif; without it only the speed is told.")] = None,
    model: Annotated[str | None, typer.Option(help="student or student-consistent (default).")] = None,
    weights: Annotated[Path | None, typer.Option(help="Your own NAME.safetensors, with NAME.json beside it.")] = None,
    size: Annotated[str | None, typer.Option(help="The network sees frames resized to this, as 1024x512.")] = None,
    overlay: Annotated[float, typer.Option(help="0 = the frame .. 1 = the colours.")] = 0.6,
    fps: Annotated[float | None, typer.Option(min=0.1, help="Of the output; default the source's.")] = None,
    runtime: Annotated[str, typer.Option(help="pytorch, onnxruntime or openvino.")] = "pytorch",
    labels: Annotated[Path | None, typer.Option(help="New folder for label maps: a PNG of trainIds a frame.")] = None,
    probs: Annotated[
        Path | None, typer.Option(help="New folder for probabilities at stride 4: an .npz a frame.")
    ] = None,
    strip: Annotated[bool, typer.Option(help="Plot flicker (classes that change) under the picture.")] = False,
    show: Annotated[bool, typer.Option(help="In a window, while it runs; q ends.")] = False,
    steady: Annotated[
        str | None, typer.Option(help='A filter on top of the network, as "median of three" or "mean along flow 0.5".')
    ] = None,
    compare: Annotated[bool, typer.Option(help="Frame, student and student-consistent side by side.")] = False,
) -> None:
    """Segment a video: paint the classes over it, write the answers, or show it while it runs.

    Frames a second are shown while it runs. Ctrl-C keeps the frames done so far, in complete files.

    Example: tcseg segment drive.mp4 --out classes.mp4 --strip
    """
    from tcseg import models, video

    wanted, more = parse_size(size) if size else None, {"strip": strip, "show": show, "steady": steady}
    if compare:
        if not (out or show) or model or weights or labels or probs:
            raise ValueError("--compare needs --out or --show, and takes no --model, --weights, --labels or --probs")
        both = {name: models.shipped(name) for name in models.SHIPPED}
        result = video.side_by_side(source, out, both, wanted, overlay, fps, runtime=runtime, **more)
    else:
        network, more = load_model(model, weights), more | {"labels": labels, "probs": probs}
        result = video.segment(source, out, network, wanted, overlay, fps, runtime=runtime, **more)
    if result["message"]:
        typer.echo(result["message"], err=True)
    typer.echo(video.summary(result))
    if result["interrupted"]:
        raise typer.Exit(130)


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="X.onnx, X.xml (OpenVINO) or X.pt2 (torch.export).")],
    model: Annotated[str | None, typer.Option(help="student or student-consistent (default).")] = None,
    weights: Annotated[Path | None, typer.Option(help="Your own NAME.safetensors, with NAME.json beside it.")] = None,
    size: Annotated[str, typer.Option(help="Of the frames, multiples of 32.")] = "1024x512",
    scope: Annotated[str, typer.Option(help="network (logits out) or labels (label map out).")] = "network",
    dynamic: Annotated[bool, typer.Option(help="Any height and width that are multiples of 32.")] = False,
    frames: Annotated[Path | None, typer.Option(help="Video or folder to compare on; default a data set's.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16 (half the bytes) or int8.")] = "fp32",
    calibrate: Annotated[
        Path | None, typer.Option(help="Video or folder for int8's ranges; default procity's training streets.")
    ] = None,
) -> None:
    """Write a student for another runtime.

    uint8 frames in, normalisation inside; the file is compared with PyTorch before it gets its name. What fp16 and int8 cost in
    accuracy: tcseg measure precision.

    Example: tcseg export student.onnx --size 1024x512 --scope labels
    """
    from tcseg.export import check as check_export
    from tcseg.export import export as write

    wanted, calibration, calibrated = parse_size(size), None, ""
    check_export(out, wanted, scope, precision)
    if calibrate and precision != "int8":
        raise ValueError(f"--calibrate is {calibrate}, but {precision} is not calibrated: add --precision int8")
    network, (shown, where) = load_model(model, weights), real_frames(wanted, 8, frames)
    if precision == "int8":
        from tcseg.measurements.precision import calibration_frames

        calibration, source = calibration_frames(wanted, calibrate)
        calibrated = f"; calibrated on {source}"
    result = write(network, out, shown, wanted, scope, dynamic, precision, calibration)
    typer.echo(
        f"{result.path}: {result.bytes / 1e6:.2f} MB, {result.scope}, {result.precision}; {result.agreement:.4%} of the "
        f"labels equal PyTorch's on {result.frames} frames of {where}{calibrated}"
    )


@app.command()
def bench(
    model: Annotated[
        list[str] | None, typer.Option(help="A shipped student, or a network by name; repeatable.")
    ] = None,
    weights: Annotated[list[Path] | None, typer.Option(help="Your own NAME.safetensors; repeatable.")] = None,
    size: Annotated[list[str] | None, typer.Option(help="Of the frames; repeatable. Default 1024x512.")] = None,
    runtime: Annotated[
        list[str] | None, typer.Option(help="pytorch, compile, onnxruntime, openvino ...; repeatable. Default three.")
    ] = None,
    precision: Annotated[list[str] | None, typer.Option(help="fp32, int8, fp16, bf16; repeatable.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="Per row, at most.")] = 500,
    seconds: Annotated[float, typer.Option(min=0, help="Per row, at most; never under 30 frames.")] = 10,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: all cores.")] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Repeat in so many processes, and tell how far they agree.")
    ] = 1,
    cold: Annotated[bool, typer.Option(help="Also time to the first answer, and memory.")] = False,
    anyway: Annotated[bool, typer.Option(help="Report although the machine is busy.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="The committed table: all networks, sizes, precisions.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write the table as CSV.")] = None,
) -> None:
    """Measure what a frame costs, batch 1.

    Network alone, network + argmax, and end to end (uint8 frame -> uint8 label map).

    Example: tcseg bench --size 512x256 --size 1024x512 --runtime onnxruntime --out latency.csv
    """
    import pandas as pd

    from tcseg import artefacts, benchmark, repeats
    from tcseg.measurements import measure as make
    from tcseg.study import MEASURED

    if everything:
        typer.echo(make("latency", MEASURED)[0])
        return
    networks = _bench_models(model or ([] if weights else ["student"]), weights or [])
    tables = []
    for wanted in map(parse_size, size or ["1024x512"]):
        images, where = real_frames(wanted, 16, None)
        options = {
            "frames": frames,
            "seconds": seconds,
            "threads": threads,
            "images": images,
            "cold": cold,
            "anyway": anyway,
        }
        options |= {"runtimes": tuple(runtime or benchmark.RUNTIMES), "precisions": tuple(precision or ["fp32"])}
        table = repeats.repeated(processes, networks, wanted, **options)
        tables.append(table)
        typer.echo(f"\n{wanted[0]}x{wanted[1]}, frames of {where}")
        typer.echo(repeats.as_text(table))
    if out:
        artefacts.write_table(out, pd.concat(tables))


def _bench_models(names: list[str], weights: list[Path]) -> dict[str, SegmentationModel]:
    """Shipped students by name, any other network untrained (as fast as a trained one), and weights by file name."""
    from tcseg import models

    networks = {
        name: models.shipped(name) if name in models.SHIPPED else models.build(name, 19, False) for name in names
    }
    return networks | {path.stem: models.load_weights(path) for path in weights}


@app.command()
def measure(
    name: Annotated[
        str,
        typer.Argument(
            help="procity, transfer, metrics, coverage, cost, latency, students, steadiness, precision or flow."
        ),
    ],
    quick: Annotated[bool, typer.Option(help="Seconds instead of minutes; the numbers mean nothing.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder; default data/study/measurements.")] = None,
) -> None:
    """Make one of the long measurements that a study need not repeat.

    Its table is printed and written; `make reference` copies it to figures/. Timings want an idle machine.

    Example: tcseg measure procity
    """
    import pandas as pd

    from tcseg.measurements import measure as make
    from tcseg.study import MEASURED

    written = make(name, out or MEASURED, quick)
    typer.echo(pd.read_csv(written[0]).to_string(index=False, na_rep="-"))
    typer.echo("\n".join(str(path) for path in written))


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Option(help="Folder of label maps (8-bit PNG, one channel), one a frame.")],
    frames: Annotated[Path, typer.Option(help="Folder of the frames that they belong to.")],
    labels: Annotated[Path | None, typer.Option(help="Folder of true labels; without it, consistency only.")] = None,
    flow: Annotated[
        list[str] | None, typer.Option(help="exact, dis, farneback or raft; repeatable, the best first. Default dis.")
    ] = None,
    layout: Annotated[
        str, typer.Option(help="cityscapes (procity too), camvid, or folder: a folder a clip.")
    ] = "cityscapes",
    train_ids: Annotated[
        bool, typer.Option("--train-ids/--ids", help="What the label maps hold: trainIds 0..18, or ids 0..33.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for metrics.csv and metrics.json.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default one a core, within 4 GB.")] = None,
) -> None:
    """Evaluate label maps that any method wrote: mIoU, temporal consistency, flicker, with 95 % intervals over clips.

    Clip by clip: memory does not grow with their number. Files and names of each layout: README, "Evaluate your own label maps".

    Example: tcseg evaluate --predictions mine --frames leftImg8bit_sequence/val --labels gtFine/val --out results
    """
    from tcseg import labelmaps

    table, record = labelmaps.evaluate_files(
        predictions, frames, labels, layout, flow or ["dis"], train_ids, workers, progress=True
    )
    if out:
        labelmaps.write(out, table, record)
    typer.echo(labelmaps.as_text(table, record))
    if out:
        typer.echo(f"{out / 'metrics.csv'}, {out / 'metrics.json'}")
