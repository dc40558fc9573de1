"""Segment a video: class colours over the frames, a legend, label maps, probabilities, JSON lines, a flicker strip, a window.

`pipeline` does the work; here is what comes out of it. How fast that is: `throughput`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import cv2
import numpy as np
from tqdm.auto import tqdm

from tcseg.data.images import depth_note
from tcseg.deploy.label_map import padded_size
from tcseg.deploy.runtimes import unavailable
from tcseg.errors import CannotRunError, InputError, read_options, require_one_of
from tcseg.labels import IGNORE, LabelSet, colorize
from tcseg.models.trained_on import NATIVE, Size, describe_input, size_for, size_text
from tcseg.video.decoding import Source, open_source
from tcseg.video.encoding import FrameFiles, Sink
from tcseg.video.excerpt import Excerpt
from tcseg.video.flicker_meter import Meter, draw_strip
from tcseg.video.legend import Legend, find_classes, only
from tcseg.video.outputs import FrameLines, PictureFile, Window, open_lines, require_window
from tcseg.video.pipeline import RECENT, Calibrate, FrameRunner, OnFrame, SegmentedFrame, open_runners, run
from tcseg.video.sources import local_path, shown
from tcseg.video.temporal_filters import FILTERS

if TYPE_CHECKING:
    from tcseg.models.networks import SegmentationModel

Render = Callable[[np.ndarray, list[np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class VideoOptions:
    """Options of `segment` and `side_by_side`.

    Attributes:
        overlay: 0..1, how strongly the colours cover the frame.
        fps: of the output; None = the source's.
        runtime: "pytorch", "onnxruntime" or "openvino".
        progress: a bar with live frames a second, and before it a line: what the network sees, and what it was trained on.
        strip: measure flicker (see `flicker_meter`) and plot it under the picture.
        show: a window with the picture; q, Esc or closing it ends as Ctrl-C does.
        steady: the name of a filter at inference, of `temporal_filters.FILTERS`, between the network and the label map; None =
            none.
        on_error: of a damaged frame: "skip" leaves it out, counts it and goes on, "stop" ends there.
        legend: the classes' names and colours along the upper edge (see `legend`); not in pictures too narrow for it.
        start, end, stride: which frames are taken: see `excerpt.Excerpt`. A stride of 2 halves the rate of the output.
    """

    overlay: float = 0.6
    fps: float | None = None
    runtime: str = "pytorch"
    progress: bool = True
    strip: bool = False
    show: bool = False
    steady: str | None = None
    on_error: str = "skip"
    legend: bool = True
    start: float | None = None
    end: float | None = None
    stride: int = 1

    @property
    def excerpt(self) -> Excerpt:
        """The frames that are taken."""
        return Excerpt(self.start, self.end, self.stride)

    def __post_init__(self) -> None:
        _ = self.excerpt
        if not 0 <= self.overlay <= 1:
            raise InputError(f"overlay is {self.overlay}; it must be 0 (the frame) .. 1 (the colours)")
        if self.steady is not None:
            require_one_of("steady", self.steady, FILTERS)
        require_one_of("on_error", self.on_error, ("skip", "stop"))


@dataclass(frozen=True)
class SegmentOptions(VideoOptions):
    """Options of `segment` alone, beside those of `VideoOptions`.

    Attributes:
        on_frame: called in order with (index, frame uint8 (H,W,3) RGB, [labels uint8 (H,W)]).
        labels: a new folder for label maps, an 8-bit PNG of trainIds a frame, of the frame's size. Called as the source's
            images are, so that `tcseg evaluate` finds them (any layout); of a video 000000.png, 000001.png, ... A `meta.json`
            beside them says what they hold.
        probs: a new folder for probabilities, called likewise, .npz: `np.load(file)["probs"]` is uint8 (K,h,w), 255 = 1, one cell
            for 4x4 pixels of what the network saw. About 0.3 byte a value: 12 kB a frame at 256x128, 190 kB at 1024x512.
        classes: names of classes, in any case: these alone are painted, in the legend, and counted by the strip; the rest stays
            the frame. Label maps and probabilities have all classes all the same. None = all.
        lines: a file for a line of JSON a frame, "-" for stdout, or a text stream; see `outputs.FrameLines`.
        networks: keeps networks open from one source to the next; see `OpenNetworks`.
        precision: "fp32"; "int8" in ONNX Runtime and OpenVINO; "fp16" or "bf16" of a network on a GPU.
        calibrate: for int8: (W,H) -> frames of that size, uint8 (N,H,W,3) RGB, as those that the network will see.
    """

    on_frame: OnFrame | None = None
    labels: Path | str | None = None
    probs: Path | str | None = None
    classes: tuple[str, ...] | list[str] | str | None = None
    lines: Path | str | TextIO | None = None
    networks: OpenNetworks | None = None
    precision: str = "fp32"
    calibrate: Calibrate | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precision == "int8" and self.calibrate is None:
            raise InputError("precision is 'int8', calibrate is None: int8 takes its ranges from frames; say where from")
        if self.labels is not None and self.probs is not None and Path(self.labels) == Path(self.probs):
            raise InputError(f"labels and probs are both {self.labels}; give two folders")

    @property
    def folders(self) -> dict[str, Path]:
        """The folders that are to be written."""
        return {name: Path(path) for name in ("labels", "probs") if (path := getattr(self, name)) is not None}


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


def blend(frame: np.ndarray, labels: np.ndarray, label_set: LabelSet, overlay: float = 0.6) -> np.ndarray:
    """Overlay the colours of labels uint8 (H,W) on a frame: uint8 (H,W,3) RGB; `overlay` (0..1) is the opacity.

    Pixels without a class (255) are black.

    Raises:
        ValueError: the labels are not uint8, or not of the frame's size.
    """
    if labels.dtype != np.uint8 or labels.shape != frame.shape[:2]:
        expected = f"uint8 {frame.shape[:2]}, as the frame is; labels.astype(np.uint8) makes bytes of them"
        raise InputError(f"labels are {labels.dtype} {labels.shape}; they must be {expected}")
    palette = colorize(np.arange(256, dtype=np.uint8), label_set)
    colours = cv2.applyColorMap(labels, palette[:, None])  # ten times faster than indexing the palette with a map
    return cv2.addWeighted(frame, 1 - overlay, colours, overlay, 0)


def caption(picture: np.ndarray, text: str) -> np.ndarray:
    """Write a caption on a dark background into the upper left corner of an image (in place)."""
    scale = _caption_scale(picture.shape[1])
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    cv2.rectangle(picture, (0, 0), (width + 8, height + base + 6), (20, 20, 20), -1)
    cv2.putText(picture, text, (4, height + 3), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return picture


def caption_height(width: int) -> int:
    """Rows that a caption takes in a picture so wide."""
    (_, height), base = cv2.getTextSize("frame", cv2.FONT_HERSHEY_SIMPLEX, _caption_scale(width), 1)
    return height + base + 7


def _caption_scale(width: int) -> float:
    return max(0.35, width / 1100)


@dataclass
class _Outputs:
    """Where answers go; `write` belongs to the writer's thread.

    Attributes:
        names: the networks', as the strip calls them.
        strip: whether it is drawn; what changes is measured where there is a meter.
        place: index of a written frame -> which frame of the source it is, and its time in seconds.
        expected: frames that will come; None = unknown.
        chosen: trainIds that are measured; None = all.
    """

    render: Render
    names: tuple[str, ...] = ("flicker",)
    sink: Sink | PictureFile | None = None
    window: Window | None = None
    labels: FrameFiles | None = None
    probs: FrameFiles | None = None
    lines: FrameLines | None = None
    meter: Meter | None = None
    strip: bool = True
    place: Callable[[int], tuple[int, float]] = lambda index: (index, float(index))
    expected: int | None = None
    chosen: tuple[int, ...] | None = None
    live: bool = False
    written: int = 0

    def write(self, segmented: SegmentedFrame) -> None:
        shares = [float("nan")]
        if self.meter is not None:
            shares = self.meter.step(segmented.frame, [only(labels, self.chosen) for labels in segmented.maps])
        if self.sink is not None or self.window is not None:
            picture = self._picture(segmented)
            if self.sink is not None:
                self.sink.write(picture, segmented.time)
            if self.window is not None:
                self.window.write(picture)
        if self.labels is not None:
            self.labels.write(segmented.maps[0], self._named(self.labels, segmented))
        if self.probs is not None:
            self.probs.write(segmented.probs, self._named(self.probs, segmented))
        if self.lines is not None:
            self._tell(segmented, shares[0])
        self.written += 1

    def _tell(self, segmented: SegmentedFrame, share: float) -> None:
        try:
            self.lines.write(self._place(segmented), segmented.maps[0], share, segmented.milliseconds)
        except BrokenPipeError:  # nobody reads: go on with what else is written, if anything is
            if not any((self.sink, self.window, self.labels, self.probs)):
                raise
            self.lines = None

    def _place(self, segmented: SegmentedFrame) -> tuple[int, float]:
        """Which frame of the source it is, and its time in seconds: as the source says, where it says."""
        frame, seconds = self.place(self.written)
        if self.live:
            return frame, seconds
        return frame if segmented.index is None else segmented.index, seconds if segmented.time is None else segmented.time

    @staticmethod
    def _named(files: FrameFiles, segmented: SegmentedFrame) -> int | None:
        """The frame's number among the source's names; a video's frames are counted as they come."""
        return None if files.names is None else segmented.index

    def _picture(self, segmented: SegmentedFrame) -> np.ndarray:
        picture = self.render(segmented.frame, segmented.maps)
        if self.meter is None or not self.strip:
            return picture
        strip = draw_strip(self.meter.series, self.meter.means(), picture.shape[1], self.names, self.expected)
        return np.vstack((picture, strip))

    def paths(self) -> list[Path]:
        """What is written, in files."""
        return [target.path for target in (self.sink, self.labels, self.probs) if target is not None]

    def close(self, keep: bool) -> None:
        """Complete all of it or remove all of it; one that fails does not stop the others."""
        with ExitStack() as stack:
            for target in (self.probs, self.labels, self.sink, self.window):
                if target is not None:
                    stack.callback(target.close, keep)

    def flicker(self) -> dict:
        """What the meter found: of one network a value, of several a dict by name."""
        if self.meter is None:
            return {"flicker": None, "flicker_series": None}
        means = dict(zip(self.names, self.meter.means(), strict=True))
        series = {name: [row[i] for row in self.meter.series] for i, name in enumerate(self.names)}
        if len(self.names) == 1:
            return {"flicker": means[self.names[0]], "flicker_series": series[self.names[0]]}
        return {"flicker": means, "flicker_series": series}


