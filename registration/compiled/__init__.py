"""Compiled CPU kernels (numba): the same results as the torch code they replace, several times faster.

The kernels are in ``*_kernels.py``, which import numba; they are imported on first use. Arrays are (C, X, Y, Z)
float32; a 2-D image is a 3-D one whose first axis has one voxel. Kernels write each voxel from one thread only, so the
result does not depend on the number of threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.data import get_worker_info

from .keeping import prepare
from .region import Region, every_row

_LOCK = threading.Lock()  # numba's simplest threading layer must not be entered from two threads at once


def available() -> bool:
    """Whether kernels can run: numba is there, and this is no process that loads data; else the torch code runs.

    Such processes are forked, and the threads that a kernel uses (OpenMP) do not survive that. Nor do kernels run where
    what is compiled could be kept nowhere, see :mod:`~registration.compiled.keeping`.
    """
    return _installed() and get_worker_info() is None


@cache
def _installed() -> bool:
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return prepare()


def fits(*tensors: Tensor) -> bool:
    """Whether these tensors can go to a compiled kernel: float32 on the CPU, with numba installed.

    Not while a program is being recorded for export, which knows torch's own operators only.
    """
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return False
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
        out = torch.empty(batch, channels, *grid.shape[1:-1], dtype=torch.float32)
        for b in range(batch):
            call(kernels.sample, _volume(data[b]), _flat(grid[b]), out[b].view(channels, -1))
        return out

    @staticmethod
    @once_differentiable
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


@dataclass(frozen=True)
class Windows:
    """How local correlations are taken of two images.

    Parameters
    ----------
    radius
        D window radii in voxels.
    floors, shifts
        What is added to the variances of each image, and subtracted from its intensities.
    """

    radius: tuple[int, ...]
    floors: tuple[float, float]
    shifts: tuple[float, float]

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same for kernels, which see three axes."""
        radius = np.array((0,) * (3 - len(self.radius)) + self.radius, dtype=np.int64)
        return radius, np.array(self.floors, dtype=np.float32), np.array(self.shifts, dtype=np.float32)


def correlation_sums(
    images: tuple[Tensor, Tensor], weight: Tensor | None, windows: Windows, grads: tuple[Tensor | None, Tensor | None]
) -> float:
    """The sum over all windows of the squared local correlation of two (*S) images, and its derivatives.

    Parameters
    ----------
    images
        Two (*S) images.
    weight
        (*S) weights: of the voxels in a window, and of the window about each voxel. None stands for ones.
    windows
        How correlations are taken.
    grads
        (*S) tensors that receive the derivatives to each image, or None. Without any, the sum alone is made.
    """
    from . import window_kernels as kernels

    first, second = (_solid(image) for image in images)
    sums = torch.empty(5 if weight is None else 6, *first.shape, dtype=torch.float32)
    rows = every_row(tuple(first.shape))  # type: ignore[arg-type]
    mass, weighted = (first if weight is None else _solid(weight)), weight is not None
    radius, floors, shifts = windows.arrays()
    wanted = tuple(g is not None for g in grads)
    call(kernels.window_sums, first, second, mass, weighted, rows, radius, shifts, sums)
    total = call(kernels.window_terms, mass, weighted, first, rows, radius, floors, sums, *wanted)
    if any(wanted):
        out = tuple(_NOTHING if g is None else g.view(first.shape).detach().numpy() for g in grads)
        call(kernels.derivatives, first, second, mass, weighted, rows, radius, shifts, sums, out, *wanted)
    return float(total)


def correlation_pushes(
    images: tuple[Tensor, Tensor], region: Region, windows: Windows, metric: np.ndarray, out: Tensor
) -> float:
    """The sum of the squared local correlations in a region; adds its derivative to opposite moves of both images.

    Parameters
    ----------
    images
        Two (*S) images.
    region
        Where windows are taken, and which voxels count in them.
    windows
        How correlations are taken.
    metric
        (D,) factor of every component of the derivative.
    out
        (D, *S) receives metric times (derivative to the first image * its slope - the same of the second), by addition.
    """
    from . import window_kernels as kernels

    first, second = (_solid(image) for image in images)
    radius, floors, shifts = windows.arrays()
    sums = region.scratch(5, tuple(first.shape))  # type: ignore[arg-type]
    mass, weighted = _mass(region, first)
    counts = first if region.mass is None else region.counts(tuple(radius.tolist()))
    call(kernels.window_sums, first, second, mass, weighted, region.rows, radius, shifts, sums)
    total = call(kernels.window_terms, mass, weighted, counts, region.rows, radius, floors, sums, True, True)
    target = out.view(out.shape[0], *first.shape)
    call(kernels.pushes, first, second, mass, weighted, region.rows, radius, shifts, sums, metric, target)
    return float(total)


def block_sums(
    images: tuple[Tensor, Tensor], region: Region, block: tuple[int, ...], shifts: tuple[float, float]
) -> Tensor:
    """(6, *S') sums over blocks of voxels of two (*S) images a and b: of a, b, aa, bb, ab and the voxels that count.

    Parameters
    ----------
    images
        Two (*S) images.
    region
        The voxels that count.
    block
        D sizes of a block in voxels; blocks at the end may be smaller.
    shifts
        What is subtracted from the intensities first.
    """
    from . import block_kernels as kernels

    first, second = (_solid(image) for image in images)
    sizes = (1,) * (3 - len(block)) + block
    sums = torch.empty(6, *(-(-n // b) for n, b in zip(first.shape, sizes, strict=True)), dtype=torch.float32)
    mass, weighted = _mass(region, first)
    offset = np.array(shifts, dtype=np.float32)
    call(kernels.block_sums, first, second, mass, weighted, region.rows, np.array(sizes), offset, sums)
    return sums.view(6, *sums.shape[4 - len(block) :])


def block_pushes(
    images: tuple[Tensor, Tensor], region: Region, blocks: BlockTerms, metric: np.ndarray, out: Tensor
) -> None:
    """Add what :func:`correlation_pushes` adds, given what the windows give to the derivatives in every block."""
    from . import block_kernels as kernels

    first, second = (_solid(image) for image in images)
    sizes = np.array((1,) * (3 - len(blocks.sizes)) + blocks.sizes)
    terms = blocks.terms.reshape(5, *(-(-n // b) for n, b in zip(first.shape, sizes.tolist(), strict=True)))
    mass, weighted = _mass(region, first)
    offset = np.array(blocks.shifts, dtype=np.float32)
    target = out.view(out.shape[0], *first.shape)
    call(kernels.block_pushes, first, second, mass, weighted, region.rows, sizes, offset, terms, metric, target)


@dataclass(frozen=True, eq=False)
class BlockTerms:
    """(5, *S') factors of the derivatives in blocks of so many voxels, for images less these shifts."""

    terms: Tensor
    sizes: tuple[int, ...]
    shifts: tuple[float, float]


def _mass(region: Region, image: Tensor) -> tuple[Tensor, bool]:
    """(X, Y, Z) the voxels that count, and whether only some do; if all do, bytes that no kernel looks at.

    They are bytes in either case: for another type every kernel would be compiled once more.
    """
    return (image.detach().view(torch.uint8), False) if region.mass is None else (region.mass, True)


_NOTHING = np.empty((1, 1, 1), dtype=np.float32)


def _solid(image: Tensor) -> Tensor:
    """(*S) -> (X, Y, Z) contiguous."""
    image = image.contiguous()
    return image if image.ndim == 3 else image[None]
