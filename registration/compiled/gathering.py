"""Linear interpolation that is differentiable to the image as well, in compiled loops."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Gathering(torch.autograd.Function):
    """(B, *S, C) data at a (B, *S', D) unit grid, the border outside -> (B, *S', C); gradients to both.

    Constant images of one channel have :class:`LinearSampling`, which takes 0.6 of the time and gives the same bits.
    """

    @staticmethod
    def forward(ctx: Any, data: Tensor, grid: Tensor) -> Tensor:
        from . import call
        from . import gather_kernels as kernels

        ctx.save_for_backward(data, grid)
        out = data.new_empty(*grid.shape[:-1], data.shape[-1])
        call(kernels.gather, _volume(data), _flat(grid), _flat(out))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        from . import call
        from . import gather_kernels as kernels

        data, grid = ctx.saved_tensors
        places, upstream = _flat(grid), _flat(grad.contiguous())
        to_data = to_grid = None
        if ctx.needs_input_grad[0]:
            to_data = torch.zeros_like(data, memory_format=torch.contiguous_format)
            call(kernels.scatter, places, upstream, _volume(to_data))
        if ctx.needs_input_grad[1]:
            to_grid = torch.empty_like(grid, memory_format=torch.contiguous_format)
            call(kernels.slope, _volume(data), places, upstream, _flat(to_grid))
        return to_data, to_grid


def _volume(data: Tensor) -> Tensor:
    """(B, *S, C) contiguous -> (B, X, Y, Z, C); a 2-D image gets a first axis of one voxel."""
    return data if data.ndim == 5 else data[:, None]


def _flat(values: Tensor) -> Tensor:
    """(B, *S, C) contiguous -> (B, N, C)."""
    return values.view(len(values), -1, values.shape[-1])


__all__ = ["Gathering"]
