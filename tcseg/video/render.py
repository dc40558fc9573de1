"""Segment a video: class colours over the frames, a legend, label maps, probabilities, JSON lines, a flicker strip, a window.

`pipeline` does the work; here is what comes out of it. How fast that is: `throughput`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from tqdm.auto import tqdm

from tcseg.data.images import depth_note
from tcseg.deploy.label_map import padded_size
from tcseg.deploy.quantization import CALIBRATION_FRAMES
from tcseg.deploy.runtimes import unavailable
from tcseg.errors import CannotRunError, InputError, read_options
from tcseg.models.trained_on import NATIVE, Size, describe_input, size_for, size_text
from tcseg.video.legend import Legend, find_classes
from tcseg.video.options import SegmentOptions, VideoOptions
from tcseg.video.outputs import FrameLines, open_lines, require_window
from tcseg.video.painting import PaintedOutputs, blend, caption, caption_height, meter_of, open_outputs, painting
from tcseg.video.pipeline import FrameRunner, open_runners, resized, run
from tcseg.video.reading.ahead import Ahead, spread
from tcseg.video.reading.decoding import Source, open_source
from tcseg.video.reading.excerpt import Excerpt
from tcseg.video.reading.sources import local_path, shown
from tcseg.video.temporal_filters import FILTERS

if TYPE_CHECKING:
    from tcseg.models.networks import SegmentationModel


class OpenNetworks:
    """The networks that were opened last: those of the next source are the same if its frames have the same size.

    int8 is opened anew for each source, because it is calibrated on it.
    """

    def __init__(self) -> None:
        self._key: tuple | None = None
        self._runners: list[list[FrameRunner]] = []
        self.opened = 0

    def runners(
        self, model: SegmentationModel, first: np.ndarray, live: bool, size: Size, options: SegmentOptions
    ) -> list[list[FrameRunner]]:
        """As `pipeline.open_runners`, of one network; filters begin anew."""
        wants_probs = options.probs is not None
        settings = (options.runtime, options.precision, options.steady, wants_probs)
        key = (id(model), first.shape, live, size, *settings)
        if self._key != key or options.precision == "int8":
            more = {"precision": options.precision, "calibrate": options.calibrate, "wants_probs": wants_probs}
            self._runners = open_runners([model], options.runtime, first, live, size, options.steady, **more)
            self._key, self.opened = key, self.opened + 1
        elif options.steady is not None:
            for runner in (one for stream in self._runners for one in stream):
                runner.filter = FILTERS[options.steady]()
        return self._runners


def summary(result: dict) -> str:
    """The result of `segment` or `side_by_side` in one line."""
    written = ", ".join(map(str, result["written"]))
    nothing = "nothing written" + (" (no --out, --labels or --probs)" if result["frames"] and not result["lines"] else "")
    where = written or (f"JSON lines on {result['lines']}" if result["lines"] and result["frames"] else nothing)
    flicker = result["flicker"]
    several = flicker if isinstance(flicker, dict) else {} if flicker is None else {"flicker": flicker}
    by_network = result["seen"]
    sizes = dict.fromkeys(by_network.values() if isinstance(by_network, dict) else [by_network])
    return (
        f"{result['frames']} frame{'' if result['frames'] == 1 else 's'} {result['width']}x{result['height']}, "
        f"seen at {' and '.join(map(size_text, sizes))}, "
        f"{result['fps']:.1f} frames/s in all, "
        f"{result['p50_ms']:.1f} ms frame -> labels (p50"
        + (f", {result['at_once']} at once)" if result["at_once"] > 1 else ")")
        + (f", {result['dropped']} dropped" if result["dropped"] else "")
        + (f", {', '.join(f'{name} {share:.2%}' for name, share in several.items())}" if several else "")
        + f": {where}"
    )


def _checked(source: str | int | Path, out: Path | str | None, size: Size, show: bool) -> Path | None:
    """Find what is wrong before anything is opened; returns `out` as a path."""
    if isinstance(size, str) and size != NATIVE:
        raise InputError(f"size is {size!r}; it must be (W,H), {NATIVE!r} (the video's own), or None")
    if size not in (None, NATIVE) and (min(size) < 32 or size != padded_size(size)):
        full = padded_size((max(size[0], 1), max(size[1], 1)))
        raise InputError(f"size is {size[0]}x{size[1]}; sides must be multiples of 32: pass {full[0]}x{full[1]}")
    out = None if out is None else Path(out)
    path = local_path(source)
    if out is not None and path is not None and out.exists() and path.exists() and out.samefile(path):
        raise InputError(f"out is the source itself ({shown(out)}); give another name")
    if show:
        require_window()
    return out


def segment(
    source: str | int | Path,
    out: Path | str | None,
    model: SegmentationModel,
    size: Size = None,
    **options: object,
) -> dict:
    """Segment a video: write the painted video or the predictions, or show the result in a window.

    What is written has its name when it is complete; until then it has a hidden one beside it, of this run alone, with `.part` in
    it. Ctrl-C (and SIGTERM, SIGHUP in the command) completes it with the frames done so far; an error removes it; only a kill
    leaves it. A film has the times of the source's frames, of a live one the times when they came, and a file's sound.

    Args:
        source: video file, picture, folder of images, camera number, stream, or what else `decoding.open_source` knows.
        out: .mp4, .mov, .mkv, .avi or .gif, of one picture a picture's; None = no pictures are written.
        model: a trained network.
        size: (W,H), multiples of 32, to which frames are resized for the network; None = as large as those that it was trained
            on, at the video's aspect ratio (`trained_on.network_size`); "native" = their own size, padded if odd, and so is None
            where nothing says what it was trained on. The label map always has the frame's size.
        options: fields of `VideoOptions` and `SegmentOptions`, such as `strip=True`, `labels=FOLDER`.

    Returns:
        frames, fps (of the whole pipeline, wall clock), p50_ms (frame in to label map out), width, height, seen ((W,H) of what the
        network saw, before padding), at_once (frames that were answered at the same time, each by its share of the cores: p50_ms is
        of these, not of a frame alone), expected (frames that the file announced, a hint, or None), dropped (live only), lost
        (frames that could not be read), complete (none was lost, and the source is not cut off), interrupted, message
        (None if all went well), written (paths), flicker (its mean, 0..1) and flicker_series (a value a frame, nan where
        there is none; of a live source the last `pipeline.RECENT`), both None without `strip` and `lines`; lines (where these
        went, or None).

    Damaged frames are left out, and reading goes on after them; what was lost is in `lost` and the message.

    Raises:
        FileNotFoundError, ValueError: the source does not exist, cannot be read, has no frames; a wrong size, overlay or filter; a
            folder that has files already.
        CannotWriteError: the folder of `out`, `labels` or `probs` cannot be written (before any work).
        RuntimeError: the runtime is not installed; no window can be opened; the disk is full.
    """
    chosen = read_options(SegmentOptions, options)
    out = _checked(source, out, size, chosen.show)
    classes = None if chosen.classes is None else find_classes(chosen.classes, model.label_set)
    device = next(model.parameters()).device.type
    if (reason := unavailable(chosen.runtime, chosen.precision, device)) is not None:
        raise (CannotRunError if "install" in reason else InputError)(reason)
    whole = open_source(source)
    whole.reading.on_error = chosen.on_error
    opened, chosen = _looking_ahead(chosen.excerpt.of(whole), chosen)
    measured = chosen.strip or (chosen.lines is not None and not whole.still)
    outputs = painting(model, chosen.overlay, measured, None, opened.live, chosen.legend, classes)
    outputs.strip, outputs.place, outputs.live = chosen.strip, _places(chosen.excerpt, whole), opened.live
    outputs.since_start = whole.reading.since_start
    with ExitStack() as stack:
        if chosen.lines is not None:
            lines = chosen.lines
            stream = lines if hasattr(lines, "write") else stack.enter_context(open_lines(lines))
            outputs.lines = FrameLines(stream, model.label_set, str(source), classes)
        open_outputs(outputs, opened, out, chosen, model.label_set)
        result = _run(source, opened, outputs, model, size, chosen)
    told = chosen.lines if isinstance(chosen.lines, str | Path) else getattr(chosen.lines, "name", "stream")
    return result | {"lines": None if chosen.lines is None else "stdout" if str(told) == "-" else str(told)}


def _looking_ahead(source: Source, chosen: SegmentOptions) -> tuple[Source, SegmentOptions]:
    """For int8 from a pipe: the source through `Ahead`, and options that calibrate on its first frames."""
    if chosen.precision != "int8" or not (chosen.calibrate_ahead and source.once) or source.live:
        return source, chosen
    ahead = Ahead(source)

    def calibrate(size: tuple[int, int]) -> np.ndarray:
        seen = ahead.look()
        frames = spread(seen, CALIBRATION_FRAMES)
        if chosen.progress:
            of = f"{len(frames)} of the first {len(seen)} frames of {source.name}, which are segmented, too"
            tqdm.write(f"int8 is calibrated on {of}", file=sys.stderr)
        return np.stack([resized(frame, size) for frame in frames])

    return ahead.source, replace(chosen, calibrate=calibrate)


def _run(
    source: str | int | Path, opened: Source, outputs: PaintedOutputs, model: SegmentationModel, size: Size, chosen: SegmentOptions
) -> dict:
    """Run the pipeline of one network, and say what it sees."""
    sizes: dict[str, tuple[int, int]] = {}
    networks = chosen.networks or OpenNetworks()

    def open_for(first: np.ndarray) -> list[list[FrameRunner]]:
        sizes.update(_network_sizes({"the network": model}, first, size, chosen.progress))
        if chosen.progress and (note := depth_note(Path(str(source)))):
            tqdm.write(note, file=sys.stderr)
        return networks.runners(model, first, opened.live, size, chosen)

    result = run(opened, outputs, open_for, chosen.on_frame, chosen.progress) | outputs.flicker()
    return result | {"seen": sizes["the network"]}


def _places(excerpt: Excerpt, source: Source) -> Callable[[int], tuple[int, float]]:
    """Index of a written frame -> which frame of the source it is, and its time; a live source has the clock's."""
    if not source.live:
        return lambda index: excerpt.place(index, source)
    began: list[float] = []

    def now(index: int) -> tuple[int, float]:
        began.extend([time.monotonic()] if not began else [])
        return index, time.monotonic() - began[0] + (excerpt.start or 0)

    return now


