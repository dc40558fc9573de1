"""Open exported files in their runtimes, and check which runtimes are installed."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tcseg.errors import CannotRunError, InputError, NotFoundError, require_one_of

RUNTIMES = ("pytorch", "onnxruntime", "openvino")
FORMATS = {".onnx": "onnxruntime", ".xml": "openvino", ".pt2": "pytorch"}  # suffix -> the runtime that reads it
_NEEDS = {
    "onnxruntime": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "pytorch": (),
}

BIN_HASH = "bin_sha256"
"""In an OpenVINO file's facts: the hash of the weights that belong to it."""


def why_missing(runtime: str) -> str | None:
    """Why a runtime cannot be used here, with the fix, in one line; None if it can.

    Raises:
        ValueError: the runtime is not one of `RUNTIMES`.
    """
    require_one_of("runtime", runtime, RUNTIMES)
    absent = [name for name in _NEEDS[runtime] if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return f"{runtime} needs {', '.join(absent)}, not installed: pip install {' '.join(absent)} (or -e '.[deploy]')"


def require_runtime(runtime: str) -> None:
    """Raise RuntimeError with the fix if a runtime cannot be used here."""
    reason = why_missing(runtime)
    if reason:
        raise CannotRunError(reason)


def open_file(
    path: Path | str, threads: int | None = None, runtime: str | None = None, alone: bool = True, defaults: bool = False
) -> Callable[[np.ndarray], np.ndarray]:
    """Open an exported file in its runtime on the CPU: uint8 (B,3,H,W) -> logits or labels, as its scope and layout are.

    The array that OpenVINO returns is overwritten by the next call.

    Args:
        path: .onnx, .xml or .pt2.
        threads: of the runtime; None = its default, all cores.
        runtime: None = the format's own. OpenVINO reads .onnx too.
        alone: nothing else wants the cores meanwhile: threads may wait for each other by spinning, and own their cores.
        defaults: open it without any setting, as most users do: OpenVINO then computes in bf16 on processors that have it.

    Raises:
        FileNotFoundError: it does not exist, or the .bin of an .xml does not.
        ValueError: it is damaged, its .bin is another network's, or it is a .pt2 that this process did not write.
        RuntimeError: the runtime is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise NotFoundError(f"{path} does not exist")
    runtime = runtime or FORMATS[path.suffix]
    require_runtime(runtime)
    if runtime == "openvino":
        _check_weights(path)
    require_unchanged(path)
    if runtime == "onnxruntime":
        return _telling(path, runtime, lambda: _open_onnxruntime(path, threads, alone, defaults))
    if runtime == "openvino":
        return _telling(path, runtime, lambda: _open_openvino(path, threads, alone, defaults))
    if digest(path) not in _written_here:
        raise InputError(
            f"{path} was not written by this process; torch.export.load unpickles, which runs what a stranger put into it: "
            "export the weights again, or open it with torch.export.load if you trust who made it"
        )
    module = torch.export.load(path).module()

    @torch.inference_mode()
    def run(planes: np.ndarray) -> np.ndarray:
        return module(torch.from_numpy(planes)).numpy()

    return run


_written_here: set[str] = set()


def note_written(path: Path) -> None:
    """Remember a .pt2 file as this process's own: `open_file` opens no other, because it may hold code."""
    _written_here.add(digest(path))


Network = Callable[[np.ndarray], np.ndarray]


def _telling(path: Path, runtime: str, open_network: Callable[[], Network]) -> Network:
    """A network whose errors name its file; the runtimes' own have no common class.

    Raises:
        InputError: it does not open, or later does not run.
    """

    def told(error: Exception, what: str) -> InputError:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return InputError(f"{path} {what} ({runtime}: {first[:200]}); it may be damaged: export it again")

    try:
        network = open_network()
    except Exception as error:
        raise told(error, "does not open") from error

    def run(frames: np.ndarray) -> np.ndarray:
        try:
            return network(frames)
        except Exception as error:
            raise told(error, "does not run") from error

    return run


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_unchanged(path: Path) -> None:
    """Refuse a file that is not the one whose facts lie beside it (NAME.onnx.json); without facts, nothing is known.

    Raises:
        InputError: its hash is another.
    """
    facts = path.with_name(f"{path.name}.json")
    try:
        noted = json.loads(facts.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if isinstance(noted, dict) and noted.get("file") == path.name and noted.get("sha256") not in (None, digest(path)):
        raise InputError(f"{path} was changed since {facts.name} was written, so it may be damaged; export it again")


def weights_of(path: Path) -> Path:
    """NAME.xml -> NAME.bin, which has its weights."""
    return path.with_suffix(".bin")


def _check_weights(path: Path) -> None:
    """Refuse an OpenVINO file without its weights, or with another's: OpenVINO takes any of the right length.

    Raises:
        FileNotFoundError, ValueError: in one line.
    """
    if path.suffix != ".xml":
        return
    weights = weights_of(path)
    if not weights.exists():
        raise NotFoundError(f"{weights} does not exist; it has the weights of {path.name}: move both files together")
    try:
        noted = ElementTree.parse(path).find(f"rt_info/tcseg/{BIN_HASH}")
    except ElementTree.ParseError as error:
        raise InputError(f"{path} is no OpenVINO file, or is damaged ({error}); export it again") from None
    if noted is not None and noted.get("value") != digest(weights):  # files of before have no hash
        raise InputError(f"{weights} does not belong to {path.name} (other weights, or damaged); export both again")


def _open_onnxruntime(
    path: Path, threads: int | None, alone: bool, defaults: bool
) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    if defaults:
        plain = onnxruntime.InferenceSession(str(path))
        return lambda frames: plain.run(None, {"frames": frames})[0]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads or 0, 3
    # Its threads wait for the next layer by spinning, which is faster; but not after the network, on the cores of what follows, and
    # not where decoding and encoding want them at the same time.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(alone)))
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda frames: session.run(None, {"frames": frames})[0]


def _open_openvino(path: Path, threads: int | None, alone: bool, defaults: bool) -> Callable[[np.ndarray], np.ndarray]:
    import openvino

    if defaults:
        plain = openvino.Core().compile_model(path, "CPU").create_infer_request()
        return lambda frames: plain.infer({0: frames}, share_inputs=True, share_outputs=True)[0]

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    settings |= {} if alone else {"ENABLE_CPU_PINNING": False}  # or every network of the process sits on the first core
    settings |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    return lambda frames: request.infer({0: frames}, share_inputs=True, share_outputs=True)[0]
