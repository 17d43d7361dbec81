"""Means, variances and correlation in a window about every voxel, in pieces that stay in the cache of a CPU.

Sums are taken of intensities less the middle of their range, and by additions alone, which keeps float32 accurate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..compiled.blocks import at_once, groups
from ..filters.box import window_sums
from ._slabs import Slab, part_of, slabs
from .base import total

_CHUNK = 1 << 20  # voxels of a piece on the CPU


@dataclass(frozen=True, eq=False)
class Side:
    """One side of a comparison.

    Parameters
    ----------
    data
        (B, C, *S) intensities.
    shift
        (B, C, 1, ...) the middle of their range inside the mask; subtracted before anything is summed.
    floor
        (B, C, 1, ...) added to every variance.
    """

    data: Tensor
    shift: Tensor
    floor: Tensor

    def part(self, items: slice, channels: slice) -> Side:
        """Some items and channels; a side of one item serves all."""
        return Side(*(part_of(values, items)[:, channels] for values in (self.data, self.shift, self.floor)))


@dataclass(frozen=True, eq=False)
class Statistics:
    """What windows know of one side alone: (B, C, *S) mean (less the shift) and variance (with the floor).

    ``weight`` is the (B, 1, *S) mask they were made with, or None.
    """

    side: Side
    weight: Tensor | None
    mean: Tensor
    variance: Tensor

    def part(self, items: slice, channels: slice) -> Statistics:
        """Some items and channels."""
        mean, variance = (part_of(values, items)[:, channels] for values in (self.mean, self.variance))
        weight = None if self.weight is None else part_of(self.weight, items)
        return Statistics(self.side.part(items, channels), weight, mean, variance)


def side(data: Tensor, weight: Tensor | None, floor: float) -> Side:
    """(B, C, *S) images with their shifts and floors, no lower than what rounding leaves of a variance."""
    data = data.detach()
    axes = tuple(range(2, data.ndim))
    inside = torch.ones((), dtype=torch.bool, device=data.device) if weight is None else weight > 0
    low = (data if weight is None else torch.where(inside, data, torch.inf)).amin(dim=axes, keepdim=True)
    high = (data if weight is None else torch.where(inside, data, -torch.inf)).amax(dim=axes, keepdim=True)
    half = torch.where(high >= low, (high - low) / 2, 0)
    rounding = 32 * torch.finfo(data.dtype).eps * half.square()
    return Side(data, torch.where(high >= low, low + half, 0), rounding.clamp_min(floor))


def statistics(image: Side, weight: Tensor | None, radius: Sequence[int]) -> Statistics:
    """Mean and variance of every image in every window."""
    mean, variance = (torch.empty_like(image.data, memory_format=torch.contiguous_format) for _ in range(2))
    for items, channels in groups(image.data, at_once(image.data, _CHUNK)):
        piece, mask = image.part(items, channels), None if weight is None else part_of(weight, items)
        for slab in slabs(piece.data, _rows(piece.data, radius), 0, radius[0]):
            own = _weight_of(mask, slab.voxels)
            y = piece.data[:, :, slab.voxels] - piece.shift
            first, second, _ = _means([(y, None), (y, y)], own, slab, radius)
            mean[items, channels, slab.windows] = first
            variance[items, channels, slab.windows] = _variance(first, second, piece)
    return Statistics(image, weight, mean, variance)


def correlate(
    x: Side, y: Side, weight: Tensor | None, radius: Sequence[int], kept: Statistics | None, grad: Tensor | None
) -> Tensor:
    """Sums of the squared local correlation over all windows, each weighted by the mask at its centre.

    Parameters
    ----------
    x, y
        The two sides; ``y`` has B items or one.
    weight
        (B, 1, *S) masks or weights, or None.
    radius
        D window radii in voxels.
    kept
        Statistics of ``y``, used where their mask is that of this call.
    grad
        (B, C, *S) tensor that receives the derivative to ``x.data``, or None.

    Returns
    -------
    (B,) sums over windows and channels, float64.
    """
    summed = torch.zeros(len(x.data), dtype=torch.float64, device=x.data.device)
    for items, channels in groups(x.data, at_once(x.data, _CHUNK)):
        pair = x.part(items, channels), y.part(items, channels)
        known = None if kept is None else kept.part(items, channels)
        mask = None if weight is None else part_of(weight, items)
        out = None if grad is None else grad[items, channels]
        for slab in slabs(pair[0].data, _rows(pair[0].data, radius), 0 if out is None else radius[0], radius[0]):
            own = _weight_of(mask, slab.voxels)
            if own is None or bool(own.any()):
                summed[items] += _correlate_slab(pair, own, slab, radius, known, out)
    return summed


def _correlate_slab(
    pair: tuple[Side, Side],
    own: Tensor | None,
    slab: Slab,
    radius: Sequence[int],
    kept: Statistics | None,
    grad: Tensor | None,
) -> Tensor:
    """(B,) sums over the slab's own rows; the derivative there is written to ``grad``."""
    seen = _look(*pair, own, slab, radius, kept)
    ratio = seen.cov / seen.var_x.mul(seen.var_y)
    if own is not None:
        ratio.mul_(own[:, :, slab.inner])
    summed = total(torch.mul(ratio, seen.cov)[:, :, slab.rows].flatten(1))
    if grad is not None:
        out = grad[:, :, slab.own]
        _derivative(seen, ratio, slab, radius, out)
        if own is not None:
            out.mul_(own[:, :, slab.core])
    return summed


