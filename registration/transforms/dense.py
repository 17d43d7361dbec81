"""A thin-plate spline at every voxel, without visiting every pair of voxel and control point.

The kernel is split, as in an Ewald sum, into a compact part around each control point and a smooth rest. The rest is
evaluated exactly on a coarse lattice and interpolated by quintic splines, one matrix product per axis; the compact part
is added voxel by voxel. What the interpolation leaves is measured against the float64 formula, and the compact part is
widened until it suffices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..space import Space
from .near import AddPatches, Patches
from .system import Knots
from .tps import ThinPlateSpline
from .upsample import along_axes_of_points, spline_matrix

_CONSTANTS = ((3, 1.2e-3), (4, 4e-4), (5, 1.6e-4), (6, 8e-5), (8, 3e-5), (12, 1e-5))
"""Radius of the compact part in steps of the coarse lattice, and the error in kernels of one step (measured)."""

_PAIRS = 1 << 25
"""Pairs of voxel and control point up to which all are visited: a tenth of a second."""

_PROBES = 4096


@dataclass(frozen=True)
class Coarse:
    """A coarse lattice over a grid: ``shape`` nodes, ``affine`` node index -> mm.

    ``matrices`` holds the (S_k, N_k) interpolation along each axis, None where the nodes are the voxels.
    """

    shape: tuple[int, ...]
    affine: Tensor
    matrices: tuple[Tensor | None, ...]

    @staticmethod
    def over(space: Space, step: float) -> Coarse:
        """A lattice of about ``step`` mm that reaches a little beyond the border."""
        shape: list[int] = []
        matrices: list[Tensor | None] = []
        to_voxel = torch.eye(space.ndim + 1, dtype=torch.float64)
        for axis, (n, spacing) in enumerate(zip(space.shape, space.spacing.tolist(), strict=True)):
            stride = step / spacing
            count = math.ceil((n - 1) / stride) + 3
            if stride <= 1 or count >= n or count < 6:
                shape.append(n)
                matrices.append(None)
                continue
            start = (n - 1) / 2 - stride * (count - 1) / 2
            to_voxel[axis, axis], to_voxel[axis, -1] = stride, start
            shape.append(count)
            matrices.append(spline_matrix((torch.arange(n, dtype=torch.float64) - start) / stride, count, 5))
        return Coarse(tuple(shape), space.affine @ to_voxel, tuple(matrices))

    def points(self, device: torch.device) -> Tensor:
        """(N, D) nodes in mm, float64."""
        return Space(self.shape, self.affine).points(torch.zeros(0, dtype=torch.float64, device=device)).flatten(0, -2)


def dense(
    spline: ThinPlateSpline, space: Space, like: Tensor | None = None, tolerance: float | None = None
) -> tuple[Tensor, float]:
    """The images of all voxels of a grid, and how far they are from the float64 formula.

    Parameters
    ----------
    spline
        One spline or a batch of B; differentiable to its targets.
    space
        The fixed grid; anisotropic, oblique and one-voxel axes included.
    like
        Gives dtype and device (float32 on the CPU without).
    tolerance
        Error that is accepted, mm; 0.003 of the smallest voxel spacing by default.

    Returns
    -------
    (*S, D) or (B, *S, D) points in moving RAS mm, and the largest error in mm found at some ten thousand probes: voxels
    drawn at random, and voxels around control points, most of them where the weights, and so the errors, are largest.
    Exact on small grids, and where no coarse lattice suffices.
    """
    like = torch.zeros(0, dtype=torch.float32) if like is None else like
    tolerance = 3e-3 * float(space.spacing.min()) if tolerance is None else tolerance
    if _exact_is_cheap(spline.system, space):
        # Cheaper than the probes would be, and wrong by the rounding to the wanted type alone.
        result = _everywhere(spline, space, like)
        error = 2 * torch.finfo(result.dtype).eps * float(result.detach().abs().max())
        return (result if spline.batched else result[0]), error
    index = _probes(spline, space)
    exact = _exact_at(spline, space, index)
    for reach in _reaches(spline, space, tolerance):
        result = evaluate(spline, space, like, reach)
        error = _largest(result.detach(), index, exact)
        if error <= tolerance:
            break
    else:
        result = _everywhere(spline, space, like)
        error = _largest(result.detach(), index, exact)
    return (result if spline.batched else result[0]), error


def evaluate(spline: ThinPlateSpline, space: Space, like: Tensor, reach: float) -> Tensor:
    """(B, *S, D) images of all voxels in mm, B = 1 for a lone spline; ``reach``: radius of the compact parts, steps."""
    system, step = spline.system, _step(space, reach)
    coarse = Coarse.over(space, step)
    weights = spline.coefficients[..., : system.size, :].to(like.device)
    weights = weights if spline.batched else weights[None]
    nodes = coarse.points(like.device)
    values = spline(nodes[None] if spline.batched else nodes)
    values = values.reshape(weights.shape[0], *coarse.shape, space.ndim)
    if all(m is None for m in coarse.matrices):
        return values.to(like.dtype)
    near = Patches(system, coarse.affine, coarse.shape, reach * step)
    values = AddPatches.apply(values, weights, near, -1.0)
    field = along_axes_of_points(values.to(like.dtype), coarse.matrices)
    return AddPatches.apply(field, weights, Patches(system, space.affine, space.shape, reach * step), 1.0)


def _step(space: Space, reach: float) -> float:
    """Step of the coarse lattice, mm, that costs least: the time at its nodes equals that in the compact parts.

    A pair of node and control point costs about an eighth of an entry of a compact part, which few threads share.
    """
    d = space.ndim
    voxel = float(space.affine[:d, :d].det().abs()) ** (1 / d)
    return voxel * (math.prod(space.shape) / 8 / (2 * reach) ** d) ** (1 / (2 * d))


def _everywhere(spline: ThinPlateSpline, space: Space, like: Tensor) -> Tensor:
    """(B, *S, D) images of all voxels in mm by the formula itself, B = 1 for a lone spline."""
    points = space.points(like)[None]
    return spline(points) if spline.batched else spline(points[0])[None]


def _reaches(spline: ThinPlateSpline, space: Space, tolerance: float) -> list[float]:
    """Reaches to try, from the first that should do: the error is about a constant times the kernel of one step."""
    weights = spline.coefficients.detach()[..., : spline.system.size, :]
    largest = float(weights.norm(dim=-1).max())
    promising: list[float] = []
    for reach, constant in _CONSTANTS:
        size = (_step(space, reach) / spline.system.scale) ** (4 - space.ndim)
        if constant * size * largest <= tolerance or promising:
            promising.append(reach)
    return promising or [_CONSTANTS[-1][0]]


def _exact_is_cheap(system: Knots, space: Space) -> bool:
    """Whether every pair may be visited; points that carry a gradient leave no other way."""
    return system.points.requires_grad or math.prod(space.shape) * system.size <= _PAIRS


def _probes(spline: ThinPlateSpline, space: Space) -> Tensor:
    """(N, D) voxel indices: at random over the grid, and around control points. Always the same for the same input."""
    system = spline.system
    generator = torch.Generator().manual_seed(0)
    limit = torch.tensor(space.shape)
    anywhere = (torch.rand(_PROBES, space.ndim, generator=generator, dtype=torch.float32) * limit).long()
    inverse = torch.linalg.inv(space.affine)
    place = system.points.detach().cpu() @ inverse[:-1, :-1].T + inverse[:-1, -1]
    weights = spline.coefficients.detach()[..., : system.size, :].square().sum(dim=-1).cpu()
    weights = weights if weights.ndim == 1 else weights.sum(dim=0)
    chosen = torch.multinomial(weights + 1e-30, _PROBES, replacement=True, generator=generator)
    away = torch.randn(_PROBES, space.ndim, generator=generator, dtype=torch.float32)
    around = place[chosen] + away * 2 * _step(space, 4) / space.spacing
    nearest = torch.cat([place[:_PROBES], around]).round().long()
    return torch.cat([anywhere, torch.minimum(nearest.clamp(min=0), limit - 1)])


def _exact_at(spline: ThinPlateSpline, space: Space, index: Tensor) -> Tensor:
    """(B, N, D) float64 images of voxels, B = 1 for a lone spline."""
    d = space.ndim
    points = (index.to(torch.float64) @ space.affine[:d, :d].T + space.affine[:d, d]).to(spline.system.points.device)
    with torch.no_grad():
        return spline(points[None]) if spline.batched else spline(points)[None]


def _largest(result: Tensor, index: Tensor, exact: Tensor) -> float:
    """Largest distance in mm of (B, *S, D) points to the exact ones at the probes."""
    found = result[(slice(None), *index.to(result.device).T)]
    return float((found.to(exact) - exact).norm(dim=-1).max())
