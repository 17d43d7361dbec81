"""One pair, from its row to a folder with results and a record: what a worker process does."""

from __future__ import annotations

import errno
import shutil
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from .record import Record, Settings, Status, described
from .table import PairRow

# A worker that runs several pairs in threads would mix their random numbers.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Findings:
    """How the work on a pair ended, and the SHA-256 of its files by column as far as they are known."""

    status: Status = Status.DONE
    hashes: Mapping[str, str] = field(default_factory=dict)


class Work(ABC):
    """What is done with every pair. Travels to the workers, so it pickles and is light."""

    settings: Settings

    @abstractmethod
    def prepare(self) -> None:
        """Load what the work needs, which is not counted as the time of a pair."""

    @abstractmethod
    def __call__(self, row: PairRow, folder: Path) -> Findings:
        """Write the results of a pair into an empty folder; raises :class:`InputError` for what cannot be used."""


@dataclass(frozen=True)
class Report:
    """What comes back from a worker: the record, the folder of the results (None if it failed), and whether the disk
    is full."""

    record: Record
    folder: Path | None
    disk_full: bool = False


Task = Callable[[PairRow], Report]


@dataclass(frozen=True)
class Attempt:
    """Does one pair, and never raises but for interruptions.

    Parameters
    ----------
    unfinished
        Where the folder of the pair is made.
    """

    work: Work
    unfinished: Path

    def __call__(self, row: PairRow) -> Report:
        with _ONE_AT_A_TIME:
            folder: Path | None = None
            began = time.perf_counter()
            try:
                self.work.prepare()
                began = time.perf_counter()
                folder = Path(tempfile.mkdtemp(prefix=f"{row.id}.", dir=self.unfinished))
                found = self.work(row, folder)
                inputs = described(row, found.hashes)
                record = Record(row.id, found.status, _since(began), "", self.work.settings, inputs)
                record.write(folder)
                return Report(record, folder)
            except Exception as error:
                if folder is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                record = Record(row.id, Status.FAILED, _since(began), one_line(error), self.work.settings)
                return Report(record, None, disk_full=is_disk_full(error))


def failed(row: PairRow, settings: Settings, seconds: float, error: str) -> Report:
    """The report of a pair whose worker could not write one itself."""
    return Report(Record(row.id, Status.FAILED, seconds, error, settings), None)


def one_line(error: BaseException) -> str:
    """An error as it stands in the table: bad input in its own words, a fault of the program with its kind."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, InputError) and text:
        return text
    if isinstance(error, MemoryError):
        return f"not enough memory ({text or 'no further word'})"
    return f"{type(error).__name__}: {text or 'no further word'}"


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or what led to it, is a disk without room."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "no space left" in str(error).lower():  # HDF5 tells it in words only
            return True
        error = error.__cause__ or error.__context__
    return False


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 3)
