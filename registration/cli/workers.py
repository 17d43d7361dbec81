"""Processes that work through one list of tasks after another."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from ..batch.processes import usable_cores

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
        self._idle: list[ProcessPoolExecutor] = []

    def as_finished(self, work: Callable[..., _T], tasks: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, _T | None]]:
        """Number and result of every task, given as the arguments of ``work``; None of one whose process died."""
        waiting = iter(range(len(tasks)))
        running: dict[Future[_T], tuple[int, ProcessPoolExecutor]] = {}

        def start(most: int) -> None:
            for _, number in zip(range(most), waiting, strict=False):
                future, pool = self._submit(work, tasks[number])
                running[future] = number, pool

        try:
            start(min(self.count, len(tasks)))
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    number, pool = running.pop(future)
                    result: _T | None = None
                    try:
                        result = future.result()
                        self._idle.append(pool)
                    except BrokenProcessPool:
                        pool.shutdown()
                    start(1)
                    yield number, result
        finally:
            for _, pool in running.values():
                pool.shutdown(wait=False, cancel_futures=True)

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
        for pool in self._idle:
            pool.shutdown(wait=False)
        self._idle.clear()

    def _submit(self, work: Callable[..., _T], task: tuple[Any, ...]) -> tuple[Future[_T], ProcessPoolExecutor]:
        while self._idle:
            pool = self._idle.pop()
            try:
                return pool.submit(work, *task), pool
            except BrokenProcessPool:  # it died after its last task
                pool.shutdown()
        # A fresh interpreter: forking one that has threads may hang.
        context = multiprocessing.get_context("spawn")
        threads = max(1, usable_cores() // self.count)
        pool = ProcessPoolExecutor(1, context, initializer=_begin, initargs=(threads,))
        return pool.submit(work, *task), pool


def _begin(threads: int) -> None:
    import signal

    import torch

    torch.set_num_threads(threads)
    # An interruption from the keyboard reaches all processes; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
