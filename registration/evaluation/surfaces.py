"""Distances between the surfaces of two label maps, in mm.

The surface of a structure is made of its voxels with a face neighbour outside it, or outside the grid; distances are
between the centres of such voxels. That is the definition of MONAI's ``HausdorffDistanceMetric(percentile=95)`` and
``SurfaceDistanceMetric(symmetric=True)``, which these figures equal wherever MONAI can be given the grid: here voxels
may also be sheared, and all structures of a map are found in one pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..space import Space


@dataclass(frozen=True)
class SurfaceDistance:
    """How far two surfaces are apart, mm.

    Parameters
    ----------
    hd95
        The larger of the two 95th percentiles: of the distances of one surface from the other, and the other way
        (Huttenlocher et al. 1993, with a percentile in place of the maximum).
    assd
        Mean of all distances, both ways, each surface voxel counting once.
    """

    hd95: float
    assd: float


def surface_distances(a: Tensor, b: Tensor, space: Space, labels: Iterable[int]) -> dict[int, SurfaceDistance | None]:
    """Surface distances of every label between two maps.

    Parameters
    ----------
    a, b
        (*S) label maps, integer-valued.
    space
        Their grid.
    labels
        Which to judge.

    Returns
    -------
    Label -> distances; None where a map does not have the label, for there is no surface to measure from.

    Raises
    ------
    ValueError
        If a map does not have the shape of the grid.
    """
    for values in (a, b):
        if tuple(values.shape) != space.shape:
            raise ValueError(f"a label map of shape {tuple(values.shape)} does not fit a grid of {space.shape}")
    first, second = (surface_points(values, space) for values in (a, b))
    return {
        label: _between(first[label], second[label]) if label in first and label in second else None for label in labels
    }


def surface_points(labels: Tensor, space: Space) -> dict[int, np.ndarray]:
    """Label -> (N, D) surface voxels in RAS mm, up to a shift that is the same for all maps of this grid."""
    values = labels.cpu().numpy()
    surface = np.zeros(values.shape, dtype=bool)
    for axis in range(values.ndim):
        change = np.diff(values, axis=axis) != 0
        ends = [slice(None)] * values.ndim
        for here, there in ((slice(None, -1), 0), (slice(1, None), -1)):
            ends[axis] = here
            surface[tuple(ends)] |= change
            ends[axis] = there  # type: ignore[call-overload]
            surface[tuple(ends)] = True
    surface &= values != 0
    index = np.nonzero(surface)
    matrix = space.affine[: space.ndim, : space.ndim].numpy()
    points = np.stack(index, axis=1) @ matrix.T
    owner = np.rint(values[index]).astype(np.int64)
    order = np.argsort(owner, kind="stable")
    names, starts = np.unique(owner[order], return_index=True)
    parts = np.split(points[order], starts[1:]) if len(names) else []
    return {int(name): part for name, part in zip(names, parts, strict=True)}


def _between(a: np.ndarray, b: np.ndarray) -> SurfaceDistance:
    from scipy.spatial import KDTree

    there = KDTree(b, leafsize=32).query(a)[0]
    back = KDTree(a, leafsize=32).query(b)[0]
    hd95 = max(float(np.percentile(distances, 95)) for distances in (there, back))
    return SurfaceDistance(hd95, float(np.concatenate([there, back]).mean()))
