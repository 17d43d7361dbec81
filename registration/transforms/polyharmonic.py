"""Polyharmonic B-splines: thin-plate splines on a regular lattice that are almost zero a few steps away.

The kernel of the thin-plate spline grows with the distance, but its discrete bilaplacian over a lattice of knots is a
bump (Rabut 1992, Numerical Algorithms 2:17): 4e-4 of its height are left three steps away, 3e-6 six steps away, and
the bumps of all lattice points sum to one. So a spline with thousands of knots is a convolution, not a dense system.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from ..compiled.threads import one_thread
from ..space import Space
from .kernels import biharmonic

REACH = 6
"""Steps of the lattice after which a bump counts as zero: it is below 4e-6 of its height there."""

STENCIL = 2
"""Knots of one bump on either side of its centre."""


def metric_of(lattice: Space) -> tuple[float, Tensor]:
    """Geometric mean step h of a lattice in mm, and (D, D) products of its steps, divided by h squared."""
    d = lattice.ndim
    steps = lattice.affine[:d, :d]
    h = float(torch.linalg.det(steps).abs()) ** (1 / d)
    return h, steps.T @ steps / h**2


def bilaplacian(values: Tensor, metric: Tensor, step: int = 1) -> Tensor:
    """(..., *M) -> (..., *M - 4 step) the discrete bilaplacian over the last D axes, of differences ``step`` apart.

    The square of a discrete Laplacian whose error is isotropic to the next order, for which bumps are so short.
    """
    return _laplacian(_laplacian(values, metric, step), metric, step)


def _laplacian(values: Tensor, metric: Tensor, step: int) -> Tensor:
    d = len(metric)
    inverse = torch.linalg.inv(metric).tolist()

    def taken(x: Tensor, axis: int, weights: tuple[float, float, float]) -> Tensor:
        n = x.shape[axis - d] - 2 * step
        parts = [w * x.narrow(axis - d, at * step, n) for at, w in enumerate(weights) if w]
        return sum(parts[1:], parts[0])

    def along(chosen: dict[int, tuple[float, float, float]]) -> Tensor:
        x = values
        for axis in range(d):
            x = taken(x, axis, chosen.get(axis, (0.0, 1.0, 0.0)))
        return x

    second, first = (1.0, -2.0, 1.0), (-0.5, 0.0, 0.5)
    result = torch.zeros(())
    for i in range(d):
        result = result + inverse[i][i] * along({i: second})
    for i, j in itertools.combinations(range(d), 2):
        result = result + (inverse[i][i] * inverse[j][j]) ** 0.5 / 6 * along({i: second, j: second})
        if abs(inverse[i][j]) > 1e-9:
            result = result + 2 * inverse[i][j] * along({i: first, j: first})
    return result


def bump(metric: Tensor, refine: int) -> Tensor:
    """(2 * REACH * refine + 1, ...) float64: the bump about the middle, at ``refine`` nodes per step of the lattice."""
    d = len(metric)
    reach = (REACH + STENCIL) * refine
    line = torch.arange(-reach, reach + 1, dtype=torch.float64) / refine
    place = torch.stack(torch.meshgrid(*[line] * d, indexing="ij"), dim=-1)
    kernel = biharmonic(d).value(((place @ metric) * place).sum(dim=-1))
    return bilaplacian(kernel, metric, refine) / (8 * math.pi)


class LatticeBasis:
    """Coefficients on a lattice -> values of the spline at the nodes of a refined lattice, by Fourier transform.

    Parameters
    ----------
    lattice
        Its voxel centres are where the bumps stand.
    refine
        Nodes per step of the lattice.
    around
        Steps by which the nodes reach beyond the lattice.
    like
        Gives dtype and device (float32 on the CPU without).
    """

    def __init__(self, lattice: Space, refine: int = 2, around: int = 0, like: Tensor | None = None) -> None:
        like = torch.zeros(0, dtype=torch.float32) if like is None else like
        self.lattice, self.refine, self.around = lattice, refine, around
        shape = tuple((n - 1 + 2 * around) * refine + 1 for n in lattice.shape)
        d = lattice.ndim
        inward = torch.eye(d + 1, dtype=torch.float64)
        inward[:d, :d] /= refine
        inward[:d, d] = -around
        self.space = Space(shape, lattice.affine @ inward)
        """The nodes, as voxel centres."""
        self.size = tuple(refine * _smooth(max(n + 2 * around, REACH) + REACH + 1) for n in lattice.shape)
        small = bump(metric_of(lattice)[1], refine)
        wide = torch.zeros(self.size, dtype=torch.float64)
        wide[tuple(slice(0, n) for n in small.shape)] = small
        wide = wide.roll([-REACH * refine] * d, list(range(d)))
        with one_thread():
            self.spectrum = torch.fft.rfftn(wide).real.to(like)

    def __call__(self, coefficients: Tensor) -> Tensor:
        """(C, *lattice.shape) -> (C, *space.shape); differentiable, the same to the bit on any number of threads."""
        return _Convolution.apply(coefficients, self)  # type: ignore[no-any-return]

    def spread(self, coefficients: Tensor) -> Tensor:
        """As a call, without a graph."""
        nodes = coefficients.new_zeros(coefficients.shape[0], *self.size)
        nodes[self._knots()] = coefficients
        return self._convolved(nodes)[self._nodes()].contiguous()

    def gather(self, values: Tensor) -> Tensor:
        """(C, *space.shape) -> (C, *lattice.shape), the transpose of :meth:`spread`."""
        nodes = values.new_zeros(values.shape[0], *self.size)
        nodes[self._nodes()] = values
        return self._convolved(nodes)[self._knots()].contiguous()

    def _convolved(self, nodes: Tensor) -> Tensor:
        axes = list(range(1, nodes.ndim))

        with one_thread():
            return torch.fft.irfftn(torch.fft.rfftn(nodes, dim=axes).mul_(self.spectrum), s=self.size, dim=axes)

    def _knots(self) -> tuple[slice, ...]:
        begin, step = self.around * self.refine, self.refine
        return (slice(None), *(slice(begin, begin + (n - 1) * step + 1, step) for n in self.lattice.shape))

    def _nodes(self) -> tuple[slice, ...]:
        return (slice(None), *(slice(0, n) for n in self.space.shape))


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, coefficients: Tensor, basis: LatticeBasis) -> Tensor:  # type: ignore[override]
        ctx.basis = basis
        return basis.spread(coefficients)

    @staticmethod
    def backward(ctx, *grads: Tensor):  # type: ignore[override]
        return ctx.basis.gather(grads[0]), None


def _smooth(least: int) -> int:
    """The next number that is a product of 2, 3 and 5, for which Fourier transforms are quick."""
    while True:
        rest = least
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return least
        least += 1
