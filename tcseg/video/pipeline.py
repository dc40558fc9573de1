"""Decode, predict and encode at the same time: one thread each, with bounded queues between them.

One thread reads and decodes, one paints and encodes. OpenCV, torch and numba release Python's lock, so the slowest stage sets the
pace. From a camera the main thread runs the network on the newest frame, with all cores, and the number of frames dropped is told.
Offline no frame is ever dropped, and several are answered at once, each by a thread of its own with its share of the cores: two
cores with a frame each do more than two that wait for each other within one.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
import torch
from tqdm.auto import tqdm

from tcseg.deploy.label_map import pad_to_multiple, padded_size, upsample_argmax
from tcseg.deploy.runtimes import Network, open_streams, torch_threads
from tcseg.errors import one_line
from tcseg.machine import usable_cores
from tcseg.models.trained_on import Size, size_for
from tcseg.video.flicker_meter import drop_oldest
from tcseg.video.outputs import Window
from tcseg.video.reading.sources import Source
from tcseg.video.temporal_filters import FILTERS
from tcseg.video.threads import END, Reader, Stamped, Writer

if TYPE_CHECKING:
    from tcseg.models.networks import SegmentationModel

OnFrame = Callable[[int, np.ndarray, list[np.ndarray]], None]
Calibrate = Callable[[tuple[int, int]], np.ndarray]
"""(W,H) -> frames for int8, uint8 (N,H,W,3) RGB."""
RECENT = 36_000  # frames of a live source that are remembered at least: twenty minutes at 30 a second
STREAMS = 4  # frames answered at once, at most: encoding keeps up with no more


@dataclass(frozen=True)
class SegmentedFrame:
    """A frame uint8 (H,W,3), each network's labels uint8 (H,W), and, if wanted, the first one's probabilities (K,h,w).

    Attributes:
        time: seconds, when the frame is shown; of a live source when it came. None = at the source's pace.
        index: the frame's number in the source, damaged ones counted; None = as they come.
        milliseconds: from the frame to the labels.
    """

    frame: np.ndarray
    maps: list[np.ndarray]
    probs: np.ndarray | None
    time: float | None = None
    index: int | None = None
    milliseconds: float = float("nan")


class Outputs(Protocol):
    """Where answers go."""

    window: Window | None
    """Kept alive by the main thread."""

    def write(self, segmented: SegmentedFrame) -> None:
        """Take an answer, in the writer's thread."""

    def paths(self) -> list[Path]:
        """What is written, in files."""

    def close(self, keep: bool) -> None:
        """Complete what was written, or remove it."""


# ------------------------------------------------------------------------------------------------ the network


