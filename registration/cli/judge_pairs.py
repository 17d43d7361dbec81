"""Work through the pairs of an evaluation, in this process or in several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..batch import processes
from ..batch.table import PairRow
from ..batch.workers import Workers
from ..evaluation.cohort import FAILED, Judged
from ..evaluation.results import ResultFiles
from .judge_pair import JudgePair

Task = tuple[PairRow, ResultFiles]
# Starting a process takes as long as judging this many small pairs.
_WORTH = 12


def default_jobs(pairs: int) -> int:
    """As many processes as cores and memory allow, if there are pairs enough to repay their start."""
    return max(1, min(processes.default_jobs(), pairs // _WORTH))


def judge_pairs(judge: JudgePair, tasks: Sequence[Task], workers: Workers) -> Iterator[Judged]:
    """Every pair once, as they finish. A process that dies takes nothing along but its own pair."""
    if workers.count <= 1:
        for row, result in tasks:
            yield judge(row, result)
        return
    for number, judged in workers.as_finished(judge, tasks):
        died = "its process died, most likely because memory ran out"
        yield Judged(tasks[number][0].id, FAILED, died) if judged is None else judged