def _network_sizes(
    models: Mapping[str, SegmentationModel], first: np.ndarray, size: Size, log: bool
) -> dict[str, tuple[int, int]]:
    """Name -> the (W,H) that a network sees; told on stderr, with what it was trained on, if wanted."""
    frame = first.shape[1], first.shape[0]
    if log:
        tqdm.write(describe_input(models, frame, size), file=sys.stderr)
    return {name: size_for(model, frame, size) or frame for name, model in models.items()}


def side_by_side(
    source: str | int | Path,
    out: Path | str | None,
    models: dict[str, SegmentationModel],
    size: Size = None,
    panel_width: int | None = None,
    **options: object,
) -> dict:
    """Write a video of panels: the frame, then each model's prediction with its name.

    Args:
        source: as in `segment`, and so are the others that are not explained here.
        out: .mp4, .mov, .mkv, .avi or .gif; None = only shown.
        models: caption -> network, in the order of the panels.
        size: of the frames that the networks see; None = each as large as it was trained at.
        panel_width: of one panel in pixels; None = the frame's own.
        options: fields of `VideoOptions`; a filter is for all of them, and the strip has each model's flicker.

    Returns:
        As `segment`; seen by model, flicker and flicker_series by model where there are several.
    """
    chosen = read_options(VideoOptions, options)
    out = _checked(source, out, size, chosen.show)
    whole = open_source(source)
    whole.reading.on_error = chosen.on_error
    opened = chosen.excerpt.of(whole)
    first_set = next(iter(models.values())).label_set
    legend = Legend(first_set) if chosen.legend else None

    def panel(picture: np.ndarray, text: str) -> np.ndarray:
        if panel_width is not None:
            height = round(picture.shape[0] * panel_width / picture.shape[1])
            picture = cv2.resize(picture, (panel_width, height), interpolation=cv2.INTER_AREA)
        return caption(np.ascontiguousarray(picture), text)

    def render(frame: np.ndarray, maps: list[np.ndarray]) -> np.ndarray:
        panels = [panel(frame.copy(), "frame")]
        if legend is not None:  # over the frame itself, which has no colours to be covered
            legend.draw(panels[0], maps[0], caption_height(panels[0].shape[1]))
        for (name, model), labels in zip(models.items(), maps, strict=True):
            panels.append(panel(blend(frame, labels, model.label_set, chosen.overlay), name))
        return np.hstack(panels)

    outputs = PaintedOutputs(render, tuple(models), meter=meter_of(chosen.strip, opened.live))
    open_outputs(outputs, opened, out, chosen)

    sizes: dict[str, tuple[int, int]] = {}

    def open_for(first: np.ndarray) -> list[list[FrameRunner]]:
        sizes.update(_network_sizes(models, first, size, chosen.progress))
        return open_runners(models.values(), chosen.runtime, first, opened.live, size, chosen.steady)

    return run(opened, outputs, open_for, None, chosen.progress) | outputs.flicker() | {"seen": sizes, "lines": None}
