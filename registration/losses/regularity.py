"""How bent, stretched or folded a displacement field is.

Fields are (B, D, *S) **world displacements in mm** at the voxel centres of a grid: channel d moves along world axis
d. The grid is a :class:`~registration.space.Space`, or its spacing (mm) when its axes lie along the world's.
Derivatives are taken in world coordinates, so oblique and flipped grids need no care. Every function returns numbers
per batch item.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import gradient
from ..space import Space
from .base import masked_mean

Grid = Space | Sequence[float]


def diffusion_energy(displacement: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
    """(B,) mean over voxels of the squared Frobenius norm of du/dx (no unit); 0 for translations.

    Parameters
    ----------
    displacement
        (B, D, *S) mm.
    grid
        Where it is sampled.
    mask
        (B or 1, 1, *S) weights, or None.
    """
    first = _world_gradient(displacement, grid)
    return _mean(first.square().sum(dim=(1, 2)), mask)


def bending_energy(displacement: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
    """(B,) mean over voxels of the sum of squared second derivatives d2u/dx dx', per mm^2; 0 for affine maps.

    The integrand of the thin-plate spline (Rueckert et al. 1999, doi:10.1109/42.796284), by finite differences:
    three-point second differences, zero where the grid ends.

    Parameters
    ----------
    displacement
        (B, D, *S) mm.
    grid
        Where it is sampled.
    mask
        (B or 1, 1, *S) weights, or None.
    """
    d = _dimension(displacement)
    steps, turn = _steps_and_turn(grid, displacement)
    rows = []
    for i in range(d):
        rows.append([_second_difference(displacement, i, j) / (steps[i] * steps[j]) for j in range(i + 1)])
    hessian = torch.stack([torch.stack([rows[max(i, j)][min(i, j)] for j in range(d)], 2) for i in range(d)], 2)
    hessian = torch.einsum("bcij...,ik,jl->bckl...", hessian, turn, turn)
    return _mean(hessian.square().sum(dim=(1, 2, 3)), mask)


def jacobian_determinant(displacement: Tensor, grid: Grid) -> Tensor:
    """(B, *S) determinant of the map ``x -> x + u(x)``: 1 keeps volume, 0 or less is folded.

    Derivatives are central differences inside the grid and one-sided at its border.

    Parameters
    ----------
    displacement
        (B, D, *S) mm.
    grid
        Where it is sampled.
    """
    jacobian = _world_gradient(displacement, grid)
    d = jacobian.shape[1]
    a = [[jacobian[:, i, j] + float(i == j) for j in range(d)] for i in range(d)]
    if d == 2:
        return a[0][0] * a[1][1] - a[0][1] * a[1][0]
    return (
        a[0][0] * (a[1][1] * a[2][2] - a[1][2] * a[2][1])
        - a[0][1] * (a[1][0] * a[2][2] - a[1][2] * a[2][0])
        + a[0][2] * (a[1][0] * a[2][1] - a[1][1] * a[2][0])
    )


def folding_penalty(displacement: Tensor, grid: Grid, mask: Tensor | None = None, margin: float = 0.0) -> Tensor:
    """(B,) mean over voxels of ``max(0, margin - det)``: 0 exactly where no voxel is compressed below ``margin``.

    Parameters
    ----------
    displacement
        (B, D, *S) mm.
    grid
        Where it is sampled.
    mask
        (B or 1, 1, *S) weights, or None.
    margin
        Smallest determinant that costs nothing.
    """
    return _mean((margin - jacobian_determinant(displacement, grid)).clamp_min(0), mask)


def _world_gradient(displacement: Tensor, grid: Grid) -> Tensor:
    """(B, D, D, *S) derivatives: [:, i, j] is du_i / dx_j in the world."""
    d = _dimension(displacement)
    steps, turn = _steps_and_turn(grid, displacement)
    along = gradient(displacement, steps).reshape(displacement.shape[0], d, d, *displacement.shape[2:])
    if bool((turn == torch.eye(d).to(turn)).all()):
        return along
    return torch.einsum("bcv...,vw->bcw...", along, turn)


def _second_difference(x: Tensor, i: int, j: int) -> Tensor:
    """Second difference along voxel axes i and j (per voxel^2), 0 at the border where a neighbour is missing."""
    axes = sorted({i, j})
    if min(x.shape[2 + axis] for axis in axes) < 3:
        return torch.zeros_like(x)

    def shifted(*offsets: int) -> Tensor:
        view = x
        for axis, offset in zip(axes, offsets, strict=True):
            view = view.narrow(2 + axis, 1 + offset, x.shape[2 + axis] - 2)
        return view

    if i == j:
        inner = shifted(1) + shifted(-1) - 2 * shifted(0)
    else:
        inner = (shifted(1, 1) + shifted(-1, -1) - shifted(1, -1) - shifted(-1, 1)) / 4
    last_first = reversed(range(x.ndim - 2))
    return F.pad(inner, [width for axis in last_first for width in (2 * [int(axis in axes)])])


def _steps_and_turn(grid: Grid, like: Tensor) -> tuple[tuple[float, ...], Tensor]:
    """Spacing (mm) along the voxel axes, and the (D, D) matrix that turns derivatives along them into world ones."""
    d = _dimension(like)
    if not isinstance(grid, Space):
        return tuple(float(s) for s in grid), torch.eye(d, dtype=like.dtype, device=like.device)
    if grid.shape != tuple(like.shape[2:]):
        raise ValueError(f"a displacement of shape {tuple(like.shape)} does not fit a grid of {grid.shape}")
    axes = grid.affine[:d, :d] / grid.spacing
    return tuple(grid.spacing.tolist()), torch.linalg.inv(axes).to(like)


def _dimension(displacement: Tensor) -> int:
    d = displacement.ndim - 2
    if d not in (2, 3) or displacement.shape[1] != d:
        raise ValueError(
            f"expected a displacement (B, D, *S) with D = 2 or 3 components, got {tuple(displacement.shape)}"
        )
    return d


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """(B,) weighted mean of (B, *S) values."""
    weight = None if mask is None else mask.to(values.dtype).expand(values.shape[0], 1, *values.shape[1:])
    return masked_mean(values[:, None], weight)
