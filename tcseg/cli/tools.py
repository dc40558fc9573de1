"""The commands that use networks and label maps: `tcseg segment`, `export`, `bench`, `evaluate`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tcseg.data.frame_size import parse_size
from tcseg.errors import InputError, TcsegError, one_line, require_writable
from tcseg.models.trained_on import export_size, read_size, size_text, trained_size, training_of

from . import inputs
from .app import DEFAULT, Command, Device, app, device_of, interrupted_code, load_model, real_frames

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from tcseg.models.networks import SegmentationModel

SHIPPED = "student, student-consistent (default; both trained at 256x128), or student-cpu (trained at 1024x512)."
INCOMPLETE = 3  # exit code: files are written, but frames of the source are missing
FRAMES, SECONDS = 500, 10.0  # of a row of the benchmark, whichever is shorter


class _SegmentCommand(Command):
    """`--json` alone is `--json -`: its file may be left out, and a video after it is no file for lines."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Read the arguments, with "-" after a `--json` alone."""
        whole: list[str] = []
        for word, after in zip(args, [*args[1:], ""], strict=True):
            whole.append(word)
            if word == "--json" and not (after == "-" or after.endswith(LINES) or after.startswith("/dev/")):
                whole.append("-")
        return super().parse_args(ctx, whole)


LINES = (".json", ".jsonl", ".ndjson")


def _seconds(text: str) -> float:
    from tcseg.video.excerpt import read_time

    try:
        return read_time(text)
    except InputError as error:
        raise typer.BadParameter(str(error)) from error


@app.command(cls=_SegmentCommand)
def segment(
    source: Annotated[
        list[str],
        typer.Argument(help="Video files, pictures, folders of images, globs; or a camera number or stream URL."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="X.mp4, .mov, .mkv, .avi or .gif; of a picture X.png or X.jpg; of several sources a folder. Without it, only "
            "report the speed (of a picture: NAME_classes.png)."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help=SHIPPED)] = None,
    weights: Annotated[Path | None, typer.Option(help="Your own NAME.safetensors, with NAME.json in the same folder.")] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Size at which the network sees the frames, such as 1024x512, or native (no resizing). Default: as many pixels as "
            "in training, at the video's aspect ratio."
        ),
    ] = None,
    overlay: Annotated[float, typer.Option(help="Opacity of the class colours, from 0 to 1.")] = 0.6,
    fps: Annotated[float | None, typer.Option(min=0.1, help="Frames per second of the output. Default: as the source.")] = None,
    runtime: Annotated[
        str, typer.Option(help="pytorch, onnxruntime, openvino; on a GPU also cudagraph (faster).")
    ] = "pytorch",
    precision: Annotated[
        str, typer.Option(help="fp32; int8 (onnxruntime and openvino, calibrated on the source); fp16 or bf16 on a GPU.")
    ] = "fp32",
    labels: Annotated[Path | None, typer.Option(help="New folder for label maps: one PNG of trainIds per frame.")] = None,
    probs: Annotated[
        Path | None, typer.Option(help="New folder for probabilities at stride 4: one .npz per frame.")
    ] = None,
    strip: Annotated[bool, typer.Option(help="Plot the flicker (pixels that change their class) below the picture.")] = False,
    show: Annotated[bool, typer.Option(help="Show the result in a window while it runs; press q to stop.")] = False,
    steady: Annotated[
        str | None, typer.Option(help='Filter over time after the network, such as "median of three" or "mean along flow 0.5".')
    ] = None,
    legend: Annotated[bool, typer.Option("--legend/--no-legend", help="Names and colours of the classes in the picture.")] = True,
    classes: Annotated[
        str | None, typer.Option(help="Paint and count only these classes, such as car,person. Label maps keep all.")
    ] = None,
    start: Annotated[
        float | None, typer.Option(parser=_seconds, metavar="TIME", help="First time: seconds or h:m:s, such as 1:30.")
    ] = None,
    end: Annotated[
        float | None, typer.Option(parser=_seconds, metavar="TIME", help="Stop before this time of the source.")
    ] = None,
    stride: Annotated[int, typer.Option(min=1, help="Take every Nth frame; the output has 1/N of the rate.")] = 1,
    json_lines: Annotated[
        str | None,
        typer.Option(
            "--json",
            metavar="[FILE]",
            help="Write a line of JSON a frame: time, class shares, flicker, milliseconds. FILE ends in .json, .jsonl or .ndjson; "
            "without it, to stdout.",
        ),
    ] = None,
    compare: Annotated[bool, typer.Option(help="Show the frame, student and student-consistent side by side.")] = False,
    on_error: Annotated[
        str, typer.Option(help="On a damaged frame: skip (leave it out, count it, go on; exit code 3) or stop.")
    ] = "skip",
    device: Device = None,
) -> None:
    """Segment videos or pictures: paint the classes over them, write label maps, or show the result while it runs.

    Prints the size at which the network sees the frames, its training data, and the frames per second. Ctrl-C keeps the frames
    done so far, in complete files. So do SIGTERM and SIGHUP. Of several sources, one that fails does not stop the others. The exit
    code is 3 where frames of a source were lost, or where some of several sources failed.

    Example: tcseg segment drive.mp4 --out classes.mp4 --strip

    Example: tcseg segment 'clips/*.mp4' --out painted --classes car,person --json frames.jsonl
    """
    from tcseg.models import registry
    from tcseg.video import render
    from tcseg.video.legend import find_classes
    from tcseg.video.outputs import leave_stdout, open_lines

    frame_size = read_size(size)
    sources = inputs.expand(source)
    jobs = inputs.plan(sources, out, labels, probs, bool(show or json_lines or compare))
    more = {"overlay": overlay, "fps": fps, "runtime": runtime, "strip": strip, "show": show, "steady": steady}
    more["on_error"] = on_error
    more |= {"legend": legend, "start": start, "end": end, "stride": stride}
    if compare:
        _refuse_with_compare(out or show, model or weights or labels or probs or classes or json_lines or precision != "fp32")
        both = {name: registry.shipped(name).to(device_of(device)) for name in registry.SHIPPED}
        raise typer.Exit(
            _each(jobs, lambda job: render.side_by_side(job.source, job.out, both, frame_size, **more), False)
        )
    network = load_model(model, weights).to(device_of(device))
    more |= {"precision": precision, "networks": render.OpenNetworks(), "classes": classes}
    if classes is not None:
        find_classes(classes, network.label_set)
    try:
        with ExitStack() as stack:
            if json_lines is not None:
                more["lines"] = stack.enter_context(open_lines(json_lines))

            def segment_one(job: inputs.Job) -> dict:
                own = more | {"labels": job.labels, "probs": job.probs, "calibrate": _calibrate(job.source)}
                return render.segment(job.source, job.out, network, frame_size, **own)

            code = _each(jobs, segment_one, json_lines in ("-", "/dev/stdout"))
    except BrokenPipeError:  # the reader of the JSON lines has what it wants
        leave_stdout()
        code = 0
    if code:
        raise typer.Exit(code)


