"""Separable filters and antialiased pyramids, on tensors of shape (B, C, *S), 2-D and 3-D in one code.

Borders: window sums see zeros outside; the Gaussian sees the image mirrored at its outer voxel *edges* (no flux
through the border), which keeps the mean and makes the filter its own adjoint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .image import Image

_CHUNK = 1 << 20  # elements that a few temporaries may have and still stay in the cache
_SHIFTS = 3  # largest radius at which one addition per shift is faster than doubling
_BLOCK = 512  # longest axis that is filtered by one dense matrix; longer ones go block by block along the band


# --- window sums ----------------------------------------------------------------------------------------------------
def box_sum(x: Tensor, radius: Sequence[int]) -> Tensor:
    """Sums over windows of 2r+1 voxels per axis, with zeros outside the image.

    A wide window is built from sums over 1, 2, 4, ... voxels: the cost grows with log r, and no difference of large
    running sums is ever taken, so float32 stays accurate for any radius. The filter is its own adjoint.

    Parameters
    ----------
    x
        (B, C, *S) tensor.
    radius
        D radii in voxels, one per spatial axis, zero or more.

    Returns
    -------
    (B, C, *S) sums.

    Raises
    ------
    ValueError
        If there is not one non-negative radius per spatial axis.
    """
    radius = tuple(int(r) for r in radius)
    if len(radius) != x.ndim - 2 or min(radius) < 0:
        raise ValueError(f"expected {x.ndim - 2} radii of 0 or more for a tensor {tuple(x.shape)}, got {radius}")
    return _BoxSum.apply(x, radius)  # type: ignore[no-any-return]


class _BoxSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, radius: tuple[int, ...]) -> Tensor:
        ctx.radius = radius  # type: ignore[attr-defined]
        out = _box(x, radius)
        return out.clone() if out is x else out

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return box_sum(grad, ctx.radius), None  # type: ignore[attr-defined]


def _box(x: Tensor, radius: tuple[int, ...]) -> Tensor:
    """All axes but the first in slabs along the first, then the first in slabs along the second: cache-sized."""
    inner = _in_chunks(x, 2, lambda part: window_sums(part, (0, *radius[1:]))) if any(radius[1:]) else x
    return (
        inner
        if radius[0] == 0
        else _in_chunks(inner, 3, lambda part: window_sums(part, (radius[0], *[0] * (x.ndim - 3))))
    )


def _in_chunks(x: Tensor, axis: int, filter_part: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a filter that does not mix positions along ``axis`` to cache-sized pieces of it."""
    n = x.shape[axis]
    step = max(1, _CHUNK * n // max(1, x.numel()))
    if step >= n or x.device.type != "cpu":
        return filter_part(x)
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    for start in range(0, n, step):
        length = min(step, n - start)
        out.narrow(axis, start, length).copy_(filter_part(x.narrow(axis, start, length)))
    return out


def window_sums(x: Tensor, radius: Sequence[int]) -> Tensor:
    """:func:`box_sum` of (..., *S) in one piece and without autograd, for callers that work in cache-sized pieces.

    Where no radius reaches beyond a voxel the result is ``x`` itself.
    """
    for axis, r in enumerate(radius, start=x.ndim - len(radius)):
        x = _window_sum(x, axis, r)
    return x


def _window_sum(x: Tensor, axis: int, r: int) -> Tensor:
    """Sum over 2r+1 voxels along one axis."""
    n = x.shape[axis]
    r = min(r, n - 1)
    if r > _SHIFTS:
        return _doubled_sum(x, axis, r)
    if r == 0:
        return x
    total = x.clone(memory_format=torch.contiguous_format)
    for shift in range(1, r + 1):
        total.narrow(axis, 0, n - shift).add_(x.narrow(axis, shift, n - shift))
        total.narrow(axis, shift, n - shift).add_(x.narrow(axis, 0, n - shift))
    return total


def _doubled_sum(x: Tensor, axis: int, r: int) -> Tensor:
    """A wide window by doubling: 2r+1 is a sum of powers of two, laid end to end."""
    n = x.shape[axis]
    shape = list(x.shape)
    shape[axis] = n + 2 * r
    power = x.new_empty(shape)
    power.narrow(axis, 0, r).zero_()
    power.narrow(axis, n + r, r).zero_()
    power.narrow(axis, r, n).copy_(x)
    total, placed, size = power.narrow(axis, 0, n), 1, 1
    owned = False
    rest = (2 * r + 1) >> 1
    while rest:
        length = power.shape[axis] - size
        power = power.narrow(axis, 0, length) + power.narrow(axis, size, length)
        size *= 2
        if rest & 1:
            piece = power.narrow(axis, placed, n)
            total = total.add_(piece) if owned else total + piece
            placed, owned = placed + size, True
        rest >>= 1
    return total


# --- Gaussian -------------------------------------------------------------------------------------------------------
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
            x = _resample_axis(x, axis, x.shape[axis], s, truncate)
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
            x = _resample_axis(x, axis, n, 0.5 * math.sqrt(max(0.0, factor**2 - 1)), 4.0)
    return x


def _resample_axis(x: Tensor, axis: int, length: int, sigma: float, truncate: float) -> Tensor:
    """``matrix @ x`` along one axis; a long axis goes in blocks of rows that read only their part of the band."""
    columns, weights = _band(x.shape[axis], length, sigma, truncate)
    pieces = []
    for start in range(0, length, _BLOCK):
        index, weight = columns[start : start + _BLOCK], weights[start : start + _BLOCK]
        low, high = int(index.min()), int(index.max()) + 1
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
    """Row i of the resampling matrix: (length, taps) input voxels and their weights, float64.

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
    columns = base.long()[:, None] + torch.arange(-radius, radius + 2)
    columns = columns.remainder(2 * n)
    return torch.minimum(columns, 2 * n - 1 - columns), weights


# --- derivatives ----------------------------------------------------------------------------------------------------
def gradient(x: Tensor, spacing: Sequence[float]) -> Tensor:
    """Derivatives along the voxel axes: central differences inside, one-sided ones at the border.

    Parameters
    ----------
    x
        (B, C, *S) tensor.
    spacing
        D distances between voxel centres, mm.

    Returns
    -------
    (B, C*D, *S) per mm; channel ``c*D + d`` is the derivative of channel c along axis d. One-voxel axes give zeros.
    """
    d = x.ndim - 2
    steps = _checked_spacing(spacing, d)
    parts = [_difference(x, axis + 2) / steps[axis] for axis in range(d)]
    return torch.stack(parts, dim=2).reshape(x.shape[0], x.shape[1] * d, *x.shape[2:])


def gradient_magnitude(x: Tensor, spacing: Sequence[float]) -> Tensor:
    """(B, C, *S) length of the :func:`gradient` of every channel, per mm; for axes at right angles."""
    steps = _checked_spacing(spacing, x.ndim - 2)
    total = torch.zeros_like(x)
    for axis, step in enumerate(steps, start=2):
        total = total + (_difference(x, axis) / step).square()
    return total.clamp_min(torch.finfo(x.dtype).tiny).sqrt()  # the clamp: a finite derivative where the image is flat


def _difference(x: Tensor, axis: int) -> Tensor:
    n = x.shape[axis]
    if n == 1:
        return torch.zeros_like(x)
    first = x.narrow(axis, 1, 1) - x.narrow(axis, 0, 1)
    if n == 2:
        return torch.cat([first, first], dim=axis)
    inside = (x.narrow(axis, 2, n - 2) - x.narrow(axis, 0, n - 2)) / 2
    return torch.cat([first, inside, x.narrow(axis, n - 1, 1) - x.narrow(axis, n - 2, 1)], dim=axis)


def _checked_spacing(spacing: Sequence[float], d: int) -> tuple[float, ...]:
    steps = tuple(float(s) for s in spacing)
    if len(steps) != d or not all(0 < s < math.inf for s in steps):
        raise ValueError(f"expected {d} positive spacings in mm, got {steps}")
    return steps


# --- images ---------------------------------------------------------------------------------------------------------
def downsample(image: Image, shape: Sequence[int]) -> Image:
    """The image on ``image.space.resized(shape)`` by :func:`resample`; any factor, the field of view is kept.

    A mask goes the same way and is True where more than half remains.
    """
    shape = tuple(int(n) for n in shape)
    if shape == image.space.shape:
        return image
    mask = image.mask
    if mask is not None:
        mask = resample(mask.to(image.data.dtype), shape) > 0.5
    return replace(image, data=resample(image.data, shape), space=image.space.resized(shape), mask=mask)


def pyramid(image: Image, spacings: Sequence[float]) -> list[Image]:
    """The image at several resolutions, coarse to fine.

    Parameters
    ----------
    image
        The finest level available.
    spacings
        Wanted voxel sizes, mm, in any order. An axis that is coarser already is left alone (``Space.with_spacing``).

    Returns
    -------
    One image per spacing, largest spacing first; every level is filtered from ``image`` itself, so nothing accumulates.
    """
    if not spacings or not all(0 < s < math.inf for s in spacings):
        raise ValueError(f"expected one or more positive spacings in mm, got {list(spacings)}")
    return [downsample(image, image.space.with_spacing(s).shape) for s in sorted(spacings, reverse=True)]
