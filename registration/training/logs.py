"""What a run writes while it goes: tables that any program reads, and TensorBoard where it is installed."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..io.files import atomic_path


class Table:
    """A CSV file that grows row by row; numbers are written to their last digit.

    Parameters
    ----------
    path
        The file. Rows that are there already are kept up to ``step``, so that a resumed run continues the table as if
        it had never stopped.
    step
        Rows beyond this step are of a run that was lost; None for a new run, which keeps nothing.
    """

    def __init__(self, path: Path, step: int | None = None) -> None:
        self.path, self.names = path, list[str]()
        self._waiting, self._written = io.StringIO(), 0
        if not path.exists():
            return
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))
        # A line that a kill cut off has no number for its step, or too few cells.
        last = -1 if step is None else step
        kept = [r for r in rows[1:] if len(r) == len(rows[0]) and r[0].isdigit() and int(r[0]) <= last]
        if not kept:
            path.unlink()
            return
        self.names = rows[0]
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerows([self.names, *kept])
        self._written = path.stat().st_size

    def add(self, row: Mapping[str, Any]) -> None:
        """Remember a row for the next :meth:`flush`; the first row names the columns, ``step`` first."""
        writer = csv.writer(self._waiting, lineterminator="\n")
        if not self.names:
            self.names = list(row)
            writer.writerow(self.names)
        writer.writerow([_text(row.get(name)) for name in self.names])

    def flush(self) -> None:
        """Write what was remembered."""
        rows = self._waiting.getvalue().encode()
        with self.path.open("ab") as stream:
            stream.truncate(self._written)  # a flush that was interrupted may have written the same rows
            stream.write(rows)
        self._written, self._waiting = self._written + len(rows), io.StringIO()


class Board:
    """TensorBoard event files, or nothing where it is not installed.

    Parameters
    ----------
    folder
        For the files.
    step
        Events beyond this step are of a run that was lost; None for a new run.
    """

    def __init__(self, folder: Path, step: int | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.writer: Any = None
        else:
            self.writer = SummaryWriter(str(folder), purge_step=0 if step is None else step + 1)

    def add(self, group: str, row: Mapping[str, Any], step: int) -> None:
        """Numbers of one step; what is no number is left out."""
        if self.writer is not None:
            for name, value in row.items():
                if isinstance(value, (int, float)) and name != "step":
                    self.writer.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Write what is waiting."""
        if self.writer is not None:
            self.writer.close()


def _text(value: Any) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)
