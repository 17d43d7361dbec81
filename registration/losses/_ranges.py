"""Ranges of intensities, and where a value lies in a histogram of one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ._slabs import part_of

Range = tuple[float, float]

_SAMPLES = 1 << 17  # voxels at most that are sorted to find an intensity range


def check_ranges(*ranges: Range | None) -> None:
    """Refuse what is no range (low, high) of finite intensities, low < high; None is one that is looked for."""
    for given in ranges:
        if given is not None and not -math.inf < given[0] < given[1] < math.inf:
            raise ValueError(f"expected an intensity range (low, high) with low < high, got {given}")


@dataclass(frozen=True, eq=False)
class Scale:
    """Intensity to histogram coordinates, ``(value - low) * slope + 2``; (B, C) tensors, slope 0 if constant."""

    low: Tensor
    slope: Tensor

    @staticmethod
    def of(x: Tensor, mask: Tensor | None, given: Range | None, bins: int, tail: float) -> Scale:
        """That of (B, C, *S) images: between ``given`` ends, or those of the voxels inside the (B, 1, *S) mask."""
        if given is None:
            low, high = _data_range(x.detach(), mask, tail)
        else:
            low, high = x.new_full(x.shape[:2], given[0]), x.new_full(x.shape[:2], given[1])
        width = high - low
        return Scale(low, torch.where(width > 0, (bins - 4) / torch.where(width > 0, width, 1), 0))

    def part(self, items: slice, channels: slice) -> Scale:
        """That of some items and channels."""
        return Scale(part_of(self.low, items)[:, channels], part_of(self.slope, items)[:, channels])

    def place(self, x: Tensor, bins: int) -> Tensor:
        """(B, C, N) histogram coordinates of (B, C, *S) images, between 2 and bins - 2."""
        place = x.detach().flatten(2) - self.low[..., None]
        return place.mul_(self.slope[..., None]).add_(2).clamp_(2, bins - 2)


def _data_range(x: Tensor, mask: Tensor | None, tail: float) -> tuple[Tensor, Tensor]:
    """(B, C) low and high ends of the intensities inside the mask, from a regular subset of the voxels."""
    flat = x.flatten(2)
    step = max(1, flat.shape[2] // _SAMPLES) if tail > 0 else 1
    if mask is None:
        return _ends(flat[..., ::step], tail)
    found = []
    for b, values in enumerate(flat):
        inside = mask[b % len(mask)].flatten() > 0
        some = values[:, ::step][:, inside[::step]]
        found.append(_ends(some if some.shape[1] or step == 1 else values[:, inside], tail))
    low, high = (torch.stack(ends) for ends in zip(*found, strict=True))
    return low, high


def _ends(values: Tensor, tail: float) -> tuple[Tensor, Tensor]:
    """Low and high ends of (..., N) values; zeros where there are none."""
    count = values.shape[-1]
    if count == 0:
        return values.new_zeros(values.shape[:-1]), values.new_zeros(values.shape[:-1])
    if tail == 0:
        return values.amin(dim=-1), values.amax(dim=-1)
    most = int(tail * (count - 1)) + 1
    low, high = (values.topk(most, dim=-1, largest=largest).values[..., -1] for largest in (False, True))
    return low, high
