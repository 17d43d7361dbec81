"""Thin-plate splines: the smoothest map that carries control points to (or near) their targets.

Bookstein 1989 (IEEE PAMI 11:567) for landmarks; Duchon 1977 and Wahba 1990 for the spline and its smoothing weight.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..space import Space
from .base import Transform
from .kernels import biharmonic

_BLOCK = 1 << 18
"""Entries of the (points, control points) distance matrix that are worked on at a time: they fit a core's cache."""

_REMEMBERED = 1 << 26
"""Entries kept for the backward pass; beyond, blocks are computed again."""


class SplineSystem:
    """The factorised equations of a spline with fixed control points: every set of targets is then one quick solve.

    Parameters
    ----------
    points
        (K, D) control points, fixed RAS mm. May require a gradient, for which the scale counts as constant.
    smoothing
        Lambda >= 0: the weight of the bending against the squared distances to the targets, in scaled coordinates.
        0 interpolates; a large one tends to the affine least-squares fit.
    scale
        Length in mm that counts as 1; one for all axes, so that mm stay isotropic. Default: the RMS distance of the
        points from their mean.

    Raises
    ------
    ValueError
        If there are fewer than D+1 points, they lie in one plane (3-D) or line (2-D), two coincide with lambda = 0, or
        a number is not finite.
    """

    def __init__(self, points: Tensor, smoothing: float = 0.0, scale: float | None = None) -> None:
        if points.ndim != 2 or points.shape[-1] not in (2, 3):
            raise ValueError(f"control points have shape (K, 2) or (K, 3), got {tuple(points.shape)}")
        self.points = points.to(torch.float64)
        self.smoothing = float(smoothing)
        plain = self.points.detach()
        self._check_numbers(plain)
        self.centre = plain.mean(dim=0)
        rms = float((plain - self.centre).square().sum(dim=1).mean().sqrt())
        self.scale = float(scale) if scale is not None else rms or 1.0
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"the scale is a positive length in mm, got {scale}")
        self.kernel = biharmonic(self.ndim)
        self.nodes = (self.points - self.centre) / self.scale
        r2 = squared_distances(self.nodes, self.nodes)
        self._check_layout(r2.detach())
        k, d = self.points.shape
        self.gram = self.kernel.value(r2)
        ridge = self.smoothing * torch.eye(k, dtype=torch.float64, device=points.device)
        affine = torch.cat([torch.ones_like(self.nodes[:, :1]), self.nodes], dim=1)
        top = torch.cat([self.gram + ridge, affine], dim=1)
        bottom = torch.cat([affine.T, affine.new_zeros(d + 1, d + 1)], dim=1)
        self._lu, self._pivots = torch.linalg.lu_factor(torch.cat([top, bottom]))

    @property
    def ndim(self) -> int:
        """Spatial dimension D."""
        return self.points.shape[1]

    @property
    def size(self) -> int:
        """Number of control points K."""
        return self.points.shape[0]

    def _check_numbers(self, points: Tensor) -> None:
        k, d = points.shape
        if k < d + 1:
            raise ValueError(f"a thin-plate spline in {d}-D needs at least {d + 1} control points, got {k}")
        if not bool(torch.isfinite(points).all()):
            rows = (~torch.isfinite(points)).any(dim=1).nonzero().flatten().tolist()
            raise ValueError(f"control points {rows[:5]} hold NaN or infinite coordinates")
        if not (math.isfinite(self.smoothing) and self.smoothing >= 0):
            raise ValueError(f"the smoothing weight lambda is finite and not negative, got {self.smoothing}")

    def _check_layout(self, r2: Tensor) -> None:
        k, d = self.points.shape
        spread = torch.linalg.svdvals(self.nodes.detach())
        if spread[-1] <= 1e-7 * spread[0]:
            flat = "plane" if d == 3 else "line"
            raise ValueError(
                f"the {k} control points lie in one {flat}, so the affine part of the spline is not determined: "
                f"add a point outside that {flat}"
            )
        if self.smoothing == 0:
            apart = r2 + torch.eye(k, dtype=r2.dtype, device=r2.device)
            closest = int(apart.argmin())
            if apart.flatten()[closest] < 1e-18:
                place = self.points[closest % k].tolist()
                raise ValueError(
                    f"control points {closest // k} and {closest % k} coincide at {place} mm; "
                    "remove one, or use a smoothing weight above 0"
                )

    def solve(self, values: Tensor) -> Tensor:
        """(..., K + D + 1, V) coefficients of (..., K, V) values at the control points, float64.

        First the K kernel weights, then the constant, then the D slopes, all in scaled coordinates.
        """
        zeros = values.new_zeros(*values.shape[:-2], self.ndim + 1, values.shape[-1], dtype=torch.float64)
        right = torch.cat([values.to(device=self._lu.device, dtype=torch.float64), zeros.to(self._lu.device)], dim=-2)
        return torch.linalg.lu_solve(self._lu, self._pivots, right)

    def rows(self, points: Tensor) -> Tensor:
        """(..., N, K + D + 1) what the coefficients are multiplied by at (..., N, D) points in mm; float64."""
        x = self.scaled(points.to(torch.float64))
        phi = self.kernel.value(squared_distances(x, self.nodes.to(x)))
        return torch.cat([phi, torch.ones_like(x[..., :1]), x], dim=-1)

    def scaled(self, points: Tensor) -> Tensor:
        """(..., D) points in mm -> dimensionless coordinates about the centre of the control points."""
        return (points - self.centre.to(points)) / self.scale


