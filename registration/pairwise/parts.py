"""A grid cut into parts, so that a level between the voxels takes no more memory the larger the images are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..space import Space

_HALO = 6  # voxels of the grid about a part: what lies beyond hardly matters inside
_FADE = 3  # voxels to either side of a border within which one part passes into the next


@dataclass(frozen=True)
class Part:
    """A box of voxels of a grid, that overlaps with the boxes beside it.

    Parameters
    ----------
    grid
        The whole, D axes.
    starts, stops
        D first voxels inside the part and first ones beyond it; parts lie side by side.
    """

    grid: Space
    starts: tuple[int, ...]
    stops: tuple[int, ...]

    @property
    def space(self) -> Space:
        """The voxels inside and those about them."""
        low = [max(0, start - _HALO) for start in self.starts]
        high = [min(n, stop + _HALO) for n, stop in zip(self.grid.shape, self.stops, strict=True)]
        return self.grid.cropped(low, [b - a for a, b in zip(low, high, strict=True)])

    def places(self, space: Space) -> list[Tensor]:
        """D vectors: where the voxels of a grid with the same axes lie, in voxels of the whole."""
        matrix = torch.linalg.inv(self.grid.affine) @ space.affine
        return [torch.arange(n) * matrix[a, a] + matrix[a, -1] for a, n in enumerate(space.shape)]

    def share(self, space: Space) -> Tensor:
        """(X, Y, Z) what this part has to say at the voxels of a grid with the same axes; all parts together say 1."""
        result = torch.ones(1, dtype=torch.float32)
        limits = zip(self.places(space), self.grid.shape, self.starts, self.stops, strict=True)
        for place, n, start, stop in limits:
            line = torch.ones_like(place)
            if start > 0:
                line = ((place + 0.5 - (start - _FADE)) / (2 * _FADE)).clamp(0, 1)
            if stop < n:
                line = line * ((stop + _FADE - (place + 0.5)) / (2 * _FADE)).clamp(0, 1)
            result = result[..., None] * line.float()
        return result.reshape((1,) * (3 - space.ndim) + space.shape)


def divided(grid: Space, voxels: float) -> list[Part]:
    """Parts of a grid with, about each, at most so many of its voxels; axes are cut where parts are longest."""
    many = [1] * grid.ndim
    while _most(grid.shape, many) > voxels:
        sides = [-(-n // k) for n, k in zip(grid.shape, many, strict=True)]
        axis = max(range(grid.ndim), key=lambda a: sides[a])
        if sides[axis] <= 2 * _HALO:
            break
        many[axis] += 1
    borders = [[n * k // count for k in range(count + 1)] for n, count in zip(grid.shape, many, strict=True)]
    ranges = itertools.product(*[list(itertools.pairwise(line)) for line in borders])
    return [Part(grid, *zip(*box, strict=True)) for box in ranges]


def _most(shape: Sequence[int], many: Sequence[int]) -> int:
    """Voxels of the largest part with those about it."""
    sides = [min(n, -(-n // k) + _HALO * min(k - 1, 2)) for n, k in zip(shape, many, strict=True)]
    return math.prod(sides)
