"""Make many runs: one scheduler, and the farms that it gives runs to: this process, or processes of this machine.

A run that fails does not stop the others. A run whose worker died, or that met an error of the system (a full disk, a lost
connection), is begun again; one whose loss is not finite is not, since it would fail again.
"""

from __future__ import annotations

import platform
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass

from tcseg.errors import CannotRunError, TcsegError, one_line
from tcseg.machine import worker_pool
from tcseg.study.runs import Run
from tcseg.study.sweeps.planning import Task

TRIES = 3  # of a run whose worker died


@dataclass(frozen=True)
class Farm:
    """Where runs are made.

    Attributes:
        workers: runs at a time.
        place: for people, such as "2 processes on node7".
        begin: (task, whether to wait where another process is at it) -> its run to come, or None where another is at it.
        lost: the errors of a run whose worker died.
    """

    workers: int
    place: str
    begin: Callable[[Task, bool], Future[Run | None]]
    lost: tuple[type[Exception], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a task ended: with its run, or with an error."""

    task: Task
    run: Run | None = None
    error: Exception | None = None


class RunsFailedError(CannotRunError):
    """Some runs failed; the others are finished."""

    def __init__(self, failed: Sequence[Outcome], total: int) -> None:
        lines = [f"  {one.task.name} seed {one.task.seed}: {one_line(one.error)}" for one in failed]
        super().__init__("\n".join([f"{len(failed)} of {total} runs failed; the others are finished:", *lines]))


def outcomes(farm: Farm, tasks: Sequence[Task], limit: int | None = None) -> Iterator[Outcome]:
    """The tasks as they end, `farm.workers` at a time; those that another process is at come last.

    Args:
        farm: where.
        tasks: which.
        limit: train at most so many.
    """
    queue, busy, begun = deque(tasks), deque(), 0
    tries: Counter[Task] = Counter()
    going: dict[Future[Run | None], Task] = {}
    while True:
        while (queue or busy) and len(going) < farm.workers and (limit is None or begun + len(going) < limit):
            patient = not queue
            task = (queue or busy).popleft()
            going[farm.begin(task, patient)] = task
        if not going:
            return
        for future in wait(going, return_when=FIRST_COMPLETED).done:
            task, error = going.pop(future), future.exception()
            if error is not None and not isinstance(error, Exception):
                raise error  # somebody interrupts
            if error is None and future.result() is None:
                busy.append(task)
                continue
            tries[task] += 1
            if error is not None and _may_heal(error, farm) and tries[task] < TRIES:
                queue.append(task)
                continue
            run = None if error else future.result()
            begun += run is None or run.trained_now
            yield Outcome(task, run, error)


def _may_heal(error: Exception, farm: Farm) -> bool:
    """Whether the next try may do better. What the package says itself (no space, no data) is for a person to mend."""
    return isinstance(error, (OSError, *farm.lost)) and not isinstance(error, TcsegError)


def runs_of(farm: Farm, tasks: Sequence[Task], limit: int | None = None) -> Iterator[Run]:
    """The runs as they are finished.

    Raises:
        RunsFailedError: some failed; raised when all others are finished.
    """
    failed = []
    for outcome in outcomes(farm, tasks, limit):
        if outcome.run is None:
            failed.append(outcome)
        else:
            yield outcome.run
    if len(failed) == 1:
        raise failed[0].error
    if failed:
        raise RunsFailedError(failed, len(tasks))


def at_once(work: Callable[[Task, bool], Run | None]) -> Farm:
    """A farm that is this process: it makes a run when it is begun."""

    def begin(task: Task, patient: bool) -> Future[Run | None]:
        future: Future[Run | None] = Future()
        try:
            future.set_result(work(task, patient))
        except Exception as error:
            future.set_exception(error)
        return future

    return Farm(1, f"this process on {platform.node()}", begin)


@contextmanager
def processes(workers: int, work: Callable[..., Run | None], *arguments: object) -> Iterator[Farm]:
    """A farm of processes of this machine: `work(*arguments, task, patient)` in one of them.

    One that dies (killed, out of memory) takes the pool with it. The next run gets a new pool.
    """
    pool = worker_pool(workers)

    def begin(task: Task, patient: bool) -> Future[Run | None]:
        nonlocal pool
        try:
            return pool.submit(work, *arguments, task, patient)
        except BrokenProcessPool:
            pool.shutdown(wait=False, cancel_futures=True)
            pool = worker_pool(workers)
            return pool.submit(work, *arguments, task, patient)

    try:
        yield Farm(workers, f"{workers} processes on {platform.node()}", begin, (BrokenProcessPool,))
    except BaseException as error:
        pool.__exit__(type(error), error, None)
        raise
    pool.shutdown()
