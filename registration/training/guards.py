"""What must not go on: numbers that would spoil the weights, told by their pair; settings that contradict another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import InputError
from ..limits import is_number

if TYPE_CHECKING:
    from .objective import Term
    from .trainer import Optimiser, Task, Trainer

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


def optimiser_for(factory: Optimiser, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """The optimiser that settings describe.

    Raises
    ------
    InputError
        If it cannot be made, nothing would be learnt at the rate that is given, or one of its numbers is NaN or
        infinite, which optimisers of torch take.
    """
    given = getattr(factory, "keywords", {})  # torch says of what it refuses the number, but not the name
    _check_numbers(given)
    rate = given.get("lr", 1.0)
    if not isinstance(rate, Tensor) and not (is_number(rate) and rate > 0):
        raise InputError(f"optimiser.lr={rate}", "a number above 0 was expected, such as 1e-3")
    try:
        made = factory(parameters)
    except (ValueError, TypeError) as error:
        raise InputError("optimiser", f"cannot be made ({error})", "check its settings") from error
    for group in made.param_groups:
        _check_numbers(group)
    return made


def _check_numbers(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        for number in value if isinstance(value, (list, tuple)) else [value]:
            if is_number(number) and not math.isfinite(number):
                raise InputError(f"optimiser.{name}={value}", "a finite number was expected")
