"""A smooth invertible map that carries its inverse with it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..space import Space
from .base import Transform
from .field import DisplacementField

# Displacements are stored as multiples of a power of two (mm) below this many voxels.
_GRAIN_VOXELS = 1 / 50


class Diffeomorphism(Transform):
    """A displacement field and the field of its inverse, made together.

    Parameters
    ----------
    forward
        Fixed RAS mm -> moving RAS mm.
    backward
        Its inverse, as close as its maker brought it.
    """

    def __init__(self, forward: DisplacementField, backward: DisplacementField) -> None:
        if forward.ndim != backward.ndim:
            raise ValueError(f"the inverse of a {forward.ndim}-D field cannot be {backward.ndim}-D")
        self.forward, self.backward = forward, backward

    @property
    def ndim(self) -> int:
        return self.forward.ndim

    @property
    def batched(self) -> bool:
        return self.forward.batched

    def __call__(self, points: Tensor) -> Tensor:
        return self.forward(points)

    def on_grid(self, space: Space, like: Tensor | None = None) -> Tensor:
        return self.forward.on_grid(space, like)

    def jacobian(self, points: Tensor) -> Tensor:
        return self.forward.jacobian(points)

    def inverse(self) -> Diffeomorphism:
        return Diffeomorphism(self.backward, self.forward)


def grain(space: Space) -> float:
    """What the displacements of a diffeomorphism on this grid are stored as multiples of, mm: less than 1/50 voxel."""
    many = [s for s, n in zip(space.spacing.tolist(), space.shape, strict=True) if n > 1]
    return 2.0 ** math.floor(math.log2(_GRAIN_VOXELS * min(many or space.spacing.tolist())))


def rounded(displacement: Tensor, space: Space) -> Tensor:
    """Displacements in mm, of any shape, as a file holds them; none is rounded by more than 1/100 of a voxel."""
    step = grain(space)
    # No negative zeros, which whole numbers do not keep.
    return torch.round(displacement / step).mul_(step).add_(0.0)
