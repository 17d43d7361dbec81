"""A worker process on this computer, and how many of them its cores and memory allow."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

_T = TypeVar("_T")
# What the libraries below look at when they are loaded.
_THREADS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
_BYTES_PER_JOB = 4 << 30


def usable_cores() -> int:
    """The processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_jobs() -> int:
    """One process per core, as long as each has 4 GiB of the memory that may be used.

    Two processes of one thread do more than one process of two, for much of a pair runs in one thread; the dense
    diffeomorphic stage on 160 x 192 x 224 voxels needs less than half of that memory.
    """
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return usable_cores()
    return max(1, min(usable_cores(), min([memory, *memory_limits()]) // _BYTES_PER_JOB))


def memory_limits(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """The bytes that a container or a cluster's scheduler allows (control groups of Linux, version 2)."""
    limits = list[int]()
    with contextlib.suppress(OSError, StopIteration):
        group = next(line[3:] for line in own.read_text().splitlines() if line.startswith("0::"))
        place = PurePosixPath(group.strip().lstrip("/"))
        for folder in (place, *place.parents):
            with contextlib.suppress(OSError, ValueError):  # there is none, or it is "max"
                limits.append(int((root / folder / "memory.max").read_text()))
    return limits


class Worker:
    """A process that does one task at a time, so that if it dies there is no doubt which task it was.

    It starts with the first task, and anew after it has died or was stopped.

    Parameters
    ----------
    threads
        Of the numerical libraries in it.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._executor: ProcessPoolExecutor | None = None
        self._process: BaseProcess | None = None

    def submit(self, work: Callable[..., _T], *arguments: Any) -> Future[_T]:
        """Begin a task; its future raises BrokenProcessPool if the process dies of it."""
        if self._executor is None:
            # A fresh interpreter: forking one that has threads may hang.
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(1, context, initializer=begin_worker, initargs=(self.threads,))
            before = set(multiprocessing.active_children())
            future = self._executor.submit(work, *arguments)
            self._process = next(iter(set(multiprocessing.active_children()) - before), None)
            return future
        try:
            return self._executor.submit(work, *arguments)
        except BrokenProcessPool:  # it died after its last task
            self.stop()
            return self.submit(work, *arguments)

    def last_words(self) -> str:
        """Why the process died, as far as its status tells."""
        return _last_words(self._process)

    def stop(self) -> None:
        """End the process, whatever it does."""
        if self._process is not None and self._process.is_alive():
            self._process.terminate()
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
        self._executor = self._process = None


def _last_words(process: BaseProcess | None) -> str:
    if process is None:
        return "its process died"
    code, until = process.exitcode, time.monotonic() + 5
    while code is None and time.monotonic() < until:  # the executor waits for it too, and one of the two learns later
        process.join(0.1)
        time.sleep(0.01)
        code = process.exitcode
    if code == -getattr(signal, "SIGKILL", 9):
        return "its process was killed, most likely because memory ran out; try fewer --jobs"
    if code is not None and code < 0:
        return f"its process died of {signal.Signals(-code).name}"
    return "its process died" if code is None else f"its process ended with status {code}"


def begin_worker(threads: int) -> None:
    """Set up a worker process before anything heavy is loaded: its threads, and that it ends with its parent."""
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
