"""A network that compares two images from coarse to fine, and warps them between levels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..interpolate import linear
from ..transforms.velocity import doubled
from .base import full_precision
from .dense import VoxelVelocity
from .matching import contrast, correlation, unit_length
from .networks import SLOPE, Block, channels_last, check_both, check_counts, convolution, padded

_SQUARINGS = 4


class Mixture(nn.Module):
    """One linear layer over the channels of several tensors, as if they were put together first, without doing so.

    Parameters
    ----------
    inputs
        Channels of every tensor.
    width
        Channels that come out.
    """

    def __init__(self, inputs: Sequence[int], width: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            nn.Linear(channels, width, bias=not number) for number, channels in enumerate(inputs)
        )
        for part in self.parts:
            nn.init.normal_(part.weight, 0.0, math.sqrt(2 / sum(inputs)))  # type: ignore[arg-type]
        nn.init.zeros_(self.parts[0].bias)  # type: ignore[arg-type]

    def forward(self, tensors: Sequence[Tensor]) -> Tensor:
        """(B, C, *S) tensors -> (B, width, *S)."""
        first, *others = (part(x.movedim(1, -1)) for part, x in zip(self.parts, tensors, strict=True))
        return sum(others, start=first).movedim(-1, 1)


class Estimator(nn.Module):
    """What matches, features and the velocity so far say about what is missing, at one level of a pyramid.

    Parameters
    ----------
    ndim
        Spatial dimension D.
    inputs
        Channels of every tensor that is looked at.
    width
        Channels in between.
    """

    def __init__(self, ndim: int, inputs: Sequence[int], width: int) -> None:
        super().__init__()
        self.mix = Mixture(inputs, width)
        self.blocks = nn.Sequential(Block(ndim, width, width), Block(ndim, width, width))
        self.last = convolution(ndim, width, ndim)
        self.last.register_parameter("bias", None)  # it would be the same both ways, and cancel
        nn.init.zeros_(self.last.weight)  # type: ignore[arg-type]  # the answer before training is the identity

    def forward(self, looked_at: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(B, C, *S) tensors -> (B, width, *S) for the next level, (B, D, *S) velocities in voxels."""
        inner = self.blocks(F.leaky_relu(self.mix(looked_at), SLOPE))
        return inner, self.last(inner)


