"""Where two images have anything to align: found coarsely once, then kept to at every level."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..compiled import Region
from ..compiled.region import rows_of
from ..filters import downsample
from ..image import Image
from ..sampling import nearest, unit_grid
from ..space import Space
from ..transforms.base import Transform
from .pair import Pair

_MARGIN = 3  # voxels of a level about whatever can be seen: windows there still touch it
_REACH = 4  # voxels further at least, where steps fade out
_COUNTED = 100  # voxels along an axis that are enough to say how many of a level are worked on


def object_of(image: Image, samples: int = 64) -> Image:
    """Where an image has anything to align: its mask, else whatever differs from the flat background.

    A coarse image whose mask holds the voxels inside the mask, or with a visible local variation of intensity.
    """
    size = max(image.space.extent.tolist()) / samples
    small = downsample(image, image.space.with_spacing(size).shape)
    if small.mask is not None and bool(small.mask.any()):
        return small
    # In any channel: what is bright in one may be dark in another, and their mean flat.
    busy = (_highest(small.data) + _highest(-small.data)).amax(dim=1, keepdim=True) > 0.05
    return small.with_mask(busy if bool(busy.any()) else torch.ones_like(busy))


def _highest(values: Tensor) -> Tensor:
    """(1, C, *S) largest value among each voxel and its neighbours, corners included."""
    for axis in range(2, values.ndim):
        n = values.shape[axis] - 1
        result = values.clone()
        for to, at in ((1, 0), (0, 1)):
            torch.maximum(result.narrow(axis, to, n), values.narrow(axis, at, n), out=result.narrow(axis, to, n))
        values = result
    return values


def common_ground(pair: Pair, initial: Transform) -> Image:
    """A coarse image on the fixed field of view whose mask holds whatever can be seen in either image, holes filled.

    Parameters
    ----------
    pair
        The images; where one has a mask, that tells what can be seen in it.
    initial
        Fixed RAS mm -> moving RAS mm.
    """
    fixed, moving = object_of(pair.fixed), object_of(pair.moving)
    assert fixed.mask is not None and moving.mask is not None
    grid = unit_grid(initial, moving.space, fixed.space, fixed.data)
    inside = (grid.abs().amax(dim=-1) <= 1)[:, None]
    seen = fixed.mask | (inside & (nearest(moving.mask.float(), grid) > 0.5))
    # Where the moving image ends there is nothing to compare; border voxels of this coarse grid may lie half outside.
    filled = _filled(seen)
    for ground in (filled & ~_grown(~inside, [1] * fixed.ndim), filled & inside, seen):
        if bool(ground.any()):
            return fixed.with_mask(ground)
    return fixed.with_mask(torch.ones_like(seen))


def region_on(ground: Image, space: Space, weight: Tensor | None, reach: int = 0) -> Region:
    """The common ground on a level's grid, a part of the fixed field of view with the same axes.

    Parameters
    ----------
    ground
        From :func:`common_ground`.
    space
        The level's grid.
    weight
        (1, 1, *S) boolean, voxels of the level that masks allow; None for all.
    reach
        Largest radius of the windows that will be used, voxels of the level.
    """
    assert ground.mask is not None
    mass, near = (
        _volume(_taken(_grown(ground.mask, steps), ground.space, space)) for steps in _steps(ground, space, reach)
    )
    if weight is not None:
        mass = mass & _volume(weight)
    if bool(mass.all()):
        return Region.whole(tuple(mass.shape))  # type: ignore[arg-type]
    return Region(rows_of(near), mass.to(torch.uint8).contiguous())


def voxels_on(ground: Image, space: Space) -> float:
    """How many voxels the rows of :func:`region_on` have on a level's grid, to about a hundredth of its sides."""
    assert ground.mask is not None
    coarse = space.resized([min(n, _COUNTED) for n in space.shape])
    near = _volume(_taken(_grown(ground.mask, _steps(ground, space, 0)[1]), ground.space, coarse))
    rows = rows_of(near)
    return float((rows[1] - rows[0]).sum()) / near.numel() * math.prod(space.shape)


def _steps(ground: Image, space: Space, reach: int) -> tuple[list[int], list[int]]:
    """By how many voxels of the coarse image the ground grows to what counts on a level, and to what is worked on."""
    voxel = min(s for s, n in zip(space.spacing.tolist(), space.shape, strict=True) if n > 1 or max(space.shape) == 1)
    own = ground.space.spacing.tolist()
    close = [math.ceil(_MARGIN * voxel / s) for s in own]
    far = [
        math.ceil((_MARGIN * voxel + max(_REACH * voxel, reach * t)) / s) + 1
        for s, t in zip(own, space.spacing.tolist(), strict=True)
    ]
    return close, far


def _filled(mask: Tensor) -> Tensor:
    """(1, 1, *S) with every voxel that lies between others along all axes."""
    result = torch.ones_like(mask)
    for axis in range(2, mask.ndim):
        if mask.shape[axis] > 1:
            before = mask.int().cummax(dim=axis).values
            after = mask.flip(axis).int().cummax(dim=axis).values.flip(axis)
            result &= (before & after).bool()
    return result | mask


def _grown(mask: Tensor, steps: list[int]) -> Tensor:
    """(1, 1, *S) with all voxels within so many steps along the axes."""
    for axis, step in enumerate(steps, start=2):
        if mask.shape[axis] > 1 and step > 0:
            place = torch.arange(mask.shape[axis], device=mask.device)
            upto = mask.cumsum(dim=axis, dtype=torch.int32)
            after = upto.index_select(axis, (place + step).clamp(max=len(place) - 1))
            before = (upto - mask.int()).index_select(axis, (place - step).clamp(min=0))
            mask = after > before
    return mask


def _taken(mask: Tensor, own: Space, onto: Space) -> Tensor:
    """(*S) the mask at the nearest voxels of another grid with the same axes."""
    map_ = torch.linalg.inv(own.affine) @ onto.affine
    result = mask[0, 0]
    for axis, n in enumerate(onto.shape):
        index = (torch.arange(n) * map_[axis, axis] + map_[axis, -1]).round().long()
        result = result.index_select(axis, index.clamp(0, own.shape[axis] - 1).to(mask.device))
    return result


def _volume(mask: Tensor) -> Tensor:
    """(..., *S) -> (X, Y, Z)."""
    mask = mask.reshape(mask.shape[2:]) if mask.ndim > 3 else mask
    return mask if mask.ndim == 3 else mask[None]
