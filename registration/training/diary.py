"""Tells a run to its files and to whoever watches; only the first of several processes writes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from ..pairwise.observe import Observer, Silent
from .logs import Board, Table

_SECONDS_BETWEEN_EVENTS = 2.0


class Diary:
    """``train.csv``, ``validation.csv``, TensorBoard events and the observer of one run.

    Parameters
    ----------
    folder
        Of the run.
    step
        Where the run goes on from; None for a new one.
    observer
        Watches the progress.
    writes
        Whether this process is the one that writes.
    """

    def __init__(self, folder: Path, step: int | None, observer: Observer, writes: bool) -> None:
        self.observer: Observer = observer if writes else Silent()
        self.writes, self._told = writes, 0.0
        if writes:
            self.steps, self.validations = (Table(folder / name, step) for name in ("train.csv", "validation.csv"))
            self.board = Board(folder / "tensorboard", step)

    def step(self, number: int, values: Mapping[str, float], minutes: float) -> None:
        """A step is done."""
        self.observer.step(values["loss"])
        if not self.writes:
            return
        self.steps.add({"step": number, **values, "minutes": round(minutes, 4)})
        if time.monotonic() - self._told > _SECONDS_BETWEEN_EVENTS:
            self._told = time.monotonic()
            self.board.add("train", values, number)

    def validation(self, number: int, figures: Mapping[str, float], minutes: float, better: bool) -> None:
        """A validation is done; ``number`` is the step."""
        names = ("dice", "tre", "folding", "loss")
        told = ", ".join(f"{name} {figures[name]:.4g}" for name in names if name in figures)
        self.observer.note(f"step {number}: {told or 'no pairs to validate on'}{' (best)' if better else ''}")
        if self.writes:
            columns = {name: figures.get(name) for name in (*names, "seconds")}
            self.validations.add({"step": number, **columns, "minutes": round(minutes, 4)})
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
