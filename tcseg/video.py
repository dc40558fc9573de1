"""Video in, video out: decode -> network -> label map -> overlay -> encode, with the ends overlapping the middle.

Three threads, two bounded queues: one reads and decodes, the main one runs the network, one paints and encodes.
OpenCV, torch and numba release Python's lock, so the slowest stage sets the pace. Offline, no frame is ever dropped;
from a camera the network always gets the newest frame and the number dropped is told.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from tqdm.auto import tqdm

from tcseg.labels import LabelSet, colorize
from tcseg.postprocess import padded_size, upsample_argmax
from tcseg.runtimes import Network, open_network
from tcseg.videofiles import Sink, Source, open_source

if TYPE_CHECKING:
    from tcseg.networks import SegmentationModel

Render = Callable[[np.ndarray, list[np.ndarray]], np.ndarray]
QUEUE = 6  # frames in flight at either end
_END = object()


class _Reader(threading.Thread):
    """Decodes into a queue. With a live source the oldest waiting frame gives way to the newest."""

    def __init__(self, source: Source, first: np.ndarray, stream: Iterator[np.ndarray]) -> None:
        super().__init__(daemon=True, name="decode")
        self.stream, self.live, self.dropped = stream, source.live, 0
        self.frames: queue.Queue = queue.Queue(1 if source.live else QUEUE)
        self.frames.put(first)
        self.error: Exception | None = None
        self.stop = threading.Event()

    def run(self) -> None:
        try:
            for frame in self.stream:
                if not self._put(frame):
                    break
        except Exception as error:  # handed to the main thread, which raises it
            self.error = error
        finally:
            self.stream.close()
            self._put(_END)

    def _put(self, item: object) -> bool:
        while not self.stop.is_set():
            with suppress(queue.Full):
                self.frames.put(item, timeout=0.1 if not self.live else 0.0001)
                return True
            if self.live and item is not _END:
                with suppress(queue.Empty):
                    self.frames.get_nowait()
                    self.dropped += 1
        return False


class _Writer(threading.Thread):
    """Paints and encodes from a queue; after an error it goes on emptying it, so that nobody waits for it."""

    def __init__(self, render: Render, sink: Sink | None) -> None:
        super().__init__(daemon=True, name="encode")
        self.render, self.sink = render, sink
        self.queue: queue.Queue = queue.Queue(QUEUE)
        self.error: Exception | None = None

    def run(self) -> None:
        while (item := self.queue.get()) is not _END:
            if self.sink is None or self.error is not None:
                continue
            try:
                self.sink.write(self.render(*item))
            except Exception as error:  # handed to the main thread, which raises it
                self.error = error


def blend(frame: np.ndarray, labels: np.ndarray, label_set: LabelSet, overlay: float = 0.6) -> np.ndarray:
    """Paint labels over a frame: uint8 (H,W,3) RGB; `overlay` 0 = the frame, 1 = the colours alone."""
    return cv2.addWeighted(frame, 1 - overlay, colorize(labels, label_set), overlay, 0)


def caption(picture: np.ndarray, text: str) -> np.ndarray:
    """Write a word into the upper left corner of a picture (in place), on a dark ground."""
    scale = max(0.35, picture.shape[1] / 1100)
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    cv2.rectangle(picture, (0, 0), (width + 8, height + base + 6), (20, 20, 20), -1)
    cv2.putText(picture, text, (4, height + 3), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return picture


def _labels(network: Network, frame: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Labels of the frame's own size; with `size` the network sees a resized frame, its logits are upsampled more."""
    if size is None:
        return network(frame)
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return upsample_argmax(network.run(network.prepare(small)), (frame.shape[1], frame.shape[0]))[0]


def _first(source: Source) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    stream = source.frames()
    frame = next(stream, None)
    if frame is None:
        raise ValueError(f"{source.name} has no frames: an empty or damaged video")
    return frame, stream


def _loop(
    reader: _Reader,
    writer: _Writer,
    networks: list[Network],
    size: tuple[int, int] | None,
    on_frame: Callable[[int, np.ndarray, list[np.ndarray]], None] | None,
    bar: tqdm,
) -> tuple[list[float], bool]:
    """The main thread's part; returns milliseconds a frame, and whether Ctrl-C ended it."""
    milliseconds: list[float] = []
    try:
        while (frame := reader.frames.get()) is not _END and writer.error is None:
            began = time.perf_counter()
            maps = [_labels(network, frame, size) for network in networks]
            milliseconds.append((time.perf_counter() - began) * 1e3)
            if on_frame is not None:
                on_frame(len(milliseconds) - 1, frame, maps)
            writer.queue.put((frame, maps))
            bar.update()
    except KeyboardInterrupt:
        return milliseconds, True
    finally:
        reader.stop.set()
    return milliseconds, False


def _run(
    source: Source,
    models: list[SegmentationModel],
    render: Render,
    sink: Sink | None,
    size: tuple[int, int] | None,
    on_frame: Callable[[int, np.ndarray, list[np.ndarray]], None] | None,
    runtime: str,
    progress: bool,
) -> dict:
    """Run the pipeline to the end of the source; the sink is completed, or removed if anything failed."""
    done = False
    try:
        first, stream = _first(source)
        shape = size or (first.shape[1], first.shape[0])
        networks = [open_network(model, runtime, shape) for model in models]
        for network in networks:
            _labels(network, first, size)  # compiles and warms up; not counted
        reader, writer = _Reader(source, first, stream), _Writer(render, sink)
        began = time.perf_counter()
        reader.start()
        writer.start()
        try:
            with tqdm(total=source.count, desc=source.name, unit="frame", disable=not progress) as bar:
                milliseconds, interrupted = _loop(reader, writer, networks, size, on_frame, bar)
        finally:  # both threads have ended before the sink is closed
            writer.queue.put(_END)
            writer.join()
            reader.join()
        seconds = time.perf_counter() - began
        for error in (writer.error, reader.error):
            if error is not None:
                raise error
        done = True
    finally:
        if sink is not None:
            sink.close(keep=done)
    return _report(source, milliseconds, seconds, reader.dropped, interrupted, first.shape)


