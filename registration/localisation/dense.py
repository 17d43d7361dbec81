"""A network that proposes a velocity for every node of a grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..image import Image
from ..transforms.base import Transform
from .base import Localiser, full_precision, pulled
from .networks import UNet


class VoxelVelocity(Localiser):
    """Parameters of :class:`~registration.families.Velocity` from an answer in voxels.

    Voxels are what a convolution can know: the same network then suits images of any size, and its answer is turned
    into radii of the domain along world axes here. What answers is :meth:`forward`: (B, D, *nodes) velocities along
    the tensor's axes, in voxels of the input.
    """

    any_size = True
    shrink: int | None = None
    """Voxels per node along every axis, as :class:`~registration.families.Velocity` counts them; None if unknown."""

    def propose(self, fixed: Image, moving: Image, initial: Transform) -> Tensor:
        """(B, P) velocities in radii of the fixed domain, along world axes."""
        return self.in_radii(self(fixed.data, pulled(fixed, moving, initial)), fixed)

    def in_radii(self, velocity: Tensor, fixed: Image) -> Tensor:
        """(B, D, *nodes) velocities in voxels as (B, P) in radii of the fixed domain, along world axes."""
        d, velocity = fixed.ndim, velocity.to(fixed.data.dtype)
        to_radii = fixed.space.affine[:d, :d].to(velocity) / fixed.space.radius
        with full_precision(velocity):
            return torch.einsum("ij,bj...->bi...", to_radii, velocity).flatten(1)


class DenseVelocity(VoxelVelocity):
    """One look of a network at both images, which answers with a velocity.

    VoxelMorph's diffeomorphic variant (Dalca et al. 2018, doi:10.1007/978-3-030-00928-1_82) without its sampling.

    Parameters
    ----------
    network
        (B, 2C, *S) -> (B, D, *nodes): velocities along the tensor's axes, in voxels of the input. Its inputs are the
        channels of the fixed and of the warped moving image.
    antisymmetric
        Ask the network both ways and take half the difference: exchanging the images then inverts the transform.
    """

    def __init__(self, network: nn.Module, antisymmetric: bool = True) -> None:
        super().__init__()
        self.network, self.antisymmetric = network, antisymmetric
        self.shrink = network.shrink if isinstance(network, UNet) else None

    def forward(self, fixed: Tensor, warped: Tensor) -> Tensor:
        """(B, D, *nodes) velocities in voxels of the input."""
        there = torch.cat([fixed, warped], dim=1)
        if not self.antisymmetric:
            return self.network(there)  # type: ignore[no-any-return]
        both: Tensor = self.network(torch.cat([there, torch.cat([warped, fixed], dim=1)]))
        first, second = both.chunk(2)
        return (first - second) / 2