def _rows(data: Tensor, radius: Sequence[int]) -> int:
    """Of a slab of (B, C, *S) data: windows reach beyond its ends, so that thin ones would cost more than they save."""
    return max(4 * radius[0], at_once(data, _CHUNK) * data.shape[2] // data.numel(), 1)


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


def _look(x: Side, y: Side, own: Tensor | None, slab: Slab, radius: Sequence[int], kept: Statistics | None) -> _Seen:
    """Moments of both images in every window of a slab; those of ``y`` come from ``kept`` if its mask is the same."""
    a, b = x.data[:, :, slab.voxels] - x.shift, y.data[:, :, slab.voxels] - y.shift
    products: list[tuple[Tensor, Tensor | None]] = [(a, None), (a, a), (a, b)]
    if kept is not None and _same(own, _weight_of(kept.weight, slab.voxels)):
        mean_x, square_x, cov, inverse = _means(products, own, slab, radius)
        mean_y, var_y = kept.mean[:, :, slab.windows], kept.variance[:, :, slab.windows]
    else:
        products += [(b, None), (b, b)]
        mean_x, square_x, cov, mean_y, square_y, inverse = _means(products, own, slab, radius)
        var_y = _variance(mean_y, square_y, y)
    cov.addcmul_(mean_x, mean_y, value=-1)
    return _Seen(a, b, mean_x, _variance(mean_x, square_x, x), mean_y, var_y, cov, inverse)


def _derivative(seen: _Seen, ratio: Tensor, slab: Slab, radius: Sequence[int], out: Tensor) -> None:
    """Write the derivative of the sum of cc to the slab's own rows of x, unweighted; destroys ``seen`` and ``ratio``.

    d cc / d x = 2 cov / (N var_x var_y) ((y - mean_y) - cov / var_x (x - mean_x)), over all windows that hold x.
    """
    to_y = ratio.mul_(2).mul_(seen.inverse)
    to_x = seen.cov.mul_(to_y).div_(seen.var_x)
    rest = seen.mean_x.mul_(to_x).addcmul_(seen.mean_y, to_y, value=-1)
    out.copy_(window_sums(rest, radius)[:, :, slab.rows])
    out.addcmul_(window_sums(to_y, radius)[:, :, slab.rows], seen.b[:, :, slab.core])
    out.addcmul_(window_sums(to_x, radius)[:, :, slab.rows], seen.a[:, :, slab.core], value=-1)


def _means(
    products: Sequence[tuple[Tensor, Tensor | None]], own: Tensor | None, slab: Slab, radius: Sequence[int]
) -> tuple[Tensor, ...]:
    """Weighted means of products over the windows of a slab, and 1 / the sum of weights there (0 where that is 0)."""
    if own is None:
        inverse = _inverse_counts(products[0][0], slab, radius)
    else:
        weights = window_sums(own, radius)[:, :, slab.inner]
        inverse = torch.where(weights > 0, 1 / weights, 0)
    means = []
    for factors in products:  # one after the other: the scratch memory of the sums is used again and stays in the cache
        values = [factor for factor in (own, *factors) if factor is not None]
        product = values[0] if len(values) == 1 else values[0] * values[1]
        for factor in values[2:]:
            product.mul_(factor)
        means.append(window_sums(product, radius)[:, :, slab.inner] * inverse)
    return (*means, inverse)


def _inverse_counts(like: Tensor, slab: Slab, radius: Sequence[int]) -> Tensor:
    """1 / the number of voxels in every window of a slab, where the border cuts windows."""
    result = like.new_ones(())
    for axis, (n, r) in enumerate(zip(like.shape[2:], radius, strict=True)):
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
    part = weight[:, :, voxels]
    return None if bool((part == 1).all()) else part


def _same(first: Tensor | None, second: Tensor | None) -> bool:
    if first is None or second is None:
        return first is second
    return bool((first == second).all())
