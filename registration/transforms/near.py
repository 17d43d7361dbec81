"""The compact parts of a spline's kernels, added to a lattice around each control point."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..compiled.blocks import at_once
from .system import Knots

_HELD = 1 << 21
"""Entries of the compact parts that are held at a time on the CPU."""


class Patches:
    """The compact parts of all control points on one lattice, made in groups and never kept.

    Parameters
    ----------
    system
        Control points and kernel.
    affine
        (D+1, D+1) lattice index -> mm.
    shape
        The lattice.
    radius
        Where the compact part ends, mm.
    """

    def __init__(self, system: Knots, affine: Tensor, shape: tuple[int, ...], radius: float) -> None:
        self.system, self.shape, self.radius = system, shape, radius / system.scale
        d = len(shape)
        inverse = torch.linalg.inv(affine)
        place = system.points.detach().cpu() @ inverse[:d, :d].T + inverse[:d, d]
        half = radius * inverse[:d, :d].norm(dim=1)
        self.start = (place - half).ceil().long()
        self.window = (2 * half).floor().long() + 1
        self.metric = affine[:d, :d].T @ affine[:d, :d] / system.scale**2
        limit = torch.tensor(shape)
        self.kept = ((self.start < limit) & (self.start + self.window > 0)).all(dim=1).nonzero().flatten()
        self.offset = self.start - place

    def groups(self, like: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Control point numbers (G,) on the CPU, and their compact parts (G, *window), for a (B, *S, D) field."""
        step = max(1, at_once(like, _HELD) // max(1, len(like)) // math.prod(self.window.tolist()))
        for chosen in self.kept.split(step) if len(self.kept) else ():
            yield chosen, self.system.kernel.near(self._squares(self.offset[chosen], like), self.radius)

    def _squares(self, offset: Tensor, like: Tensor) -> Tensor:
        d = len(self.shape)
        lines = []
        for axis, n in enumerate(self.window.tolist()):
            line = offset[:, axis, None] + torch.arange(n, dtype=torch.float64)
            lines.append(line.to(like).reshape(-1, *[n if a == axis else 1 for a in range(d)]))
        metric = self.metric.tolist()
        squares: Tensor | None = None
        for i in range(d):
            term = metric[i][i] * lines[i].square()
            squares = term if squares is None else squares + term
        assert squares is not None
        for i in range(d):
            for j in range(i):
                if abs(metric[i][j]) > 1e-12 * metric[i][i]:
                    squares = squares + 2 * metric[i][j] * lines[i] * lines[j]
        return squares.clamp_(min=0)

    def windows(self, chosen: Tensor) -> Iterator[tuple[int, tuple[slice, ...], tuple[slice, ...]]]:
        """Per control point of a group: its number there, its slices of the lattice, and of the window."""
        window = self.window.tolist()
        for row, start in enumerate(self.start[chosen].tolist()):
            outer, inner = [], []
            for s, m, n in zip(start, window, self.shape, strict=True):
                low, high = max(s, 0), min(s + m, n)
                outer.append(slice(low, high))
                inner.append(slice(low - s, high - s))
            yield row, tuple(outer), tuple(inner)


class AddPatches(torch.autograd.Function):
    """``field + sign * sum_k patch_k w_k``, in place; linear in the field (B, *S, D) and in the weights (B, K, D)."""

    @staticmethod
    def forward(ctx, field: Tensor, weights: Tensor, patches: Patches, sign: float) -> Tensor:  # type: ignore[override]
        ctx.patches, ctx.sign, ctx.weights_like = patches, sign, weights.detach()
        ctx.mark_dirty(field)
        scaled, every = (sign * weights).to(field), slice(None)
        for chosen, values in patches.groups(field):
            own = scaled[:, chosen.to(scaled.device)]
            moves = values[..., None] * own.reshape(*own.shape[:2], *[1] * (values.ndim - 1), -1)
            for row, outer, inner in patches.windows(chosen):
                field[(every, *outer)] += moves[:, row][(every, *inner)]
        return field

    @staticmethod
    def backward(ctx, *grads: Tensor):  # type: ignore[override]
        (grad,) = grads
        patches, like = ctx.patches, ctx.weights_like
        result = torch.zeros_like(like)
        for chosen, values in patches.groups(grad):
            for row, outer, inner in patches.windows(chosen):
                total = values[row][inner].flatten() @ grad[(slice(None), *outer)].flatten(1, -2)
                result[:, chosen[row]] = ctx.sign * total.to(result)
        return grad, result, None, None
