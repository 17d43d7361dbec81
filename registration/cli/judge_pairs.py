"""Work through the pairs of an evaluation, in this process or in several."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from ..batch.processes import usable_cores
from ..batch.table import PairRow
from ..evaluation.cohort import FAILED, Judged
from ..evaluation.results import ResultFiles
from .judge_pair import JudgePair

Task = tuple[PairRow, ResultFiles]
# Starting a process takes as long as judging this many small pairs.
_WORTH = 12


def default_jobs(pairs: int) -> int:
    """As many processes as there are cores, if there are pairs enough to repay their start."""
    return max(1, min(usable_cores(), pairs // _WORTH))


def judge_pairs(judge: JudgePair, tasks: Sequence[Task], jobs: int) -> Iterator[Judged]:
    """Every pair once, as they finish. A process that dies takes nothing along but its own pair."""
    jobs = min(jobs, len(tasks))
    if jobs <= 1:
        for row, result in tasks:
            yield judge(row, result)
        return
    waiting = iter(tasks)
    threads = max(1, usable_cores() // jobs)
    running = {future: lane for _ in range(jobs) for lane, future in _start(judge, waiting, None, threads)}
    try:
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                lane: _Lane | None = running.pop(future)
                assert lane is not None
                try:
                    judged = future.result()
                except BrokenProcessPool:
                    judged = Judged(lane.row.id, FAILED, "its process died, most likely because memory ran out")
                    lane.pool.shutdown()
                    lane = None
                running |= {future: lane for lane, future in _start(judge, waiting, lane, threads)}
                yield judged
    finally:
        for lane in running.values():
            lane.pool.shutdown(wait=False, cancel_futures=True)


@dataclass
class _Lane:
    """One process at a time, one pair at a time: so if it dies, there is no doubt which pair it was."""

    pool: ProcessPoolExecutor
    row: PairRow


def _start(
    judge: JudgePair, waiting: Iterator[Task], lane: _Lane | None, threads: int
) -> Iterator[tuple[_Lane, Future[Judged]]]:
    """The next pair under way, in the process of ``lane`` or a new one; nothing where no pair is left."""
    task = next(waiting, None)
    if task is None:
        if lane is not None:
            lane.pool.shutdown(wait=False)
        return
    # A fresh interpreter: forking one that has threads may hang.
    context = multiprocessing.get_context("spawn")
    pool = lane.pool if lane else ProcessPoolExecutor(1, context, initializer=_begin, initargs=(threads,))
    yield _Lane(pool, task[0]), pool.submit(judge, *task)


def _begin(threads: int) -> None:
    import signal

    import torch

    torch.set_num_threads(threads)
    # An interruption from the keyboard reaches all processes; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
