"""What a run tells whoever watches: a progress bar, a log, nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Observer(Protocol):
    """Receives the progress of a run; the command line shows it, the library stays silent."""

    def stage(self, name: str, steps: int, done: int = 0) -> None:
        """A stage begins that will take at most ``steps`` steps, 0 if nobody knows; ``done`` are made already."""

    def step(self, loss: float) -> None:
        """One step of the current stage is done."""

    def note(self, text: str) -> None:
        """Something the user should know."""


class Silent:
    """Shows nothing."""

    def stage(self, name: str, steps: int, done: int = 0) -> None:
        """Nothing."""

    def step(self, loss: float) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


class Noted:
    """Hands everything on and keeps the notes, as a result does that nobody watches.

    Parameters
    ----------
    observer
        Who watches; None for nobody.
    """

    def __init__(self, observer: Observer | None) -> None:
        self.observer: Observer = observer or Silent()
        self.notes: list[str] = []

    def stage(self, name: str, steps: int, done: int = 0) -> None:
        """Handed on."""
        self.observer.stage(name, steps, done)

    def step(self, loss: float) -> None:
        """Handed on."""
        self.observer.step(loss)

    def note(self, text: str) -> None:
        """Kept, and handed on."""
        self.notes.append(text)
        self.observer.note(text)


@dataclass(frozen=True)
class StageReport:
    """What one stage did: seconds, the loss at its finest level before and after, and the steps it took."""

    name: str
    seconds: float
    loss_before: float
    loss_after: float
    iterations: int
