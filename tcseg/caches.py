"""Where caches go if their usual places cannot be written, as in a container started with `--user` or on a cluster.

numba keeps compiled code beside the package or below HOME, matplotlib and others keep theirs below HOME; where none of these can be
written, numba refuses to compile. Then they are given a temporary folder of this user, before any of them is imported. Imports
nothing but the standard library: it runs whenever the package is imported.
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

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
    """Whether a place of compiled code is one that `prepare` has chosen, which may be gone tomorrow."""
    return place.name == "numba" and place.parent.name.startswith("tcseg-")


def prepare() -> None:
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
            taken = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=root))
        except OSError:
            continue
        atexit.register(_remove, taken, os.getpid())
        return taken
    return None


def _temporary_roots() -> list[Path]:
    named = [os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
    roots = [Path(root) for root in (*named, "/tmp", "/var/tmp", "/dev/shm")]  # noqa: S108 - the folder made there is private
    return [root for root in roots if root.is_absolute() and root.is_dir() and writable(root)]


def _is_private(folder: Path) -> bool:
    """Whether a folder is this user's own, no link, and closed to others; one that stands open is closed."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or (hasattr(os, "getuid") and found.st_uid != os.getuid()):
        return False
    if os.name == "posix" and stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)
    return True


def _remove(folder: Path, made_by: int) -> None:
    if os.getpid() == made_by:  # not by a fork
        shutil.rmtree(folder, ignore_errors=True)
