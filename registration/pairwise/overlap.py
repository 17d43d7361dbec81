"""Soft Dice of many labels at once, each in a box of its own: memory grows with the labels' sizes, not their number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..image import Image
from ..interpolate import linear
from ..losses.base import total
from ..space import Space
from .shares import Share, share_on

Box = tuple[slice, ...]


class Overlaps:
    """Labels of two maps that should overlap, ready to be compared through any sampling grid.

    Parameters
    ----------
    maps
        (1, 1, *S) fixed and moving label map, on any grids.
    values
        The L labels.
    spaces
        The fixed and the moving grid that they are compared on.
    like
        Gives dtype and device.
    """

    def __init__(
        self, maps: tuple[Image, Image], values: Sequence[float], spaces: tuple[Space, Space], like: Tensor
    ) -> None:
        def shares(labels: Image, onto: Space) -> list[Share]:
            found = [share_on(labels, value, onto).within(onto.shape) for value in values]
            return [Share(share.values.to(like), share.first) for share in found]

        self.targets, self.sources = (shares(labels, onto) for labels, onto in zip(maps, spaces, strict=True))
        self.sizes = [total(target.values.square().flatten()) for target in self.targets]
        self.shape = spaces[1].shape

    def mean(self, grid: Tensor) -> Tensor:
        """() mean soft Dice of the labels, float64; differentiable once to the grid.

        Parameters
        ----------
        grid
            (1, *S, D) places of the fixed voxels in the unit coordinates of the moving grid.
        """
        return _Mean.apply(grid, self, torch.is_grad_enabled())  # type: ignore[no-any-return]

    def dice(self, label: int, grid: Tensor, box: Box, slope: Tensor | None) -> Tensor:
        """() soft Dice of one label, seen from a box of the fixed grid; its derivative is added to ``slope``."""
        source, target = self.sources[label], self.targets[label]
        places = grid[(slice(None), *box)]
        if not places.numel() or not source.values.numel():
            return torch.zeros_like(self.sizes[label])  # nothing of it is seen
        factor, offset = self._into(source, places)
        inside = (places.abs().amax(dim=-1) <= 1)[:, None]
        with torch.set_grad_enabled(slope is not None):
            local = (places * factor + offset).requires_grad_(slope is not None)
            found = linear(source.values, local) * inside
        here, there = _common(box, target)
        wanted, seen = target.values[there], found.detach()
        both = (self.sizes[label] + total(seen.square().flatten())).clamp_min(torch.finfo(torch.float32).tiny)
        dice = 2 * total((seen[here] * wanted).flatten()) / both
        if slope is not None:
            upstream = seen * -dice
            upstream[here] += wanted
            (change,) = torch.autograd.grad(found, local, upstream * (2 / both))
            slope[(slice(None), *box)] += change * factor
        return dice

    def boxes(self, grid: Tensor) -> list[Box]:
        """The box of the fixed grid for every label outside of which no place meets the label."""
        size = torch.tensor(self.shape, device=grid.device)
        first = torch.tensor([source.first for source in self.sources], device=grid.device)
        last = first + torch.tensor([source.shape for source in self.sources], device=grid.device)
        ends = []
        for axis in range(1, grid.ndim - 1):
            others = [other for other in range(1, grid.ndim - 1) if other != axis]
            extremes = (grid.amin(dim=others)[0].flip(-1), grid.amax(dim=others)[0].flip(-1))
            low, high = (((unit + 1) * size - 1) / 2 for unit in extremes)
            meets = ((high >= first[:, None] - 0.5) & (low <= last[:, None] - 0.5)).all(dim=-1)
            count = meets.shape[1]
            index = torch.arange(count, device=grid.device)
            ends.append(torch.where(meets, index, count).amin(dim=1))
            ends.append(torch.where(meets, index + 1, 0).amax(dim=1))
        rows = torch.stack(ends, dim=1).tolist()
        return [tuple(slice(a, max(a, b)) for a, b in zip(row[::2], row[1::2], strict=True)) for row in rows]

    def _into(self, source: Share, like: Tensor) -> tuple[Tensor, Tensor]:
        """(D,) factor and offset from the unit coordinates of the moving grid to those of a part of it."""
        n, m, a = (
            torch.tensor(numbers[::-1], dtype=torch.float64) for numbers in (self.shape, source.shape, source.first)
        )
        return (n / m).to(like), ((n - 2 * a) / m - 1).to(like)


class _Mean(torch.autograd.Function):
    """The mean over labels; the derivative is made on the way, so that what one label needs is free before the next."""

    @staticmethod
    def forward(ctx: Any, grid: Tensor, overlaps: Overlaps, derivative: bool) -> Tensor:
        wanted = derivative and ctx.needs_input_grad[0]
        slope = torch.zeros_like(grid, memory_format=torch.contiguous_format) if wanted else None
        plain = grid.detach()
        found = [overlaps.dice(label, plain, box, slope) for label, box in enumerate(overlaps.boxes(plain))]
        ctx.save_for_backward(None if slope is None else slope.div_(len(found)))
        return torch.stack(found).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (slope,) = ctx.saved_tensors
        return slope * grad.to(slope), None, None


def _common(box: Box, share: Share) -> tuple[Box, Box]:
    """Where a box of a grid and a share on it meet, as windows of the (1, 1, *S) values of either."""
    low = [max(side.start, start) for side, start in zip(box, share.first, strict=True)]
    high = [min(side.stop, s + n) for side, s, n in zip(box, share.first, share.shape, strict=True)]
    whole = (slice(None), slice(None))

    def window(starts: Sequence[int]) -> Box:
        return (*whole, *(slice(a - s, max(a, b) - s) for a, b, s in zip(low, high, starts, strict=True)))

    return window([side.start for side in box]), window(share.first)


__all__ = ["Overlaps"]
