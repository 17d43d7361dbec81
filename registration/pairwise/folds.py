"""What counts as a fold of a displacement field, (3, X, Y, Z) in voxels of its own grid, and where there are any."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import compiled
from ..compiled.region import every_row
from ..space import lattice
from ..transforms.cells import smallest_simplices
from . import voxelfields as vf


class Folds(ABC):
    """What counts as a fold."""

    @abstractmethod
    def __call__(self, vectors: Tensor, least: float = 0.0, rows: Tensor | None = None) -> Tensor:
        """(N, 3) cells of the grid of a field (3, X, Y, Z), by their first voxels, that keep less than ``least``.

        ``rows`` (2, X, Y) restricts the search in the compiled code.
        """


class VoxelFolds(Folds):
    """Voxels at which the Jacobian determinant, by central differences, is too small: what is usually counted."""

    def __call__(self, vectors: Tensor, least: float = 0.0, rows: Tensor | None = None) -> Tensor:
        if compiled.fits(vectors):
            from ..compiled import fold_kernels as kernels

            found = _searched(kernels.folded_voxels, vectors, least, rows)
        else:
            found = (~(vf.determinants(vectors) >= least)).nonzero().cpu()
        # All cells that a voxel is a corner of.
        steps = torch.cartesian_prod(*[torch.arange(-1 if n > 1 else 0, 1) for n in vectors.shape[1:]]).reshape(-1, 3)
        return distinct((found[:, None] + steps).reshape(-1, 3))


class CellFolds(Folds):
    """Cells of which some simplex is too small: stricter, and the sharpest of deformations are lost.

    The simplices are one corner and the edges that leave it, and in 3-D two of four corners (Liu et al. 2024,
    doi:10.1007/s11263-024-02047-1). The determinant at a voxel is the mean over the corners there, so that none is
    smaller than all of theirs.
    """

    def __call__(self, vectors: Tensor, least: float = 0.0, rows: Tensor | None = None) -> Tensor:
        if compiled.fits(vectors):
            from ..compiled import fold_kernels as kernels

            return _searched(kernels.folded_cells, vectors, least, rows)
        shape = tuple(vectors.shape[1:])
        used = [axis for axis in range(3) if shape[axis] > 1]
        mapped = vectors[used].reshape(len(used), *[shape[axis] for axis in used]).movedim(0, -1)
        mapped = mapped + lattice(torch.eye(len(used) + 1, dtype=torch.float64), mapped.shape[:-1], mapped)
        bad = (~(smallest_simplices(mapped) >= least)).nonzero().cpu()
        found = torch.zeros(len(bad), 3, dtype=torch.long)
        found[:, used] = bad
        return found


def distinct(points: Tensor) -> Tensor:
    """(M, D) the different ones of (N, D) whole numbers, in order."""
    if not len(points):
        return points
    low = points.amin(dim=0)
    size = (points.amax(dim=0) - low + 1).tolist()
    keys = points.new_zeros(len(points))
    for column, n in zip((points - low).T, size, strict=True):
        keys = keys * n + column
    keys, columns = torch.unique(keys), []
    for n in reversed(size):  # torch.unravel_index would import sympy
        columns.append(keys % n)
        keys = keys // n
    return torch.stack(columns[::-1], dim=1) + low


def _searched(kernel: Callable[..., Any], vectors: Tensor, least: float, rows: Tensor | None) -> Tensor:
    import numpy as np

    shape = tuple(vectors.shape[1:])
    bad, counts = torch.zeros(shape, dtype=torch.uint8), torch.zeros(shape[0], dtype=torch.int64)
    chosen = every_row(shape) if rows is None else rows  # type: ignore[arg-type]
    compiled.call(kernel, vectors, np.float32(least), chosen, bad, counts)
    slabs = counts.nonzero().flatten()
    found = bad[slabs].nonzero()
    found[:, 0] = slabs[found[:, 0]]
    return found
