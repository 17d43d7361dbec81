"""How far the fields of a chain reach: beyond their grids nobody has measured where points go."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Transform, parts_of
from .diffeomorphism import Diffeomorphism
from .field import DisplacementField
from .inverse import NumericalInverse
from .linear import Linear


def beyond_fields(transform: Transform, points: Tensor) -> tuple[Tensor, bool]:
    """Which points come to lie beyond the grid (voxel edges) of a displacement field of a chain.

    Parameters
    ----------
    transform
        Fixed RAS mm -> moving RAS mm, not batched.
    points
        (N, D) fixed RAS mm.

    Returns
    -------
    (N,) boolean, and whether a field leaves such points where they are, as ITK's do; otherwise the displacement of the
    nearest border voxel holds for them.
    """
    beyond = torch.zeros(points.shape[0], dtype=torch.bool, device=points.device)
    still = False
    for part in reversed(parts_of(transform)):
        moved = part(points)
        backward = isinstance(part, NumericalInverse)
        field = part.forward if isinstance(part, (NumericalInverse, Diffeomorphism)) else part
        if isinstance(field, DisplacementField):
            unit = Linear(field.space.to_unit())(moved if backward else points)
            outside = unit.abs().amax(dim=-1) > 1 + 1e-6
            beyond |= outside
            still |= field.still_outside and bool(outside.any())
        points = moved
    return beyond, still
