"""The flow of a stationary velocity: smooth, invertible by changing a sign."""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..interpolate import linear
from ..space import Space, lattice
from .base import Transform
from .diffeomorphism import Diffeomorphism
from .field import DisplacementField, sample_field


def doubled(move: Tensor, here: Tensor, times: int) -> Tensor:
    """(B, D, *S) displacements composed with themselves so many times over: 2**times of them in a row.

    ``here`` is the (1, *S, D) grid itself; both are in its own unit coordinates.
    """
    move = move.movedim(1, -1).contiguous().movedim(-1, 1)  # as grids lie in memory, and as the sampler reads
    for _ in range(times):
        move = move + linear(move, here + move.movedim(1, -1))
    return move


class VelocityField(Transform):
    """``exp(v)``: where the points are after flowing along v for one unit of time.

    By scaling and squaring (Arsigny et al. 2006, doi:10.1007/11866565_113): a flow of 2**-steps, composed with itself.

    Parameters
    ----------
    velocity
        (D, *S) or (B, D, *S) velocities in RAS mm per unit of time, component 0 towards R; may carry a gradient.
    space
        The grid they are sampled on, ``space.shape == S``; between voxel centres linear, outside as at the border.
    steps
        How often the flow is doubled; the first, shortest flow should stay below half a voxel.

    Raises
    ------
    ValueError
        If the shapes do not agree or ``steps`` is negative.
    """

    def __init__(self, velocity: Tensor, space: Space, steps: int = 6) -> None:
        if steps < 0:
            raise ValueError(f"scaling and squaring takes 0 or more steps, got {steps}")
        DisplacementField(velocity, space)  # checks the shapes
        self.velocity, self.space, self.steps = velocity, space, int(steps)

    @property
    def ndim(self) -> int:
        return self.space.ndim

    @property
    def batched(self) -> bool:
        return self.velocity.ndim == self.ndim + 2

    @cached_property
    def displacement(self) -> DisplacementField:
        """The flow as displacements on the same grid."""
        d = self.ndim
        velocity = self.velocity if self.batched else self.velocity[None]
        to_unit = self.space.to_unit()
        turn = to_unit[:d, :d].to(velocity)
        move = torch.einsum("ij,bj...->bi...", turn, velocity) / 2**self.steps
        here = lattice(to_unit @ self.space.affine, self.space.shape, velocity)
        move = doubled(move, here, self.steps)
        back = torch.linalg.inv(to_unit[:d, :d]).to(velocity)
        found = torch.einsum("ij,bj...->bi...", back, move)
        return DisplacementField(found if self.batched else found[0], self.space)

    def __call__(self, points: Tensor) -> Tensor:
        return self.displacement(points)

    def on_grid(self, space: Space, like: Tensor | None = None) -> Tensor:
        """As :meth:`Transform.on_grid`; a grid over the same field of view is reached by plain interpolation."""
        if not space.resized(self.space.shape).same_as(self.space):
            return self.displacement.on_grid(space, like)
        like = torch.zeros(0, dtype=torch.float32) if like is None else like
        moves = self.displacement.displacement.to(like)
        moves = moves if self.batched else moves[None]
        if space.shape != self.space.shape:
            mode = "bilinear" if self.ndim == 2 else "trilinear"
            moves = F.interpolate(moves, size=space.shape, mode=mode, align_corners=False)
        result = space.points(like) + moves.movedim(1, -1)
        return result if self.batched else result[0]

    def jacobian(self, points: Tensor) -> Tensor:
        return self.displacement.jacobian(points)

    def inverse(self) -> VelocityField:
        """The flow of ``-v``."""
        return VelocityField(-self.velocity, self.space, self.steps)

    def sampled(self, space: Space) -> Diffeomorphism:
        """Both directions as displacements on a grid: what files hold."""
        forward, backward = (DisplacementField(sample_field(t, space), space) for t in (self, self.inverse()))
        return Diffeomorphism(forward, backward)
