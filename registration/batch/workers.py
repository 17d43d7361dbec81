"""Processes that work through one list of tasks after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any, TypeVar

from .processes import Worker, usable_cores

_T = TypeVar("_T")


class Workers(AbstractContextManager["Workers"]):
    """Processes of one task at a time each, so that if one dies there is no doubt which task it was.

    They start when they are needed, and stay for further work until the context ends: what they have loaded is what
    the next work needs as well.

    Parameters
    ----------
    count
        Processes at most.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._idle: list[Worker] = []

    def as_finished(self, work: Callable[..., _T], tasks: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, _T | None]]:
        """Number and result of every task, given as the arguments of ``work``; None of one whose process died.

        Tasks are taken as processes become free, so that they need not all be held at once.
        """
        waiting = enumerate(tasks)
        running: dict[Future[_T], tuple[int, Worker]] = {}

        def start(most: int) -> None:
            for number, task in islice(waiting, most):
                worker = self._idle.pop() if self._idle else Worker(max(1, usable_cores() // self.count))
                running[worker.submit(work, *task)] = number, worker

        try:
            start(self.count)
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    number, worker = running.pop(future)
                    result: _T | None = None
                    try:
                        result = future.result()
                    except BrokenProcessPool:
                        worker.stop()
                    self._idle.append(worker)
                    start(1)
                    yield number, result
        finally:
            for _, worker in running.values():
                worker.stop()

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
        for worker in self._idle:
            worker.stop()
        self._idle.clear()
