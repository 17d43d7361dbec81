"""Splines on a lattice at many points anywhere: what is near counts by itself, the rest is interpolated."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .. import compiled
from ..space import Space
from .near import AddPatches, Patches
from .polyharmonic import STENCIL, LatticeBasis, metric_of
from .system import Knots

_REFINE, _REACH = 3, 6
"""Nodes per step of the lattice, and the radius of the kernels' compact parts in steps between nodes."""

_AROUND = 6
"""Steps beyond the lattice that the nodes reach; further out a spline moves nothing by 1e-5 of a coefficient."""

_MANY = 1 << 10
"""Knots from which on it pays to make one."""


class LocalSpline:
    """A spline on a lattice, made ready to be read at points anywhere.

    Smooth as it is but at its knots, a spline less the compact parts of its kernels is interpolated by quintic
    B-splines on a refined lattice; the compact parts of the few knots close by are added to that. A point costs the
    same however many knots there are. Moves are within 1e-4 of the largest coefficient, slopes within 1e-4 of that per
    mm. Runs compiled, on the CPU.

    Parameters
    ----------
    moves
        (D, *M) coefficients, RAS mm.
    lattice
        Where the bumps stand, fixed RAS mm.
    weights
        (D, *M + 4) weights of the kernels at the points of the lattice and two steps around it.
    system
        The knots that have weights other than 0.
    coefficients
        (K, D) their weights.
    """

    def __init__(self, moves: Tensor, lattice: Space, weights: Tensor, system: Knots, coefficients: Tensor) -> None:
        d, like = lattice.ndim, torch.zeros(0, dtype=torch.float32)
        step, metric = metric_of(lattice)
        basis = LatticeBasis(lattice, _REFINE, _AROUND, like)
        reach = _REACH / _REFINE
        near = Patches(system, basis.space.affine, basis.space.shape, reach * system.scale)
        nodes = basis.spread(moves.to(like)).movedim(0, -1)[None].contiguous()
        nodes = AddPatches.apply(nodes, coefficients[None], near, -1.0)[0]
        self.nodes = _solid(_prefiltered(nodes))
        self.knots = _solid(weights.movedim(0, -1).contiguous())
        self.metric = torch.eye(3, dtype=torch.float64)
        self.metric[3 - d :, 3 - d :] = metric * (step / system.scale) ** 2
        self.radius, self.taylor = reach, system.kernel.taylor
        half = reach * system.scale * torch.linalg.inv(lattice.affine)[:d, :d].norm(dim=1)
        self.frame = torch.zeros(4, 3, dtype=torch.float64)
        self.frame[:, 3 - d :] = torch.tensor([_REFINE, _AROUND, STENCIL, 0.0], dtype=torch.float64)[:, None]
        self.frame[3, 3 - d :] = half
        self.into = torch.linalg.inv(lattice.affine)

    def __call__(self, points: Tensor) -> Tensor:
        """(N, D) moves in mm at (N, D) points, fixed RAS mm; float64."""
        return self._read(points, False)[0]

    def slopes(self, points: Tensor) -> Tensor:
        """(N, D, D) derivatives of the moves, the component first; float64."""
        d = points.shape[1]
        return _times(self._read(points, True)[1][..., 3 - d :], self.into[:d, :d])

    def _read(self, points: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
        from ..compiled import local_kernels as kernels

        count, d = points.shape
        places = torch.zeros(count, 3, dtype=torch.float64)
        places[:, 3 - d :] = _times(points.double(), self.into[:d, :d].T) + self.into[:d, d]
        out = torch.empty(count, d, dtype=torch.float64)
        slopes = torch.empty(count if wanted else 0, d, 3, dtype=torch.float64)
        kernel = (self.metric.numpy(), self.radius, d == 2, np.array(self.taylor))
        size = np.array(self.nodes.shape[:3])
        rows = self.nodes.flatten(2)
        compiled.call(kernels.local, places, rows, size, self.frame, self.knots, kernel, out, slopes, wanted)
        return out, slopes


def _times(values: Tensor, matrix: Tensor) -> Tensor:
    """(..., K) values times a (K, D) matrix; unlike by ``@``, a row comes out the same wherever it stands."""
    result = values[..., :1] * matrix[0]
    for k in range(1, len(matrix)):
        result += values[..., k, None] * matrix[k]
    return result


def _prefiltered(nodes: Tensor) -> Tensor:
    """Coefficients of the quintic B-spline through (*N, C) values; about its border it is all but zero."""
    from scipy.ndimage import spline_filter1d

    values = nodes.numpy()
    for axis in range(values.ndim - 1):
        values = spline_filter1d(values, 5, axis=axis, output=values.dtype, mode="mirror")
    return torch.from_numpy(values)


def _solid(values: Tensor) -> Tensor:
    """(*S, C) -> (X, Y, Z, C)."""
    return values if values.ndim == 4 else values[None]


def worth(knots: int) -> bool:
    """Whether a spline of so many knots is read from a :class:`LocalSpline`.

    Making one costs 0.2 s of processor time at 2,000 knots and 1.6 s at 20,000, once per spline. The number of points
    has no part in this, nor has what was read before: a point goes to the same place, to the bit, alone or among
    others, first or last.
    """
    return knots >= _MANY and compiled.available()