def _each(jobs: list[inputs.Job], work: Callable[[inputs.Job], dict], quiet: bool) -> int:
    """Segment each source and print how it went (to stderr if quiet); returns the exit code.

    Of several sources, those that fail are told at the end; of one, the error is raised.
    """
    from tcseg.video import render

    failed: dict[str, str] = {}
    complete = True
    for job in jobs:
        try:
            result = work(job)
        except TcsegError as error:
            if len(jobs) == 1:
                raise
            failed[job.source] = one_line(error)
            continue
        if result["message"]:
            typer.echo(result["message"], err=True)
        typer.echo((f"{job.source}: " if len(jobs) > 1 else "") + render.summary(result), err=quiet)
        if result["interrupted"]:
            return interrupted_code()
        complete = complete and result["complete"]
    if failed:
        typer.echo(f"{len(jobs) - len(failed)} of {len(jobs)} sources segmented; these failed:", err=True)
        for source, why in failed.items():
            typer.echo(f"error: {why if source in why else f'{source}: {why}'}", err=True)
    if len(failed) == len(jobs):
        return 2
    return 0 if complete and not failed else INCOMPLETE


def _refuse_with_compare(seen: object, unfit: object) -> None:
    if not seen or unfit:
        raise typer.BadParameter(
            "--compare needs --out or --show, and takes no --model, --weights, --labels, --probs, --classes, --json or "
            "--precision",
            param_hint="'--compare'",
        )


