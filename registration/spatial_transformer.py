"""A spatial transformer as a layer on plain tensors (Jaderberg et al. 2015, arXiv 1506.02025)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .families.base import Family
from .filters import gaussian
from .interpolate import Sampler, linear
from .localisation.base import full_precision
from .space import Space
from .transforms.linear import Linear


class SpatialTransformer(nn.Module):
    """Localisation network, grid generator and sampler: looks at its input and resamples it accordingly.

    The input lies on unit voxels about the origin. Everything is differentiable, to the input (through the sampler, and
    through the localisation) and to the network's weights. A network whose last layer is zero starts as the identity.
    Inputs of 16 bits are sampled in float32, as places need its digits; the output has the dtype of the input.

    Parameters
    ----------
    localisation
        (B, C, *S) -> (B, P) parameters, ``P = family.size(Space.regular(S))``.
    family
        Turns parameters into a transform, about the centre and in units of the radius of the input.
    output_shape
        Voxels of the output over the same field of view; the input's by default. Where it is coarser, the input is
        smoothed first, so that fine texture does not alias; a zoom by the transform itself does not change the filter.
    sampler
        Differentiable interpolation.
    """

    def __init__(
        self,
        localisation: nn.Module,
        family: Family,
        output_shape: Sequence[int] | None = None,
        sampler: Sampler = linear,
    ) -> None:
        super().__init__()
        self.localisation, self.family, self.sampler = localisation, family, sampler
        self.output_shape = None if output_shape is None else tuple(int(n) for n in output_shape)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) -> (B, C, *output_shape).

        Raises
        ------
        ValueError
            If the input or the output shape is neither 2-D nor 3-D, or the parameters do not fit.
        """
        if x.ndim not in (4, 5):
            raise ValueError(f"a (B, C, *S) tensor with 2 or 3 spatial axes expected, got {tuple(x.shape)}")
        domain = Space.regular(tuple(x.shape[2:]))
        shape = self.output_shape or domain.shape
        if len(shape) != domain.ndim:
            raise ValueError(f"the input has {domain.ndim} spatial axes {domain.shape}, output_shape {shape}")
        parameters = self.localisation(x)
        if parameters.ndim != 2 or parameters.shape[0] not in (1, x.shape[0]):
            raise ValueError(
                f"localisation gives (B, P) = ({x.shape[0]}, {self.family.size(domain)}) parameters, "
                f"got {tuple(parameters.shape)}"
            )
        return self._resample(x, parameters, domain, domain.resized(shape))

    def _resample(self, x: Tensor, parameters: Tensor, domain: Space, onto: Space) -> Tensor:
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        with full_precision(x):
            transform = Linear(domain.to_unit()) @ self.family(parameters, domain)
            grid = transform.on_grid(onto, exact)
            grid = grid.expand(x.shape[0], *grid.shape[1:])
            return self.sampler(antialiased(exact, onto.shape), grid).to(x.dtype)


def antialiased(x: Tensor, shape: Sequence[int]) -> Tensor:
    """(B, C, *S) smoothed for sampling at ``shape`` over the same field of view, along axes that shrink.

    The Gaussian widens the response of a voxel to that of an output voxel: half a voxel's width counts as its sigma.
    """
    ratios = [n / m for n, m in zip(x.shape[2:], shape, strict=True)]
    sigma = [0.5 * math.sqrt(max(0.0, r * r - 1)) for r in ratios]
    return gaussian(x, sigma) if any(sigma) else x