def painting(
    model: SegmentationModel,
    overlay: float,
    strip: bool,
    sink: Sink | None = None,
    live: bool = False,
    legend: bool = False,
    chosen: tuple[int, ...] | None = None,
) -> _Outputs:
    """Outputs that paint a network's classes, or the chosen ones, over the frame; with a strip and a legend if wanted."""
    drawn = Legend(model.label_set, chosen) if legend else None

    def paint(frame: np.ndarray, maps: list[np.ndarray]) -> np.ndarray:
        labels = only(maps[0], chosen)
        picture = blend(frame, labels, model.label_set, overlay)
        if chosen is not None:
            np.copyto(picture, frame, where=(labels == IGNORE)[..., None])
        return picture if drawn is None else drawn.draw(picture, labels)

    return _Outputs(paint, sink=sink, meter=_meter(strip, live), chosen=chosen)


def _meter(strip: bool, live: bool) -> Meter | None:
    return Meter(RECENT if live else None) if strip else None


def _open_outputs(
    outputs: _Outputs,
    source: Source,
    out: Path | None,
    options: VideoOptions,
    label_set: LabelSet | None = None,
) -> _Outputs:
    """Make what will be written, aside; if one of them cannot be, the others are removed again."""
    outputs.expected = source.count
    if source.still and options.strip:
        raise InputError(f"strip needs a video or a folder, and {source.name} is one picture: nothing can flicker")
    if source.live and out is not None and out.suffix.lower() == ".gif":
        raise InputError(
            f"out is {out.name!r}: a GIF is kept in memory until it ends, and a camera does not; use .mp4, .mkv or .avi"
        )
    with ExitStack() as stack:
        stack.callback(lambda: outputs.close(keep=False))
        if out is not None:
            with_pace = (options.fps or source.fps, source, options.fps is not None)
            outputs.sink = PictureFile(out) if source.still else Sink(out, *with_pace)
        if isinstance(outputs.sink, Sink) and outputs.sink.sound_note and options.progress:
            tqdm.write(outputs.sink.sound_note, file=sys.stderr)
        for what, folder in options.folders.items() if isinstance(options, SegmentOptions) else ():
            meaning = label_set if what == "labels" else None
            setattr(outputs, what, FrameFiles(folder, what, source.names, meaning))
        outputs.window = Window(f"tcseg {source.name} (q ends)") if options.show else None
        stack.pop_all()
    return outputs


