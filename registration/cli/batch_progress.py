"""What a batch tells while it runs and when it is over."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import typer

from ..batch.record import Record, Status

_SECONDS_BETWEEN_LINES = 10.0
_LISTED = 5


class _Pace:
    """The time left, from the pairs done since the run began: several finish at once, so shorter memories mislead."""

    def __init__(self, total: int, finished: int) -> None:
        self.total, self.finished, self.before, self.began = total, finished, finished, time.monotonic()

    def next(self) -> str:
        """Count one more pair; what is left, as text, empty at the end."""
        self.finished += 1
        left = (time.monotonic() - self.began) / (self.finished - self.before) * (self.total - self.finished)
        return f"about {duration(left)} left" if left > 0 else ""


class _Lines:
    """A line now and then, and one for every pair that fails: no carriage returns, no colours."""

    def __init__(self, stream: TextIO, total: int, finished: int) -> None:
        self.stream, self.pace, self.said = stream, _Pace(total, finished), time.monotonic()

    def __call__(self, record: Record) -> None:
        left, pace, now = self.pace.next(), self.pace, time.monotonic()
        failed = record.status is Status.FAILED
        if failed or pace.finished == pace.total or now - self.said > _SECONDS_BETWEEN_LINES:
            self.said = now
            ending = f": {record.error}" if failed else f", {left}" if left else ""
            print(
                f"{pace.finished}/{pace.total} {record.id} {record.status.value}{ending}", file=self.stream, flush=True
            )


class _Bar:
    """One bar for the run, with the time left."""

    def __init__(self, progress: Any, total: int, finished: int) -> None:
        self.progress, self.failed, self.pace = progress, 0, _Pace(total, finished)
        self.task = progress.add_task("pairs", total=total, completed=finished, note="")

    def __call__(self, record: Record) -> None:
        if record.status is Status.FAILED:
            self.failed += 1
            self.progress.console.print(f"{record.id}: {record.error}", highlight=False, markup=False)
        note = ", ".join(filter(None, [self.pace.next(), f"{self.failed} failed" if self.failed else ""]))
        self.progress.update(self.task, advance=1, note=note)


@contextlib.contextmanager
def telling(quiet: bool, total: int, finished: int, stream: Any = None) -> Iterator[Callable[[Record], None]]:
    """Who is told of every pair that finishes, as suits where stderr goes.

    Parameters
    ----------
    total, finished
        Pairs of the table, and those that an earlier run has done.
    """
    stream = sys.stderr if stream is None else stream
    if quiet:
        yield lambda record: None
    elif stream.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        with Progress(*columns, console=Console(file=stream)) as progress:
            yield _Bar(progress, total, finished)
    else:
        yield _Lines(stream, total, finished)


def summary(folder: Path, records: Mapping[str, Record], quiet: bool) -> None:
    """Print how the run went: counts on stdout; failures also when it is to be quiet, on stderr."""
    counts = Counter(record.status for record in records.values())
    failures = [record for record in records.values() if record.status is Status.FAILED]
    if not quiet:
        names = {Status.DONE: "done", Status.KEPT_INITIAL: "kept their start", Status.FAILED: "failed"}
        told = ", ".join(f"{counts[status]} {name}" for status, name in names.items() if counts[status])
        typer.echo(f"{len(records)} pairs: {told}\nresults in {folder}")
    if failures:
        first = "; ".join(f"{record.id}: {record.error}" for record in failures[:_LISTED])
        more = f" and {len(failures) - _LISTED} more, see {folder / 'batch.csv'}" if len(failures) > _LISTED else ""
        typer.echo(f"registration: {len(failures)} of {len(records)} pairs failed: {first}{more}", err=True)


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``40 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