class MatchingPyramid(VoxelVelocity):
    """Velocities in voxels from features of both images that are matched from coarse to fine.

    Each image is looked at alone, by one encoder for both. At every level both are warped half way by the velocity
    found so far, correlated with each other in a small window, and a few convolutions say what is missing: the way of
    PWC-Net (Sun et al. 2018, arXiv 1709.02371), with flows of stationary velocities. Warping between levels lets small
    windows follow large displacements, and matching need not be learnt, which plain U-Nets spend most of their
    training on. Everything is asked both ways, so that exchanging the images inverts the transform exactly.

    Any input size: borders are repeated to a multiple of 2**levels, and the answer is cut to ``ceil(S / 2)``.

    Parameters
    ----------
    ndim
        Spatial dimension D.
    inputs
        Channels of both images together, as for the other networks.
    widths
        Channels of the encoder at 1/2, 1/4, ... of the resolution.
    features
        Channels that are matched.
    hidden
        Channels of the estimators, from fine to coarse.
    radius
        Of the windows in which features are matched, in voxels of each level.
    """

    def __init__(
        self,
        ndim: int,
        inputs: int,
        widths: Sequence[int] = (16, 32, 48, 48),
        features: int = 16,
        hidden: Sequence[int] = (24, 32, 48, 48),
        radius: int = 1,
    ) -> None:
        super().__init__()
        if not widths or len(widths) != len(hidden):
            raise ValueError(f"as many widths as hidden are needed, and at least one, got {widths} and {hidden}")
        check_counts(1, inputs=inputs, widths=widths, features=features, hidden=hidden)
        check_counts(0, radius=radius)
        check_both(inputs)
        self.radius, self.multiple, self.shrink = int(radius), 2 ** len(widths), 2
        before = [inputs, *widths[:-1]]  # every image comes with its local contrast
        self.encoder = nn.ModuleList(
            nn.Sequential(Block(ndim, a, b, 4, 2), Block(ndim, b, b)) for a, b in zip(before, widths, strict=True)
        )
        self.features = nn.ModuleList(convolution(ndim, width, features, 1) for width in widths)
        seen = [(2 * self.radius + 1) ** ndim, features, features]
        more = [*([ndim, width] for width in hidden[1:]), []]  # what the coarser level found; nothing at the coarsest
        self.estimators = nn.ModuleList(
            Estimator(ndim, [*seen, *before], width) for width, before in zip(hidden, more, strict=True)
        )
        self.to(memory_format=(torch.channels_last, torch.channels_last_3d)[ndim - 2])  # type: ignore[call-overload]

    def forward(self, fixed: Tensor, warped: Tensor) -> Tensor:
        """(B, D, *ceil(S / 2)) velocities in voxels of the input."""
        scaling = ("bilinear", "trilinear")[fixed.ndim - 4]
        velocity, coarser = torch.zeros((), dtype=torch.float32), list[Tensor]()
        for estimator, both in zip(reversed(self.estimators), reversed(self.described(fixed, warped)), strict=True):
            if coarser:
                velocity = 2 * F.interpolate(velocity, scale_factor=2.0, mode=scaling)
                inner = F.interpolate(coarser[-1], scale_factor=2.0, mode="nearest")
                both, coarser = met_halfway(both, velocity), [torch.cat([velocity, -velocity]), inner]
            inner, missing = estimator([*self.compared(both), *coarser])
            there, back = missing.to(fixed.dtype).chunk(2)
            velocity, coarser = velocity + (there - back) / 2, [inner]
        half = [-(-n // 2) for n in fixed.shape[2:]]
        # Voxels of the level above are the input's own: twice as many.
        return 2 * velocity[(slice(None), slice(None), *(slice(n) for n in half))].contiguous()

    def described(self, fixed: Tensor, warped: Tensor) -> list[Tensor]:
        """(B, C, *S) images -> (2B, F, *S / 2**(k+1)) features of both, from fine to coarse."""
        images = torch.cat([fixed, warped])
        with full_precision(images):
            x = channels_last(padded(torch.cat([images, contrast(images)], dim=1), self.multiple))
        found = []
        for level, features in zip(self.encoder, self.features, strict=True):
            x = level(x)
            found.append(unit_length(features(x).to(images.dtype)))
        return found

    def compared(self, both: Tensor) -> list[Tensor]:
        """What an estimator looks at, (2B, ..., *S): the pair there, and the pair exchanged."""
        both = channels_last(both)
        exchanged = both.roll(len(both) // 2, dims=0)
        return [correlation(both, exchanged, self.radius), both, exchanged]


def met_halfway(both: Tensor, velocity: Tensor, squarings: int = _SQUARINGS) -> Tensor:
    """Features of fixed and moving images, each warped half way to the other by the flow of a stationary velocity.

    The flow is :class:`~registration.transforms.velocity.VelocityField`'s, on a grid that exported programs can make.

    Parameters
    ----------
    both
        (2B, C, *S) features, those of the fixed images first.
    velocity
        (B, D, *S) in voxels along the tensor's axes, fixed -> moving.
    squarings
        How often the flow is doubled: half the velocity over 2**squarings should stay below half a voxel.
    """
    d, shape = velocity.shape[1], velocity.shape[2:]
    with full_precision(velocity):
        units = velocity.new_tensor([2 / n for n in reversed(shape)]).reshape(1, d, *[1] * d)
        move = torch.cat([-velocity, velocity]).flip(1) * (units / 2 ** (squarings + 1))
        here = F.affine_grid(torch.eye(d, d + 1).to(velocity)[None], [1, 1, *shape], align_corners=False)
        return linear(both, here + doubled(move, here, squarings).movedim(1, -1))
