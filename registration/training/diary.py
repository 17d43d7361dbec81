"""Tells a run to its files and to whoever watches; only the first of several processes writes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from ..pairwise.observe import Observer, Silent
from .logs import Board, Table
from .state import TrainingState

_SECONDS_BETWEEN_EVENTS = 2.0
_FIGURES = ("dice", "tre", "folding", "loss")


class Diary:
    """``train.csv``, ``validation.csv``, TensorBoard events and the observer of one run.

    A row is added while what it tells of is being done, and nobody is told of it before it is done: an interruption
    between the two leaves neither a row too few nor one too many to the run that is resumed.

    Parameters
    ----------
    folder
        Of the run.
    state
        How far the run is that goes on; None for a new one. Rows of what it will do again are dropped.
    observer
        Watches the progress.
    writes
        Whether this process is the one that writes.
    """

    def __init__(self, folder: Path, state: TrainingState | None, observer: Observer, writes: bool) -> None:
        self.observer: Observer = observer if writes else Silent()
        self.writes, self._told = writes, 0.0
        if writes:
            self.steps = Table(folder / "train.csv", None if state is None else state.step)
            self.validations = Table(folder / "validation.csv", None if state is None else state.judged)
            self.board = Board(folder / "tensorboard", None if state is None else state.step)

    def add_step(self, number: int, values: Mapping[str, float], minutes: float) -> None:
        """The row of a step that is being done."""
        if self.writes:
            self.steps.add({"step": number, **values, "minutes": round(minutes, 4)})

    def tell_step(self, number: int, values: Mapping[str, float]) -> None:
        """A step is done."""
        self.observer.step(values["loss"])
        if self.writes and time.monotonic() - self._told > _SECONDS_BETWEEN_EVENTS:
            self._told = time.monotonic()
            self.board.add("train", values, number)

    def add_validation(self, number: int, figures: Mapping[str, float], minutes: float) -> None:
        """The row of a validation that is coming to its end; ``number`` is the step."""
        if self.writes:
            columns = {name: figures.get(name) for name in (*_FIGURES, "seconds")}
            self.validations.add({"step": number, **columns, "minutes": round(minutes, 4)})

    def tell_validation(self, number: int, figures: Mapping[str, float], better: bool) -> None:
        """A validation is done."""
        told = ", ".join(f"{name} {figures[name]:.4g}" for name in _FIGURES if name in figures)
        self.observer.note(f"step {number}: {told or 'no pairs to validate on'}{' (best)' if better else ''}")
        if self.writes:
            self.board.add("validation", figures, number)
            self.flush()

    def flush(self) -> None:
        """Write what is waiting, before a checkpoint says that it is there."""
        if self.writes:
            self.steps.flush()
            self.validations.flush()

    def close(self) -> None:
        """The end, however it came."""
        self.flush()
        if self.writes:
            self.board.close()
