"""Time from process start to the first prediction of one network, and its memory. `latency.py` runs this file as a script.

The script imports nothing from tcseg when it runs, so it measures what a deployment would load.

Usage: python cold_start.py FILE.onnx RUNTIME THREADS  ->  one line of JSON: import_ms, load_ms, first_ms, peak_mb
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tcseg.errors import CannotRunError


def _open(path: str, runtime: str, threads: int) -> Callable[[], tuple[Sequence[int], Callable[[np.ndarray], object]]]:
    """Import the runtime and return a function that loads the file and returns the input shape and a predict function."""
    if runtime == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3

        def load() -> tuple[Sequence[int], Callable[[np.ndarray], object]]:
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            return session.get_inputs()[0].shape, lambda frame: session.run(None, {"frames": frame})

        return load
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}

    def load() -> tuple[Sequence[int], Callable[[np.ndarray], object]]:
        compiled = openvino.Core().compile_model(path, "CPU", settings)
        request = compiled.create_infer_request()
        return tuple(compiled.input(0).shape), lambda frame: request.infer({0: frame})

    return load


def _peak_mb() -> float:
    """Peak memory of this process, 10^6 bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage on Linux remembers what the parent held before exec
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def cold_start(content: bytes, runtime: str, threads: int) -> dict[str, float]:
    """Start a network in a new process: import the runtime, load and compile the file, predict one frame.

    Args:
        content: content of an ONNX file for frames of one shape.
        runtime: "onnxruntime" or "openvino".
        threads: number of threads of the runtime.

    Returns:
        first_ms (load, compile and first prediction, without imports) and peak_mb.

    Raises:
        RuntimeError: the process failed; the message has its last line.
    """
    with tempfile.TemporaryDirectory(prefix="tcseg-") as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(content)
        script = [sys.executable, "-P", __file__]  # -P: modules in this folder must not hide others of the same name
        arguments = [str(path), runtime, str(threads)]
        done = subprocess.run([*script, *arguments], capture_output=True, text=True)
        if done.returncode:
            message = done.stderr.strip().splitlines() or [f"it ended with exit code {done.returncode}"]
            raise CannotRunError(f"the process that measures the cold start of {runtime} failed: {message[-1]}")
    measured = json.loads(done.stdout.splitlines()[-1])
    return {"first_ms": measured["load_ms"] + measured["first_ms"], "peak_mb": measured["peak_mb"]}


def main() -> None:
    """Measure once and print."""
    path, runtime, threads = sys.argv[1:]
    clock = [time.perf_counter()]
    load = _open(path, runtime, int(threads))
    clock.append(time.perf_counter())
    shape, run = load()
    frame = np.zeros(shape, np.uint8)
    clock.append(time.perf_counter())
    run(frame)
    clock.append(time.perf_counter())
    elapsed = [1e3 * (b - a) for a, b in zip(clock, clock[1:], strict=False)]
    names = ("import_ms", "load_ms", "first_ms")
    print(json.dumps({**dict(zip(names, elapsed, strict=True)), "peak_mb": _peak_mb()}))


if __name__ == "__main__":
    main()
