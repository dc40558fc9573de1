"""Errors with a message for the user, as opposed to bugs of this package.

Whoever raises one of these says in one line what is wrong (argument, value) and what to do. The command line prints that line
alone. Any other exception is a defect, or the system's: it is shown with its class and its place. The classes also derive from
Python's own, so that a caller who catches `ValueError` or `FileNotFoundError` keeps working.
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
    """A message for a person: what is wrong, and how to go on."""


class InputError(TcsegError, ValueError):
    """An argument, a file or a combination of options that cannot be."""


class NotFoundError(TcsegError, FileNotFoundError):
    """A file, a data set or a row that is not there."""


class NoRowsError(InputError, NotFoundError):
    """Parameters that cannot be together, for want of committed rows."""


class NotCommittedError(NotFoundError):
    """A committed row has no such file: weights and logs are not in the repository, but for the students that ship."""


class CannotRunError(TcsegError, RuntimeError):
    """What was asked for is right, but not possible here: a package, a device, a window, or a quiet machine is missing."""


class CannotWriteError(TcsegError, OSError):
    """A place that cannot be written: read-only, of another user, full, or taken."""


def place_of(error: BaseException) -> str:
    """Where an exception left this package: "tcseg/flow.py:12 in warp", the last frame of ours; "" where there is none."""
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
    """An exception as a line for a terminal: the message alone where it is meant for people, else class, message and place."""
    text = str(error).strip()
    if isinstance(error, TcsegError) and text:
        return text
    first = (text.splitlines() or ["no message"])[0]
    where = place_of(error)
    return f"{type(error).__name__}: {first}" + (f" ({where})" if where else "")


def as_message(error: BaseException) -> str:
    """An exception as the last line of a command: `one_line`, and for what is not meant for people how to see the rest."""
    if isinstance(error, TcsegError):
        return one_line(error)
    if "no locator available" in str(error):  # numba's, where not even a temporary folder can be written
        return "no folder can be written for compiled code: set NUMBA_CACHE_DIR to one (run: tcseg doctor)"
    if isinstance(error, ImportError):
        return f"{error} (run: tcseg doctor)"
    return f"{one_line(error)}; TCSEG_DEBUG=1 shows the rest"


def debugging() -> bool:
    """Whether tracebacks are wanted: `tcseg --debug`, or TCSEG_DEBUG=1."""
    return os.environ.get("TCSEG_DEBUG") == "1"


def require_one_of(name: str, value: object, known: Iterable[object]) -> None:
    """Refuse a value that is none of the known ones.

    Raises:
        InputError: with the argument's name, the value and what it may be.
    """
    known = tuple(known)  # in which a value that cannot be hashed can be looked for
    if value not in known:
        raise InputError(f"{name} is {value!r}; it must be one of {', '.join(map(str, known))}")


def read_options(kind: type[Options], given: dict[str, object]) -> Options:
    """Keyword arguments as the dataclass that holds them and their defaults.

    Raises:
        InputError: it has no option of that name.
    """
    known = [field.name for field in fields(kind)]
    if unknown := sorted(given.keys() - set(known)):
        raise InputError(f"there is no option {unknown[0]!r}; options are {', '.join(known)}")
    return kind(**given)


def require_writable(folder: Path, fix: str) -> Path:
    """Make a folder and try to write into it, before any work; returns it.

    Args:
        folder: it and those above it are made.
        fix: what to do if that fails, as "pass --out FOLDER".

    Raises:
        CannotWriteError: it cannot be made, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise explain_unwritable(folder, error, fix) from error
    return folder


def explain_unwritable(path: Path, error: OSError, fix: str) -> CannotWriteError:
    """A failed write as a message: which folder, why, and what to do instead ("pass --out FOLDER")."""
    return CannotWriteError(f"{path} cannot be written ({os.strerror(error.errno or 0).lower()}): {fix}")
