"""Thin-plate splines: the smoothest map that carries control points to (or near) their targets.

Bookstein 1989 (IEEE PAMI 11:567) for landmarks; Duchon 1977 and Wahba 1990 for the spline and its smoothing weight.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..compiled.blocks import at_once
from ..compiled.knots import summable, sums_over_knots
from ..space import Space
from .base import Transform
from .system import Knots, SplineSystem, squared_distances

_BLOCK = 1 << 18
"""Entries of the (points, control points) distance matrix that fit a core's cache."""

_POINTS = 1 << 18
"""Points that are worked on at a time by compiled loops."""

_REMEMBERED = 1 << 26
"""Entries kept for the backward pass; beyond, blocks are computed again."""

__all__ = ["SplineSystem", "ThinPlateSpline"]


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
        solved = system or SplineSystem(points, smoothing, scale)
        self.system: Knots = solved
        self._targets, self._smoothing = targets, solved.smoothing
        # Displacements, not positions: an identity then has no rounding of large coordinates in its weights.
        self.coefficients = solved.solve(targets.to(solved.points) - solved.points)

    @property
    def ndim(self) -> int:
        return self.system.ndim

    @property
    def batched(self) -> bool:
        return self.coefficients.ndim == 3

    @property
    def points(self) -> Tensor:
        """(K, D) control points, fixed RAS mm, float64."""
        return self.system.points

    @property
    def targets(self) -> Tensor:
        """(K, D) or (B, K, D) where the control points should go, moving RAS mm."""
        return self._targets

    @property
    def smoothing(self) -> float:
        """The weight lambda, in coordinates divided by ``scale``."""
        return self._smoothing

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
        tracked = torch.is_grad_enabled() and (flat.requires_grad or coefficients.requires_grad)
        step = self._step(flat, tracked)
        lean = tracked and flat.shape[:-1].numel() * self.system.size > _REMEMBERED
        blocks = flat.split(step, dim=-2)
        if not tracked:
            # Written in place: results kept between the blocks' large temporaries would scatter the heap.
            moves = flat.new_empty(torch.broadcast_tensors(coefficients[..., :1, :1], flat)[1].shape)
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

    def _step(self, points: Tensor, tracked: bool) -> int:
        """How many of (..., N, D) points are worked on at a time; in compiled loops no matrix of distances is made."""
        if not tracked and summable(points, self.system.nodes, self.coefficients):
            return _POINTS
        return max(1, at_once(points, _BLOCK) // self.system.size // (points.shape[0] if self.batched else 1))

    def _displacement(self, points: Tensor, coefficients: Tensor) -> Tensor:
        weights, affine = coefficients.split([self.system.size, self.ndim + 1], dim=-2)
        x = self.system.scaled(points.to(torch.float64))
        moves = self.system.kernel.value(squared_distances(x, self.system.nodes.to(x))) @ weights
        return (moves + x @ affine[..., 1:, :] + affine[..., :1, :]).to(points.dtype)

    def _displacement_at_once(self, points: Tensor, coefficients: Tensor) -> Tensor:
        """The same without gradients, in compiled loops; or twice as fast: the distances come from one matrix product.

        In float64 that product errs by 1e-15 in the squared distance, 1e-6 mm at a control point.
        """
        weights, affine = coefficients.split([self.system.size, self.ndim + 1], dim=-2)
        x = self.system.scaled(points.to(torch.float64))
        nodes = self.system.nodes.to(x)
        compiled_moves = sums_over_knots(x, nodes, weights)
        if compiled_moves is not None:
            return (compiled_moves + x @ affine[1:, :] + affine[:1, :]).to(points.dtype)
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
        tracked = torch.is_grad_enabled() and (flat.requires_grad or weights.requires_grad)
        for block in flat.split(self._step(flat, tracked), dim=-2):
            x = self.system.scaled(block.to(torch.float64))
            quick = None if tracked else sums_over_knots(x, nodes, weights, slopes=True)
            if quick is not None:
                blocks.append(((quick + slopes.mT[..., :, 1:]) / self.scale).to(flat.dtype))
                continue
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
        nodes = self.system.nodes
        gram = self.system.kernel.value(squared_distances(nodes, nodes))
        trace = (weights * (gram @ weights)).sum(dim=(-2, -1))
        return 8 * math.pi * self.scale ** (self.ndim - 4) * trace

    def inverse(self) -> Transform:
        """The map from moving to fixed points, by Newton's method (a spline's inverse is no spline)."""
        from .inverse import NumericalInverse

        return NumericalInverse(self)
