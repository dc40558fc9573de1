"""Cost of procity: CPU time per frame by stage, compilation, memory, and the laptop data set on two cores.

Times are CPU seconds of this process with one thread, so a busy machine disturbs them little; those whose name says `seconds` are
wall time and want an idle one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path

import cv2

from tcseg import procity
from tcseg.procity import sequence, snippet_files, writer
from tcseg.procity.rendering import effects

SIZES = ((256, 128), (512, 256), (1024, 512))
STAGES = (
    (sequence, "city_atlas", "textures"),
    (snippet_files, "Sequence", "scene"),
    (sequence.Sequence, "render", "rest"),
    (sequence.Sequence, "view", "raster"),
    (sequence.Sequence, "_colour", "shading"),
    (sequence.Sequence, "_flow", "flow"),
    (sequence.Sequence, "_labels", "labels"),
    (effects, "apply", "effects"),
    (snippet_files, "_encode", "writing"),
    (snippet_files, "write_file", "writing"),
)
"""Where a function lives, its name, and the stage that its time is booked on; what it calls of the others is theirs."""
OF_A_FRAME = ("raster", "shading", "flow", "labels", "effects", "rest")

_RENDER = "from tcseg.procity import Sequence; Sequence('aldersund', 5, (64, 32)).render(7)"
_WORKER = """
import re, resource, sys, tempfile
from tcseg.procity import writer
writer.small_worker()
width, *indices = map(int, sys.argv[1:])
with tempfile.TemporaryDirectory() as root:
    for index in indices:
        snippet = writer.SnippetTask(root, "val", index, (width, width // 2))
        writer.write_snippet(snippet, frozenset(name for t, _, name in snippet.files() if t in range(17, 22)))
try:
    print(int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024)
except OSError:  # not Linux; macOS counts bytes
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


class Stopwatch:
    """CPU seconds by stage; time inside a nested stage is booked on that one alone."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._inner: list[float] = []

    def watch(self, function: Callable, stage: str) -> Callable:
        """The same function, its time booked on a stage."""

        @wraps(function)
        def timed(*args: object, **kwargs: object) -> object:
            started = time.process_time()
            self._inner.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                elapsed = time.process_time() - started
                self.seconds[stage] += elapsed - self._inner.pop()
                if self._inner:
                    self._inner[-1] += elapsed

        return timed


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """While it is open, the renderer's stages are timed."""
    watch = Stopwatch()
    plain = [(owner, name, getattr(owner, name)) for owner, name, _ in STAGES]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for owner, name, stage in STAGES:
            setattr(owner, name, watch.watch(getattr(owner, name), stage))
        yield watch
    finally:
        for owner, name, function in plain:
            setattr(owner, name, function)
        cv2.setNumThreads(threads)


def frame_cost(size: tuple[int, int], snippets: int, frames: int) -> dict[str, float]:
    """CPU milliseconds of a frame with labels and both flows, effects on, and its breakdown; writing and scenes apart.

    Args:
        size: (W,H).
        snippets: of val; one city after another.
        frames: the first so many of each snippet.
    """
    procity.Sequence("aldersund", 0, (64, 32)).render(0)  # compiled, or read from numba's cache
    sequence.city_atlas.cache_clear()
    with stopwatch() as watch, tempfile.TemporaryDirectory() as root:
        for index in range(snippets):
            snippet = writer.SnippetTask(root, "val", index, size)
            writer.write_snippet(snippet, frozenset(name for t, _, name in snippet.files() if t < frames))
    shape, count = f"{size[0]}x{size[1]}", snippets * frames
    rows = {f"cpu_ms_{stage}_{shape}": 1e3 * watch.seconds[stage] / count for stage in (*OF_A_FRAME, "writing")}
    rows |= {
        f"cpu_ms_{stage}_per_snippet_{shape}": 1e3 * watch.seconds[stage] / snippets for stage in ("scene", "textures")
    }
    return {f"cpu_ms_per_frame_{shape}": sum(rows[f"cpu_ms_{stage}_{shape}"] for stage in OF_A_FRAME), **rows}


def _python(code: str, *arguments: object, **environment: str) -> str:
    """Run code in a fresh interpreter; its output."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment}).stdout


def compilation() -> dict[str, float]:
    """Wall seconds of a first frame in a fresh process, with numba's cache empty (every kernel compiled) and full."""
    seconds = {}
    with tempfile.TemporaryDirectory() as cache:
        for name in ("first_frame_compiling", "first_frame_cached"):
            started = time.perf_counter()
            _python(_RENDER, NUMBA_CACHE_DIR=cache)
            seconds[f"seconds_{name}"] = time.perf_counter() - started
    return seconds


def worker_memory(size: tuple[int, int], snippets: int) -> dict[str, float]:
    """Peak resident memory (10^6 bytes) of a fresh worker process that writes five frames of each snippet, interpreter and all."""
    peak = int(_python(_WORKER, size[0], *range(snippets)))
    return {f"peak_memory_mb_{size[0]}x{size[1]}": peak / 1e6}


def data_set(root: Path, size: tuple[int, int], train: int, val: int, test: int) -> dict[str, float]:
    """Make a data set with two processes: wall and CPU seconds, bytes and files."""
    started, before = time.perf_counter(), os.times()
    procity.generate(root, size, train, val, test, workers=2)
    after, seconds = os.times(), time.perf_counter() - started
    cpu = sum(
        getattr(after, kind) - getattr(before, kind) for kind in ("user", "system", "children_user", "children_system")
    )
    files = [path for path in root.rglob("*") if path.is_file()]
    return {
        "seconds_laptop_dataset_2_cores": seconds,
        "cpu_seconds_laptop_dataset": cpu,
        "laptop_dataset_mb": sum(path.stat().st_size for path in files) / 1e6,
        "laptop_dataset_files": len(files),
    }
