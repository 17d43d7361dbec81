"""The shares of a grid's voxels that labels take: soft maps, each cut to where its label is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..filters import resample
from ..image import Image
from ..sampling import warp
from ..space import Space
from ..transforms.linear import Linear


@dataclass(frozen=True, eq=False)
class Share:
    """What one label takes of the voxels of a part of a grid.

    Parameters
    ----------
    values
        (1, 1, *S) between 0 and 1.
    first
        The voxel of the grid that is the part's first; negative if the part reaches beyond the grid.
    """

    values: Tensor
    first: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels of the part along each axis."""
        return tuple(self.values.shape[2:])

    def within(self, shape: tuple[int, ...]) -> Share:
        """The part of it that lies in a grid of this shape; it may have no voxels."""
        low = [max(0, start) for start in self.first]
        high = [min(n, start + m) for n, start, m in zip(shape, self.first, self.shape, strict=True)]
        box = [slice(a - s, max(a, b) - s) for a, b, s in zip(low, high, self.first, strict=True)]
        return Share(self.values[(slice(None), slice(None), *box)].contiguous(), tuple(low))


def share_on(labels: Image, value: float, onto: Space) -> Share:
    """The share of every voxel of a grid that a label takes: where there is any, with at least a voxel of 0 around it.

    Parameters
    ----------
    labels
        (1, 1, *S) label map, on any grid.
    value
        The label.
    onto
        The grid; where it is coarser than the map, shares are antialiased. They are 0 outside the map's field of view.
    """
    d, part = labels.ndim, label_share(labels, value, onto)
    to_onto = torch.linalg.inv(onto.affine)
    corners = part.space.corners() @ to_onto[:d, :d].T + to_onto[:d, d]
    single = torch.tensor(onto.shape) == 1
    first = torch.where(single, 0, corners.amin(dim=0).floor().long() - 2)
    last = torch.where(single, 1, corners.amax(dim=0).ceil().long() + 3)
    box = onto.cropped(first.tolist(), (last - first).tolist())
    return Share(warp(part, Linear.identity(d), box)[0].data, tuple(first.tolist()))


def label_share(labels: Image, value: float, onto: Space) -> Image:
    """The share that a label takes of the voxels of its map, antialiased for a grid: cut to where it is above 0.

    Parameters
    ----------
    labels
        (1, 1, *S) label map.
    value
        The label.
    onto
        The grid that it will be looked at on; along the axes of the map, the result is no finer.

    Returns
    -------
    (1, 1, *S') with a border of zeros within the map's field of view; one voxel of 0 if the label is not there.
    """
    d, whole = labels.ndim, labels.data[0, 0] == value
    steps = (torch.linalg.inv(onto.affine) @ labels.space.affine)[:d, :d].abs().amax(dim=0).clamp(max=1).tolist()
    shape = [max(1, round(n * step)) for n, step in zip(whole.shape, steps, strict=True)]
    part, start = whole.float(), [0] * d
    for axis, length in enumerate(shape):
        held = whole.movedim(axis, 0).flatten(1).any(dim=1).nonzero()
        low, high = (int(held.min()), int(held.max()) + 1) if len(held) else (0, 1)
        weights = _shares_along(whole.shape[axis], length)[low:high].to(part)
        reached = weights.any(dim=0).nonzero()
        start[axis] = max(0, int(reached.min()) - 1) if len(held) else 0
        last = min(length, int(reached.max()) + 2) if len(held) else 1
        rows = part.narrow(axis, low, high - low).movedim(axis, -1)
        part = (rows @ weights[:, start[axis] : last]).movedim(-1, axis)
    space = labels.space.resized(shape).cropped(start, part.shape)
    return Image(part[None, None].contiguous(), space, None, labels.name)


@lru_cache(maxsize=32)
def _shares_along(many: int, fewer: int) -> Tensor:
    """(many, fewer) what every voxel along an axis gives to each of those that :func:`downsample` makes of them."""
    return resample(torch.eye(many, dtype=torch.float32)[None], (fewer,))[0]
