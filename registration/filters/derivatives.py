"""Derivatives of images along their voxel axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


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
