"""Grid generator and sampler: pull a moving image back through a transform onto any grid.

This is the only place that calls ``grid_sample``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from . import compiled
from .image import Image
from .space import Space
from .transforms.base import Transform
from .transforms.linear import Linear

Sampler = Callable[[Tensor, Tensor], Tensor]
"""(B, C, *S) data and a (B, *S', D) grid in unit coordinates -> (B, C, *S') values; outside, the border value."""


def linear(data: Tensor, grid: Tensor) -> Tensor:
    """Bi- or trilinear interpolation; differentiable to both arguments. The CPU has a compiled kernel for constant images."""
    if compiled.fits(data, grid) and not (data.requires_grad and torch.is_grad_enabled()):
        return compiled.LinearSampling.apply(data, grid)  # type: ignore[no-any-return]
    return _grid_sample(data, grid, "bilinear")


def nearest(data: Tensor, grid: Tensor) -> Tensor:
    """The value of the nearest voxel: for labels and masks."""
    return _grid_sample(data, grid, "nearest")


def bspline(data: Tensor, grid: Tensor) -> Tensor:
    """Interpolating cubic B-spline (Unser 1999) by SciPy; for final images, without gradients."""
    from scipy import ndimage

    size = torch.tensor(data.shape[2:][::-1], dtype=torch.float64)
    out = torch.empty(data.shape[0], data.shape[1], *grid.shape[1:-1], dtype=data.dtype)
    for b in range(data.shape[0]):
        index = ((grid[b % grid.shape[0]].detach().cpu().double() + 1) * size - 1) / 2
        index = torch.minimum(index.clamp(min=0), size - 1).flip(-1).movedim(-1, 0).numpy()
        for c in range(data.shape[1]):
            values = data[b, c].detach().cpu().double().numpy()
            out[b, c] = torch.from_numpy(ndimage.map_coordinates(values, index, order=3, mode="mirror")).to(data.dtype)
    return out.to(data.device)


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
        How values between voxels are found: :func:`linear`, :func:`nearest`, :func:`bspline`.
    fill
        Value outside the moving image's field of view.

    Returns
    -------
    The warped (B, C, *onto.shape) image, and its (B, 1, *onto.shape) boolean validity mask: True where the point fell inside
    the moving field of view (voxel edges, the test that ITK makes) and inside the moving mask if there is one.

    Raises
    ------
    ValueError
        If image, transform and grid differ in dimension.
    """
    if not moving.ndim == transform.ndim == onto.ndim:
        raise ValueError(
            f"{moving.name} has {moving.ndim} spatial axes, the transform {transform.ndim}, the target grid {onto.ndim}"
        )
    grid = unit_grid(transform, moving.space, onto, moving.data)
    values, valid = sample(moving, grid, sampler)
    if fill == 0:
        values = values * valid
    else:
        values = torch.where(valid, values, torch.as_tensor(fill, dtype=values.dtype, device=values.device))
    if moving.mask is not None:
        valid = valid & (nearest(moving.mask.to(values.dtype), grid) > 0.5)
    return replace(moving, data=values, space=onto, mask=None), valid


def unit_grid(transform: Transform, moving: Space, onto: Space, like: Tensor) -> Tensor:
    """(B or 1, *onto.shape, D) sampling grid in the moving image's unit coordinates; linear parts are fused."""
    grid = (Linear(moving.to_unit()) @ transform).on_grid(onto, like)
    return grid if grid.ndim == onto.ndim + 2 else grid[None]


def sample(moving: Image, grid: Tensor, sampler: Sampler = linear) -> tuple[Tensor, Tensor]:
    """Values (B, C, *S') at a (B or 1, *S', D) unit grid, border values outside, and whether each point was inside."""
    batch = max(moving.data.shape[0], grid.shape[0])
    inside = (grid.detach().abs().amax(dim=-1) <= 1)[:, None]
    data = moving.data.expand(batch, *moving.data.shape[1:])
    return sampler(data, grid.expand(batch, *grid.shape[1:])), inside.expand(batch, *inside.shape[1:])


def _grid_sample(data: Tensor, grid: Tensor, mode: str) -> Tensor:
    """``grid_sample`` with border padding.

    On the CPU torch spreads the work over the batch alone, so a lone image is cut into slabs of the grid, one per thread,
    which share the image as an expanded batch. The values are the same to the bit.
    """
    batch, channels = data.shape[:2]
    if batch != grid.shape[0]:
        data = data.expand(grid.shape[0], *data.shape[1:])
    slabs = min(torch.get_num_threads(), grid.shape[1]) if data.device.type == "cpu" else 1
    if slabs <= 1 or grid.shape[0] > 1 or (data.requires_grad and torch.is_grad_enabled()):
        return F.grid_sample(data, grid, mode=mode, padding_mode="border", align_corners=False)
    rows = grid.shape[1]
    even = rows - rows % slabs
    parts = grid[0, :even].reshape(slabs, even // slabs, *grid.shape[2:])
    wide = data.expand(slabs, *data.shape[1:])
    values = F.grid_sample(wide, parts, mode=mode, padding_mode="border", align_corners=False)
    values = values.transpose(0, 1).reshape(1, channels, even, *grid.shape[2:-1])
    if even < rows:
        rest = F.grid_sample(data, grid[:, even:], mode=mode, padding_mode="border", align_corners=False)
        values = torch.cat([values, rest], dim=2)
    return values
