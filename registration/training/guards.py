"""What must not go on: numbers that would spoil the weights, told by their pair; settings that contradict another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import InputError

if TYPE_CHECKING:
    from .objective import Term
    from .trainer import Task, Trainer

_CURE = "look at its images; if they are sound, lower optimiser.lr"


def check_losses(losses: Tensor, ids: Sequence[str], step: int) -> None:
    """Refuse (B,) losses, or (2B,) of pairs seen both ways, of which one is no number.

    Raises
    ------
    InputError
        Naming the pair.
    """
    bad = (~torch.isfinite(losses)).nonzero().flatten().tolist()
    if bad:
        raise InputError(
            f"pair {ids[bad[0] % len(ids)]}", f"has the loss {float(losses[bad[0]])} at step {step}", _CURE
        )


def check_gradient(length: float, ids: Sequence[str], step: int) -> None:
    """Refuse a gradient that is no number.

    Raises
    ------
    InputError
        Naming the pairs of the step.
    """
    if not math.isfinite(length):
        raise InputError(f"pair {', '.join(ids[:4])}", f"gives a gradient of length {length} at step {step}", _CURE)


def check_together(trainer: Trainer, task: Task) -> None:
    """Refuse settings that contradict each other, before anything is learnt.

    Raises
    ------
    InputError
        If a term learns from pairs that come again and augmentation lets none come twice, or judges pairs both ways and
        training sees them one way.
    """
    terms: dict[str, Term] = dict(task.objective.terms.items())  # type: ignore[arg-type]
    for name, term in terms.items():
        if term.asked == "rehearsal" and task.augmentation is not None and not task.augmentation.idle:
            raise InputError(
                f"penalty.{name}", "learns from pairs that come again, augmentation lets none come twice",
                f"augmentation=none, or penalty.{name}.weight=0",
            )  # fmt: skip
        if term.both_ways and not trainer.symmetric:
            raise InputError(
                f"penalty.{name}", "judges every pair both ways, training sees them one way",
                f"trainer.symmetric=true, or penalty.{name}.weight=0",
            )  # fmt: skip
