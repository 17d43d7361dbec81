"""Gaussian smoothing, antialiased resampling and splines on finer grids: per axis, one product with a banded matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_BLOCK = 512  # longest axis that is filtered by one dense matrix; longer ones go block by block along the band
_POLE = math.sqrt(3) - 2  # of the recursive filter that gives the coefficients of cubic B-splines
_TAPS = 12  # voxels to either side beyond which a cubic spline hardly depends on them: 1e-7


def gaussian(x: Tensor, sigma: Sequence[float], truncate: float = 4.0) -> Tensor:
    """Gaussian smoothing, mirrored at the outer voxel edges: ``scipy.ndimage.gaussian_filter(mode="reflect")``.

    No flux crosses the border: constants and the mean are kept, and the filter is its own adjoint. Each axis is one
    product with a banded matrix, so the time hardly depends on sigma.

    Parameters
    ----------
    x
        (B, C, *S) tensor.
    sigma
        D standard deviations in voxels, one per spatial axis; 0 leaves an axis alone.
    truncate
        The kernel ends at ``truncate * sigma`` voxels (rounded) and is normalised.

    Returns
    -------
    (B, C, *S) smoothed tensor; differentiable.

    Raises
    ------
    ValueError
        If there is not one non-negative, finite sigma per spatial axis.
    """
    sigma = tuple(float(s) for s in sigma)
    if len(sigma) != x.ndim - 2 or not all(0 <= s < math.inf for s in sigma):
        raise ValueError(f"expected {x.ndim - 2} sigmas of 0 or more for a tensor {tuple(x.shape)}, got {sigma}")
    for axis, s in enumerate(sigma, start=2):
        if int(truncate * s + 0.5):
            x = _resample_axis(x, axis, _band(x.shape[axis], x.shape[axis], s, truncate))
    return x


def resample(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Another number of voxels over the same field of view (edges shared): Gaussian blur, then linear interpolation.

    A voxel is taken to have a blur of half its size, so an axis shortened by a factor f is smoothed by
    ``0.5 * sqrt(f**2 - 1)`` old voxels; an axis that keeps its length is left alone, one that grows is interpolated.

    Parameters
    ----------
    x
        (B, C, *S) tensor.
    shape
        The new spatial shape, D entries of at least 1.

    Returns
    -------
    (B, C, *shape) tensor; differentiable.
    """
    shape = tuple(int(n) for n in shape)
    if len(shape) != x.ndim - 2 or min(shape) < 1:
        raise ValueError(f"expected {x.ndim - 2} lengths of at least 1 for a tensor {tuple(x.shape)}, got {shape}")
    for axis, n in sorted(enumerate(shape, start=2), key=lambda item: item[1] / x.shape[item[0]]):
        if n != x.shape[axis]:
            factor = x.shape[axis] / n
            x = _resample_axis(x, axis, _band(x.shape[axis], n, 0.5 * math.sqrt(max(0.0, factor**2 - 1)), 4.0))
    return x


def spline(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Cubic spline through the voxels, read on a finer grid over the same field of view (edges shared).

    Voxels beyond the border are mirror images, as in ``scipy.ndimage.zoom(order=3, mode="reflect", grid_mode=True)``
    (Unser 1999, doi:10.1109/79.799930).

    Parameters
    ----------
    x
        (B, C, *S) tensor.
    shape
        The new spatial shape, no axis shorter than it was.

    Returns
    -------
    (B, C, *shape) tensor; differentiable.

    Raises
    ------
    ValueError
        If there is not one length per axis, or one is shorter.
    """
    shape = tuple(int(n) for n in shape)
    if len(shape) != x.ndim - 2 or any(n < old for n, old in zip(shape, x.shape[2:], strict=True)):
        raise ValueError(f"expected {x.ndim - 2} lengths of at least those of a tensor {tuple(x.shape)}, got {shape}")
    for axis, n in sorted(enumerate(shape, start=2), key=lambda item: item[1] / x.shape[item[0]]):
        if n != x.shape[axis]:
            x = _resample_axis(x, axis, _cardinal(x.shape[axis], n))
    return x


def _resample_axis(x: Tensor, axis: int, band: tuple[Tensor, Tensor]) -> Tensor:
    """``matrix @ x`` along one axis; a long axis goes in blocks of rows that read only their part of the band.

    Row i of the matrix: (length, taps) voxels of the axis and their weights, float64.
    """
    columns, weights = band
    length = len(columns)
    pieces = []
    for start in range(0, length, _BLOCK):
        index, weight = columns[start : start + _BLOCK], weights[start : start + _BLOCK]
        # A single block reads the whole axis; asking for its ends would keep networks from being exported.
        low, high = (0, x.shape[axis]) if length <= _BLOCK else (int(index.min()), int(index.max()) + 1)
        rows = torch.zeros(index.shape[0], high - low, dtype=torch.float64)
        rows.scatter_add_(1, index - low, weight)
        pieces.append(_matmul_axis(rows.to(x), x.narrow(axis, low, high - low), axis))
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=axis)


def _matmul_axis(matrix: Tensor, x: Tensor, axis: int) -> Tensor:
    """(n', n) matrix applied to an axis of length n, without moving the axis in memory."""
    if axis == x.ndim - 1:
        return x @ matrix.T
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    out = torch.matmul(matrix, x.reshape(*before, x.shape[axis], -1))
    return out.reshape(*before, matrix.shape[0], *after)


def _band(n: int, length: int, sigma: float, truncate: float) -> tuple[Tensor, Tensor]:
    """The voxels and weights of :func:`resample`.

    The weights are a Gaussian at integer offsets, followed by linear interpolation at the centre of output voxel i.
    Input voxels beyond the border are their mirror images.
    """
    radius = int(truncate * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2) if radius else torch.ones(1, dtype=torch.float64)
    kernel = kernel / kernel.sum()
    centre = ((torch.arange(length, dtype=torch.float64) + 0.5) * (n / length) - 0.5).clamp(0, n - 1)
    base = centre.floor()
    part = (centre - base)[:, None]
    none = kernel.new_zeros(1)
    weights = (1 - part) * torch.cat([kernel, none]) + part * torch.cat([none, kernel])
    return _mirrored(base.long()[:, None] + torch.arange(-radius, radius + 2), n), weights


def _cardinal(n: int, length: int) -> tuple[Tensor, Tensor]:
    """The voxels and weights of :func:`spline`: the cubic spline that is 1 at one voxel and 0 at all others."""
    centre = (torch.arange(length, dtype=torch.float64) + 0.5) * (n / length) - 0.5
    columns = centre.floor().long()[:, None] + torch.arange(-_TAPS + 1, _TAPS + 1)
    index = torch.arange(-2 * _TAPS, 2 * _TAPS + 1, dtype=torch.float64)
    away = ((centre[:, None] - columns)[..., None] - index).abs()
    bumps = torch.where(away < 1, 2 / 3 - away**2 + away**3 / 2, (2 - away).clamp(min=0) ** 3 / 6)
    weights = bumps @ (6 * _POLE / (_POLE**2 - 1) * _POLE ** index.abs())
    return _mirrored(columns, n), weights / weights.sum(dim=1, keepdim=True)


def _mirrored(columns: Tensor, n: int) -> Tensor:
    """Voxels of an axis for those beyond its ends."""
    columns = columns.remainder(2 * n)
    return torch.minimum(columns, 2 * n - 1 - columns)
