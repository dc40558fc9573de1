"""Damaged files are read in a process of its own, which may hang or die; what came of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np

from tcseg.errors import CannotRunError, TcsegError, as_message
from tcseg.study.measurements.faults.bad_inputs import KINDS, Kind
from tcseg.study.measurements.faults.damage import MARKER

PATIENCE = 20.0  # seconds that a file may take
READ, REFUSED = "read", "refused"
WRONG, UNNAMED, TRACEBACK, HUNG, DIED, EXECUTED = "wrong", "unnamed", "traceback", "hung", "died", "executed"
RIGHT = (READ, REFUSED)


@dataclass(frozen=True)
class Outcome:
    """What came of a damaged file: one of the words above, and what was said."""

    what: str
    said: str = ""


def _read_here(kind: Kind, path: Path, expected: str) -> Outcome:
    """Read a file, and judge what comes of it; `expected` is the digest of a whole one's content, where it must be that."""
    try:
        content = kind.read(path)
    except TcsegError as error:
        said = as_message(error)
        named = path.name in said or path.stem in said
        return Outcome(REFUSED if named and len(said.splitlines()) == 1 else UNNAMED, said)
    except Exception as error:
        return Outcome(TRACEBACK, as_message(error))
    if expected and digest_of(content) != expected:
        return Outcome(WRONG, "what was read is not what was written")
    return Outcome(READ)


def digest_of(content: object) -> str:
    """A hash of what was read."""
    return hashlib.sha256(content if isinstance(content, bytes) else repr(content).encode()).hexdigest()


def _serve(pipe: Connection, folder: str) -> None:
    """Read what is asked for until nothing more is. What libraries print goes to a file."""
    os.chdir(folder)
    with open("said", "wb") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    pipe.send(None)  # the imports, which take seconds, are done
    with contextlib.suppress(EOFError):
        while True:
            name, path, expected = pipe.recv()
            os.ftruncate(2, 0)
            outcome = _read_here(next(kind for kind in KINDS if kind.name == name), Path(path), expected)
            if "Traceback" in Path("said").read_text(errors="replace"):
                outcome = Outcome(TRACEBACK, "a traceback was printed")
            pipe.send(outcome)


def forkserver() -> BaseContext:
    """Processes that are forked from one that has imported the package, and has computed nothing."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


class Reader:
    """A process that reads files, started again when it hangs or dies."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.process = folder, None
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        if self.process is not None:
            self.pipe.close()  # one that waits for work ends by itself, and leaves no semaphore behind
            self.process.join(2)
            self.process.kill()
            self.process.join()
            self.process = None

    def _start(self) -> None:
        context = forkserver()
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, str(self.folder)), daemon=True)
        self.process.start()
        theirs.close()
        self.pipe.recv()

    def read(self, kind: Kind, path: Path, expected: str = "") -> Outcome:
        """What comes of a file."""
        if self.process is None:
            self._start()
        marker = self.folder / MARKER
        try:
            self.pipe.send((kind.name, str(path), expected))
            outcome = self.pipe.recv() if self.pipe.poll(PATIENCE) else Outcome(HUNG, f"no answer in {PATIENCE:.0f} s")
        except (EOFError, ConnectionError):
            self.process.join(5)
            outcome = Outcome(DIED, f"exit code {self.process.exitcode}")
        if marker.exists():
            marker.unlink()
            outcome = Outcome(EXECUTED, outcome.said)
        if outcome.what in (HUNG, DIED):
            self._end()
        return outcome


def damaged_files(kind: Kind, path: Path, before: dict[Path, bytes], count: int, seed: int) -> Iterator[str]:
    """Damage a file in so many ways, one after the other: names of the damage.

    Args:
        kind: of the file.
        path: the file.
        before: content of it, and of what lies beside it.
        count, seed: how often, and which.
    """
    rng = np.random.default_rng([seed, *kind.name.encode()])
    for index in range(count):
        for one, data in before.items():  # what read it may have written beside it
            one.write_bytes(data)
        damage = kind.damages[(index + int(rng.integers(2))) % len(kind.damages)]
        path.write_bytes(damage(before[path], rng))
        yield damage.__name__


def try_kind(reader: Reader, kind: Kind, folder: Path, count: int, seed: int = 0) -> list[tuple[str, Outcome]]:
    """Read a whole file of a kind, then damaged ones: (the damage, what came of it)."""
    folder.mkdir(parents=True)
    path = kind.make(folder)
    before = {one: one.read_bytes() for one in folder.rglob("*") if one.is_file()}
    expected = digest_of(kind.read(path)) if kind.checked else ""
    if (whole := reader.read(kind, path, expected)).what != READ:
        raise CannotRunError(f"a whole {kind.name} cannot be read: {whole.what}, {whole.said}")
    return [(how, reader.read(kind, path, expected)) for how in damaged_files(kind, path, before, count, seed)]
