"""Grid generator and sampler: pull a moving image back through a transform onto any grid.

How values between voxels are found is in ``interpolate``.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from . import compiled
from .compiled.affine import AffineSampling
from .errors import check_types
from .image import Image, check_images
from .interpolate import Sampler, bspline, linear, nearest, vote
from .space import Space
from .transforms.base import Transform
from .transforms.linear import Linear

__all__ = ["Sampler", "bspline", "linear", "nearest", "pull", "sample", "unit_grid", "vote", "warp", "warp_at"]


def warp(
    moving: Image, transform: Transform, onto: Space, sampler: Sampler = linear, fill: float = 0.0
) -> tuple[Image, Tensor]:
    """Resample a moving image through a transform.

    Parameters
    ----------
    moving
        (B, C, *S) image.
    transform
        Fixed RAS mm -> moving RAS mm; one for all items of the batch, or B of them.
    onto
        The grid of the result, usually the fixed image's.
    sampler
        How values between voxels are found: :func:`linear`, :func:`nearest`, :func:`bspline`, :func:`vote`.
    fill
        Value outside the moving image's field of view.

    Returns
    -------
    The warped (B, C, *onto.shape) image, and its (B, 1, *onto.shape) boolean validity mask: True where the point fell
    inside the moving field of view (voxel edges, the test that ITK makes) and inside the moving mask if there is one.

    Raises
    ------
    TypeError
        If one of them is something else, such as a file name.
    ValueError
        If image, transform and grid differ in dimension.
    """
    check_images(moving=moving)
    check_types(Transform, "registration.read_transform(path)[0] reads one from a file", transform=transform)
    check_types(Space, "that of an image is image.space", onto=onto)
    if not moving.ndim == transform.ndim == onto.ndim:
        raise ValueError(
            f"{moving.name} has {moving.ndim} spatial axes, the transform {transform.ndim}, the target grid {onto.ndim}"
        )
    return warp_at(moving, unit_grid(transform, moving.space, onto, moving.data), onto, sampler, fill)


def warp_at(
    moving: Image, grid: Tensor, onto: Space, sampler: Sampler = linear, fill: float = 0.0
) -> tuple[Image, Tensor]:
    """:func:`warp` at places that are known: the :func:`unit_grid` of the transform, for many images on one grid."""
    values, valid = sample(moving, grid, sampler)
    values = values.masked_fill(~valid, fill)
    if moving.mask is not None:
        mask = replace(moving, data=moving.mask.to(values.dtype), mask=None)
        valid = valid & (sample(mask, grid, nearest)[0] > 0.5)
    return replace(moving, data=values, space=onto, mask=None), valid


def unit_grid(transform: Transform, moving: Space, onto: Space, like: Tensor) -> Tensor:
    """(B or 1, *onto.shape, D) sampling grid in the moving image's unit coordinates; linear parts are fused.

    Of float32 also where ``like`` has 16 bits, in which places are off by voxels.
    """
    like = like.float() if like.dtype in (torch.float16, torch.bfloat16) else like
    grid = (Linear(moving.to_unit()) @ transform).on_grid(onto, like)
    return grid if grid.ndim == onto.ndim + 2 else grid[None]


def pull(moving: Image, transform: Transform, onto: Space) -> tuple[Tensor, Tensor]:
    """:func:`sample` at a :func:`unit_grid`, without the grid where the transform is linear; moving masks are left out.

    Parameters
    ----------
    moving
        (1, C, *S) image.
    transform
        Fixed RAS mm -> moving RAS mm, one or B of them; differentiable to its parameters.
    onto
        The fixed grid, *S'.

    Returns
    -------
    (B, C, *S') values and (B, 1, *S') booleans, whether a place was inside the field of view.
    """
    data = moving.data
    if not (isinstance(transform, Linear) and compiled.fits(data)) or len(data) > 1 or data.requires_grad:
        return sample(moving, unit_grid(transform, moving.space, onto, data))
    maps = torch.linalg.inv(moving.space.affine) @ transform.matrix.double() @ onto.affine
    found: tuple[Tensor, Tensor] = AffineSampling.apply(data, maps if maps.ndim == 3 else maps[None], onto.shape)
    return found


def sample(moving: Image, grid: Tensor, sampler: Sampler = linear) -> tuple[Tensor, Tensor]:
    """Values (B, C, *S') at a (B or 1, *S', D) unit grid, border values outside, and whether each point was inside."""
    batch = max(moving.data.shape[0], grid.shape[0])
    inside = (grid.detach().abs().amax(dim=-1) <= 1)[:, None]
    data = moving.data.expand(batch, *moving.data.shape[1:])
    values = sampler(data.to(grid.dtype), grid.expand(batch, *grid.shape[1:])).to(data.dtype)
    return values, inside.expand(batch, *inside.shape[1:])