# ------------------------------------------------------------------------------------------------ the commands


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
    opened = chosen.excerpt.of(whole)
    measured = chosen.strip or (chosen.lines is not None and not whole.still)
    outputs = painting(model, chosen.overlay, measured, None, opened.live, chosen.legend, classes)
    outputs.strip, outputs.place, outputs.live = chosen.strip, _places(chosen.excerpt, whole), opened.live
    with ExitStack() as stack:
        if chosen.lines is not None:
            lines = chosen.lines
            stream = lines if hasattr(lines, "write") else stack.enter_context(open_lines(lines))
            outputs.lines = FrameLines(stream, model.label_set, str(source), classes)
        _open_outputs(outputs, opened, out, chosen, model.label_set)
        result = _run(source, opened, outputs, model, size, chosen)
    told = chosen.lines if isinstance(chosen.lines, str | Path) else getattr(chosen.lines, "name", "stream")
    return result | {"lines": None if chosen.lines is None else "stdout" if str(told) == "-" else str(told)}


def _run(
    source: str | int | Path, opened: Source, outputs: _Outputs, model: SegmentationModel, size: Size, chosen: SegmentOptions
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

    outputs = _Outputs(render, tuple(models), meter=_meter(chosen.strip, opened.live))
    _open_outputs(outputs, opened, out, chosen)

    sizes: dict[str, tuple[int, int]] = {}

    def open_for(first: np.ndarray) -> list[list[FrameRunner]]:
        sizes.update(_network_sizes(models, first, size, chosen.progress))
        return open_runners(models.values(), chosen.runtime, first, opened.live, size, chosen.steady)

    return run(opened, outputs, open_for, None, chosen.progress) | outputs.flicker() | {"seen": sizes, "lines": None}