def _calibrate(source: str) -> Callable[[tuple[int, int]], np.ndarray]:
    """Calibration frames for int8: those of the source if it is a file or folder, else procity's training streets, as is said."""
    from tcseg.study.measurements.quality.precision import calibration_frames
    from tcseg.video.sources import local_path

    path = local_path(source)
    again = path is not None and (path.is_file() or path.is_dir())

    def frames(size: tuple[int, int]) -> np.ndarray:
        found, where = calibration_frames(size, path if again else None)
        typer.echo(f"int8 is calibrated on {where}" + ("" if again else f", because {source} cannot be read twice"), err=True)
        return found

    return frames


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="Output: X.onnx, X.xml (OpenVINO) or X.pt2 (torch.export).")],
    model: Annotated[str | None, typer.Option(help=SHIPPED)] = None,
    weights: Annotated[Path | None, typer.Option(help="Your own NAME.safetensors, with NAME.json in the same folder.")] = None,
    size: Annotated[
        str | None, typer.Option(help="Size of the frames, multiples of 32, such as 256x128. Default: as in training.")
    ] = None,
    scope: Annotated[str, typer.Option(help="network (logits out) or labels (label map out).")] = "network",
    dynamic: Annotated[bool, typer.Option(help="Accept any height and width that are multiples of 32.")] = False,
    frames: Annotated[Path | None, typer.Option(help="Video or folder for the comparison. Default: a data set.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16 (half the size) or int8.")] = "fp32",
    calibrate: Annotated[
        Path | None, typer.Option(help="Video or folder with calibration frames for int8. Default: procity's training streets.")
    ] = None,
    channels_last: Annotated[
        bool,
        typer.Option("--channels-last", help="Take frames (B,H,W,3) and return logits (B,h,w,K): fastest in OpenVINO."),
    ] = False,
) -> None:
    """Export a student for another runtime.

    The file takes uint8 frames; normalisation is included. Its predictions are compared with PyTorch's before it is saved.
    For the effect of fp16 and int8 on accuracy, see: tcseg measure precision.

    Example: tcseg export student.onnx --scope labels
    """
    from tcseg.deploy.export import check as check_export
    from tcseg.deploy.export import export as write

    explicit, calibration, calibrated = parse_size(size) if size else None, None, ""
    if calibrate and precision != "int8":
        raise typer.BadParameter(
            f"it is {calibrate}, but {precision} is not calibrated: add --precision int8", param_hint="'--calibrate'"
        )
    network = load_model(model, weights)
    frame_size = explicit or export_size(network)
    check_export(out, frame_size, scope, precision, channels_last)
    images, where = real_frames(frame_size, 8, frames)
    if precision == "int8":
        from tcseg.study.measurements.quality.precision import calibration_frames

        calibration, source = calibration_frames(frame_size, calibrate)
        calibrated = f"; calibrated on {source}"
    result = write(network, out, images, frame_size, scope, dynamic, precision, calibration, channels_last)
    if precision != "fp32" and not weights and (warning := _warning_against(model or DEFAULT, out, precision)):
        typer.echo(warning, err=True)
    typer.echo(
        f"{result.path}: {_takes(network, frame_size, dynamic)}; {training_of(network)}\n"
        f"{result.bytes / 1e6:.2f} MB, {result.scope}, {result.precision}; {result.agreement:.4%} of the "
        f"labels equal PyTorch's on {result.frames} frames of {where}{calibrated}"
    )
    if out.suffix == ".xml":
        typer.echo(
            f"Without settings OpenVINO may compute in bf16: then {result.agreement_default:.4%} are equal on this machine. "
            'For the first figure pass {"INFERENCE_PRECISION_HINT": "f32"} to compile_model.'
        )


def _takes(network: SegmentationModel, size: tuple[int, int], dynamic: bool) -> str:
    """Which frames an exported file takes, and which size suits it."""
    known = trained_size(network)
    if dynamic:
        return "takes frames of any size" + (f"; trained at {size_text(known)}, where objects have the right size" if known else "")
    return f"takes frames of {size_text(size)}" + ("" if known else " (change it with --size WxH)")


