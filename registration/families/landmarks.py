"""Transforms that fit weighted pairs of points best, in closed form and differentiable."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from ..limits import check_sizes
from ..transforms.base import Transform
from ..transforms.linear import Linear
from ..transforms.stacked import Stacked
from ..transforms.tps import SplineSystem, ThinPlateSpline

_RIDGE = 1e-6  # against points in one plane; in squared units of their spread
_SAME = 1e-6  # of the spread of points: closer ones are one; no spline through both would be more than rounding


class LandmarkFit(ABC):
    """(B, N, D) fixed and moving points in mm and (B, N) weights -> B transforms."""

    @abstractmethod
    def __call__(self, fixed: Tensor, moving: Tensor, weights: Tensor) -> Transform:
        """The transform, fixed RAS mm -> moving RAS mm, that brings the fixed points nearest to the moving ones.

        Parameters
        ----------
        fixed, moving
            (B, N, D) points in mm, in the same order; differentiable.
        weights
            (B, N) weights of 0 or more, not all zero.
        """


class RigidFit(LandmarkFit):
    """Least squares over rotations and translations (Umeyama 1991, doi:10.1109/34.88573); never a reflection."""

    def __call__(self, fixed: Tensor, moving: Tensor, weights: Tensor) -> Linear:
        p, q, share, centre, target = _centred(fixed, moving, weights)
        u, _, vt = torch.linalg.svd((p * share[..., None]).mT @ q)
        # The smallest singular vector, the last column of V, is turned round where V U' would be a reflection.
        sign = torch.ones_like(centre)
        sign[..., -1] = torch.linalg.det(u).sign() * torch.linalg.det(vt).sign()
        turn = (vt.mT * sign[..., None, :]) @ u.mT
        return _linear(turn, target - (turn @ centre[..., None])[..., 0])


class AffineFit(LandmarkFit):
    """Weighted least squares over affine maps; directions in which the points do not extend are left as they are."""

    def __call__(self, fixed: Tensor, moving: Tensor, weights: Tensor) -> Linear:
        p, q, share, centre, target = _centred(fixed, moving, weights)
        d = p.shape[-1]
        eye = torch.eye(d, dtype=p.dtype, device=p.device)
        left = (p * share[..., None]).mT @ p
        spread = left.diagonal(dim1=-2, dim2=-1).sum(dim=-1).detach()[..., None, None] + 1e-12
        moves = (p * share[..., None]).mT @ (q - p)
        change = torch.linalg.solve(left + _RIDGE * spread * eye, moves).mT
        matrix = eye + change
        return _linear(matrix, target - (matrix @ centre[..., None])[..., 0])


class SplineFit(LandmarkFit):
    """A thin-plate spline near the points: nearer where weights are large (Wahba 1990).

    Parameters
    ----------
    smoothing
        Lambda: its ratio to a point's weight (whose mean is 1) is what the point's squared distance costs against
        bending, in coordinates scaled by the spread of the points. 0 goes through every point, so that none may lie
        on another; else points on one another count as one, at the mean of where they go.
    """

    def __init__(self, smoothing: float = 0.1) -> None:
        check_sizes(smoothing=smoothing)
        self.smoothing = float(smoothing)

    def __call__(self, fixed: Tensor, moving: Tensor, weights: Tensor) -> Stacked:
        items = zip(fixed.double(), moving.double(), weights.double(), strict=True)
        return Stacked([self._one(p, q, w) for p, q, w in items])

    def _one(self, p: Tensor, q: Tensor, w: Tensor) -> ThinPlateSpline:
        if self.smoothing == 0:
            return ThinPlateSpline(p, q)
        scale = float((p - p.mean(dim=0)).detach().square().sum(dim=1).mean().sqrt()) or 1.0
        stiffness = (w / w.mean().clamp_min(1e-12)).clamp_min(1e-6) / self.smoothing
        p, q, stiffness = _merged(p, q, stiffness, _SAME * scale)
        system = SplineSystem(p, scale=scale)
        k, d = p.shape
        ridge = 1 / stiffness
        affine = torch.cat([torch.ones_like(system.nodes[:, :1]), system.nodes], dim=1)
        top = torch.cat([system.gram + torch.diag(ridge), affine], dim=1)
        bottom = torch.cat([affine.mT, affine.new_zeros(d + 1, d + 1)], dim=1)
        right = torch.cat([q - p, q.new_zeros(d + 1, d)])
        coefficients = torch.linalg.solve(torch.cat([top, bottom]), right)[:k]
        # The smoothing spline is the interpolating one of its own values at the points, which is how it is kept.
        return ThinPlateSpline(p, q - ridge[:, None] * coefficients, system=system)


def _merged(p: Tensor, q: Tensor, weights: Tensor, distance: float) -> tuple[Tensor, Tensor, Tensor]:
    """Points no closer than a distance: the means of those that were, of where they go, and the sums of their weights.

    To least squares that is the same: the squared distances to several targets are that to their mean and a constant.
    """
    near = (p.detach()[:, None] - p.detach()).square().sum(dim=-1) <= distance**2
    near.fill_diagonal_(True)  # also of what is no number, which is refused later
    group = near.to(torch.uint8).argmax(dim=1)  # the first point that each lies on
    group = group[group]
    if bool((group == torch.arange(len(p), device=p.device)).all()):
        return p, q, weights
    _, number = group.unique(return_inverse=True)
    member = F.one_hot(number).mT.to(p)
    whole = member @ weights
    share = member * weights / whole[:, None]
    return share @ p, share @ q, whole


def _centred(fixed: Tensor, moving: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Points about their weighted means in float64, weights that sum to 1 in every item, and the means."""
    p, q, w = fixed.double(), moving.double(), weights.double()
    share = w / w.sum(dim=-1, keepdim=True)
    centre, target = (p * share[..., None]).sum(dim=-2), (q * share[..., None]).sum(dim=-2)
    return p - centre[..., None, :], q - target[..., None, :], share, centre, target


def _linear(matrix: Tensor, offset: Tensor) -> Linear:
    d = matrix.shape[-1]
    last = torch.zeros(*matrix.shape[:-2], 1, d + 1, dtype=matrix.dtype, device=matrix.device)
    last[..., 0, d] = 1
    return Linear(torch.cat([torch.cat([matrix, offset[..., None]], dim=-1), last], dim=-2))
