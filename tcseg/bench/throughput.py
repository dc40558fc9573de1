"""Throughput of the video pipeline, compared with each stage alone and with what the cores allow."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tcseg.errors import InputError
from tcseg.machine import usable_cores
from tcseg.models.trained_on import Size
from tcseg.video.encoding import Sink
from tcseg.video.painting import painting
from tcseg.video.pipeline import Outputs, SegmentedFrame, open_runners, run, segment_frames
from tcseg.video.reading.decoding import Source, open_source

if TYPE_CHECKING:
    from tcseg.models.networks import SegmentationModel


def pipeline_rates(
    source: str | Path,
    model: SegmentationModel,
    size: Size = None,
    runtime: str = "pytorch",
    frames: int = 200,
    repeats: int = 3,
) -> dict[str, float]:
    """Compare the throughput of the pipeline with that of each stage alone; run it on an idle machine.

    The goal is a `share` of at least 0.85. For example:

        >>> from tcseg.bench.throughput import pipeline_rates
        >>> from tcseg.models.registry import shipped
        >>> pipeline_rates("drive.mp4", shipped("student"))

    Args:
        source: a video file or folder of images.
        model: a trained network.
        size: size of the frames that the network sees, as in `segment`.
        runtime: "pytorch", "onnxruntime" or "openvino".
        frames: maximum number of frames per pass.
        repeats: number of passes of each kind; they take turns, so that a slow minute affects all of them.

    Returns:
        Medians over the passes in frames per second: decode, network (frame -> label map, with the pipeline's parallelism), encode
        (paint and write), pipeline, and `possible`, the limit set by the cores: their number / processor time of the three stages.
        `share` is pipeline / min(decode, network). `share_of_possible` is pipeline / min(decode, network, possible), because on few
        cores painting and encoding take time from the network. `frames` is the number of frames per pass.

    Raises:
        ValueError: the source is live, so its rate is fixed, or it has no frames.
    """
    opened = open_source(source)
    if opened.live:
        raise InputError(f"source is {source}, which is live; pass a video file or a folder of images to measure throughput")
    some = list(islice(opened.frames(), min(frames, 16)))
    if not some:
        raise InputError(f"source {opened.name} has no frames, so it is empty or damaged; pass another video")
    streams = open_runners([model], runtime, some[0], False, size)
    answered = [SegmentedFrame(frame, [labels], None) for frame, [(labels, _)], _ in segment_frames(some, streams)]

    def outputs(folder: str) -> Outputs:
        return painting(model, 0.6, False, Sink(Path(folder) / "x.mp4", 25.0))

    def turn() -> dict[str, float]:
        count = sum(1 for _ in islice(open_source(source).frames(), frames))
        with tempfile.TemporaryDirectory(prefix="tcseg-") as folder:
            alone = outputs(folder)
            stages = {
                "decode": _rate(islice(open_source(source).frames(), count), count),
                "network": _rate(segment_frames(islice(cycle(some), count), streams), count),
                "encode": _rate(map(alone.write, islice(cycle(answered), count)), count),
            }
            alone.close(keep=False)
            whole = run(_limited(open_source(source), count), outputs(folder), lambda _: streams, None, False)
        rates = {name: rate for name, (rate, _) in stages.items()}
        busy = sum(seconds for _, seconds in stages.values())
        return {"frames": count, **rates, "possible": usable_cores() / busy, "pipeline": whole["fps"]}

    turns = [turn() for _ in range(repeats)]
    medians = {name: float(np.median([rates[name] for rates in turns])) for name in turns[0]}
    slower = min(medians["decode"], medians["network"])
    share, of_possible = medians["pipeline"] / slower, medians["pipeline"] / min(slower, medians["possible"])
    return medians | {"share": share, "share_of_possible": of_possible}


def _rate(work: Iterable[object], count: int) -> tuple[float, float]:
    """Run `count` steps; returns steps per second, and processor time per step in seconds over all threads."""
    started, busy = time.perf_counter(), time.process_time()
    for _ in work:
        pass
    return count / (time.perf_counter() - started), (time.process_time() - busy) / count


def _limited(source: Source, count: int) -> Source:
    return replace(source, count=count, frames=lambda: (frame for frame in islice(source.frames(), count)))
