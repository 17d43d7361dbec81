"""Values between voxels: the one room that calls ``grid_sample``.

Sampling grids are in unit coordinates (:meth:`Space.to_unit`): -1 and 1 are the outer edges of the image.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from . import compiled
from .compiled.blocks import at_once

_CHUNK, _FILLED = 1 << 18, 1 << 22  # places that vote at a time, on the CPU and elsewhere
_TIE = 1e-6  # shares this close are equal but for rounding

Sampler = Callable[[Tensor, Tensor], Tensor]
"""(B, C, *S) data and a (B, *S', D) grid in unit coordinates -> (B, C, *S') values; outside, the border value."""


def linear(data: Tensor, grid: Tensor) -> Tensor:
    """Bi- or trilinear interpolation, differentiable to both, with compiled kernels on the CPU."""
    data, grid = _matched(data, grid)
    if not compiled.fits(data, grid):
        return _grid_sample(data, grid, "bilinear")
    if data.requires_grad and torch.is_grad_enabled():
        from .compiled.gathering import Gathering

        values: Tensor = Gathering.apply(data.movedim(1, -1).contiguous(), grid.contiguous())
        return values.movedim(-1, 1)
    return compiled.LinearSampling.apply(data, grid)  # type: ignore[no-any-return]


def nearest(data: Tensor, grid: Tensor) -> Tensor:
    """The value of the nearest voxel: for labels and masks."""
    return _grid_sample(*_matched(data, grid), "nearest")


def _matched(data: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """One image for many grids, or one grid for many images."""
    if data.shape[0] == grid.shape[0]:
        return data, grid
    batch = max(data.shape[0], grid.shape[0])
    return data.expand(batch, *data.shape[1:]), grid.expand(batch, *grid.shape[1:])


def bspline(data: Tensor, grid: Tensor) -> Tensor:
    """Interpolating cubic B-spline (Unser 1999) by SciPy; for final images, without gradients."""
    from scipy import ndimage

    size = torch.tensor(data.shape[2:][::-1], dtype=torch.float64)
    out = torch.empty(data.shape[0], data.shape[1], *grid.shape[1:-1], dtype=data.dtype)
    for b in range(data.shape[0]):
        index = ((grid[b % grid.shape[0]].detach().cpu().double() + 1) * size - 1) / 2
        places = torch.minimum(index.clamp(min=0), size - 1).flip(-1).movedim(-1, 0).numpy()
        for c in range(data.shape[1]):
            values = data[b, c].detach().cpu().double().numpy()
            out[b, c] = torch.from_numpy(ndimage.map_coordinates(values, places, order=3, mode="mirror")).to(data.dtype)
    return out.to(data.device)


def vote(data: Tensor, grid: Tensor) -> Tensor:
    """The label with the largest share of linear interpolation: for labels, smoother than :func:`nearest`.

    As if the indicator of every label were interpolated linearly and the largest taken, the smaller label of equals;
    only the 2^D voxels around a place can win, so neither time nor memory grow with the number of labels.

    Parameters
    ----------
    data
        (B, C, *S) labels, each channel a map of its own.
    grid
        (B, *S', D) in unit coordinates; outside, the border value.

    Returns
    -------
    (B, C, *S') labels that are in ``data``, without gradient.
    """
    data, grid = data.detach(), grid.detach()
    out = torch.empty(len(grid), data.shape[1], grid[0, ..., 0].numel(), dtype=data.dtype, device=data.device)
    for b in range(len(grid)):
        labels, places = data[b % len(data)], grid[b].reshape(-1, grid.shape[-1])
        step = at_once(places, _CHUNK, _FILLED)
        for start in range(0, len(places), step):
            out[b, :, start : start + step] = _voted(labels, places[start : start + step])
    return out.reshape(len(grid), data.shape[1], *grid.shape[1:-1])


def _voted(labels: Tensor, places: Tensor) -> Tensor:
    """(C, N) labels at (N, D) places of a (C, *S) map."""
    size = torch.tensor(labels.shape[1:], device=places.device)
    index = ((places.flip(-1).double() + 1) * size - 1) / 2
    index = torch.minimum(index.clamp(min=0), (size - 1).double())
    low = index.long()
    around, share = [], []
    for corner in product((0, 1), repeat=len(size)):
        step = torch.tensor(corner, device=places.device)
        share.append(torch.where(step == 1, index - low, 1 - index + low).prod(dim=1))
        place = torch.minimum(low + step, size - 1).T
        around.append(labels[:, *place])
    near, shares = torch.stack(around), torch.stack(share)  # (2^D, C, N), (2^D, N)
    found = near[0].clone()
    # Inside a structure there is nothing to vote on, and most places are inside.
    open_ = (near != near[0]).any(dim=0).any(dim=0)
    near, shares = near[..., open_], shares[:, None, open_]
    votes = torch.stack([((near == one) * shares).sum(dim=0) for one in near])
    wins = votes >= votes.amax(dim=0) - _TIE
    found[:, open_] = torch.where(wins, near, torch.inf).amin(dim=0)
    return found


def _grid_sample(data: Tensor, grid: Tensor, mode: str) -> Tensor:
    """``grid_sample`` with border padding.

    On the CPU torch spreads the work over the batch alone, so a lone image is cut into slabs of the grid, one per
    thread, which share the image as an expanded batch. The values are the same to the bit.
    """
    channels = data.shape[1]
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
