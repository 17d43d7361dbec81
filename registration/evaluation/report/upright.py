"""The grid a pair is shown on: the fixed image's own axes, in the order right, front, up, at a number of voxels that
fits into the page."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch

from ...space import Space


@dataclass(frozen=True)
class Upright:
    """A grid whose axes run most nearly to the patient's right, front and up.

    Parameters
    ----------
    space
        The same voxels as the image's, in another order.
    tilt
        The largest angle between an axis and its world axis, degrees.
    """

    space: Space
    tilt: float


def upright(space: Space) -> Upright:
    """Reorder and flip the axes of a grid so that axis 0 runs to R, axis 1 to A and axis 2 to S as nearly as can be."""
    d = space.ndim
    directions = space.affine[:d, :d] / space.spacing
    order = max(itertools.permutations(range(d)), key=lambda p: sum(abs(float(directions[w, p[w]])) for w in range(d)))
    affine = torch.eye(d + 1, dtype=torch.float64)
    affine[:d, d] = space.affine[:d, d]
    cosines = []
    for world, axis in enumerate(order):
        column = space.affine[:d, axis]
        cosines.append(abs(float(directions[world, axis])))
        if float(column[world]) < 0:
            affine[:d, d] += column * (space.shape[axis] - 1)
            column = -column
        affine[:d, world] = column
    tilt = math.degrees(math.acos(min(1.0, *cosines)))
    return Upright(Space(tuple(space.shape[axis] for axis in order), affine), tilt)


def within(space: Space, voxels: float) -> Space:
    """The same field of view in at most about ``voxels`` voxels, as isotropic as the grid allows; no axis finer."""
    spacing, extent = float(space.spacing.min()), space.extent.tolist()
    shape = space.shape
    while math.prod(shape) > voxels and max(shape) > 1:
        spacing *= 1.04
        # As Space.with_spacing, which makes a grid at every try.
        shape = tuple(max(1, min(n, round(length / spacing))) for n, length in zip(space.shape, extent, strict=True))
    return space if shape == space.shape else space.resized(shape)
