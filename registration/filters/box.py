"""Sums over rectangular windows, the one filter that is fast enough to be called ten times per iteration."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

_CHUNK = 1 << 20  # elements that a few temporaries may have and still stay in the cache
_SHIFTS = 3  # largest radius at which one addition per shift is faster than doubling


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
    if torch.jit.is_tracing():  # functions with a derivative of their own cannot be recorded
        return window_sums(x, radius)
    return _BoxSum.apply(x, radius)  # type: ignore[no-any-return]


class _BoxSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, radius: tuple[int, ...]) -> Tensor:
        ctx.radius = radius  # type: ignore[attr-defined]
        out = _box(x, radius)
        return out.clone() if out is x else out

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
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
