"""Random maps of known kind and size. All sizes are shares of the radius of the grid, half its diagonal, or angles, so
that one setting suits a mouse and a torso.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from ....families import Affine, Lattice, ThinPlateSplines, Velocity
from ....families.linear import LinearFamily
from ....filters import gaussian
from ....limits import check_counts, check_sizes
from ....space import Space
from ....transforms.base import Transform
from ....transforms.linear import Linear

_MOST = 10  # radii, and logarithms of scales


class RandomMap(ABC):
    """Draws transforms."""

    @abstractmethod
    def __call__(self, domain: Space, generator: Generator) -> Transform:
        """A map of RAS mm of this grid to RAS mm; equal states of the generator give equal maps."""


@dataclass(frozen=True)
class Still(RandomMap):
    """Always the identity."""

    def __call__(self, domain: Space, generator: Generator) -> Transform:
        return Linear.identity(domain.ndim)


@dataclass(frozen=True)
class RandomLinear(RandomMap):
    """Rigid, similarity or affine maps about the centre of the grid.

    Parameters
    ----------
    family
        ``Rigid()``, ``Similarity()`` or ``Affine()``; what it has no parameters for does not happen.
    degrees
        Largest turn, in 3-D about an axis of any direction; uniform from none to this.
    shift
        Largest shift along each axis.
    scale, shear
        Largest logarithm of the scale; largest parameter of each stretch and shear.
    """

    family: LinearFamily = field(default_factory=Affine)
    degrees: float = 15.0
    shift: float = 0.1
    scale: float = 0.1
    shear: float = 0.1

    def __post_init__(self) -> None:
        check_sizes(degrees=self.degrees)
        check_sizes(_MOST, shift=self.shift, scale=self.scale, shear=self.shear)

    def __call__(self, domain: Space, generator: Generator) -> Transform:
        d = domain.ndim
        turns = d * (d - 1) // 2
        axis = torch.randn(turns, generator=generator, dtype=torch.float64)
        angle = math.radians(self.degrees) * _uniform(1, generator)
        parts = [
            self.shift * _uniform(d, generator),
            angle * axis / axis.norm(),
            self.scale * _uniform(1, generator),
            self.shear * _uniform(d * (d + 1) // 2 - 1, generator),
        ]
        return self.family(torch.cat(parts)[: self.family.size(domain)], domain)


@dataclass(frozen=True)
class RandomSpline(RandomMap):
    """Thin-plate splines whose control points, a lattice from edge to edge, are moved by normal random numbers.

    Parameters
    ----------
    counts
        Control points along each axis, one number for all or D of them.
    size
        Standard deviation of their movement along each axis. Above a quarter of their distance maps begin to fold.
    """

    counts: int | Sequence[int] = 4
    size: float = 0.04

    def __post_init__(self) -> None:
        check_sizes(_MOST, size=self.size)
        for count in [self.counts] if isinstance(self.counts, int) else self.counts:
            check_counts(2, counts=count)

    def __call__(self, domain: Space, generator: Generator) -> Transform:
        counts = (self.counts,) * domain.ndim if isinstance(self.counts, int) else tuple(self.counts)
        family = ThinPlateSplines(Lattice(counts=counts))
        return family(self.size * torch.randn(family.size(domain), generator=generator, dtype=torch.float64), domain)


@dataclass(frozen=True)
class RandomFlow(RandomMap):
    """Diffeomorphisms: the flow of a smooth random velocity.

    Parameters
    ----------
    size
        Root mean square of the velocity along each axis, about the displacement.
    smooth
        Standard deviation of the Gaussian that smooths it.
    shrink
        Voxels per node of the velocity along each axis.
    """

    size: float = 0.05
    smooth: float = 0.15
    shrink: float = 4.0

    def __post_init__(self) -> None:
        check_sizes(_MOST, size=self.size, smooth=self.smooth)
        Velocity(self.shrink)  # refuses what is no shrink

    def __call__(self, domain: Space, generator: Generator) -> Transform:
        family = Velocity(self.shrink)
        nodes = family.nodes(domain)
        noise = torch.randn(1, domain.ndim, *nodes.shape, generator=generator, dtype=torch.float32)
        sigma = [
            self.smooth * domain.radius / step if n > 1 else 0.0
            for step, n in zip(nodes.spacing.tolist(), nodes.shape, strict=True)
        ]
        velocity = gaussian(noise, sigma)
        velocity = self.size * velocity / velocity.square().mean().sqrt()
        return family(velocity.flatten(), domain)


@dataclass(frozen=True)
class Chain(RandomMap):
    """Several maps in a row, the last of the list first."""

    maps: Sequence[RandomMap]

    def __post_init__(self) -> None:
        if not all(isinstance(one, RandomMap) for one in self.maps):
            raise ValueError(f"maps are such as RandomLinear and RandomFlow, got {list(self.maps)}")

    def __call__(self, domain: Space, generator: Generator) -> Transform:
        result: Transform = Linear.identity(domain.ndim)
        for one in self.maps:
            result = result @ one(domain, generator)
        return result


def _uniform(count: int, generator: Generator) -> Tensor:
    """(count,) numbers of -1 to 1."""
    return 2 * torch.rand(count, generator=generator, dtype=torch.float64) - 1
