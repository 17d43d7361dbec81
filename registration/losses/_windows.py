"""Means, variances and correlation in a window about every voxel, in slabs that stay in the cache.

Sums are taken of intensities less the middle of their range, and by additions alone, which keeps float32 accurate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..filters.box import window_sums
from .base import total

_CHUNK = 1 << 20  # voxels of a slab on the CPU


@dataclass(frozen=True, eq=False)
class Side:
    """One of two images that are compared.

    Parameters
    ----------
    data
        (*S) intensities.
    shift
        () the middle of their range inside the mask; subtracted before anything is summed.
    floor
        () added to every variance.
    """

    data: Tensor
    shift: Tensor
    floor: Tensor


@dataclass(frozen=True, eq=False)
class Statistics:
    """What windows know of one image alone: (*S) mean (less the shift) and variance (with the floor) about every voxel.

    ``weight`` is the (*S) mask they were made with, or None.
    """

    side: Side
    weight: Tensor | None
    mean: Tensor
    variance: Tensor


def side(data: Tensor, weight: Tensor | None, floor: float) -> Side:
    """An image with its shift and a floor no lower than what rounding leaves of a variance."""
    data = data.detach()
    if weight is None:
        low, high = torch.aminmax(data)
    else:
        inside = weight > 0
        low = torch.where(inside, data, torch.inf).amin()
        high = torch.where(inside, data, -torch.inf).amax()
    half = (high - low) / 2
    rounding = 32 * torch.finfo(data.dtype).eps * half.square()
    return Side(data, low + half, rounding.clamp_min(floor))


def statistics(image: Side, weight: Tensor | None, radius: Sequence[int]) -> Statistics:
    """Mean and variance of an image in every window."""
    mean, variance = torch.empty_like(image.data), torch.empty_like(image.data)
    for slab in _slabs(image.data, radius[0], 0):
        own = _weight_of(weight, slab.voxels)
        y = image.data[slab.voxels] - image.shift
        first, second, _ = _means([(y, None), (y, y)], own, slab, radius)
        mean[slab.windows] = first
        variance[slab.windows] = _variance(first, second, image)
    return Statistics(image, weight, mean, variance)


def correlate(
    x: Side, y: Side, weight: Tensor | None, radius: Sequence[int], kept: Statistics | None, grad: Tensor | None
) -> Tensor:
    """Sum of the squared local correlation over all windows, each weighted by the mask at its centre.

    Parameters
    ----------
    x, y
        The two images.
    weight
        (*S) mask or weights, or None.
    radius
        D window radii in voxels.
    kept
        Statistics of ``y``, used where their mask is that of this call.
    grad
        (*S) tensor that receives the derivative to ``x.data``, or None.

    Returns
    -------
    () the sum, float64.
    """
    summed = torch.zeros((), dtype=torch.float64, device=x.data.device)
    for slab in _slabs(x.data, radius[0], 0 if grad is None else radius[0]):
        own = _weight_of(weight, slab.voxels)
        if own is not None and not bool(own.any()):
            continue
        seen = _look(x, y, own, slab, radius, kept)
        ratio = seen.cov / seen.var_x.mul(seen.var_y)
        if own is not None:
            ratio.mul_(own[slab.inner])
        summed += total(torch.mul(ratio, seen.cov)[slab.rows].flatten())
        if grad is not None:
            out = grad[slab.own]
            _derivative(seen, ratio, slab, radius, out)
            if own is not None:
                out.mul_(own[slab.core])
    return summed


# --- slabs ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Slab:
    """Part of the first axis: its ``own`` rows, the ``windows`` that reach them, the ``voxels`` those windows hold.

    ``rows`` is own within windows, ``core`` own within voxels, ``inner`` windows within voxels.
    """

    own: slice
    windows: slice
    voxels: slice

    @property
    def rows(self) -> slice:
        return _within(self.own, self.windows)

    @property
    def core(self) -> slice:
        return _within(self.own, self.voxels)

    @property
    def inner(self) -> slice:
        return _within(self.windows, self.voxels)


def _within(part: slice, whole: slice) -> slice:
    return slice(part.start - whole.start, part.stop - whole.start)


def _slabs(data: Tensor, radius: int, reach: int) -> Iterator[_Slab]:
    """Cut the first axis of (*S) data; windows are wanted ``reach`` rows beyond each slab."""
    n = data.shape[0]
    rows = max(4 * radius, _CHUNK * n // data.numel(), 1) if data.device.type == "cpu" else n
    for start in range(0, n, rows):
        own = slice(start, min(n, start + rows))
        windows = slice(max(0, own.start - reach), min(n, own.stop + reach))
        yield _Slab(own, windows, slice(max(0, windows.start - radius), min(n, windows.stop + radius)))


# --- sums over windows ----------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Seen:
    """What the windows of a slab see: the intensities ``a``, ``b`` less their shifts, moments, and 1 / count."""

    a: Tensor
    b: Tensor
    mean_x: Tensor
    var_x: Tensor
    mean_y: Tensor
    var_y: Tensor
    cov: Tensor
    inverse: Tensor


def _look(x: Side, y: Side, own: Tensor | None, slab: _Slab, radius: Sequence[int], kept: Statistics | None) -> _Seen:
    """Moments of both images in every window of a slab; those of ``y`` come from ``kept`` if its mask is the same."""
    a, b = x.data[slab.voxels] - x.shift, y.data[slab.voxels] - y.shift
    products: list[tuple[Tensor, Tensor | None]] = [(a, None), (a, a), (a, b)]
    if kept is not None and _same(own, _weight_of(kept.weight, slab.voxels)):
        mean_x, square_x, cov, inverse = _means(products, own, slab, radius)
        mean_y, var_y = kept.mean[slab.windows], kept.variance[slab.windows]
    else:
        products += [(b, None), (b, b)]
        mean_x, square_x, cov, mean_y, square_y, inverse = _means(products, own, slab, radius)
        var_y = _variance(mean_y, square_y, y)
    cov.addcmul_(mean_x, mean_y, value=-1)
    return _Seen(a, b, mean_x, _variance(mean_x, square_x, x), mean_y, var_y, cov, inverse)


def _derivative(seen: _Seen, ratio: Tensor, slab: _Slab, radius: Sequence[int], out: Tensor) -> None:
    """Write the derivative of the sum of cc to the slab's own rows of x, unweighted; destroys ``seen`` and ``ratio``.

    d cc / d x = 2 cov / (N var_x var_y) ((y - mean_y) - cov / var_x (x - mean_x)), over all windows that hold x.
    """
    to_y = ratio.mul_(2).mul_(seen.inverse)
    to_x = seen.cov.mul_(to_y).div_(seen.var_x)
    rest = seen.mean_x.mul_(to_x).addcmul_(seen.mean_y, to_y, value=-1)
    out.copy_(window_sums(rest, radius)[slab.rows])
    out.addcmul_(window_sums(to_y, radius)[slab.rows], seen.b[slab.core])
    out.addcmul_(window_sums(to_x, radius)[slab.rows], seen.a[slab.core], value=-1)


def _means(
    products: Sequence[tuple[Tensor, Tensor | None]], own: Tensor | None, slab: _Slab, radius: Sequence[int]
) -> tuple[Tensor, ...]:
    """Weighted means of products over the windows of a slab, and 1 / the sum of weights there (0 where that is 0)."""
    if own is None:
        inverse = _inverse_counts(products[0][0], slab, radius)
    else:
        weights = window_sums(own, radius)[slab.inner]
        inverse = torch.where(weights > 0, 1 / weights, 0)
    means = []
    for factors in products:  # one after the other: the scratch memory of the sums is used again and stays in the cache
        values = [factor for factor in (*factors, own) if factor is not None]
        product = values[0] if len(values) == 1 else values[0] * values[1]
        for factor in values[2:]:
            product.mul_(factor)
        means.append(window_sums(product, radius)[slab.inner] * inverse)
    return (*means, inverse)


def _inverse_counts(like: Tensor, slab: _Slab, radius: Sequence[int]) -> Tensor:
    """1 / the number of voxels in every window of a slab, where the border cuts windows."""
    result = like.new_ones(())
    for axis, (n, r) in enumerate(zip(like.shape, radius, strict=True)):
        index = torch.arange(n, device=like.device)
        if axis == 0:
            index = index[slab.inner]  # the ends of a slab's voxels cut windows only where they are the border as well
        count = (index + r).clamp(max=n - 1) - (index - r).clamp(min=0) + 1
        result = result[..., None] / count.to(like.dtype)
    return result


def _variance(mean: Tensor, square: Tensor, image: Side) -> Tensor:
    """``square`` less the squared mean, in place, not negative, plus the floor of the image."""
    return square.addcmul_(mean, mean, value=-1).clamp_(min=0).add_(image.floor)


def _weight_of(weight: Tensor | None, voxels: slice) -> Tensor | None:
    """The weights of a slab; None if all are 1, which is the fast case."""
    if weight is None:
        return None
    part = weight[voxels]
    return None if bool((part == 1).all()) else part


def _same(first: Tensor | None, second: Tensor | None) -> bool:
    if first is None or second is None:
        return first is second
    return torch.equal(first, second)
