"""Compiled CPU kernels (numba): the same results as the torch code they replace, several times faster.

The kernels are in ``*_kernels.py``, which import numba; they are imported on first use. Arrays are (C, X, Y, Z)
float32; a 2-D image is a 3-D one whose first axis has one voxel. Kernels write each voxel from one thread only, so the
result does not depend on the number of threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
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
    """Linear interpolation of (B, C, *S) data at a (B, *S', D) unit grid, the border outside; gradient to the grid."""

    @staticmethod
    def forward(ctx: Any, data: Tensor, grid: Tensor) -> Tensor:
        from . import sampling_kernels as kernels

        ctx.save_for_backward(data, grid)
        batch, channels = data.shape[:2]
        out = torch.empty(batch, channels, *grid.shape[1:-1])
        for b in range(batch):
            call(kernels.sample, _volume(data[b]), _flat(grid[b]), out[b].view(channels, -1))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:  # type: ignore[override]
        from . import sampling_kernels as kernels

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


def correlation_sums(
    images: tuple[Tensor, Tensor],
    weight: Tensor | None,
    radius: Sequence[int],
    floors: tuple[float, float],
    shifts: tuple[float, float],
    grads: tuple[Tensor | None, Tensor | None],
) -> float:
    """The sum over all windows of the squared local correlation of two (*S) images, and its derivatives.

    Parameters
    ----------
    images
        Two (*S) images.
    weight
        (*S) weights: of the voxels in a window, and of the window about each voxel. None stands for ones.
    radius
        D window radii in voxels.
    floors, shifts
        What is added to the variances of each image, and subtracted from its intensities.
    grads
        (*S) tensors that receive the derivatives to each image, or None. Without any, the sum alone is made.
    """
    from . import window_kernels as kernels

    first, second = (_solid(image) for image in images)
    scratch = torch.empty(5 if weight is None else 6, *first.shape)
    mass = first if weight is None else _solid(weight)
    out = [torch.empty(1, 1, 1) if g is None else g.view(first.shape) for g in grads]
    wanted = tuple(g is not None for g in grads)
    rx, ry, rz = (0,) * (3 - len(radius)) + tuple(radius)
    numbers = np.array([*floors, *shifts], dtype=np.float32)
    arguments = (first, second, mass, weight is not None, rx, ry, rz, numbers, scratch, *out, *wanted)
    return float(call(kernels.correlation, *arguments))


def _solid(image: Tensor) -> Tensor:
    """(*S) -> (X, Y, Z) contiguous."""
    image = image.contiguous()
    return image if image.ndim == 3 else image[None]
