"""What a map does to the volumes of structures, for morphometry.

Letters in shapes: S spatial shape, D spatial dimension.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..space import Space
from ..transforms.base import Transform, parts_of
from ..transforms.linear import Linear
from .jacobian import PERCENTILES
from .metrics import jacobian_determinants

_FIT = 64  # voxels along an axis of the lattice to which an affine map is fitted


@dataclass(frozen=True)
class LabelVolume:
    """A structure of the fixed image and what becomes of it.

    Parameters
    ----------
    label, voxels
        Its number, and how many voxels of the fixed grid have it.
    fixed, moving
        Its volume in the fixed image, and that of its image in the moving one: the sum of the determinants, those of
        folded voxels with their sign; mm3, in 2-D mm2.
    folded
        Voxels whose determinant is 0 or less.
    mean, percentiles
        Of the finite values of the map that was given, the percentiles ``PERCENTILES``; None where there are none.
    """

    label: int
    voxels: int
    fixed: float
    moving: float
    folded: int
    mean: float | None
    percentiles: tuple[float | None, ...]

    @property
    def ratio(self) -> float:
        """Volume in the moving image by volume in the fixed one."""
        return self.moving / self.fixed


def determinant_map(transform: Transform, space: Space) -> Tensor:
    """(*S) float32 determinants as :func:`jacobian_determinants` finds them; of a linear map the exact one."""
    if isinstance(transform, Linear):
        return torch.full(space.shape, _determinant(transform))
    return jacobian_determinants(transform, space)


def linear_determinant(transform: Transform, space: Space) -> tuple[float, bool]:
    """The determinant of the affine part of a transform: what remains without it is the quotient of both.

    Parameters
    ----------
    transform
        Fixed RAS mm -> moving RAS mm, not batched.
    space
        The fixed grid.

    Returns
    -------
    The product over the linear maps of the chain, wherever they stand in it, for determinants multiply; of a chain
    without any the determinant of the affine map that is nearest to it by least squares, on a lattice of at most 64
    places along each axis of the field of view. And whether it was fitted.

    Raises
    ------
    ValueError
        If there is nothing to fit along an axis of one voxel, or the nearest affine map is singular.
    """
    linear = [part for part in parts_of(transform) if isinstance(part, Linear)]
    if linear:
        return float(np.prod([_determinant(part) for part in linear])), False
    if min(space.shape) < 2:
        raise ValueError(f"no affine map can be fitted to a grid of {' x '.join(map(str, space.shape))} voxels")
    lattice = space.resized([min(n, _FIT) for n in space.shape])
    mapped = transform.on_grid(lattice, torch.zeros(0, dtype=torch.float64))
    columns = []
    for axis, n in enumerate(lattice.shape):
        # The places of a lattice along one axis are independent of those along the others.
        steps = torch.arange(n, dtype=torch.float64) - (n - 1) / 2
        others = tuple(other for other in range(lattice.ndim) if other != axis)
        columns.append(steps @ mapped.mean(dim=others) / steps.square().sum())
    fitted = float(torch.linalg.det(torch.stack(columns, dim=-1)) / torch.linalg.det(lattice.affine[:-1, :-1]))
    if abs(fitted) < 1e-9:
        raise ValueError("the affine map nearest to the transform is singular")
    return fitted, True


def label_volumes(labels: Tensor, determinants: Tensor, values: Tensor, space: Space) -> list[LabelVolume]:
    """The volumes of every structure, in the order of the labels; 0 is none.

    Parameters
    ----------
    labels
        (*S) whole numbers on the fixed grid.
    determinants
        (*S) of the whole transform: they give the volumes.
    values
        (*S) the map that mean and percentiles are of: the determinants, or what was made of them. NaN is left out.
    space
        The fixed grid.
    """
    numbers = labels.flatten().round().long().numpy()
    order = np.argsort(numbers, kind="stable")
    found, starts = np.unique(numbers[order], return_index=True)
    voxel = abs(float(torch.linalg.det(space.affine[:-1, :-1])))
    result = []
    for label, where in zip(found.tolist(), np.split(order, starts[1:]), strict=True):
        if label == 0:
            continue
        inside = determinants.flatten().numpy()[where].astype(np.float64)
        told = values.flatten().numpy()[where].astype(np.float64)
        told = told[np.isfinite(told)]
        result.append(
            LabelVolume(
                label, where.size, where.size * voxel, float(inside.sum()) * voxel, int((inside <= 0).sum()),
                float(told.mean()) if told.size else None,
                tuple(np.percentile(told, PERCENTILES).tolist()) if told.size else (None,) * len(PERCENTILES),
            )
        )  # fmt: skip
    return result


def _determinant(linear: Linear) -> float:
    return float(torch.linalg.det(linear.matrix.double()))
