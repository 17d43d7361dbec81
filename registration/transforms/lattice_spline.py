"""Thin-plate splines with their knots on a regular lattice, thousands of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..compiled.knots import held
from ..space import Space
from .local_spline import LocalSpline, worth
from .near import AddPatches, Patches
from .polyharmonic import STENCIL, LatticeBasis, bilaplacian, metric_of
from .system import Knots
from .tps import ThinPlateSpline
from .upsample import along_axes_of_points, spline_matrix

_TRIALS = ((3, 3), (4, 4), (4, 8))
"""Nodes per step of the lattice, and the radius of the kernels' compact parts in steps between nodes."""

_BEYOND = 3
"""Steps beyond the lattice in which a spline is interpolated; further out it moves nothing by 2e-4 of a coefficient."""

_PROBES = 2048
_PART = 1 << 20  # points at a time


class LatticeSpline(ThinPlateSpline):
    """``x -> x + sum_j c_j B(x - q_j)``: a thin-plate spline, B the polyharmonic B-spline of a lattice of points q_j.

    B is a sum of the kernels of :class:`ThinPlateSpline` at the knots around q_j (see
    :mod:`~registration.transforms.polyharmonic`), so this is one with the identity as its affine part, but with no
    system to solve. It stands still far from the lattice.

    Parameters
    ----------
    moves
        (D, *M) coefficients c_j, RAS mm; they are near the displacements at q_j where those vary slowly.
    lattice
        Its voxel centres are the points q_j, ``lattice.shape == M``, fixed RAS mm.

    Raises
    ------
    ValueError
        If the shapes do not agree or a coefficient is not finite.
    """

    def __init__(self, moves: Tensor, lattice: Space) -> None:
        d = lattice.ndim
        if tuple(moves.shape) != (d, *lattice.shape):
            raise ValueError(f"coefficients of shape {(d, *lattice.shape)} expected, got {tuple(moves.shape)}")
        if not bool(torch.isfinite(moves).all()):
            raise ValueError("coefficients hold NaN or infinite numbers")
        self.moves, self.lattice = moves.to(torch.float64), lattice
        step, metric = metric_of(lattice)
        wide = torch.nn.functional.pad(self.moves, [2 * STENCIL] * (2 * d))
        weights = bilaplacian(wide, metric) / (8 * math.pi)
        knots = lattice.cropped([-STENCIL] * d, [n + 2 * STENCIL for n in lattice.shape])
        used = (weights != 0).any(dim=0) | self.moves.requires_grad  # what is zero may have a derivative
        used[(slice(0, 2),) * d] = True  # a spline that moves nothing has knots, too
        points = knots.points(torch.zeros(0, dtype=torch.float64))[used.cpu()].to(moves.device)
        self.system = Knots(points, lattice.centre.to(points), step)
        flat = weights[:, used].T
        self.coefficients = torch.cat([flat, flat.new_zeros(d + 1, d)])
        self._smoothing = 0.0
        self._weights = weights
        self._local: LocalSpline | None = None
        self._smooth: dict[tuple[object, ...], Tensor] = {}

    @property
    def targets(self) -> Tensor:
        """(K, D) where the knots go, moving RAS mm; looked up anew every time."""
        with torch.no_grad():
            return super().__call__(self.points)

    def __call__(self, points: Tensor) -> Tensor:
        """As :meth:`ThinPlateSpline.__call__`; with many knots, and without a gradient, by a :class:`LocalSpline`.

        That is within 1e-4 of the largest coefficient.
        """
        local = self._quick(points)
        if local is None:
            return super().__call__(points)
        flat = points.reshape(-1, self.ndim)
        moved = torch.empty_like(flat)
        for part, out in zip(flat.split(_PART), moved.split(_PART), strict=True):
            torch.add(part, local(part).to(part), out=out)
        return moved.reshape(points.shape)

    def jacobian(self, points: Tensor) -> Tensor:
        local = self._quick(points)
        if local is None:
            return super().jacobian(points)
        slopes = local.slopes(points.reshape(-1, self.ndim)).to(points)
        slopes += torch.eye(self.ndim).to(slopes)
        return slopes.reshape(*points.shape, self.ndim)

    def _quick(self, points: Tensor) -> LocalSpline | None:
        """What reads points faster than the sum over all knots; None where that sum is wanted."""
        tracked = torch.is_grad_enabled() and (points.requires_grad or self.moves.requires_grad)
        on_cpu = points.device.type == "cpu" and self.moves.device.type == "cpu"
        if tracked or not on_cpu or not held(points) or not worth(self.system.size):
            return None
        if self._local is None:
            with torch.no_grad():
                flat = self.coefficients[: self.system.size]
                self._local = LocalSpline(self.moves, self.lattice, self._weights, self.system, flat)
        return self._local

    def on_grid(self, space: Space, like: Tensor | None = None) -> Tensor:
        """As :meth:`Transform.on_grid`, within 0.003 of the smallest voxel spacing.

        If the axes of the grid are parallel to those of the lattice, the spline is convolved on a refined lattice and
        interpolated, all but the compact parts of its kernels, which are added voxel by voxel (as in
        :mod:`~registration.transforms.dense`); what that loses is measured at some thousands of voxels.
        """
        like = torch.zeros(0, dtype=torch.float32) if like is None else like
        to_lattice = torch.linalg.inv(self.lattice.affine) @ space.affine
        d = space.ndim
        diagonal = torch.diagonal(to_lattice[:d, :d])
        across = (to_lattice[:d, :d] - torch.diag(diagonal)).abs() * torch.tensor(space.shape)
        if math.prod(space.shape) <= 4 * _PROBES or bool((across > 1e-4).any()):
            points = space.points(like)
            return super().on_grid(space, like) if self._quick(points) is None else self(points)
        index = self._probes(space)
        with torch.no_grad():
            exact = super().__call__(index.to(space.affine) @ space.affine[:d, :d].T + space.affine[:d, d])
        for refine, reach in _TRIALS:
            found = self._interpolated(space, to_lattice, refine, reach, like)
            error = (found[tuple(index.T)].double().to(exact) - exact).norm(dim=-1).max()
            if float(error) <= 3e-3 * float(space.spacing.min()):
                return found
        return super().on_grid(space, like)

    def bending_energy(self) -> Tensor:
        d = self.ndim
        step, metric = metric_of(self.lattice)
        wide = torch.nn.functional.pad(self.moves, [2 * STENCIL] * (2 * d))
        values = LatticeBasis(self.lattice, 1, STENCIL, self.moves)(self.moves)
        return step ** (d - 4) * (bilaplacian(wide, metric) * values).sum()

    def _interpolated(self, space: Space, to_lattice: Tensor, refine: int, reach: int, like: Tensor) -> Tensor:
        """(*S, D) images of all voxels of a grid whose axes are parallel to those of the lattice, in mm."""
        d = space.ndim
        basis = LatticeBasis(self.lattice, refine, _BEYOND, like)
        steps, starts = torch.diagonal(to_lattice)[:d].tolist(), to_lattice[:d, d].tolist()
        lines = zip(space.shape, basis.space.shape, steps, starts, strict=True)
        matrices = [_matrix(n, m, step * refine, (at + _BEYOND) * refine) for n, m, step, at in lines]
        weights = self.coefficients[None, : self.system.size].to(like.device)
        radius = reach * self.system.scale / refine
        key = (refine, reach, like.dtype, like.device)
        if key not in self._smooth or self.moves.requires_grad:
            near = Patches(self.system, basis.space.affine, basis.space.shape, radius)
            nodes = basis(self.moves.to(like)).movedim(0, -1)[None].contiguous()
            self._smooth = {key: AddPatches.apply(nodes, weights, near, -1.0)}  # the next grid needs it again
        field = along_axes_of_points(self._smooth[key], matrices).contiguous()
        field = AddPatches.apply(field, weights, Patches(self.system, space.affine, space.shape, radius), 1.0)
        return field[0].add_(space.points(like))

    def _probes(self, space: Space) -> Tensor:
        """(N, D) voxel indices: at random over the grid, and next to the knots of the largest weights."""
        d = space.ndim
        generator = torch.Generator().manual_seed(0)
        limit = torch.tensor(space.shape)
        anywhere = (torch.rand(_PROBES, d, generator=generator, dtype=torch.float32) * limit).long()
        size = self.coefficients[: self.system.size].norm(dim=1)
        largest = self.system.points[size.topk(min(_PROBES, self.system.size)).indices].cpu()
        inverse = torch.linalg.inv(space.affine)
        near = (largest @ inverse[:d, :d].T + inverse[:d, d]).round().long()
        return torch.cat([anywhere, torch.minimum(near.clamp(min=0), limit - 1)])


def _matrix(count: int, nodes: int, step: float, start: float) -> Tensor:
    """(count, nodes) quintic interpolation at voxels ``start + k step``, in nodes; zero beyond the nodes."""
    positions = start + step * torch.arange(count, dtype=torch.float64)
    inside = (positions >= 0) & (positions <= nodes - 1)
    matrix = torch.zeros(count, nodes, dtype=torch.float64)
    matrix[inside] = spline_matrix(positions[inside], nodes, 5)
    return matrix
