"""Errors with a message for the user, as opposed to bugs of this package.

The message of each error says in one line what is wrong (argument, value) and what to do; the command line prints only this
line. Any other exception is a bug or a system error, which is shown with its class and location. The classes derive from
Python's own exceptions, so code that catches `ValueError` or `FileNotFoundError` works.
"""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

PACKAGE = Path(__file__).resolve().parent
Options = TypeVar("Options")


class TcsegError(Exception):
    """Base class of errors whose message tells the user what is wrong and what to do."""


class InputError(TcsegError, ValueError):
    """An argument, a file or a combination of options is invalid."""


class NotFoundError(TcsegError, FileNotFoundError):
    """A file, a data set or a row does not exist."""


class NoRowsError(InputError, NotFoundError):
    """There are no committed rows for this combination of parameters."""


class NotCommittedError(NotFoundError):
    """A committed row has no such file; the repository has weights and logs only for the included students."""


class CannotRunError(TcsegError, RuntimeError):
    """A valid request cannot run on this machine: it lacks a package, a device or a display, or it is busy."""


class CannotWriteError(TcsegError, OSError):
    """A file or folder cannot be written: it is read-only, belongs to another user, exists already, or the disk is full."""


def place_of(error: BaseException) -> str:
    """The last frame of this package in a traceback, such as "tcseg/flow.py:12 in warp"; "" if there is none."""
    ours = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if PACKAGE in Path(frame.filename).resolve().parents
    ]
    if not ours:
        return ""
    last = ours[-1]
    file = Path(last.filename).resolve().relative_to(PACKAGE.parent).as_posix()
    return f"{file}:{last.lineno} in {last.name}"


def one_line(error: BaseException) -> str:
    """An exception as one line: only the message of a `TcsegError`; class, message and location of any other."""
    text = str(error).strip()
    if isinstance(error, TcsegError) and text:
        return text
    first = (text.splitlines() or ["no message"])[0]
    where = place_of(error)
    return f"{type(error).__name__}: {first}" + (f" ({where})" if where else "")


def as_message(error: BaseException) -> str:
    """An exception as the last line of a command: `one_line`, and for other exceptions a hint how to get the traceback."""
    if isinstance(error, TcsegError):
        return one_line(error)
    if "no locator available" in str(error):  # raised by numba if no cache folder is writable
        return "no folder for compiled code is writable; set NUMBA_CACHE_DIR to a writable folder (see: tcseg doctor)"
    if isinstance(error, ImportError):
        return f"{error} (to check the installation, run: tcseg doctor)"
    return f"{one_line(error)}; set TCSEG_DEBUG=1 to see the traceback"


def debugging() -> bool:
    """Whether to show tracebacks: `tcseg --debug`, or TCSEG_DEBUG=1."""
    return os.environ.get("TCSEG_DEBUG") == "1"


def require_one_of(name: str, value: object, known: Iterable[object]) -> None:
    """Check that a value is one of the known values.

    Raises:
        InputError: it is not; the message has the name of the argument, the value and the valid values.
    """
    known = tuple(known)  # a tuple also allows values that cannot be hashed
    if value not in known:
        raise InputError(f"{name} is {value!r}; it must be one of {', '.join(map(str, known))}")


def read_options(kind: type[Options], given: dict[str, object]) -> Options:
    """Build the dataclass of options from keyword arguments.

    Raises:
        InputError: there is no option with this name.
    """
    known = [field.name for field in fields(kind)]
    if unknown := sorted(given.keys() - set(known)):
        raise InputError(f"there is no option {unknown[0]!r}; the options are {', '.join(known)}")
    return kind(**given)


def require_writable(folder: Path, fix: str) -> Path:
    """Create a folder and check that it is writable, before any work; returns it.

    Args:
        folder: it and its parents are created.
        fix: what to do if that fails, such as "pass --out FOLDER".

    Raises:
        CannotWriteError: the folder cannot be created or is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise explain_unwritable(folder, error, fix) from error
    return folder


def require_writable_file(name: str, path: Path) -> Path:
    """Check before any work that a file can be written; its folder is created.

    Args:
        name: of the argument, such as "out".
        path: the file.

    Raises:
        InputError: it is a folder. CannotWriteError: its folder cannot be written.
    """
    if path.is_dir():
        raise InputError(f"{name} is {path}, which is a folder; give a file name")
    require_writable(path.parent, f"give {name} another folder")
    return path


def explain_unwritable(path: Path, error: OSError, fix: str) -> CannotWriteError:
    """The error for a failed write, with the path, the reason, and what to do ("pass --out FOLDER")."""
    return CannotWriteError(f"{path} cannot be written ({os.strerror(error.errno or 0).lower()}): {fix}")
