"""Which points does a map send to given ones? By Newton's method with halved steps (Ortega and Rheinboldt 1970)."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Transform

_STEPS = 40
_HALVINGS = 6


def newton(forward: Transform, target: Tensor, found: Tensor, goal: float) -> Tensor:
    """Improve solutions of ``forward(found) = target`` until all are good or none improves; each point keeps its best.

    Where a full step does not help, it is halved; where the Jacobian is singular, the step is the miss itself.

    Parameters
    ----------
    forward
        Fixed RAS mm -> moving RAS mm, one or a batch of B; without a gradient.
    target
        (..., D) or, for a batch, (B, ..., D) moving RAS mm, float64.
    found
        Fixed RAS mm to start from, of the same shape.
    goal
        Distance |forward(found) - target| in mm that is good enough.
    """
    miss = forward(found) - target
    size = miss.norm(dim=-1)
    for _ in range(_STEPS):
        open_ = size > goal
        if not bool(open_.any()):
            break
        if not forward.batched and 2 * int(open_.sum()) < open_.numel():
            found = found.clone()  # most are done: look at the others alone
            found[open_] = newton(forward, target[open_], found[open_], goal)
            break
        step = _step(forward, found, miss, open_)
        before = size
        for _ in range(_HALVINGS):
            trial = found - step * open_[..., None]
            trial_miss = _missed(forward, trial, target, open_)
            better = trial_miss.norm(dim=-1) < size
            found = torch.where(better[..., None], trial, found)
            miss = torch.where(better[..., None], trial_miss, miss)
            size = torch.where(better, trial_miss.norm(dim=-1), size)
            open_ = open_ & ~better
            if not bool(open_.any()):
                break
            step = step / 2
        if bool((size >= before)[before > goal].all()):
            break
    return found


def _missed(forward: Transform, points: Tensor, target: Tensor, open_: Tensor) -> Tensor:
    """By how much (..., D) points miss; infinite where nobody looks, as far as that saves work."""
    if forward.batched or bool(open_.all()):
        return forward(points) - target
    miss = torch.full_like(points, torch.inf)
    miss[open_] = forward(points[open_]) - target[open_]
    return miss


def _step(forward: Transform, found: Tensor, miss: Tensor, open_: Tensor) -> Tensor:
    """Solve J step = miss for points that are open; where J is singular, step by the miss itself."""
    if not (forward.batched or bool(open_.all())):
        steps = torch.zeros_like(miss)
        steps[open_] = _step(forward, found[open_], miss[open_], open_[open_])
        return steps
    step, failed = torch.linalg.solve_ex(forward.jacobian(found), miss[..., None])
    good = (failed == 0) & torch.isfinite(step).all(dim=-1).all(dim=-1)
    return torch.where(good[..., None], step[..., 0], miss)
