"""Pictures: class colours over a frame, captions, and what is written of each frame: film, window, label maps, lines, strip."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from tqdm.auto import tqdm

from tcseg.errors import InputError
from tcseg.labels import IGNORE, LabelSet, colorize
from tcseg.video.encoding import Sink
from tcseg.video.flicker_meter import Meter, draw_strip
from tcseg.video.frame_files import FrameFiles
from tcseg.video.legend import Legend, only
from tcseg.video.options import SegmentOptions, VideoOptions
from tcseg.video.outputs import FrameLines, PictureFile, Window
from tcseg.video.pipeline import RECENT, SegmentedFrame
from tcseg.video.reading.decoding import Source

if TYPE_CHECKING:
    from tcseg.models.networks import SegmentationModel


Render = Callable[[np.ndarray, list[np.ndarray]], np.ndarray]


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
class PaintedOutputs:
    """Where answers go; `write` belongs to the writer's thread.

    Attributes:
        names: the networks', as the strip calls them.
        strip: whether it is drawn; what changes is measured where there is a meter.
        place: index of a written frame -> which frame of the source it is, and its time in seconds.
        since_start: a time of the source's clock -> seconds from its first frame.
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
    since_start: Callable[[float], float] = float
    expected: int | None = None
    chosen: tuple[int, ...] | None = None
    live: bool = False
    written: int = 0

    def write(self, segmented: SegmentedFrame) -> None:
        """Measure a frame, and write all that is wanted of it."""
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
        if segmented.time is not None:
            seconds = self.since_start(segmented.time)
        return frame if segmented.index is None else segmented.index, seconds

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
) -> PaintedOutputs:
    """Outputs that paint a network's classes, or the chosen ones, over the frame; with a strip and a legend if wanted."""
    drawn = Legend(model.label_set, chosen) if legend else None

    def paint(frame: np.ndarray, maps: list[np.ndarray]) -> np.ndarray:
        labels = only(maps[0], chosen)
        picture = blend(frame, labels, model.label_set, overlay)
        if chosen is not None:
            np.copyto(picture, frame, where=(labels == IGNORE)[..., None])
        return picture if drawn is None else drawn.draw(picture, labels)

    return PaintedOutputs(paint, sink=sink, meter=meter_of(strip, live), chosen=chosen)


def meter_of(strip: bool, live: bool) -> Meter | None:
    """A meter of flicker, if a strip is wanted; a live source's remembers the last frames alone."""
    return Meter(RECENT if live else None) if strip else None


def open_outputs(
    outputs: PaintedOutputs,
    source: Source,
    out: Path | None,
    options: VideoOptions,
    label_set: LabelSet | None = None,
) -> PaintedOutputs:
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
