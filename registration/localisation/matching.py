"""How well each voxel of one image matches the voxels about the same place in another."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import compiled
from ..filters import box_sum


def correlation(first: Tensor, second: Tensor, radius: int = 1) -> Tensor:
    """Inner products of features with those of all voxels in a window of the other image (Sun et al. 2018,
    arXiv 1709.02371); differentiable to both.

    Parameters
    ----------
    first, second
        (B, C, *S) features on one grid.
    radius
        Of the window, in voxels.

    Returns
    -------
    (B, K, *S) means over channels of ``first(x) second(x + d)`` for the K = (2 radius + 1)^D offsets d, last axis
    fastest; 0 where ``x + d`` is outside.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"features on one grid expected, got {tuple(first.shape)} and {tuple(second.shape)}")
    d, shape = first.ndim - 2, tuple(first.shape[2:])
    if compiled.fits(first, second):
        from ..compiled.matching import Correlation

        sides = (x.movedim(1, -1).reshape(len(x), -1, x.shape[1]).contiguous() for x in (first, second))
        found: Tensor = Correlation.apply(*sides, shape, radius)
        return found.reshape(len(first), *shape, -1).movedim(-1, 1)
    around = F.pad(second, [radius] * (2 * d))
    found_at = []
    for offset in product(range(2 * radius + 1), repeat=d):
        window = (slice(o, o + n) for o, n in zip(offset, shape, strict=True))
        found_at.append((first * around[(slice(None), slice(None), *window)]).mean(dim=1))
    return torch.stack(found_at, dim=1)


def contrast(data: Tensor, radius: int = 3, floor: float = 1e-3) -> Tensor:
    """(B, C, *S) intensities less their mean in a window about each voxel, in standard deviations there.

    Parameters
    ----------
    data
        (B, C, *S) intensities.
    radius
        Of the window, in voxels.
    floor
        Added to the variance, in squared intensities: what is flatter than that counts as noise.
    """
    window = [radius] * (data.ndim - 2)
    count = box_sum(torch.ones_like(data[:1, :1]), window)
    less = data - box_sum(data, window) / count
    return less / (box_sum(less.square(), window) / count + floor).sqrt()


def unit_length(features: Tensor, floor: float = 1e-2) -> Tensor:
    """(B, C, *S) features whose mean square over channels is 1, less where they are weaker than ``floor``."""
    return features / (features.square().mean(dim=1, keepdim=True) + floor).sqrt()
