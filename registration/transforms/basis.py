"""A spline with fixed control points as one matrix: what an optimiser multiplies by at every step."""

from __future__ import annotations

import torch
from torch import Tensor

from ..compiled.products import product
from ..space import Space
from .system import SplineSystem

_BLOCK = 1 << 18


class SplineBasis:
    """Displacements of K control points -> displacements of the G nodes of a grid, both in mm.

    Row g of ``matrix`` holds the kernels and the affine terms at node g. A step is a back substitution in float64, a
    (G, K+D+1) @ (K+D+1, D) product, and an :class:`Upsampler` to the image. (Multiplying the solved equations into the
    matrix would save the substitution, a few ms, and cost K times as much to set up.)

    Parameters
    ----------
    system
        The factorised equations of the control points.
    space
        The grid of nodes, coarse: the matrix takes 4 G (K+D+1) bytes in float32.
    like
        Gives dtype and device of the matrix (float32 on the CPU without).
    """

    def __init__(self, system: SplineSystem, space: Space, like: Tensor | None = None) -> None:
        if system.ndim != space.ndim:
            raise ValueError(f"control points in {system.ndim}-D do not fit a {space.ndim}-D grid")
        like = torch.zeros(0) if like is None else like
        self.system, self.space = system, space
        with torch.no_grad():
            nodes = space.points(system.points).flatten(0, -2)
            blocks = [system.rows(block).to(like) for block in nodes.split(max(1, _BLOCK // system.size))]
        self.matrix = torch.cat(blocks)
        """(G, K+D+1), the nodes in the order of ``space.points().reshape(-1, D)``."""

    def __call__(self, displacements: Tensor) -> Tensor:
        """(K, D) or (B, K, D) mm -> (B, *space.shape, D) mm, B = 1 without a batch; differentiable."""
        moves = displacements if displacements.ndim == 3 else displacements[None]
        if moves.ndim != 3 or tuple(moves.shape[1:]) != tuple(self.system.points.shape):
            raise ValueError(
                f"displacements of shape (K, D) = {tuple(self.system.points.shape)} or (B, K, D) expected, "
                f"got {tuple(displacements.shape)}"
            )
        # One product for the whole batch: a batched one would copy the matrix to find the derivative.
        columns = moves.transpose(0, 1).reshape(moves.shape[1], -1)
        nodes = product(self.matrix, self.system.solve(columns).to(self.matrix))
        return nodes.reshape(*self.space.shape, moves.shape[0], -1).movedim(-2, 0)
