"""Compiled CPU kernels (numba): the same results as the torch code they replace, several times faster.

Arrays are (C, X, Y, Z) float32; a 2-D image is a 3-D one whose first axis has one voxel. Kernels write each voxel from one
thread only, so the result does not depend on the number of threads. numba is imported on first use.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

_LOCK = threading.Lock()  # numba's simplest threading layer must not be entered from two threads at once


@cache
def available() -> bool:
    """Whether numba can be imported; without it the torch code runs."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


def fits(*tensors: Tensor) -> bool:
    """Whether these tensors can go to a compiled kernel: float32 on the CPU, with numba installed."""
    return all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors) and available()


def call(kernel: Callable[..., Any], *arguments: Any) -> Any:
    """Run a kernel with as many threads as torch uses; tensors are passed as arrays that share their memory."""
    import numba

    arrays = [a.detach().numpy() if isinstance(a, Tensor) else a for a in arguments]
    with _LOCK:
        numba.set_num_threads(max(1, min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)))
        return kernel(*arrays)


class LinearSampling(torch.autograd.Function):
    """Linear interpolation of (B, C, *S) data at a (B, *S', D) unit grid, border values outside; gradient to the grid."""

    @staticmethod
    def forward(ctx: Any, data: Tensor, grid: Tensor) -> Tensor:
        from . import compiled_kernels as kernels

        ctx.save_for_backward(data, grid)
        batch, channels = data.shape[:2]
        out = torch.empty(batch, channels, *grid.shape[1:-1])
        for b in range(batch):
            call(kernels.sample, _volume(data[b]), _flat(grid[b]), out[b].view(channels, -1))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:  # type: ignore[override]
        from . import compiled_kernels as kernels

        data, grid = ctx.saved_tensors
        out = torch.empty_like(grid, memory_format=torch.contiguous_format)
        for b in range(data.shape[0]):
            upstream = grad[b].reshape(data.shape[1], -1).contiguous()
            call(kernels.sample_gradient, _volume(data[b]), _flat(grid[b]), upstream, out[b].view(-1, grid.shape[-1]))
        return None, out


def _volume(data: Tensor) -> Tensor:
    """(C, *S) -> (C, X, Y, Z) contiguous; a 2-D image gets a first axis of one voxel."""
    data = data.contiguous()
    return data if data.ndim == 4 else data[:, None]


def _flat(grid: Tensor) -> Tensor:
    """(*S, D) -> (N, D) contiguous."""
    return grid.reshape(-1, grid.shape[-1]).contiguous()
