"""Work through a table of pairs, or through what an earlier run left of it."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import InputError
from .attempt import Attempt, Report, Work, is_disk_full
from .folders import RunFolder
from .record import Record, Settings, Status
from .table import PairRow, write_pairs

_TOLD = 5


class Runner(Protocol):
    """Where pairs are done: :class:`~registration.batch.workers.Processes` or a cluster."""

    def __call__(self, task: Attempt, rows: Sequence[PairRow]) -> Generator[tuple[PairRow, Report], None, None]:
        """Every row once with its report, as they finish; closing it takes back what is not finished."""


class DiskFull(InputError):
    """There is no room for results; what is finished is in its place, and a rerun does the rest."""


@dataclass(frozen=True)
class Plan:
    """What a run has to do.

    Parameters
    ----------
    todo
        Pairs without results, or that failed before.
    finished
        Records of the pairs whose results are there.
    outdated
        By id, why results that are there do not belong to these inputs and settings.
    """

    todo: tuple[PairRow, ...]
    finished: Mapping[str, Record]
    outdated: Mapping[str, str]

    def refuse_outdated(self, folder: RunFolder) -> None:
        """Raise an :class:`InputError` if results of other inputs or settings are there."""
        if not self.outdated:
            return
        some = [f"{name} ({why})" for name, why in list(self.outdated.items())[:_TOLD]]
        more = f" and {len(self.outdated) - _TOLD} more" if len(self.outdated) > _TOLD else ""
        raise InputError(
            folder.path,
            f"holds results of other inputs or settings: {', '.join(some)}{more}",
            "give --overwrite to do these pairs again, or another --output",
        )


def plan(folder: RunFolder, rows: Sequence[PairRow], settings: Settings, overwrite: bool = False) -> Plan:
    """Compare the pairs with what is in the folder.

    Parameters
    ----------
    overwrite
        Whether outdated pairs are to be done again, rather than told as ``outdated``.
    """
    todo: list[PairRow] = []
    finished: dict[str, Record] = {}
    outdated: dict[str, str] = {}
    for row in rows:
        record = Record.read(folder.pair(row.id))
        if record is None or record.status is Status.FAILED:
            todo.append(row)
        elif (why := record.outdated(row, settings)) is None:
            finished[row.id] = record
        elif overwrite:
            todo.append(row)
        else:
            outdated[row.id] = why
    return Plan(tuple(todo), finished, outdated)


def run_batch(
    folder: RunFolder,
    rows: Sequence[PairRow],
    planned: Plan,
    work: Work,
    workers: Runner,
    watch: Callable[[Record], None] = lambda record: None,
) -> dict[str, Record]:
    """Do what is planned. A pair that fails stands in the table with its error, and the others go on.

    Parameters
    ----------
    folder
        Must be :meth:`~RunFolder.opened`.
    watch
        Called with the record of every pair as it finishes.

    Returns
    -------
    The records of all ``rows`` by id, those of earlier runs too.

    Raises
    ------
    DiskFull
        If there is no room for results. What was finished is in its place.
    """
    records = dict(planned.finished)
    try:
        write_pairs(folder.path / "pairs.csv", rows)
        folder.write_table(rows, records)
        if planned.todo:
            with contextlib.closing(workers(Attempt(work, folder.unfinished), planned.todo)) as reports:
                for row, report in reports:
                    if report.disk_full:
                        raise OSError(errno.ENOSPC, report.record.error)
                    folder.publish(report)
                    records[row.id] = report.record
                    folder.write_table(rows, records)
                    watch(report.record)
    except (OSError, InputError) as error:
        if not is_disk_full(error):
            raise
        done = sum(record.status is not Status.FAILED for record in records.values())
        raise DiskFull(
            folder.path, f"the disk is full, {done} of {len(rows)} pairs are finished",
            "make room and give the same command again",
        ) from error  # fmt: skip
    return records
