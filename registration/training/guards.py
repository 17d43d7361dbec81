"""Numbers that must not go into the weights, told by the pair they come from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError

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
