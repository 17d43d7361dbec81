"""Velocities that make two sets of feature maps equal, with nothing to learn: a layer behind networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..filters import gaussian, gradient
from ..limits import WIDEST, check_above, check_sizes
from .networks import check_counts, padded
from .pyramid import met_halfway


def force(both: Tensor, floor: float = 1e-2) -> Tensor:
    """The displacement that would make the features of two images equal, to first order in every voxel.

    Thirion's demons (1998, doi:10.1016/S1361-8415(98)80022-4) in their symmetric form (Vercauteren et al. 2009,
    doi:10.1016/j.neuroimage.2008.10.040), for several channels: never more than one voxel.

    Parameters
    ----------
    both
        (2B, C, *S) features, those of the fixed images first.
    floor
        Squared differences per voxel that count as nothing.

    Returns
    -------
    (B, D, *S) voxels along the tensor's axes, fixed -> moving; exchanging the images turns the sign.
    """
    fixed, moving = both.chunk(2)
    miss = (fixed - moving)[:, :, None]
    d, shape = both.ndim - 2, both.shape[2:]
    slope = gradient((fixed + moving) / 2, [1.0] * d).reshape(*fixed.shape[:2], d, *shape)
    length = slope.square().sum(dim=(1, 2)) + miss.square().sum(dim=(1, 2)) / 4 + floor
    return (miss * slope).sum(dim=1) / length[:, None]


class Demons(nn.Module):
    """A stationary velocity whose flow brings the features of two images onto each other, from coarse to fine.

    Every iteration warps both half way and adds the smoothed :func:`force` there (log-domain demons, Vercauteren et al.
    2008, doi:10.1007/978-3-540-85988-8_90). Differentiable: what the features should be can be learnt through it.

    Parameters
    ----------
    iterations
        At every level, from fine to coarse; each level has half the resolution of the one before.
    sigma
        Of the smoothing of every step, in voxels of its level.
    floor
        As for :func:`force`.
    shrink
        Voxels per node of the velocity along every axis, 1 or 2: that of the family.
    squarings
        As for :func:`~registration.localisation.pyramid.met_halfway`; 2 for velocities of up to 4 voxels of a level.
    """

    def __init__(
        self,
        iterations: Sequence[int] = (2, 0, 4, 4),
        sigma: float = 1.0,
        floor: float = 1e-2,
        shrink: float = 1,
        squarings: int = 4,
    ) -> None:
        super().__init__()
        if not iterations:
            raise ValueError("iterations are given for one level at least, got []")
        check_counts(0, iterations=iterations, squarings=squarings)
        check_sizes(32, squarings=squarings)
        check_sizes(WIDEST, sigma=sigma)
        check_above(floor=floor)
        if shrink not in (1, 2):
            raise ValueError(f"velocities are given at every voxel or at every second, shrink is {shrink}")
        self.iterations, self.shrink = tuple(int(n) for n in iterations), int(shrink)
        self.sigma, self.floor, self.squarings = float(sigma), float(floor), squarings

    def forward(self, features: Tensor) -> Tensor:
        """(B, D, *ceil(S / shrink)) in voxels of the features, fixed -> moving.

        Features are (2B, C, *S), those of the fixed images first; their borders are repeated where levels need it.
        """
        d = features.ndim - 2
        halved = (F.avg_pool2d, F.avg_pool3d)[d - 2]
        whole = padded(features, self.shrink * 2 ** (len(self.iterations) - 1))
        levels = [whole if self.shrink == 1 else halved(whole, 2)]
        for _ in self.iterations[1:]:
            levels.append(halved(levels[-1], 2))
        velocity = levels[-1].new_zeros(len(features) // 2, d, *levels[-1].shape[2:])
        for number, (level, count) in enumerate(zip(reversed(levels), reversed(self.iterations), strict=True)):
            if number:
                velocity = 2 * F.interpolate(velocity, scale_factor=2.0, mode=("bilinear", "trilinear")[d - 2])
            for again in range(count):
                both = met_halfway(level, velocity, self.squarings) if number or again else level
                velocity = velocity + gaussian(force(both, self.floor), [self.sigma] * d)
        nodes = [-(-n // self.shrink) for n in features.shape[2:]]
        return self.shrink * velocity[(slice(None), slice(None), *(slice(n) for n in nodes))].contiguous()
