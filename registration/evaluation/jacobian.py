"""What a map does to volumes: folds counted in two ways, and how unevenly it stretches.

Letters in shapes: S spatial shape, D spatial dimension.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..space import Space
from ..transforms.base import Transform
from ..transforms.cells import smallest_simplices
from ..transforms.linear import Linear
from .metrics import folding_percent, jacobian_determinants

PERCENTILES = (1, 5, 50, 95, 99)
# Logarithms are of determinants no smaller than this, so that folded voxels count as extreme compression.
LEAST = 1e-9
_SLAB = 1 << 19  # cells looked at at once: what is made of them stays in the cache


def jacobian_figures(transform: Transform, space: Space) -> dict[str, float | None]:
    """Everything that is told of the Jacobian determinant, over the whole grid.

    Parameters
    ----------
    transform
        Fixed RAS mm -> moving RAS mm.
    space
        The fixed grid.

    Returns
    -------
    ``folding`` and ``folding_simplex`` (percent), ``sdlogj``, and ``jacobian_min``, ``jacobian_p01`` ...
    ``jacobian_p99``, ``jacobian_max``.
    """
    if isinstance(transform, Linear):
        determinants = torch.linalg.det(transform.matrix.double()[: space.ndim, : space.ndim]).reshape(1)
        folding = folding_percent(transform, space)
    else:
        determinants = jacobian_determinants(transform, space).flatten()
        folding = 100 * float((determinants <= 0).double().mean())
    values = determinants.numpy()
    low_to_high = np.percentile(values, (0, *PERCENTILES, 100))
    names = ("min", *(f"p{p:02d}" for p in PERCENTILES), "max")
    return {
        "folding": folding,
        "folding_simplex": simplex_folding_percent(transform, space),
        "sdlogj": sd_log_jacobian(determinants),
        **{f"jacobian_{name}": float(value) for name, value in zip(names, low_to_high, strict=True)},
    }


def sd_log_jacobian(determinants: Tensor) -> float:
    """Standard deviation of the natural logarithm of the determinants, clamped to 1e-9 from below."""
    return float(determinants.double().clamp_min(LEAST).log().std(unbiased=False))


def simplex_folding_percent(transform: Transform, space: Space) -> float | None:
    """Share of the cells between voxel centres in which some corner simplex loses its orientation; percent.

    Central differences do not see a voxel that jumps between its neighbours. Here every cell of 2^D voxel centres is
    mapped corner by corner: its 2^D simplices of one corner and the D edges that leave it must all keep a positive
    volume, in 3-D also its two simplices of four corners of which no two share an edge. Where all cells pass, the
    map is one-to-one as a piecewise linear map of the grid ("digitally diffeomorphic", Liu et al. 2024,
    doi:10.1007/s11263-024-02047-1).

    Returns
    -------
    None for grids with an axis of one voxel, which have no cells.
    """
    if min(space.shape) < 2:
        return None
    if isinstance(transform, Linear):
        return folding_percent(transform, space)
    mapped = transform.on_grid(space, torch.zeros(0, dtype=torch.float32))
    if mapped.ndim == space.ndim + 2:
        mapped = mapped[0]
    keeps = float(torch.linalg.det(space.affine[:-1, :-1])) > 0
    rows = max(1, _SLAB * space.shape[0] // mapped[..., 0].numel())
    folded = cells = 0
    for start in range(0, space.shape[0] - 1, rows):
        bad = folded_cells(mapped[start : start + rows + 1], keeps)
        folded += int(bad.sum())
        cells += bad.numel()
    return 100 * folded / cells


def folded_cells(mapped: Tensor, keeps: bool = True) -> Tensor:
    """(*S - 1) boolean: cells of which some corner simplex is flat or turned inside out.

    Parameters
    ----------
    mapped
        (*S, D) where the voxel centres go.
    keeps
        Whether the voxel axes are right-handed in the world, as they are with a positive determinant of the affine.
    """
    return ~(smallest_simplices(mapped, keeps) > 0)


def inverse_consistency(forward: Transform, backward: Transform, points: Tensor) -> Tensor:
    """(N,) distances in mm of fixed points from where they come back to: ``|backward(forward(x)) - x|``.

    Parameters
    ----------
    forward, backward
        Fixed RAS mm -> moving RAS mm, and the other way.
    points
        (N, D) fixed RAS mm.
    """
    return (backward(forward(points)) - points).norm(dim=-1)
