"""From a coarse grid to a fine one by interpolating splines, one small matrix per axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..compiled.products import turned_product
from ..space import Space


def spline_matrix(positions: Tensor, count: int, degree: int = 3) -> Tensor:
    """(M, N) float64 matrix from values at nodes 0 ... N-1 to their interpolating spline at M positions.

    Ends are not-a-knot, so polynomials of the degree pass exactly, also a little beyond the nodes; with too few nodes
    the degree is lowered. ``N = count``.
    """
    if count == 1:
        return torch.ones(len(positions), 1, dtype=torch.float64)
    from scipy.interpolate import make_interp_spline

    spline = make_interp_spline(range(count), torch.eye(count, dtype=torch.float64).numpy(), k=min(degree, count - 1))
    return torch.from_numpy(spline(positions.to(torch.float64).cpu().numpy()))


def along_axes(values: Tensor, matrices: Sequence[Tensor | None]) -> Tensor:
    """Multiply the last D axes of a tensor by their (S_k, N_k) matrices; None leaves an axis as it is."""
    return _products(values, matrices, values.ndim - len(matrices))


def along_axes_of_points(values: Tensor, matrices: Sequence[Tensor | None]) -> Tensor:
    """The same for the layout (..., *N, C), whose last axis is left alone."""
    return _products(values, matrices, values.ndim - 1 - len(matrices))


def _products(values: Tensor, matrices: Sequence[Tensor | None], first: int) -> Tensor:
    """Multiply axes ``first``, ``first + 1``, ... by their matrices.

    Each product is one large matrix product that also turns the next axis to the front, as its derivative turns it
    back; the axes behind the last one end in front of the first in memory.
    """
    last = first + len(matrices)
    before, sizes, after = values.shape[:first], values.shape[first:last], values.shape[last:]
    turned = values.reshape(math.prod(before), math.prod(sizes), math.prod(after)).transpose(0, 1)
    turned = turned.reshape(*sizes, -1)
    for matrix in matrices:
        flat = turned.reshape(turned.shape[0], -1)
        moved = flat.T if matrix is None else turned_product(flat, matrix.to(values))
        turned = moved.reshape(*turned.shape[1:], -1)
    done = turned.shape[1:]
    return turned.reshape(math.prod(before), math.prod(after), -1).transpose(1, 2).reshape(*before, *done, *after)


class Upsampler:
    """Cubic spline interpolation from the voxels of one grid to those of a parallel one; linear and differentiable.

    Make it once and use it at every step.

    Parameters
    ----------
    coarse, fine
        Grids whose axes run along the same lines; their edges need not agree. Voxels of ``fine`` beyond the outermost
        voxel centres of ``coarse`` are extrapolated by the cubic there, which is meant for half a coarse voxel.

    Raises
    ------
    ValueError
        If the grids differ in dimension or their axes are not parallel.
    """

    def __init__(self, coarse: Space, fine: Space) -> None:
        if coarse.ndim != fine.ndim:
            raise ValueError(f"cannot interpolate from a {coarse.ndim}-D grid to a {fine.ndim}-D one")
        d = coarse.ndim
        to_coarse = torch.linalg.inv(coarse.affine) @ fine.affine
        diagonal = torch.diagonal(to_coarse[:d, :d])
        if bool(((to_coarse[:d, :d] - torch.diag(diagonal)).abs() > 1e-4 * diagonal.abs().min()).any()):
            raise ValueError(
                f"the axes of the coarse grid ({coarse.describe()}) and of the fine one ({fine.describe()}) "
                "are not parallel: make the coarse grid from the fine one, as by fine.resized(...)"
            )
        self.coarse, self.fine = coarse, fine
        self._made: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        self.matrices = [
            spline_matrix(diagonal[k] * torch.arange(n, dtype=torch.float64) + to_coarse[k, d], coarse.shape[k])
            for k, n in enumerate(fine.shape)
        ]

    def __call__(self, values: Tensor) -> Tensor:
        """(B, C, *coarse.shape) -> (B, C, *fine.shape), the layout of images."""
        return along_axes(self._checked(values, 2), self._like(values))

    def points(self, values: Tensor) -> Tensor:
        """(B, *coarse.shape, C) -> (B, *fine.shape, C), the layout of points and of sampling grids."""
        return along_axes_of_points(self._checked(values, 1), self._like(values))

    def _checked(self, values: Tensor, first: int) -> Tensor:
        d = self.coarse.ndim
        if values.ndim != d + 2 or tuple(values.shape[first : first + d]) != self.coarse.shape:
            raise ValueError(f"values on the coarse grid {self.coarse.shape} expected, got {tuple(values.shape)}")
        return values

    def _like(self, values: Tensor) -> list[Tensor]:
        """The matrices in the dtype and on the device of values, kept for the next ones alike."""
        kind = values.dtype, values.device
        if kind not in self._made:
            self._made[kind] = [m.to(values) for m in self.matrices]
        return self._made[kind]


def upsample_cubic(values: Tensor, coarse: Space, fine: Space) -> Tensor:
    """(B, C, *coarse.shape) values -> (B, C, *fine.shape); see :class:`Upsampler`, which to keep for repeated use."""
    return Upsampler(coarse, fine)(values)