class ThinPlateSpline(Transform):
    """``x -> a + A x + sum_k w_k phi(|x - p_k|)``, with ``phi(r) = r**2 log r`` in 2-D and ``-r`` in 3-D.

    Parameters
    ----------
    points
        (K, D) control points, fixed RAS mm.
    targets
        (K, D) or (B, K, D) where they go, moving RAS mm; differentiable.
    smoothing, scale
        As in :class:`SplineSystem`; solved in float64 with isotropic lengths.
    system
        The factorised equations of the same points, smoothing and scale, to be used again.

    Raises
    ------
    ValueError
        If points and targets do not agree, or the points do not determine a spline (see :class:`SplineSystem`).
    """

    def __init__(
        self,
        points: Tensor,
        targets: Tensor,
        smoothing: float = 0.0,
        scale: float | None = None,
        *,
        system: SplineSystem | None = None,
    ) -> None:
        if targets.ndim not in (2, 3) or targets.shape[-2:] != points.shape:
            raise ValueError(
                f"targets have the shape (K, D) or (B, K, D) of the control points {tuple(points.shape)}, "
                f"got {tuple(targets.shape)}"
            )
        if not bool(torch.isfinite(targets).all()):
            raise ValueError("targets hold NaN or infinite coordinates")
        self.system = system or SplineSystem(points, smoothing, scale)
        self.targets = targets
        # Displacements, not positions: an identity then has no rounding of large coordinates in its weights.
        self.coefficients = self.system.solve(targets.to(self.system.points) - self.system.points)

    @property
    def ndim(self) -> int:
        return self.system.ndim

    @property
    def batched(self) -> bool:
        return self.targets.ndim == 3

    @property
    def points(self) -> Tensor:
        """(K, D) control points, fixed RAS mm, float64."""
        return self.system.points

    @property
    def smoothing(self) -> float:
        """The weight lambda, in coordinates divided by ``scale``."""
        return self.system.smoothing

    @property
    def scale(self) -> float:
        """The length in mm that counts as 1."""
        return self.system.scale

    def __call__(self, points: Tensor) -> Tensor:
        """(..., D) mm -> (..., D) mm; a batch of B splines takes (B, ..., D) or (1, ..., D).

        Worked through in blocks, never an (N, K, D) tensor, and in float64: the weights of close points are large and
        cancel, so float32 would lose hundredths of a mm.
        """
        d = self.ndim
        lead = points.shape[:1] if self.batched else ()
        flat = points.reshape(*lead, -1, d)
        coefficients = self.coefficients.to(device=flat.device)
        step = max(1, _BLOCK // self.system.size // (flat.shape[0] if self.batched else 1))
        tracked = torch.is_grad_enabled() and (flat.requires_grad or coefficients.requires_grad)
        lean = tracked and flat.shape[:-1].numel() * self.system.size > _REMEMBERED
        blocks = flat.split(step, dim=-2)
        if not tracked:
            # Written in place: results kept between the blocks' large temporaries would scatter the heap.
            moves = flat.new_empty(torch.broadcast_shapes((*coefficients.shape[:-2], 1, 1), flat.shape))
            for block, part in zip(blocks, moves.split(step, dim=-2), strict=True):
                part.copy_(self._displacement_at_once(block, coefficients))
        elif lean:
            calls = [checkpoint(self._displacement, block, coefficients, use_reentrant=False) for block in blocks]
            moves = torch.cat(calls, dim=-2)
        else:
            moves = torch.cat([self._displacement(block, coefficients) for block in blocks], dim=-2)
        moved = flat + moves
        return moved.reshape(*moved.shape[: len(lead)], *points.shape[len(lead) :])

    def on_grid(self, space: Space, like: Tensor | None = None) -> Tensor:
        """As :meth:`Transform.on_grid`, within 0.003 of the smallest voxel spacing; exact on small grids."""
        from .dense import dense

        return dense(self, space, like)[0]

    def _displacement(self, points: Tensor, coefficients: Tensor) -> Tensor:
        weights, affine = coefficients.split([self.system.size, self.ndim + 1], dim=-2)
        x = self.system.scaled(points.to(torch.float64))
        moves = self.system.kernel.value(squared_distances(x, self.system.nodes.to(x))) @ weights
        return (moves + x @ affine[..., 1:, :] + affine[..., :1, :]).to(points.dtype)

    def _displacement_at_once(self, points: Tensor, coefficients: Tensor) -> Tensor:
        """The same without gradients, twice as fast: the distances come from one matrix product.

        In float64 that product errs by 1e-15 in the squared distance, 1e-6 mm at a control point.
        """
        weights, affine = coefficients.split([self.system.size, self.ndim + 1], dim=-2)
        x = self.system.scaled(points.to(torch.float64))
        nodes = self.system.nodes.to(x)
        left = torch.cat([x, x.square().sum(dim=-1, keepdim=True), torch.ones_like(x[..., :1])], dim=-1)
        right = torch.cat([-2 * nodes, torch.ones_like(nodes[:, :1]), nodes.square().sum(dim=1, keepdim=True)], dim=1)
        moves = self.system.kernel.value_(left @ right.T) @ weights
        return moves.add_(x @ affine[..., 1:, :]).add_(affine[..., :1, :]).to(points.dtype)

    def jacobian(self, points: Tensor) -> Tensor:
        """(..., D, D) derivatives d(moving)/d(fixed) at (..., D) points; the cusp of the 3-D kernel counts as flat."""
        d, k = self.ndim, self.system.size
        lead = points.shape[:1] if self.batched else ()
        flat = points.reshape(*lead, -1, d)
        weights, slopes = self.coefficients.to(flat.device).split([k, d + 1], dim=-2)
        nodes = self.system.nodes.to(flat.device)
        blocks = []
        for block in flat.split(max(1, _BLOCK // k), dim=-2):
            x = self.system.scaled(block.to(torch.float64))
            slope = 2 * self.system.kernel.slope(squared_distances(x, nodes))
            columns = [
                (slope * (x[..., a, None] - nodes[:, a])) @ weights + slopes[..., None, 1 + a, :] for a in range(d)
            ]
            blocks.append((torch.stack(columns, dim=-1) / self.scale).to(flat.dtype))
        result = torch.cat(blocks, dim=-3) + torch.eye(d, dtype=flat.dtype, device=flat.device)
        return result.reshape(*result.shape[: len(lead)], *points.shape[len(lead) :], d)

    def bending_energy(self) -> Tensor:
        """() or (B,): the integral over all space of the squared second derivatives, summed over the D components.

        ``8 pi scale**(D-4) trace(w^T Phi w)``, in mm**(D-2): without unit in 2-D, mm in 3-D. Zero for affine maps only;
        differentiable to the targets.
        """
        weights = self.coefficients[..., : self.system.size, :]
        trace = (weights * (self.system.gram @ weights)).sum(dim=(-2, -1))
        return 8 * math.pi * self.scale ** (self.ndim - 4) * trace

    def inverse(self) -> Transform:
        """The map from moving to fixed points, by Newton's method (a spline's inverse is no spline)."""
        from .inverse import NumericalInverse

        return NumericalInverse(self)


def squared_distances(x: Tensor, nodes: Tensor) -> Tensor:
    """(..., N, K) squared distances of (..., N, D) and (K, D) points by differences.

    ``|x|^2 + |p|^2 - 2 x p`` would be one matrix product, but loses all digits near r = 0.
    """
    result: Tensor | None = None
    for axis in range(x.shape[-1]):
        apart = x[..., axis, None] - nodes[:, axis]
        result = apart * apart if result is None else result.addcmul_(apart, apart)
    assert result is not None
    return result
