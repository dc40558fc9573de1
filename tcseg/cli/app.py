"""The application: error messages, version, and helpers of all commands. Heavy modules are imported only when needed."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import typer.core

from tcseg import __version__
from tcseg.errors import InputError, as_message, debugging

if TYPE_CHECKING:
    import numpy as np
    import torch

    from tcseg.models.networks import SegmentationModel


# typer's own copy of click's class, or click's, as the version has it: neither has a public name.
USAGE = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


# What ends a program from outside: `timeout`, `docker stop`, a lost connection. Windows has no SIGHUP.
STOPS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
CAUSES = {getattr(signal, name): why for name, why in {
    "SIGTERM": "SIGTERM, as kill, timeout and docker stop send it",
    "SIGHUP": "SIGHUP: the terminal or the connection was closed",
}.items() if hasattr(signal, name)}  # fmt: skip
"""What a person should know of a signal."""
_received: list[int] = []


@contextmanager
def stopped_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does, so that what is being written is completed or removed.

    A second one does nothing: files are being finished. What is ignored (`nohup`) stays ignored, and a process that was forked from
    this one ends at once.
    """
    if threading.current_thread() is not threading.main_thread():  # Python sets handlers in the main thread alone
        yield
        return
    _received.clear()
    owner = os.getpid()

    def stop(number: int, _: object) -> None:
        if os.getpid() != owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        _received.append(number)
        if len(_received) == 1:
            raise KeyboardInterrupt(CAUSES[number])

    before = {number: signal.getsignal(number) for number in STOPS}
    ours = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number] or signal.SIG_DFL)


def interruption(stop: KeyboardInterrupt) -> str:
    """What stopped a command: "interrupted by SIGTERM, ..."; "interrupted" if it was Ctrl-C."""
    return f"interrupted by {stop}" if str(stop) else "interrupted"


def interrupted_code() -> int:
    """The exit code of a stopped command: 128 + the signal, which is Ctrl-C's where no other came."""
    return 128 + (_received[0] if _received else signal.SIGINT)


class _Group(typer.core.TyperGroup):
    """Prints user errors as one line; other errors with class, place, and how to see the traceback."""

    def invoke(self, ctx: typer.Context) -> object:
        try:
            with stopped_as_ctrl_c():
                return super().invoke(ctx)
        except (USAGE, typer.Exit, typer.Abort):  # the library's own words
            raise
        except KeyboardInterrupt as stop:
            typer.echo(interruption(stop), err=True)
            raise typer.Exit(interrupted_code()) from None
        except Exception as error:
            if debugging():
                raise
            typer.echo(f"error: {as_message(error)}", err=True)
            raise typer.Exit(2) from None


class Command(typer.core.TyperCommand):
    """Tells an argument that cannot be as the library does: with the usage, and the option's name.

    The package's own messages begin with the argument's name ("size is 'big'; ..."), which the option has as well.
    """

    def invoke(self, ctx: typer.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except InputError as error:
            named = re.match(r"(?:[\w-]+ )?([\w-]+) (?:is|are) ", str(error))
            parameters = {parameter.name: parameter for parameter in self.params}
            if named is None or named[1] not in parameters or debugging():
                raise
            raise typer.BadParameter(str(error), ctx=ctx, param=parameters[named[1]]) from error


class _App(typer.Typer):
    def command(self, name: str | None = None, *, cls: type = Command, **more: object):
        return super().command(name, cls=cls, **more)


app = _App(
    cls=_Group, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
data_app = _App(
    no_args_is_help=True, rich_markup_mode=None, help="Generate the procity data set, and check data sets."
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

    Check your machine:        tcseg doctor

    Run the whole study:       tcseg study

    Try a trained student:     tcseg segment drive.mp4 --out classes.mp4
    """
    if debug:
        os.environ["TCSEG_DEBUG"] = "1"  # for what a command starts, too


DEFAULT = "student-consistent"  # of the students that ship
ON_VIDEO = "student-street-cpu"  # the default where the frames are one's own
SHIPPED = "student, student-consistent (default; both trained at 256x128), or student-cpu (trained at 1024x512)."
ON_STREETS = (
    "student-street-cpu (default) or student-street, adapted to real streets, not for commercial use; student, "
    "student-consistent or student-cpu, trained on drawn streets."
)


def load_model(name: str | None, weights: Path | None, default: str = DEFAULT) -> SegmentationModel:
    """The network that a command's --model and --weights name.

    Raises:
        BadParameter: both are given. ValueError: the name is unknown.
        FileNotFoundError: there are no such weights.
    """
    from tcseg.models import registry

    if name and weights:
        raise typer.BadParameter(f"give --model {name} or --weights {weights}, not both", param_hint="'--model'")
    return registry.load_weights(weights) if weights else registry.shipped(name or default)


Device = Annotated[str | None, typer.Option(help="Device for PyTorch: cpu, cuda or cuda:1. Default: a GPU if there is one.")]


def device_of(name: str | None) -> torch.device:
    """The device that `--device` names; without it a CUDA GPU where there is one, else the CPU.

    Raises:
        ValueError: torch knows no such device, or it is not there.
    """
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
        if device.type == "cuda":
            torch.cuda.set_device(device)  # whose name and roof a benchmark tells
    except (RuntimeError, AssertionError):  # unknown, not compiled in, not there
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"device is {name!r}; it must be cpu, or cuda where there is a GPU (tcseg doctor)")
    return device


def real_frames(size: tuple[int, int], count: int, source: Path | None) -> tuple[np.ndarray | None, str]:
    """Frames of `source`, else of a data set found here, resized: uint8 (N,H,W,3) RGB or None, and where from."""
    import cv2
    import numpy as np

    from tcseg.data.folders import DATASETS, explain_variable, find_dataset
    from tcseg.data.splits import list_pictures
    from tcseg.video.reading.decoding import read_frames

    if source is None:
        folders = [tree for name in DATASETS for tree in trees(find_dataset(name))]
        places = (folder / place for folder in folders for place in ("leftImg8bit_sequence/val", "leftImg8bit_sequence", "val"))
        first = next((pictures[0] for place in places if (pictures := list_pictures(place))), None)
        if first is None:
            why = explain_variable()
            return None, f"random images (no data set found; give --frames{f'; {why}' if why else ''})"
        source = first.parent
    frames = read_frames(source, count)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]), str(source)


def trees(folder: Path | None) -> list[Path]:
    """The data sets in a folder: itself, or where it holds several of procity's, each of them."""
    if folder is None:
        return []
    several = sorted(inner.parent for inner in folder.glob("*/manifest.json"))
    return several or [folder]
