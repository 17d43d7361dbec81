"""Displacements sampled on a grid."""

from __future__ import annotations

import torch
from torch import Tensor

from ..interpolate import linear
from ..space import Space, lattice
from .base import Transform
from .linear import Linear


class DisplacementField(Transform):
    """``x -> x + u(x)``, u interpolated linearly between voxel centres.

    Parameters
    ----------
    displacement
        (D, *S) or (B, D, *S) displacements in RAS mm, component 0 towards R; may carry a gradient.
    space
        The grid they are sampled on, ``space.shape == S``.
    still_outside
        What happens outside the field of view (voxel edges). By default the displacement of the nearest border point
        holds, so that the map stays continuous; True leaves such points where they are, as ITK does.

    Raises
    ------
    ValueError
        If the shapes do not agree.
    """

    def __init__(self, displacement: Tensor, space: Space, still_outside: bool = False) -> None:
        d = space.ndim
        if displacement.ndim not in (d + 1, d + 2) or tuple(displacement.shape[-d - 1 :]) != (d, *space.shape):
            raise ValueError(
                f"displacements of shape (D, *S) = {(d, *space.shape)} or (B, D, *S) expected, "
                f"got {tuple(displacement.shape)}"
            )
        if not displacement.is_floating_point():
            raise ValueError(f"displacements are floating point numbers in mm, got {displacement.dtype}")
        self.displacement, self.space, self.still_outside = displacement, space, still_outside

    @property
    def ndim(self) -> int:
        return self.space.ndim

    @property
    def batched(self) -> bool:
        return self.displacement.ndim == self.ndim + 2

    def __call__(self, points: Tensor) -> Tensor:
        d = self.ndim
        lead = points.shape[0] if self.batched else 1
        grid = Linear(self.space.to_unit())(points).reshape(lead, -1, *[1] * (d - 1), d)
        moves = self._at(grid).flatten(2).movedim(1, -1)
        moved = points.reshape(lead, -1, d) + moves
        return moved.reshape(moved.shape[0], *points.shape[1:]) if self.batched else moved.reshape(points.shape)

    def on_grid(self, space: Space, like: Tensor | None = None) -> Tensor:
        like = torch.zeros(0, dtype=torch.float32) if like is None else like
        if space.same_as(self.space):
            moves = self._whole(like)
        else:
            moves = self._at(lattice(self.space.to_unit() @ space.affine, space.shape, like)[None])
        result = space.points(like) + moves.movedim(1, -1)
        return result if self.batched else result[0]

    def jacobian(self, points: Tensor) -> Tensor:
        """(..., D, D) derivatives at (..., D) points: constant along each axis within a cell, so not differentiable."""
        with torch.enable_grad():
            place = points.detach()
            if self.batched:  # each field has derivatives of its own
                place = place.expand(max(len(place), len(self.displacement)), *place.shape[1:]).clone()
            place.requires_grad_()
            moved = self(place)
            rows = [torch.autograd.grad(moved[..., a].sum(), place, retain_graph=True)[0] for a in range(self.ndim)]
        return torch.stack(rows, dim=-2)

    def inverse(self) -> Transform:
        """The map from moving to fixed points, by iteration."""
        from .inverse import NumericalInverse

        return NumericalInverse(self)

    def _whole(self, like: Tensor) -> Tensor:
        """(B, D, *S) displacements with the dtype and device of ``like``; B = 1 for a lone field."""
        return (self.displacement if self.batched else self.displacement[None]).to(like)

    def _at(self, grid: Tensor) -> Tensor:
        """(B, D, *S') displacements at a (B or 1, *S', D) grid in the unit coordinates of the field."""
        field = self._whole(grid)
        batch = max(field.shape[0], grid.shape[0])
        grid = grid.expand(batch, *grid.shape[1:])
        moves = linear(field.expand(batch, *field.shape[1:]), grid)
        if self.still_outside:
            moves = moves * (grid.detach().abs().amax(dim=-1) <= 1)[:, None]
        return moves


def sample_field(transform: Transform, space: Space, like: Tensor | None = None) -> Tensor:
    """(D, *S) or (B, D, *S) displacements in RAS mm of a transform at the voxel centres of a grid.

    ``DisplacementField(sample_field(t, space), space)`` is the nearest field on that grid.
    """
    return (transform.on_grid(space, like) - space.points(like)).movedim(-1, -1 - space.ndim)