def _warning_against(name: str, path: Path, precision: str) -> str:
    """Why the committed measurement advises against a shipped student in a precision; empty if it does not."""
    import pandas as pd

    from tcseg.models.students import CHOSEN
    from tcseg.study.measurements.quality.precision import SUFFIXES, refused
    from tcseg.study.paths import measured_table

    try:
        against = refused(pd.read_csv(measured_table("precision")))
    except FileNotFoundError:
        return ""
    runtime = next((one for one, suffix in SUFFIXES.items() if suffix == path.suffix), "")
    why = against.get((CHOSEN.get(name, name), runtime, precision))
    return f"not recommended for {name}: {why}" if why else ""


@app.command()
def bench(
    model: Annotated[
        list[str] | None, typer.Option(help="A shipped student, or the name of a network; repeatable.")
    ] = None,
    weights: Annotated[list[Path] | None, typer.Option(help="Your own NAME.safetensors; repeatable.")] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            help="Size of the frames; repeatable. Default: as in training; 1024x512 for untrained networks."
        ),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="pytorch, compile, cudagraph, onnxruntime, openvino, ...; repeatable. Default: three of them."),
    ] = None,
    precision: Annotated[list[str] | None, typer.Option(help="fp32, int8, fp16, bf16; repeatable.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="Maximum number of frames per row.")] = FRAMES,
    seconds: Annotated[float, typer.Option(min=0, help="Maximum time per row; at least 30 frames are measured.")] = SECONDS,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads. Default: all cores.")] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Repeat in this many processes and report their spread.")
    ] = 1,
    cold: Annotated[bool, typer.Option(help="Also measure the time to the first prediction, and memory.")] = False,
    anyway: Annotated[bool, typer.Option(help="Report timings even if the machine is busy.")] = False,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Reproduce the committed tables: all networks, sizes and precisions; also on a GPU."),
    ] = False,
    device: Device = None,
    out: Annotated[Path | None, typer.Option(help="Write the table as CSV.")] = None,
) -> None:
    """Measure the latency of a frame, batch 1.

    Three scopes: the network alone, network + argmax, and end to end (uint8 frame to uint8 label map).

    Example: tcseg bench --size 512x256 --size 1024x512 --runtime onnxruntime --out latency.csv
    """
    import pandas as pd

    from tcseg import atomic_files
    from tcseg.bench.processes import as_text, bench_repeatedly
    from tcseg.deploy.exported_files import RUNTIMES

    options = {"frames": frames, "seconds": seconds, "threads": threads, "cold": cold, "anyway": anyway}
    if everything:
        unused = {"model": model, "weights": weights, "size": size, "runtime": runtime, "precision": precision}
        unused |= {"threads": threads, "cold": cold, "out": out, "device": device}
        unused |= {"frames": frames != FRAMES, "seconds": seconds != SECONDS, "processes": processes != 1}
        _bench_everything([f"--{name}" for name, value in unused.items() if value], anyway)
        return
    options |= {"runtimes": tuple(runtime or RUNTIMES), "precisions": tuple(precision or ["fp32"])}
    if out:
        require_writable(out.parent, "give --out another folder")
    sizes = [parse_size(one) for one in size or []]
    networks = _bench_models(model or ([] if weights else ["student"]), weights or [])
    networks = {name: network.to(device_of(device)) for name, network in networks.items()}
    tables = []
    for frame_size, some in _by_size(networks, sizes):
        images, where = real_frames(frame_size, 16, None)
        table = bench_repeatedly(processes, some, frame_size, images=images, **options)
        tables.append(table)
        typer.echo(f"\n{size_text(frame_size)}{'' if sizes else _whose(some)}, frames of {where}")
        typer.echo(as_text(table))
        if out:  # after each size: a later one may be refused
            atomic_files.write_table(out, pd.concat(tables))


def _bench_everything(unused: list[str], anyway: bool) -> None:
    """Make the committed tables again, into the folder of one's own measurements."""
    from tcseg.study.measurements import measure
    from tcseg.study.paths import MEASURED

    if unused:
        raise typer.BadParameter(
            f"it runs the whole benchmark and cannot be combined with {', '.join(unused)}", param_hint="'--all'"
        )
    require_writable(MEASURED, "tcseg measure latency --out FOLDER writes the table elsewhere")
    for name in ("latency", *(["gpu"] if device_of(None).type == "cuda" else [])):
        typer.echo(measure(name, MEASURED, anyway=anyway)[0])