def _report(
    source: Source, milliseconds: list[float], seconds: float, dropped: int, interrupted: bool, shape: tuple[int, ...]
) -> dict:
    frames = len(milliseconds)
    message = None
    if interrupted:
        message = f"interrupted: the first {frames} frames are kept"
    elif source.count is not None and frames < source.count:
        message = f"{source.name} ends after {frames} of {source.count} frames: damaged or truncated; these are good"
    return {
        "frames": frames,
        "fps": frames / seconds,
        "p50_ms": float(np.median(milliseconds)) if frames else float("nan"),
        "width": shape[1],
        "height": shape[0],
        "expected": source.count,
        "dropped": dropped,
        "interrupted": interrupted,
        "message": message,
    }


def _checked(
    source: str | int | Path, out: Path | str | None, overlay: float, size: tuple[int, int] | None
) -> Path | None:
    if not 0 <= overlay <= 1:
        raise ValueError(f"overlay is {overlay}; it must be 0 (the frame) .. 1 (the colours)")
    if size is not None and (min(size) < 32 or size != padded_size(size)):
        full = padded_size((max(size[0], 1), max(size[1], 1)))
        raise ValueError(f"size is {size[0]}x{size[1]}; sides must be multiples of 32: pass {full[0]}x{full[1]}")
    out = None if out is None else Path(out)
    if out is not None and out.exists() and Path(str(source)).exists() and out.samefile(str(source)):
        raise ValueError(f"out is the source itself ({out}); give another name")
    return out


def segment(
    source: str | int | Path,
    out: Path | str | None,
    model: SegmentationModel,
    size: tuple[int, int] | None = None,
    overlay: float = 0.6,
    fps: float | None = None,
    on_frame: Callable[[int, np.ndarray, list[np.ndarray]], None] | None = None,
    runtime: str = "pytorch",
    progress: bool = True,
) -> dict:
    """Segment a video and write it with the classes painted over it.

    The result is written as `.NAME.part.SUFFIX` and renamed when complete. Ctrl-C completes it with the frames done so
    far; an error removes it; only a kill leaves the `.part` file, which the next run overwrites.

    Args:
        source: video file, folder of images, camera number, or stream (URL).
        out: .mp4, .avi or .gif; None = nothing is written, for measuring or `on_frame`.
        model: a trained network.
        size: (W,H), multiples of 32, to which frames are resized for the network; None = their own size, padded if odd.
            The label map always has the frame's size.
        overlay: 0..1, how strongly the colours cover the frame.
        fps: of the output; None = the source's.
        on_frame: called in order with (index, frame uint8 (H,W,3) RGB, [labels uint8 (H,W)]).
        runtime: "pytorch", "onnxruntime" or "openvino".
        progress: a bar with live frames a second.

    Returns:
        frames, fps (of the whole pipeline, wall clock), p50_ms (frame in to label map out), width, height, expected
        (frames that the file announced, or None), dropped (live only), interrupted, message (None if all went well).

    Raises:
        FileNotFoundError, ValueError: the source does not exist, cannot be read, has no frames; wrong size or overlay.
        PermissionError: the folder of `out` cannot be written (before any work).
        RuntimeError: the runtime is not installed; the disk is full.
    """
    out = _checked(source, out, overlay, size)
    opened = open_source(source)
    sink = None if out is None else Sink(out, fps or opened.fps)

    def render(frame: np.ndarray, maps: list[np.ndarray]) -> np.ndarray:
        return blend(frame, maps[0], model.label_set, overlay)

    return _run(opened, [model], render, sink, size, on_frame, runtime, progress)


def side_by_side(
    source: str | int | Path,
    out: Path | str,
    models: dict[str, SegmentationModel],
    size: tuple[int, int] | None = None,
    overlay: float = 0.6,
    fps: float | None = None,
    panel_width: int | None = None,
    runtime: str = "pytorch",
    progress: bool = True,
) -> dict:
    """Write a video of panels: the frame, then each model's answer, captioned with its name.

    Args:
        source: as in `segment`, and so are the others that are not explained here.
        out: .mp4, .avi or .gif.
        models: caption -> network, in the order of the panels.
        size: of the frames that the networks see.
        overlay: of the colours, 0..1.
        fps: of the output.
        panel_width: of one panel in pixels; None = the frame's own.
        runtime: "pytorch", "onnxruntime" or "openvino".
        progress: a bar with live frames a second.

    Returns:
        As `segment`.
    """
    out = _checked(source, out, overlay, size)
    opened = open_source(source)

    def panel(picture: np.ndarray, text: str) -> np.ndarray:
        if panel_width is not None:
            height = round(picture.shape[0] * panel_width / picture.shape[1])
            picture = cv2.resize(picture, (panel_width, height), interpolation=cv2.INTER_AREA)
        return caption(np.ascontiguousarray(picture), text)

    def render(frame: np.ndarray, maps: list[np.ndarray]) -> np.ndarray:
        panels = [panel(frame.copy(), "frame")]
        for (name, model), labels in zip(models.items(), maps, strict=True):
            panels.append(panel(blend(frame, labels, model.label_set, overlay), name))
        return np.hstack(panels)

    return _run(opened, list(models.values()), render, Sink(out, fps or opened.fps), size, None, runtime, progress)
