"""Minimise a function of a parameter vector: replaceable, and any ``torch.optim`` optimiser will do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..limits import check_above, check_counts, check_finite, check_sizes

Objective = Callable[[Tensor], Tensor]
"""Parameters (P,) -> scalar loss, differentiable."""


@dataclass(frozen=True)
class Descent:
    """Gradient descent with shrinking steps and an early stop; the best parameters seen are the result.

    Parameters
    ----------
    optimiser
        ``optimiser(parameters, lr=...)`` makes a ``torch.optim`` optimiser. Default: Adam (Kingma and Ba 2015), whose
        steps have the length of the learning rate whatever the scale of the loss.
    step
        Length of a first step, in voxels of the pyramid level at the edge of the field of view; it shrinks
        geometrically to ``final * step``.
    iterations
        Steps at most, per level.
    tolerance, patience
        Stop when the mean loss of the last ``patience`` steps is not lower by ``tolerance`` than that of those before.
    """

    optimiser: Callable[..., torch.optim.Optimizer] = torch.optim.Adam
    step: float = 0.5
    final: float = 0.1
    iterations: int = 60
    tolerance: float = 1e-5
    patience: int = 8

    def __post_init__(self) -> None:
        check_above(step=self.step, final=self.final)
        check_counts(0, iterations=self.iterations)
        check_finite(tolerance=self.tolerance)
        check_counts(1, patience=self.patience)

    def __call__(
        self, objective: Objective, start: Tensor, voxel: float, watch: Callable[[float], None]
    ) -> tuple[Tensor, list[float]]:
        """Minimise.

        Parameters
        ----------
        objective
            The loss.
        start
            (P,) parameters to start from.
        voxel
            What one voxel of this level is in units of the parameters.
        watch
            Hears the loss of every step.

        Returns
        -------
        The best (P,) parameters, detached, and the loss of every step: that of ``start`` first, of the result last.
        """
        parameters = start.detach().clone().requires_grad_(True)
        best, best_loss = parameters.detach().clone(), float("inf")
        optimiser: Any = self.optimiser([parameters], lr=self.step * voxel)
        shrink = self.final ** (1 / max(1, self.iterations - 1))
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, shrink)
        losses: list[float] = []
        for _ in range(self.iterations):
            optimiser.zero_grad()
            loss = objective(parameters)
            losses.append(float(loss.detach()))
            watch(losses[-1])
            if losses[-1] < best_loss:
                best, best_loss = parameters.detach().clone(), losses[-1]
            if losses[-1] != losses[-1] or self._settled(losses):
                break
            loss.backward()
            optimiser.step()
            schedule.step()
        return best, [*losses, best_loss]

    def _settled(self, losses: list[float]) -> bool:
        n = self.patience
        if len(losses) < 2 * n:
            return False
        return sum(losses[-2 * n : -n]) / n - sum(losses[-n:]) / n < self.tolerance


@dataclass(frozen=True)
class QuasiNewton:
    """L-BFGS (Byrd, Lu, Nocedal and Zhu 1995) by SciPy: for the few parameters of a linear transform.

    Parameters
    ----------
    iterations
        Line searches at most, per level; each takes one or two evaluations.
    tolerance
        Stop when a step improves the loss by less than this share of it.
    reach
        Length of the first trial step, in voxels of the pyramid level at the edge of the field of view.
    """

    iterations: int = 40
    tolerance: float = 1e-5
    reach: float = 1.0

    def __post_init__(self) -> None:
        check_counts(0, iterations=self.iterations)
        check_sizes(tolerance=self.tolerance)
        check_above(reach=self.reach)

    def __call__(
        self, objective: Objective, start: Tensor, voxel: float, watch: Callable[[float], None]
    ) -> tuple[Tensor, list[float]]:
        """Minimise, as :class:`Descent` does."""
        from scipy import optimize

        unit = self.reach * voxel
        losses: list[float] = []

        def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
            parameters = (torch.from_numpy(x) * unit).to(start).requires_grad_(True)
            loss = objective(parameters)
            (gradient,) = torch.autograd.grad(loss, parameters)
            losses.append(float(loss.detach()))
            watch(losses[-1])
            return losses[-1], gradient.double().cpu().numpy() * unit

        found = optimize.minimize(
            evaluate,
            (start / unit).double().cpu().numpy(),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": self.iterations, "maxfun": 2 * self.iterations, "ftol": self.tolerance, "gtol": 0},
        )
        return (torch.from_numpy(found.x) * unit).to(start), [*losses, float(found.fun)]
