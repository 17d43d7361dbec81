"""Grids of the dense stage: boxes of voxels, maps between their voxels, parts of images in them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..compiled import Region
from ..image import Image
from ..space import Space
from ..transforms.linear import Linear

ALIKE = 1e-3  # share of a voxel by which the voxels of two grids differ at most when they are the same


def sides(space: Space) -> tuple[int, int, int]:
    """Voxels of a grid along the axes of a volume."""
    return (1,) * (3 - space.ndim) + space.shape  # type: ignore[return-value]


def moved(space: Space, map_: Linear) -> Space:
    """A grid after a linear map of the world."""
    return Space(space.shape, map_.matrix.detach().double().cpu() @ space.affine)


def surroundings(place: Image, margin: float = 0.06) -> Space:
    """The box around an object's mask with a margin of this share of its longest side: as a grid of one voxel."""
    assert place.mask is not None
    index = place.mask[0, 0].nonzero().double().cpu()
    pad = (
        margin * float(((index.amax(dim=0) - index.amin(dim=0) + 1) * place.space.spacing).max()) / place.space.spacing
    )
    low, high = index.amin(dim=0) - pad, index.amax(dim=0) + pad
    limit = torch.tensor(place.space.shape, dtype=torch.float64)
    return _box(place.space, low.clamp(min=-0.5), torch.minimum(high, limit - 0.5))


def reached(space: Space, field: Tensor, matrix: Tensor, region: Region, margin: float) -> Space:
    """The box of a grid that a field reads from voxels that count, as a grid of one voxel.

    Parameters
    ----------
    space
        The grid that is read, D axes.
    field
        (3, X, Y, Z) in voxels of its own grid.
    matrix
        (3, 4) map from there to voxels of the grid that is read.
    region
        The voxels that count.
    margin
        Of the box, in voxels of the grid that is read.
    """
    low, high = [], []
    for row in matrix[3 - space.ndim :].tolist():
        place = torch.full_like(field[0], row[3])
        for axis, factor in enumerate(row[:3]):
            line = torch.arange(field.shape[axis + 1], dtype=field.dtype, device=field.device)
            place.add_(line.reshape([-1 if a == axis else 1 for a in range(3)]), alpha=factor)
            place.add_(field[axis], alpha=factor)
        some = place if region.mass is None else place[region.mass.bool()]
        low.append(float(some.min()) - margin)
        high.append(float(some.max()) + margin)
    limit = torch.tensor(space.shape, dtype=torch.float64)
    least = torch.minimum(torch.tensor(low).double().clamp(min=-0.5), limit - 1)
    return _box(space, least, torch.minimum(torch.tensor(high).double(), limit - 0.5).clamp(min=0))


def _box(space: Space, low: Tensor, high: Tensor) -> Space:
    """A grid of one voxel that reaches from one place in voxels of a grid to another."""
    d = space.ndim
    box = torch.eye(d + 1, dtype=torch.float64)
    box[:d, :d] = torch.diag(high - low)
    box[:d, d] = (low + high) / 2
    return Space((1,) * d, space.affine @ box)


def cut(image: Image, box: Space) -> Image:
    """The part of an image in a box whose axes are those of its voxels."""
    low, shape = window_of(image.space, box)
    window = (slice(None), slice(None), *(slice(a, a + n) for a, n in zip(low, shape, strict=True)))
    mask = None if image.mask is None else image.mask[window]
    return Image(image.data[window].contiguous(), image.space.cropped(low, shape), mask, image.name)


def cut_grid(space: Space, box: Space) -> Space:
    """The grid of :func:`cut`, without an image."""
    return space.cropped(*window_of(space, box))


def continued(space: Space, box: Space) -> Space:
    """The voxels of a grid, and such as would follow at its ends, that fill a box with its axes."""
    low, high = (end.long() for end in _reach(space, box))
    return space.cropped(low.tolist(), (high - low).tolist())


def beyond(space: Space, part: Space, whole: Space, margins: Sequence[tuple[int, int]]) -> Space:
    """A grid drawn out on those sides where it ends with a part of a whole one; their axes are alike.

    There it goes on to the edge of the whole, or by (before, after) so many of its voxels along each axis if they are
    more.
    """
    to_index = torch.linalg.inv(space.affine)
    start, shape = [], []
    for axis, (n, margin) in enumerate(zip(space.shape, margins, strict=True)):
        (low, high), (least, most) = (_ends(to_index @ grid.affine, axis, grid.shape[axis]) for grid in (part, whole))
        before = max(0, margin[0], math.ceil(-0.5 - least - ALIKE)) if low > -1 else 0
        after = max(0, margin[1], math.ceil(most - n + 0.5 - ALIKE)) if high < n else 0
        start.append(-before)
        shape.append(before + n + after)
    return space.cropped(start, shape)


def _ends(matrix: Tensor, axis: int, count: int) -> tuple[float, float]:
    """Where voxels 0 to count - 1 of another grid begin and end, in voxels of the grid that a map leads to."""
    step, first = float(matrix[axis, axis]), float(matrix[axis, -1])
    return first - 0.5 * step, first + (count - 0.5) * step


def window_of(space: Space, box: Space) -> tuple[list[int], list[int]]:
    """The first voxel of the part of a grid in a box with its axes, and how many follow along each."""
    limit = torch.tensor(space.shape)
    low, high = (end.long() for end in _reach(space, box))
    low = torch.minimum(low.clamp(min=0), limit - 1)
    high = torch.maximum(torch.minimum(high, limit), low + 1)
    return low.tolist(), (high - low).tolist()


def _reach(space: Space, box: Space) -> tuple[Tensor, Tensor]:
    """(D,) the first voxel of a grid that a box with its axes touches, and the one after the last."""
    d, to_index = space.ndim, torch.linalg.inv(space.affine)
    corners = box.corners() @ to_index[:d, :d].T + to_index[:d, d]
    return (corners.amin(dim=0) + 0.5 + ALIKE).floor(), (corners.amax(dim=0) + 0.5 - ALIKE).ceil()


def volume(data: Tensor) -> Tensor:
    """(C, *S) -> (C, X, Y, Z)."""
    return data if data.ndim == 4 else data[:, None]


def padded(matrix: Tensor) -> Tensor:
    """(D+1, D+1) map of voxels -> (3, 4) map of the voxels of volumes."""
    d = matrix.shape[0] - 1
    result = torch.eye(3, 4, dtype=torch.float64)
    result[3 - d :, 3 - d : 3] = matrix[:d, :d]
    result[3 - d :, 3] = matrix[:d, d]
    return result
