"""A map sampled as a displacement on a grid: which grid, and how far interpolation in it is from the exact map."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..space import Space
from ..transforms.base import Transform
from ..transforms.field import DisplacementField

ERROR_NAMES: tuple[str, ...] = ("max_mm", "mean_mm", "between_max_mm", "between_mean_mm")
_PROBES = 4096
_STRIDES = (8, 4, 2)


@dataclass(frozen=True)
class SampledField:
    """Displacements on a grid.

    Parameters
    ----------
    displacement
        (*S, D) float32, RAS mm: ``x -> x + u(x)``.
    space
        The grid.
    error
        Distances in mm between this field and the exact map, at random points of the domain it was made for:
        ``max_mm`` and ``mean_mm`` at voxel centres, where resampling onto the domain reads it, ``between_max_mm`` and
        ``between_mean_mm`` anywhere between them.
    """

    displacement: np.ndarray
    space: Space
    error: dict[str, float]


def sample_displacement(transform: Transform, domain: Space, tolerance: float) -> SampledField:
    """Sample a map on the coarsest grid that keeps it within ``tolerance`` mm at the voxel centres of ``domain``.

    Coarser grids than the domain reach one step beyond it; if none serves, the domain's own grid does, where linear
    interpolation adds no error at voxel centres. Values are rounded to a power of two below ``tolerance / 2``, which
    halves the compressed file.
    """
    # A thousandth of a voxel at most, so that derivatives of the field stay smooth whatever the tolerance.
    step = 2.0 ** math.floor(math.log2(min(tolerance / 2, 1e-3 * float(domain.spacing.min()))))
    centres, between = _probes(domain)
    exact = [transform(points) - points for points in (centres, between)]
    known: tuple[float, float] | None = None
    for space, stride in _grids(domain):
        # Interpolation errors shrink with the square of the spacing at best: grids without hope are not tried.
        if known is not None and space is not domain and known[1] * (stride / known[0]) ** 2 > 2 * tolerance:
            continue
        field = _sample(transform, space, step)
        error = _statistics(field, space, centres, exact[0])
        if space is domain or error[0] <= tolerance:
            beyond = _statistics(field, space, between, exact[1])
            return SampledField(field, space, dict(zip(ERROR_NAMES, (*error, *beyond), strict=True)))
        known = (stride, error[0])
    raise AssertionError("the domain's own grid always serves")


def of_field(field: DisplacementField, exact: Transform, domain: Space) -> SampledField:
    """A field as it is, with its distances from the exact map over a domain."""
    values = field.displacement.movedim(0, -1).numpy()
    told: list[float] = []
    for points in _probes(domain):
        told += _statistics(values, field.space, points, exact(points) - points)
    return SampledField(values, field.space, dict(zip(ERROR_NAMES, told, strict=True)))


def _grids(domain: Space) -> list[tuple[Space, int]]:
    """Candidate grids and their strides in voxels, coarsest first, the domain last."""
    grids = []
    d = domain.ndim
    shortest = min((n for n in domain.shape if n > 1), default=0)
    for stride in _STRIDES:
        if shortest < 2 * stride:
            continue
        strides = [stride if n > 1 else 1 for n in domain.shape]
        # Nodes at voxels -stride, 0, stride, ... until the last voxel and its outer edge lie inside.
        shape = [math.ceil(n / s) + 2 if n > 1 else 1 for n, s in zip(domain.shape, strides, strict=True)]
        matrix = torch.eye(d + 1, dtype=torch.float64)
        matrix[:d, :d] = torch.diag(torch.tensor(strides, dtype=torch.float64))
        matrix[:d, d] = torch.tensor([-float(s) if n > 1 else 0.0 for n, s in zip(domain.shape, strides, strict=True)])
        grids.append((Space(tuple(shape), domain.affine @ matrix), stride))
    return [*grids, (domain, 1)]


def _probes(domain: Space) -> tuple[Tensor, Tensor]:
    """(N, D) float64 points in mm: voxel centres, the outermost among them, and points anywhere between them."""
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor(domain.shape, dtype=torch.float64)
    chance = torch.rand(_PROBES, domain.ndim, dtype=torch.float64, generator=generator)
    corners = torch.tensor(list(itertools.product(*[(0, n - 1) for n in domain.shape])), dtype=torch.float64)
    index = torch.cat([corners, (chance * size).floor()]), chance * (size - 1)
    matrix = domain.affine
    centres, between = (i @ matrix[:-1, :-1].T + matrix[:-1, -1] for i in index)
    return centres, between


def _sample(transform: Transform, space: Space, step: float) -> np.ndarray:
    """(*S, D) displacements, rounded to multiples of ``step`` mm."""
    with torch.no_grad():
        field = transform.on_grid(space) - space.points()
        return field.div_(step).round_().mul_(step).reshape(*space.shape, space.ndim).numpy()


def _statistics(field: np.ndarray, space: Space, points: Tensor, exact: Tensor) -> tuple[float, float]:
    """Maximum and mean distance in mm of the interpolated field from the exact displacement at (N, D) points."""
    inverse = torch.linalg.inv(space.affine)
    index = (points @ inverse[:-1, :-1].T + inverse[:-1, -1]).numpy()
    distance = np.linalg.norm(interpolate(field, index) - exact.numpy(), axis=1)
    return float(distance.max()), float(distance.mean())


def interpolate(field: np.ndarray, index: np.ndarray) -> np.ndarray:
    """(N, C) values of a (*S, C) field at (N, D) voxel positions, linearly between voxels, the border value outside."""
    last = np.array(field.shape[:-1]) - 1
    index = np.clip(index, 0, last)
    low = np.minimum(np.floor(index).astype(np.int64), np.maximum(last - 1, 0))
    share = index - low
    result = np.zeros((len(index), field.shape[-1]))
    for corner in itertools.product((0, 1), repeat=index.shape[1]):
        side = np.array(corner)
        weight = np.where(side, share, 1 - share).prod(axis=1)
        result += weight[:, None] * field[tuple(np.minimum(low + side, last).T)]
    return result