def _by_size(
    networks: dict[str, SegmentationModel], sizes: list[tuple[int, int]]
) -> list[tuple[tuple[int, int], dict[str, SegmentationModel]]]:
    """Which networks are timed at which size: all at the given sizes, or each at its training size."""
    if sizes:
        return [(size, networks) for size in sizes]
    groups: dict[tuple[int, int], dict[str, SegmentationModel]] = {}
    for name, network in networks.items():
        groups.setdefault(export_size(network), {})[name] = network
    return list(groups.items())


def _whose(networks: dict[str, SegmentationModel]) -> str:
    """Why these networks are timed at this size."""
    trained = [name for name, network in networks.items() if trained_size(network)]
    untrained = [name for name in networks if name not in trained]
    warning = (
        f"{', '.join(names)} {what}"
        for names, what in ((trained, "at the training size"), (untrained, "untrained"))
        if names
    )
    return f" ({'; '.join(warning)}; change it with --size WxH)"


def _bench_models(names: list[str], weights: list[Path]) -> dict[str, SegmentationModel]:
    """Shipped students by name, other networks untrained (as fast as trained ones), weights by the name of file or run."""
    from tcseg.models import registry

    networks = {
        name: registry.shipped(name) if name in (*registry.SHIPPED, registry.FAST) else registry.build(name, 19, False)
        for name in names
    }
    for path in weights:
        of_a_run = path.stem == "weights"  # as the file of every run is called
        name = path.resolve().parent.name if of_a_run else path.stem
        if name in networks:
            why = f"two networks would have the name {name!r} in the table: rename {path} and its .json"
            raise typer.BadParameter(why, param_hint="'--weights'")
        networks[name] = registry.load_weights(path)
    return networks


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Option(help="Folder of label maps: one PNG per frame with a class in each pixel.")],
    frames: Annotated[Path, typer.Option(help="Folder of the corresponding frames.")],
    labels: Annotated[Path | None, typer.Option(help="Folder of ground truth. Without it, accuracy is not measured.")] = None,
    flow: Annotated[
        list[str] | None, typer.Option(help="exact, dis, farneback or raft; repeatable, best first. Default: dis.")
    ] = None,
    layout: Annotated[
        str, typer.Option(help="cityscapes (also for procity), camvid, or folder (one folder per clip).")
    ] = "cityscapes",
    classes: Annotated[
        str | None,
        typer.Option(help="cityscapes, camvid, or a YAML file with names, ids and colours. Default: from meta.json or the layout."),
    ] = None,
    train_ids: Annotated[
        bool | None,
        typer.Option("--train-ids/--ids", help="Meaning of the values in the maps. Default: from meta.json, names or values."),
    ] = None,
    stills: Annotated[bool, typer.Option("--stills", help="Treat all frames as single images: measure accuracy only.")] = False,
    step: Annotated[
        int | None, typer.Option(min=1, help="Number difference of neighbouring frames. Default: the most common one.")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second, if the files are video.")] = None,
    unit: Annotated[str, typer.Option(help="Unit of the intervals: clip, or city (clips of one city are similar).")] = "clip",
    strict: Annotated[bool, typer.Option("--strict", help="Fail if files are missing, instead of reporting them.")] = False,
    out: Annotated[Path | None, typer.Option(help="Output folder for metrics.csv and metrics.json.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one per core, within 4 GB of memory.")] = None,
) -> None:
    """Evaluate label maps of any method: mIoU, TC, flicker, changes along the flow, with 95 % intervals over clips.

    Reports how the maps were read, the number of frames behind each score, and missing files. Clips are read one at a time, so
    memory does not grow with their number. For the files and names of each layout, see notebooks/use.md.

    Example: tcseg evaluate --predictions mine --frames leftImg8bit_sequence/val --labels gtFine/val --out results
    """
    from tcseg.evaluation import label_map_files, label_map_tables
    from tcseg.evaluation.label_map_layouts import Pacing

    options = {"flows": flow or ["dis"], "train_ids": train_ids, "classes": classes, "unit": unit, "strict": strict}
    options |= {"pacing": Pacing(stills, step, fps), "workers": workers, "progress": True}
    if out:
        require_writable(out, "give another folder with --out")
    table, record = label_map_files.evaluate_files(predictions, frames, labels, layout, **options)
    typer.echo(label_map_tables.as_text(table, record))
    if out:
        label_map_tables.write(out, table, record)
        typer.echo(f"{out / 'metrics.csv'}, {out / 'metrics.json'}")
