"""The folder of a run: one folder per pair that is there whole or not at all, and the table derived from them."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..io.files import atomic_path
from .attempt import Report
from .record import Record
from .table import TAKEN, PairRow

COLUMNS = ("id", "status", "seconds", "error")
_UNFINISHED = ".unfinished"
_LOCK = ".lock"
# Beside the folders of the pairs; what else a folder holds is somebody else's.
_OURS = {*TAKEN, _UNFINISHED, _LOCK}


class RunFolder:
    """Where a run keeps its pairs.

    A pair is written under ``.unfinished`` and moved to its place in one step, so whatever happens, a folder ``<id>``
    with a ``status.json`` is whole. These folders are the truth, ``batch.csv`` is written from them.

    Parameters
    ----------
    path
        Made by :meth:`opened` if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path))

    def check(self, rows: Sequence[PairRow]) -> None:
        """Refuse a folder that holds other things than a run, before anything is written.

        Raises
        ------
        InputError
            If it is a file, holds what no run wrote, or a pair's folder without a record.
        """
        if self.path.is_symlink() and not self.path.exists():
            raise InputError(self.path, "is a link that leads nowhere", "choose another --output")
        if self.path.exists() and not self.path.is_dir():
            raise InputError(self.path, "is there already and is no folder", "choose another --output")
        if not self.path.is_dir():
            return
        names = {entry.name for entry in self.path.iterdir() if not entry.name.startswith(".partial-")}
        if names and "pairs.csv" not in names and names - _OURS:
            raise InputError(
                self.path,
                f"holds {min(names - _OURS)}, which no batch wrote, and is not used",
                "choose another --output",
            )
        for row in rows:
            if row.id in names and Record.read(self.pair(row.id)) is None:
                raise InputError(
                    self.pair(row.id), "is there without a status.json and is not replaced",
                    "move it away, or choose another --output",
                )  # fmt: skip

    def pair(self, name: str) -> Path:
        """The folder of a pair."""
        return self.path / name

    @property
    def unfinished(self) -> Path:
        """Where folders are written before they are moved to their place."""
        return self.path / _UNFINISHED

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Make the folder, keep other runs out of it, and clear away what an interrupted run left.

        Raises
        ------
        InputError
            If it cannot be written to, or another run is writing into it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / _LOCK).open("a")
        except OSError as error:
            raise InputError(
                self.path, f"cannot be written to ({error.strerror or error})", "choose another --output"
            ) from None
        with lock:
            if not _locked(lock):
                raise InputError(self.path, "another batch is writing into this folder", "wait for it, or stop it")
            self._sweep()
            self.unfinished.mkdir(exist_ok=True)
            try:
                yield
            finally:
                self._sweep()
                with contextlib.suppress(OSError):
                    (self.path / _LOCK).unlink()

    def _sweep(self) -> None:
        shutil.rmtree(self.unfinished, ignore_errors=True)
        for leftover in self.path.glob(".partial-*"):
            with contextlib.suppress(OSError):
                leftover.unlink()

    def publish(self, report: Report) -> None:
        """Move the folder of a pair to its place, in exchange for what was there; of one that failed, only the record.

        Raises
        ------
        InputError
            If that fails.
        """
        target = self.pair(report.record.id)
        mask = os.umask(0)
        os.umask(mask)
        try:
            partial = report.folder
            if partial is None:
                partial = Path(tempfile.mkdtemp(prefix="failed.", dir=self.unfinished))
                report.record.write(partial)
            partial.chmod(0o777 & ~mask)  # mkdtemp makes private folders
            if target.exists():
                old = Path(tempfile.mkdtemp(prefix="old.", dir=self.unfinished))
                target.rename(old / "pair")
                partial.rename(target)
                shutil.rmtree(old, ignore_errors=True)
            else:
                partial.rename(target)
        except OSError as error:
            raise InputError(target, f"cannot be written ({error.strerror or error})") from error

    def write_table(self, rows: Sequence[PairRow], records: Mapping[str, Record]) -> None:
        """Write ``batch.csv``: a row per finished pair, in the order of ``rows``.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            if row.id in records:
                record = records[row.id]
                writer.writerow([record.id, record.status.value, f"{record.seconds:.3f}", record.error])
        with atomic_path(self.path / "batch.csv") as temporary:
            temporary.write_text(stream.getvalue(), encoding="utf-8")


def _locked(lock: Any) -> bool:
    """Hold a file until this process ends; False if another one holds it, True where files cannot be held."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems
        return True
    return True
