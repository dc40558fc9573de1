"""What `tcseg adapt` costs on a ten-minute video of 1280x720: minutes and memory of the whole command, as a user starts it.

The length is made by repeating a highway film of 38 frames, so the costs mean something and the accuracy does not. The teacher is
a folder of stored maps, so what a network would take to answer comes on top.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import av
import pandas as pd

from tcseg.data.folders import find_dataset
from tcseg.errors import CannotRunError, InputError, NotFoundError
from tcseg.machine import machine_facts

FILM = "highway_1280x720"
MINUTES, QUICK_MINUTES = 10.0, 0.25
QUICK = ("--steps", "4", "--size", "128x64", "--no-replay")


def measure(out: Path, quick: bool = False) -> pd.DataFrame:
    """Run `tcseg adapt` on the repeated film.

    Args:
        out: folder; the video, the links to its maps and the results lie in `adapt_long/`.
        quick: a quarter of a minute of video and a few steps.

    Returns:
        One row: minutes of the video, frames, snippets that were learned from, minutes of training and of the whole command,
        the largest resident memory in GB (10^9 bytes), steps, CPU and cores.

    Raises:
        NotFoundError: the film or its maps are not on this machine.
        CannotRunError: the command failed.
    """
    videos, maps = find_dataset("videos"), find_dataset("teacher_maps")
    if videos is None or maps is None or not (videos / f"{FILM}.mp4").exists():
        raise NotFoundError(f"data/videos/{FILM}.mp4 and data/teacher_maps are needed (or in $TCSEG_DATA)")
    folder = out / "adapt_long"
    folder.mkdir(parents=True, exist_ok=True)
    video = folder / f"{FILM}_repeated.mp4"
    seconds = 60 * (QUICK_MINUTES if quick else MINUTES)
    frames = repeat(videos / f"{FILM}.mp4", video, seconds)
    link_maps(maps / "videos", folder / "maps", video.stem, frames)
    name = folder / f"adapted-{time.time_ns()}"
    command = ["adapt", str(video), "--teacher", f"maps:{folder / 'maps'}", "--classes", "cityscapes", "--out", str(name)]
    began = time.monotonic()
    gigabytes = peak_memory([sys.executable, "-m", "tcseg", *command, *(QUICK if quick else ())])
    minutes = (time.monotonic() - began) / 60
    told = json.loads(name.with_suffix(".json").read_text())
    machine = machine_facts()
    row = {
        "video": f"{FILM}, repeated",
        "video_minutes": round(seconds / 60, 2),
        "frames": frames,
        "learned_snippets": told["learned_snippets"],
        "steps": told["settings"]["steps"],
        "training_minutes": told["training_minutes"],
        "minutes": round(minutes, 2),
        "peak_gb": round(gigabytes, 2),
    }
    return pd.DataFrame([row | {key: machine[key] for key in ("cpu", "cores") if key in machine}])


def repeat(film: Path, to: Path, seconds: float) -> int:
    """Write a film again and again into one file, its packets unchanged.

    Args:
        film: with one video stream.
        to: file to write.
        seconds: length, at least.

    Returns:
        Frames written.
    """
    count, shift = 0, 0
    with av.open(str(film)) as read:
        source = read.streams.video[0]
        if not source.duration:
            raise InputError(f"{film} does not say how long it is")
        length = float(source.duration * source.time_base)
    with av.open(str(to), "w") as written:
        stream = None
        for _ in range(math.ceil(seconds / length)):
            with av.open(str(film)) as read:
                source = read.streams.video[0]
                stream = stream or written.add_stream_from_template(source)
                end = shift
                for packet in read.demux(source):
                    if packet.dts is None:  # the end
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    end = max(end, packet.pts + packet.duration)
                    written.mux(packet)
                    count += 1
                shift = end
    return count


def link_maps(maps: Path, to: Path, name: str, frames: int) -> None:
    """Links to the film's maps for every frame of its repetition."""
    for kind in ("labels", "confidence"):
        originals = sorted((maps / kind / FILM).iterdir())
        (to / kind / name).mkdir(parents=True, exist_ok=True)
        for index in range(frames):
            link = to / kind / name / f"{index:06}.png"
            if not link.is_symlink():
                link.symlink_to(originals[index % len(originals)].resolve())


def peak_memory(command: list[str]) -> float:
    """Run a command, and return its largest resident memory in GB.

    Raises:
        CannotRunError: it failed.
    """
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise CannotRunError(f"{' '.join(command[1:4])} ended with exit status {process.returncode}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