class FrameRunner:
    """A network as the pipeline uses it: resize, run, filter if one is wanted, finish.

    Attributes:
        size: (W,H) that frames are resized to; None = they stay as they are, and are padded.
    """

    def __init__(
        self,
        network: Network,
        stride: int,
        first: np.ndarray,
        size: tuple[int, int] | None,
        steady: str | None = None,
        wants_probs: bool = False,
    ) -> None:
        self.network = network
        self.size, self.stride, self.wants_probs, self.filter = size, stride, wants_probs, None
        self(first)  # compiles and warms up; no filter remembers it
        self.filter = None if steady is None else FILTERS[steady]()

    def __call__(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Labels uint8 (H,W) of the frame's own size, and probabilities uint8 (K,h,w) if wanted."""
        size = frame.shape[1], frame.shape[0]
        network_frame = frame if self.size is None else resized(frame, self.size)
        if self.filter is None:
            scores = self._logits(network_frame)
            probs = _softmax(scores) if self.wants_probs else None
        else:
            probs = self.filter.step(pad_to_multiple(network_frame)[0], lambda: _softmax(self._logits(network_frame)))
            scores = probs[None].clamp(min=1e-12).log()  # upsampled as logits are; see steady.label_maps
        # Resized frames need no padding: their logits are upsampled more, straight to the frame's size.
        labels = self.network.finish(scores, size) if self.size is None else upsample_argmax(scores, size)[0]
        return labels, self._stored(probs, network_frame) if self.wants_probs else None

    def _logits(self, network_frame: np.ndarray) -> Any:
        return self.network.run(self.network.prepare(network_frame))

    def _stored(self, probs: torch.Tensor, network_frame: np.ndarray) -> np.ndarray:
        rows, columns = (-(-side // self.stride) for side in network_frame.shape[:2])
        return (probs[:, :rows, :columns] * 255).round().to(torch.uint8).numpy()


def resized(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A frame uint8 (H,W,3) at another size (W,H): means over areas where it shrinks, else bilinear."""
    shrinks = size[0] <= frame.shape[1] and size[1] <= frame.shape[0]
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def open_runners(
    models: Iterable[SegmentationModel],
    runtime: str,
    first: np.ndarray,
    live: bool,
    size: Size = None,
    steady: str | None = None,
    wants_probs: bool = False,
    precision: str = "fp32",
    calibrate: Calibrate | None = None,
) -> list[list[FrameRunner]]:
    """Runners [stream][model]: several streams, but one for a live source, a filter (frames in order), a compiled network or a GPU.

    Each network sees frames at the size that `trained_on.size_for` gives it. For int8, `calibrate` gives frames of that size.
    """
    models = list(models)
    on_cpu = all(next(model.parameters()).device.type == "cpu" for model in models)
    alone = live or steady is not None or runtime.startswith("compile")  # which would compile again for other threads
    streams = min(STREAMS, usable_cores()) if on_cpu and not alone else 1
    frame = first.shape[1], first.shape[0]
    sizes = [size_for(model, frame, size) for model in models]
    networks = []
    for model, network_size in zip(models, sizes, strict=True):
        calibration = calibrate(padded_size(network_size or frame)) if precision == "int8" and calibrate else None
        networks.append(open_streams(model, runtime, network_size or frame, streams, precision, calibration))
    return [
        [
            FrameRunner(opened[i], model.stride, first, network_size, steady, wants_probs)
            for opened, model, network_size in zip(networks, models, sizes, strict=True)
        ]
        for i in range(streams)
    ]


def _softmax(logits: Any) -> torch.Tensor:
    return torch.as_tensor(logits)[0].float().softmax(0).cpu()


# ------------------------------------------------------------------------------------------------ the three threads


def _next(reader: Reader, window: Window | None) -> Any:
    """The next frame or `END`; meanwhile the window is kept alive, and its q is a Ctrl-C."""
    while True:
        if window is not None and not window.alive():
            raise KeyboardInterrupt
        with suppress(queue.Empty):
            return reader.frames.get(timeout=0.1)


Result = tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray | None]], float]  # frame, each network's output, milliseconds


def _run_all(frame: np.ndarray, runners: list[FrameRunner]) -> Result:
    started = time.perf_counter()
    return frame, [runner(frame) for runner in runners], (time.perf_counter() - started) * 1e3


def segment_frames(frames: Iterable[np.ndarray], streams: list[list[FrameRunner]]) -> Iterator[Result]:
    """Each frame's answers, in the order of the frames; with several streams, as many frames are looked at at once."""
    if len(streams) == 1:
        yield from (_run_all(frame, streams[0]) for frame in frames)
        return
    free, waiting = queue.SimpleQueue(), deque()
    for runners in streams:
        free.put(runners)

    def segment(frame: np.ndarray) -> Result:
        runners = free.get()
        try:
            return _run_all(frame, runners)
        finally:
            free.put(runners)

    with torch_threads(max(1, usable_cores() // len(streams))), ThreadPoolExecutor(len(streams), "network") as pool:
        for frame in frames:
            waiting.append(pool.submit(segment, frame))
            if len(waiting) > len(streams):  # one more than are worked on, so that no stream has to wait
                yield waiting.popleft().result()
        yield from map(Future.result, waiting)


def _loop(
    reader: Reader, writer: Writer, streams: list[list[FrameRunner]], on_frame: OnFrame | None, bar: tqdm
) -> tuple[list[float], str]:
    """The main thread's part; returns milliseconds a frame (the last `RECENT` of a camera), and what ended it; "" = the source."""
    milliseconds: list[float] = []
    keep = RECENT if reader.live else None
    stamps: deque[Stamped] = deque()  # of the frames that are being answered, which come out in order

    def frames() -> Iterator[np.ndarray]:
        while (stamped := _next(reader, writer.outputs.window)) is not END and writer.error is None:
            stamps.append(stamped)
            yield stamped.frame

    try:
        for index, (frame, results, took) in enumerate(segment_frames(frames(), streams)):
            milliseconds.append(took)
            drop_oldest(milliseconds, keep)
            maps = [labels for labels, _ in results]
            if on_frame is not None:
                on_frame(index, frame, maps)
            stamp = stamps.popleft()
            writer.queue.put(SegmentedFrame(frame, maps, results[0][1], stamp.time, stamp.index, took))
            bar.update()
    except KeyboardInterrupt as stop:
        return milliseconds, f"interrupted by {stop}" if str(stop) else "interrupted"
    finally:
        reader.stop.set()
    return milliseconds, ""


def run(
    source: Source,
    outputs: Outputs,
    open_networks: Callable[[np.ndarray], list[list[FrameRunner]]],
    on_frame: OnFrame | None,
    progress: bool,
) -> dict:
    """Run the pipeline to the end of the source; what it writes is completed, or removed if anything failed.

    Args:
        source: of frames.
        outputs: where answers go.
        open_networks: opens the networks, given the first frame: see `open_runners`.
        on_frame: called in order with (index, frame, label maps).
        progress: a bar.

    Returns:
        As `render.segment`, without flicker.

    Raises:
        ValueError: the source has no frames.
    """
    done = False
    try:
        reader, writer = Reader(source), Writer(outputs, source.live)
        first = reader.first.frame
        if source.live:  # read on while the networks open, which takes seconds: the first frame they see is a new one
            reader.start()
        try:
            streams = open_networks(first)
        except BaseException:
            reader.stop.set()
            raise
        started, reader.dropped = time.perf_counter(), 0
        if not source.live:
            reader.start()
        writer.start()
        try:
            with tqdm(total=source.count, desc=source.name, unit="frame", disable=not progress) as bar:
                milliseconds, interrupted = _loop(reader, writer, streams, on_frame, bar)
        finally:  # both threads have ended before the outputs are closed
            writer.queue.put(END)
            writer.join()
            reader.join(2 if source.live else None)  # a camera that has died may never give its last frame
        seconds = time.perf_counter() - started
        for error in (writer.error, None if writer.written else reader.error):
            if error is not None:
                raise error
        done = True
    finally:
        outputs.close(keep=done)
    speed = {"fps": writer.written / seconds, "p50_ms": float(np.median(milliseconds or [np.nan]))}
    size = {"width": first.shape[1], "height": first.shape[0], "at_once": len(streams)}
    return {"frames": writer.written, **speed, **size, **_ending(source, outputs, reader, writer, interrupted)}


def _ending(source: Source, outputs: Outputs, reader: Reader, writer: Writer, interrupted: str) -> dict:
    """How it ended, and what there is now."""
    frames, reading = writer.written, source.reading
    paths = outputs.paths() if frames else []
    complete = bool(interrupted) or (reader.error is None and not reading.lost and not reading.cut)
    return {
        "expected": source.count,
        "dropped": reader.dropped,
        "lost": reading.lost,
        "complete": complete,
        "interrupted": bool(interrupted),
        "message": _message(source, frames, reader.error, interrupted, bool(paths)),
        "written": paths,
    }


def _message(source: Source, frames: int, error: Exception | None, interrupted: str, kept: bool) -> str | None:
    """What a person should know of the end; None if all went well."""
    reading, parts = source.reading, []
    if interrupted:
        parts.append(f"{interrupted}: the first {frames} frames are kept" if kept else f"{interrupted} after {frames} frames")
    if error is not None:
        parts.append(f"{one_line(error)}; the {frames} frames before it are good")
    elif reading.lost:
        what = "1 frame" if reading.lost == 1 else f"{reading.lost} frames"
        parts.append(f"{what} of {source.name} could not be read and left out; the first: {reading.first_loss}")
    if reading.cut and not interrupted:
        parts.append(f"{source.name} is truncated: {reading.cut}; the {frames} frames before that are good")
    elif source.live and error is None and not interrupted:
        parts.append(f"{source.name} gives no more frames; it ended, or the connection did")
    return "; ".join(parts) or None
