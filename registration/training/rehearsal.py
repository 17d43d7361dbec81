"""The part of a training in which the same pairs come again and again, and terms that learn from such pairs count."""

from __future__ import annotations

import math
from typing import Any

from .data.sampler import PairSampler
from .objective import Objective, Term
from .state import TrainingState

_RISE = 100  # steps in which the rate rises where the optimiser begins anew


class Rehearsal:
    """Begins with an epoch, once a share of the training is done, and lasts to its end.

    Where terms count from then on (:attr:`Term.asked`), the optimiser begins anew: their gradients are of another size,
    and with Adam's memory of the old ones its steps would throw the network about.

    Parameters
    ----------
    share
        Of the training (``trainer.rehearse``); None for never.
    sampler
        The order of pairs.
    objective
        What is minimised; it is told when the rehearsal is on.
    optimiser
        As Lightning Fabric has set it up.
    """

    def __init__(self, share: float | None, sampler: PairSampler, objective: Objective, optimiser: Any) -> None:
        self.share, self.sampler, self.objective, self.optimiser = share, sampler, objective, optimiser
        terms: dict[str, Term] = dict(objective.terms.items())  # type: ignore[arg-type]
        self.terms = {name: term for name, term in terms.items() if term.asked == "rehearsal"}
        self.prepared = False  # whether the terms were shown the pairs
        self._begins = False  # whether its first step is still to be done

    def enter(self, progress: float) -> bool:
        """At the beginning of an epoch, or of what a resumed run has left of one: whether the rehearsal is on."""
        due = self.share is not None and progress >= self.share
        if due and self.sampler.repeated is None and self.sampler.position == 0:
            self.sampler.repeat()
            self._begins = bool(self.terms)
        self.objective.rehearsing = self.sampler.repeated is not None
        return self.objective.rehearsing

    def announced(self) -> str:
        """What is going to happen, for whoever watches."""
        told = f", with {' and '.join(self.terms)} (which may take a while to prepare)" if self.terms else ""
        return f"from here the same {self.sampler.per_epoch} pairs come again{told}"

    def renew(self, state: TrainingState, by_loss: bool) -> None:
        """Before the update of its first step, let the optimiser begin anew; the running loss is another from then on.

        Parameters
        ----------
        by_loss
            Whether the running loss chooses the best network, as there are no pairs to validate on.
        """
        if not self._begins:
            return
        self._begins = False
        self.optimiser.optimizer.state.clear()
        state.begun, state.recent = state.step, math.nan
        if by_loss:
            state.best, state.stale = state.best | {"loss": math.inf}, 0


def rise(state: TrainingState) -> float:
    """The factor of the learning rate after the optimiser began anew, 0 to 1."""
    return min(1.0, (state.step - state.begun + 1) / _RISE) if state.begun else 1.0
