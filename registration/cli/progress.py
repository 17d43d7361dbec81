"""Who watches a run: a progress bar on a terminal, plain lines in a log, nobody with ``--quiet``."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TextIO

_SECONDS_BETWEEN_LINES = 10.0


class Watcher(Protocol):
    """What a run tells: the library's observer protocol, and when the run is over."""

    def stage(self, name: str, steps: int, done: int = 0) -> None:
        """A stage begins, of at most ``steps`` steps, ``done`` of them in a run before."""

    def step(self, loss: float) -> None:
        """One step is done."""

    def note(self, text: str) -> None:
        """Something the user should know."""

    def close(self) -> None:
        """The last stage is over."""


class Quiet:
    """Says nothing."""

    def stage(self, name: str, steps: int, done: int = 0) -> None:
        """Nothing."""

    def step(self, loss: float) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Lines:
    """One line per stage when it ends, and one now and then in between: no carriage returns, no colours."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.name, self.first, self.done, self.loss, self.began, self.said = "", 0, 0, float("nan"), 0.0, 0.0

    def stage(self, name: str, steps: int, done: int = 0) -> None:
        self.close()
        self.name, self.first, self.done, self.loss = name, done, done, float("nan")
        self.began = self.said = time.monotonic()

    def step(self, loss: float) -> None:
        self.done, self.loss = self.done + 1, loss
        if time.monotonic() - self.said > _SECONDS_BETWEEN_LINES:
            self._say(f"{self.name}: step {self.done}, loss {loss:.5g}")

    def note(self, text: str) -> None:
        self._say(f"note: {text}")

    def close(self) -> None:
        """Tell the end of the last stage."""
        if self.name:
            seconds = time.monotonic() - self.began
            steps = f"steps {self.first + 1} to {self.done}" if self.first < self.done and self.first else ""
            steps = steps or f"{self.done - self.first} steps"
            self._say(f"{self.name}: {steps}, loss {self.loss:.5g}, {seconds:.1f} s")
        self.name = ""

    def _say(self, text: str) -> None:
        self.said = time.monotonic()
        print(text, file=self.stream, flush=True)


class Bars:
    """A rich progress bar per stage."""

    def __init__(self, progress: Any) -> None:
        self.progress, self.task = progress, None

    def stage(self, name: str, steps: int, done: int = 0) -> None:
        self.close()
        self.task = self.progress.add_task(name, total=steps or None, completed=done, loss="")

    def step(self, loss: float) -> None:
        if self.task is not None:
            self.progress.update(self.task, advance=1, loss=f"loss {loss:.5g}")

    def note(self, text: str) -> None:
        self.progress.console.print(f"note: {text}", highlight=False, markup=False)

    def close(self) -> None:
        """Fill the bar of a stage that stopped early."""
        if self.task is not None:
            self.progress.update(self.task, total=max(1, self.progress.tasks[-1].completed))
            self.progress.update(self.task, completed=self.progress.tasks[-1].total)
        self.task = None


class _Notes(logging.Handler):
    """Hands what is logged on as notes."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self.note = note

    def emit(self, record: logging.LogRecord) -> None:
        self.note(record.getMessage())


@contextlib.contextmanager
def loops_told(note: Callable[[str], None]) -> Iterator[None]:
    """Give ``note`` what the compiled loops have to say: that they are compiled now, and where they are kept."""
    log, handler = logging.getLogger("registration.compiled"), _Notes(note)
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]


@contextlib.contextmanager
def watching(quiet: bool, stream: Any = None) -> Iterator[Watcher]:
    """The watcher that suits where stderr goes."""
    with _watcher(quiet, sys.stderr if stream is None else stream) as watcher, loops_told(watcher.note):
        yield watcher


@contextlib.contextmanager
def _watcher(quiet: bool, stream: Any) -> Iterator[Watcher]:
    if quiet:
        yield Quiet()
    elif stream.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(file=stream)) as progress:
            bars = Bars(progress)
            yield bars
            bars.close()
    else:
        lines = Lines(stream)
        yield lines
        lines.close()
