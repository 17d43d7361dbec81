"""Several worker processes: those of any list of tasks, and those of a batch of pairs."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from .attempt import Attempt, Report, failed
from .processes import Worker, default_jobs, usable_cores
from .table import PairRow

_T = TypeVar("_T")


@dataclass(frozen=True)
class Died:
    """What is left of a task whose process died: why it died, in words, and the seconds it had been at the task."""

    why: str
    seconds: float


class Workers(AbstractContextManager["Workers"]):
    """Processes of one task at a time each, so that if one dies there is no doubt which task it was.

    They start when they are needed, and stay for further work until the context ends: what they have loaded is what
    the next work needs as well. Their threads share the cores of this computer.

    Parameters
    ----------
    count
        Processes at most.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._workers: list[Worker] = []
        self._idle: list[Worker] = []

    def outcomes(self, work: Callable[..., _T], tasks: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, _T | Died]]:
        """Number and outcome of every task, given as the arguments of ``work``, as they finish.

        Tasks are taken as processes become free, so that they need not all be held at once. Closing the iterator ends
        the processes that are at work.
        """
        waiting = enumerate(tasks)
        running: dict[Future[_T], tuple[int, Worker, float]] = {}

        def start(most: int) -> None:
            for number, task in islice(waiting, most):
                worker = self._free()
                running[worker.submit(work, *task)] = number, worker, time.perf_counter()

        try:
            start(self.count)
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    number, worker, began = running.pop(future)
                    outcome = _outcome(future, worker, began)
                    self._idle.append(worker)
                    start(1)
                    yield number, outcome
        finally:
            for _, worker, _ in running.values():
                worker.stop()
                self._idle.append(worker)

    def as_finished(self, work: Callable[..., _T], tasks: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, _T | None]]:
        """As :meth:`outcomes`, with None for a task whose process died."""
        for number, outcome in self.outcomes(work, tasks):
            yield number, None if isinstance(outcome, Died) else outcome

    def in_order(self, work: Callable[..., _T], items: Sequence[Any]) -> Iterator[_T | None]:
        """What ``work`` makes of each item, in their order; None where its process died."""
        early: dict[int, _T | None] = {}
        wanted = 0
        for number, result in self.as_finished(work, [(item,) for item in items]):
            early[number] = result
            while wanted in early:
                yield early.pop(wanted)
                wanted += 1

    def __exit__(self, *_: object) -> None:
        # Not only the idle ones: an interruption may come while one is between being idle and being at work.
        for worker in self._workers:
            worker.stop()
        self._workers.clear()
        self._idle.clear()

    def _free(self) -> Worker:
        """A worker that has nothing to do."""
        if self._idle:
            return self._idle.pop()
        self._workers.append(Worker(max(1, usable_cores() // self.count)))
        return self._workers[-1]


def _outcome(future: Future[_T], worker: Worker, began: float) -> _T | Died:
    try:
        return future.result()
    except BrokenProcessPool:
        died = Died(worker.last_words(), time.perf_counter() - began)
        worker.stop()
        return died


class Processes:
    """Runs the pairs of a batch in ``jobs`` processes of this computer.

    Parameters
    ----------
    jobs
        Processes; :func:`default_jobs` without.
    """

    def __init__(self, jobs: int | None = None) -> None:
        self.jobs = default_jobs() if jobs is None else jobs

    def __call__(self, task: Attempt, rows: Sequence[PairRow]) -> Generator[tuple[PairRow, Report], None, None]:
        """Every row once with its report, as they finish. Closing the iterator ends the processes at once."""
        with Workers(min(self.jobs, len(rows))) as workers:
            for number, outcome in workers.outcomes(task, ((row,) for row in rows)):
                row = rows[number]
                if isinstance(outcome, Died):
                    outcome = failed(row, task.work.settings, round(outcome.seconds, 3), outcome.why)
                yield row, outcome
