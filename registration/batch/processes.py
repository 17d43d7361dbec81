"""Worker processes on this computer: they stay alive from pair to pair, and one that dies takes only its pair along."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess

from .attempt import Attempt, Report, failed
from .table import PairRow

# What the libraries below look at when they are loaded.
_THREADS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
_BYTES_PER_JOB = 4 << 30


def usable_cores() -> int:
    """The processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_jobs() -> int:
    """One process per core, as long as each has 4 GiB of memory.

    Two processes of one thread do more than one process of two, for much of a pair runs in one thread; the dense
    diffeomorphic stage on 160 x 192 x 224 voxels needs less than half of that memory.
    """
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return usable_cores()
    return max(1, min(usable_cores(), memory // _BYTES_PER_JOB))


class Processes:
    """Runs pairs in ``jobs`` processes of this computer, whose threads share its cores.

    Parameters
    ----------
    jobs
        Processes; :func:`default_jobs` without.
    """

    def __init__(self, jobs: int | None = None) -> None:
        self.jobs = default_jobs() if jobs is None else jobs

    def __call__(self, task: Attempt, rows: Sequence[PairRow]) -> Generator[tuple[PairRow, Report], None, None]:
        """Every row once with its report, as they finish. Closing the iterator ends the processes at once."""
        jobs = min(self.jobs, len(rows))
        waiting = iter(rows)
        threads = max(1, usable_cores() // max(1, jobs))
        lanes = [_Lane(task, threads) for _ in range(jobs)]
        running: dict[Future[Report], _Lane] = {}
        try:
            for lane, row in zip(lanes, waiting, strict=False):
                running[lane.start(row)] = lane
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    lane = running.pop(future)
                    finished = lane.row, lane.report(future)
                    following = next(waiting, None)
                    if following is not None:
                        running[lane.start(following)] = lane
                    yield finished
        finally:
            for lane in lanes:
                lane.stop()


class _Lane:
    """One process at a time, one pair at a time: so if it dies, there is no doubt which pair it was."""

    row: PairRow

    def __init__(self, task: Attempt, threads: int) -> None:
        self.task, self.threads = task, threads
        self.executor: ProcessPoolExecutor | None = None
        self.process: BaseProcess | None = None
        self.began = 0.0

    def start(self, row: PairRow) -> Future[Report]:
        self.row, self.began = row, time.perf_counter()
        if self.executor is None:
            # A fresh interpreter: forking one that has threads may hang.
            self.executor = ProcessPoolExecutor(
                1, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(self.threads,)
            )
            before = set(multiprocessing.active_children())
            future = self.executor.submit(self.task, row)
            self.process = next(iter(set(multiprocessing.active_children()) - before), None)
            return future
        try:
            return self.executor.submit(self.task, row)
        except BrokenProcessPool:  # it died after its last pair
            self.stop()
            return self.start(row)

    def report(self, future: Future[Report]) -> Report:
        try:
            return future.result()
        except BrokenProcessPool:
            text = _last_words(self.process)
            self.stop()
            return failed(self.row, self.task.work.settings, round(time.perf_counter() - self.began, 3), text)

    def stop(self) -> None:
        """End the process, whatever it does."""
        if self.process is not None and self.process.is_alive():
            self.process.terminate()
        if self.executor is not None:
            self.executor.shutdown(wait=True, cancel_futures=True)
        self.executor = self.process = None


def _last_words(process: BaseProcess | None) -> str:
    """Why a process died, as far as its status tells."""
    if process is None:
        return "its process died"
    process.join(5)
    code = process.exitcode
    if code == -getattr(signal, "SIGKILL", 9):
        return "its process was killed, most likely because memory ran out; try fewer --jobs"
    if code is not None and code < 0:
        return f"its process died of {signal.Signals(-code).name}"
    return f"its process ended with status {code}"


def _begin(threads: int) -> None:
    """Set up a worker before anything heavy is loaded."""
    for name in _THREADS:
        os.environ.setdefault(name, str(threads))
    # An interruption from the keyboard reaches all processes; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait forever for its next pair."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
