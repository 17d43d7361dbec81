"""What the linear families share: the matrix exponential of generators about the centre of the domain."""

from __future__ import annotations

from abc import abstractmethod
from itertools import combinations

import torch
from torch import Tensor

from ..space import Space
from ..transforms.linear import Linear
from .base import Family


class LinearFamily(Family):
    """``exp(sum_p theta_p G_p)`` in coordinates ``(x - domain.centre) / domain.radius``.

    As the exponential of a Lie algebra, ``-theta`` is the inverse of ``theta`` and ``theta / 2`` is half the way. The
    first parameters of a larger family are those of the smaller one: Rigid, then Similarity, then Affine.
    """

    @abstractmethod
    def generators(self, ndim: int) -> Tensor:
        """(P, D+1, D+1) float64 generators in D = ``ndim`` dimensions; their last rows are zero."""

    def size(self, domain: Space) -> int:
        return self.generators(domain.ndim).shape[0]

    def __call__(self, parameters: Tensor, domain: Space) -> Linear:
        theta = self.check(parameters, domain)
        d = domain.ndim
        basis = self.generators(d).to(theta.device)
        exponent = (theta @ basis.flatten(1)).reshape(*theta.shape[:-1], d + 1, d + 1)
        to_world = torch.eye(d + 1, dtype=torch.float64)
        to_world[:d, :d] *= domain.radius
        to_world[:d, d] = domain.centre
        from_world = torch.linalg.inv(to_world).to(theta.device)
        eye = torch.eye(d + 1, dtype=torch.float64, device=theta.device)
        # The change alone is carried to the world, so that zeros give the identity to the last bit.
        return Linear(eye + to_world.to(theta.device) @ (torch.linalg.matrix_exp(exponent) - eye) @ from_world)


def _stacked(blocks: list[Tensor], ndim: int) -> Tensor:
    """(P, D+1, D+1) generators from their upper rows: (D, D) matrices or (D,) translations."""
    result = torch.zeros(len(blocks), ndim + 1, ndim + 1, dtype=torch.float64)
    for generator, block in zip(result, blocks, strict=True):
        if block.ndim == 1:
            generator[:ndim, ndim] = block
        else:
            generator[:ndim, :ndim] = block
    return result


def translations(ndim: int) -> Tensor:
    """(D, D+1, D+1): along R, A, S; one unit is one radius of the domain."""
    return _stacked(list(torch.eye(ndim, dtype=torch.float64)), ndim)


def rotations(ndim: int) -> Tensor:
    """(D(D-1)/2, D+1, D+1): radians; in 3-D about the R, A and S axes, in 2-D anticlockwise from R to A."""
    planes = [(0, 1)] if ndim == 2 else [(1, 2), (2, 0), (0, 1)]
    blocks = []
    for i, j in planes:
        block = torch.zeros(ndim, ndim, dtype=torch.float64)
        block[j, i], block[i, j] = 1, -1
        blocks.append(block)
    return _stacked(blocks, ndim)


def scaling(ndim: int) -> Tensor:
    """(1, D+1, D+1): the logarithm of one scale for all axes."""
    return _stacked([torch.eye(ndim, dtype=torch.float64)], ndim)


def deviations(ndim: int) -> Tensor:
    """(D(D+1)/2 - 1, D+1, D+1): stretches and shears that keep the volume, of the norm of a rotation."""
    blocks = []
    for k in range(1, ndim):
        diagonal = torch.zeros(ndim, dtype=torch.float64)
        diagonal[:k], diagonal[k] = 1, -k
        blocks.append(torch.diag(diagonal * (2 / (k * (k + 1))) ** 0.5))
    for i, j in combinations(range(ndim), 2):
        block = torch.zeros(ndim, ndim, dtype=torch.float64)
        block[i, j] = block[j, i] = 1
        blocks.append(block)
    return _stacked(blocks, ndim)
