"""Ranges of intensities, and where a value lies in a histogram of one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Range = tuple[float, float]

_SAMPLES = 1 << 17  # voxels at most that are sorted to find an intensity range


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

    def place(self, x: Tensor, b: int, bins: int) -> Tensor:
        """(C, N) histogram coordinates of item b, between 2 and bins - 2."""
        low, slope = self.low[b % len(self.low)], self.slope[b % len(self.low)]
        return (x[b].detach().flatten(1) - low[:, None]).mul_(slope[:, None]).add_(2).clamp_(2, bins - 2)


def _data_range(x: Tensor, mask: Tensor | None, tail: float) -> tuple[Tensor, Tensor]:
    """(B, C) low and high ends of the intensities inside the mask, from a regular subset of the voxels."""
    ends = x.new_zeros(2, *x.shape[:2])
    step = max(1, x[0, 0].numel() // _SAMPLES) if tail > 0 else 1
    for b in range(x.shape[0]):
        inside = None if mask is None else mask[b % mask.shape[0]].flatten()[::step] > 0
        for c in range(x.shape[1]):
            values = x[b, c].flatten()[::step]
            values = values if inside is None else values[inside]
            if values.numel() == 0 and step > 1 and mask is not None:
                values = x[b, c].flatten()[mask[b % mask.shape[0]].flatten() > 0]
            if values.numel() == 0:
                continue
            if tail > 0:
                values = values.sort().values
                cut = int(tail * (len(values) - 1))
                ends[0, b, c], ends[1, b, c] = values[cut], values[len(values) - 1 - cut]
            else:
                ends[0, b, c], ends[1, b, c] = values.aminmax()
    return ends[0], ends[1]
