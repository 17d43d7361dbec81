"""Sampling along affine maps of voxel indices, without a grid of places in between."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class AffineSampling(torch.autograd.Function):
    """Linear interpolation at the images of a whole lattice under affine maps; gradient to the maps.

    ``apply(data, maps, shape)``: (1, C, *S) float32 data, (B, D+1, D+1) float64 maps from the index of the lattice to
    that of the data, the lattice's shape -> (B, C, *shape) values, the border outside, and (B, 1, *shape) booleans:
    whether the place was within the outer voxel edges.
    """

    @staticmethod
    def forward(ctx: Any, data: Tensor, maps: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        from . import affine_kernels as kernels
        from . import call

        ctx.save_for_backward(data, maps)
        ctx.shape = shape
        solid, deep, wide = _volume(data[0]), _deep(maps), _three(shape)
        out = torch.empty(len(maps), data.shape[1], *shape, dtype=torch.float32)
        inside = torch.empty(len(maps), 1, *shape, dtype=torch.bool)
        flat = out.view(len(maps), data.shape[1], -1), inside.view(len(maps), -1)
        call(kernels.sample, solid, deep, wide, *flat)
        ctx.mark_non_differentiable(inside)
        return out, inside

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[None, Tensor, None]:  # type: ignore[override]
        from . import affine_kernels as kernels
        from . import call

        data, maps = ctx.saved_tensors
        wide, d = _three(ctx.shape), maps.shape[-1] - 1
        parts = torch.empty(len(maps), wide[0], 3, 4, dtype=torch.float64)
        call(
            kernels.sample_gradient,
            _volume(data[0]), _deep(maps), wide, grad.reshape(*grad.shape[:2], -1).contiguous(), parts,
        )  # fmt: skip
        # Added row by row, so that the order is always the same.
        whole = parts.cumsum(dim=1)[:, -1, 3 - d :, 3 - d :]
        return None, torch.cat([whole, torch.zeros_like(maps[:, :1])], dim=1), None


def joint_counts(rows: Tensor, values: Tensor, inside: Tensor | None, bins: int) -> Tensor:
    """(B, C, bins, bins) counts, rows fixed, of (B, C, *S) values; their bins are sharp and span 0 to 1.

    Parameters
    ----------
    rows
        (C, N) int64, bins of the fixed image times ``bins``.
    inside
        (B, 1, *S) booleans: which voxels count; None for all.
    """
    from . import affine_kernels as kernels
    from . import call

    flat = values.flatten(2).contiguous()
    seen = torch.ones(len(flat), flat.shape[2], dtype=torch.bool) if inside is None else inside.flatten(1).contiguous()
    out = torch.zeros(len(flat), rows.shape[0], bins * bins, dtype=torch.int64)
    call(kernels.joint_counts, rows, flat, seen, bins, out)
    return out.view(len(flat), -1, bins, bins)


_PARTS = 8  # of a histogram, added in order: as many threads at most share the work
_NONE = torch.zeros(0, dtype=torch.float32)


class Histogram:
    """The moments of (N,) float32 intensities in the cells of a joint histogram, and what a loss of them gives back.

    Parameters
    ----------
    values
        (N,) intensities; ``(value - low) * slope + 2`` is the place among the bins.
    low, slope
        The range.
    rows
        (N,) int64 index of the first cell in the histogram row of every voxel.
    weight
        (N,) float32, or None.
    bins
        Per image.
    """

    def __init__(
        self, values: Tensor, low: float, slope: float, rows: Tensor, weight: Tensor | None, bins: int
    ) -> None:
        import numpy as np

        self.bins = bins
        weights = _NONE if weight is None else weight.contiguous()
        self.head = (values.contiguous(), np.float32(low), np.float32(slope), rows.contiguous(), weights)
        self.weighted = weight is not None

    def moments(self) -> Tensor:
        """(bins * bins, 4) float64 sums of 1, t, t^2, t^3 over the voxels of each cell, weighted."""
        from . import affine_kernels as kernels
        from . import call

        parts = torch.empty(_PARTS, self.bins**2, 4, dtype=torch.float64)
        call(kernels.moments, *self.head, self.weighted, self.bins, parts)
        total = parts[0]
        for part in parts[1:]:
            total += part
        return total

    def gradient(self, table: Tensor, out: Tensor) -> None:
        """Into ``out`` (N,): the derivative to the intensities, by (bins * bins, 3) quadratics in t of every cell."""
        from . import affine_kernels as kernels
        from . import call

        call(kernels.information_gradient, *self.head, self.weighted, self.bins, table.float().contiguous(), out)


def _volume(data: Tensor) -> Tensor:
    data = data.contiguous()
    return data if data.ndim == 4 else data[:, None]


def _three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return (1,) * (3 - len(shape)) + tuple(shape)  # type: ignore[return-value]


def _deep(maps: Tensor) -> Tensor:
    """(B, D+1, D+1) maps of indices as (B, 3, 4) ones; a lattice or image in 2-D has a first axis of one voxel."""
    d = maps.shape[-1] - 1
    if d == 3:
        return maps[:, :3].contiguous()
    deep = maps.new_zeros(len(maps), 3, 4)
    deep[:, 1:, 1:] = maps[:, :2]
    return deep
