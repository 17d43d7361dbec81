"""How far a training is: what its loop moves on and its checkpoints hold, besides weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .trainer import Trainer


@dataclass
class TrainingState:
    """How far a training is.

    Parameters
    ----------
    order, chance
        How the order of pairs and the random numbers stood after the last step: states of a
        :class:`~registration.training.data.sampler.PairSampler` and of :func:`~registration.randomness.random_state`.
    step
        Steps done.
    minutes
        Over all parts of the training.
    recent
        Running mean of the loss; NaN before the first step.
    best
        Figures of the best validation, ``step`` among them.
    before
        The same without any transform.
    judged
        The step after which the last validation came to its end; -1 before the first.
    stale
        Validations without improvement.
    begun
        The step after which the optimiser began (anew).
    """

    order: dict[str, Any]
    chance: dict[str, Any]
    step: int = 0
    minutes: float = 0.0
    recent: float = math.nan
    best: dict[str, float] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)
    judged: int = -1
    stale: int = 0
    begun: int = 0

    def progress(self, trainer: Trainer) -> float:
        """How much of the training is done, 0 to 1, by steps or by the clock, whichever is further."""
        by_steps = 0.0 if trainer.max_steps is None else self.step / trainer.max_steps
        by_clock = 0.0 if trainer.max_minutes is None else self.minutes / trainer.max_minutes
        return min(1.0, max(by_steps, by_clock))

    def ended(self, trainer: Trainer) -> str:
        """Why training ends now; nothing if it goes on."""
        if trainer.max_steps is not None and self.step >= trainer.max_steps:
            return f"{trainer.max_steps} steps are done"
        if trainer.max_minutes is not None and self.minutes >= trainer.max_minutes:
            return f"{trainer.max_minutes:g} minutes are over"
        if trainer.patience is not None and self.stale >= trainer.patience:
            return f"no improvement in {self.stale} validations"
        return ""

    def take_in(self, loss: float) -> None:
        """Let the loss of a step into the running mean."""
        self.recent = loss if math.isnan(self.recent) else 0.98 * self.recent + 0.02 * loss

    def resumed(self) -> dict[str, Any]:
        """What of it stands in the part of a checkpoint that only a resumed training reads."""
        return {
            "sampler": self.order, "random": self.chance, "minutes": self.minutes, "stale": self.stale,
            "recent": self.recent, "judged": self.judged, "begun": self.begun,
        }  # fmt: skip

    @staticmethod
    def of(saved: dict[str, Any]) -> TrainingState:
        """That of a checkpoint which a training can go on from."""
        training, step, figures = saved["training"], int(saved["step"]), saved["metrics"]
        return TrainingState(
            training["sampler"], training["random"], step, float(training["minutes"]), float(training["recent"]),
            dict(figures["best"]), dict(figures["before"]),
            # Older checkpoints have neither.
            int(training.get("judged", step)), int(training["stale"]), int(training.get("begun", 0)),
        )  # fmt: skip
