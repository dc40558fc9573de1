"""The command that segments videos and pictures: `tcseg segment`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tcseg.errors import InputError, TcsegError, one_line
from tcseg.models.trained_on import read_size

from . import inputs
from .app import ON_STREETS, ON_VIDEO, Command, Device, app, device_of, interrupted_code, load_model

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

INCOMPLETE = 3  # exit code: files are written, but frames of the source are missing
LINES = (".json", ".jsonl", ".ndjson")


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


def _seconds(text: str) -> float:
    from tcseg.video.reading.excerpt import read_time

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
    model: Annotated[str | None, typer.Option(help=ON_STREETS)] = None,
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
    network = load_model(model, weights, ON_VIDEO).to(device_of(device))
    if model is None and weights is None:
        typer.echo(f"{ON_VIDEO} is not for commercial use; --model student-consistent is, and knows drawn streets only", err=True)
    more |= {"precision": precision, "networks": render.OpenNetworks(), "classes": classes, "calibrate_ahead": True}
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
    complete, stopped = True, 0
    for job in jobs:
        try:
            result = work(job)
        except TcsegError as error:
            if len(jobs) == 1:
                raise
            failed[job.source] = one_line(error)
            continue
        except KeyboardInterrupt as stop:  # later, what is done is kept
            raise KeyboardInterrupt(f"{str(stop) or 'Ctrl-C'}; nothing of {job.source} is written") from None
        if result["message"]:
            typer.echo(result["message"], err=True)
        typer.echo((f"{job.source}: " if len(jobs) > 1 else "") + render.summary(result), err=quiet)
        if result["interrupted"]:
            stopped = interrupted_code()
            break
        complete = complete and result["complete"]
    if failed:
        typer.echo(f"{len(jobs) - len(failed)} of {len(jobs)} sources segmented; these failed:", err=True)
        for source, why in failed.items():
            typer.echo(f"error: {why if source in why else f'{source}: {why}'}", err=True)
    if stopped:
        return stopped
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
    """Calibration frames for int8: those of the source if it is a file or folder, else procity's training streets, as is said.

    What is read once but not live (a pipe) is calibrated on its own first frames: see `SegmentOptions.calibrate_ahead`.
    """
    from tcseg.video.reading.sources import local_path

    path = local_path(source)
    again = path is not None and (path.is_file() or path.is_dir())

    def frames(size: tuple[int, int]) -> np.ndarray:
        from tcseg.study.measurements.quality.precision import calibration_frames  # seconds: for int8 alone

        found, where = calibration_frames(size, path if again else None)
        typer.echo(f"int8 is calibrated on {where}" + ("" if again else f", because {source} is live"), err=True)
        return found

    return frames
