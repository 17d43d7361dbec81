"""Smooth invertible maps: the flow of a stationary velocity that the parameters give at every node."""

from __future__ import annotations

import torch
from torch import Tensor

from ..limits import check_above, check_counts
from ..space import Space
from ..transforms.velocity import VelocityField
from .base import Family

_MOST = 32  # steps: the shortest flow of more is lost to rounding


class Velocity(Family):
    """Velocities in radii of the domain on a grid over the same field of view, P = D prod(nodes), ordered (D, *nodes).

    Component d moves along world axis d. Parameters keep their dtype, as there are many of them, but those of 16 bits
    become float32: a flow is a sum of many small steps.

    Parameters
    ----------
    shrink
        Voxels of the domain per node along every axis; 2 is the half resolution of Dalca et al. 2018
        (doi:10.1007/978-3-030-00928-1_82).
    steps
        Of scaling and squaring, see :class:`VelocityField`.

    Raises
    ------
    ValueError
        If ``shrink`` is below 1, or ``steps`` no whole number from 0 to 32.
    """

    def __init__(self, shrink: float = 2.0, steps: int = 6) -> None:
        check_above(shrink=shrink)
        if shrink < 1:
            raise ValueError(f"a velocity has at most one node per voxel: shrink is 1 or more, got {shrink}")
        check_counts(0, _MOST, steps=steps)
        self.shrink, self.steps = float(shrink), int(steps)

    def nodes(self, domain: Space) -> Space:
        """The grid of the velocities."""
        return domain.resized([max(1, int(-(-n // self.shrink))) for n in domain.shape])

    def size(self, domain: Space) -> int:
        nodes = 1
        for n in self.nodes(domain).shape:
            nodes *= n
        return domain.ndim * nodes

    def check(self, parameters: Tensor, domain: Space) -> Tensor:
        """The parameters in float32, or in float64 if they are, after checking their shape."""
        super().check(parameters.detach(), domain)
        return parameters.to(torch.promote_types(parameters.dtype, torch.float32))

    def __call__(self, parameters: Tensor, domain: Space) -> VelocityField:
        theta = self.check(parameters, domain)
        space = self.nodes(domain)
        velocity = theta.reshape(*theta.shape[:-1], domain.ndim, *space.shape) * domain.radius
        return VelocityField(velocity, space, self.steps)
