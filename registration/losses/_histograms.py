"""Joint histograms of warped and fixed images: their moments, and what a loss of them gives back to intensities."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..compiled.affine import Histogram
from ._ranges import Scale


class Histograms(ABC):
    """The moments of intensities in the cells of joint histograms, and the way back.

    Parameters
    ----------
    values
        (B, C, N) intensities of the warped images.
    scale
        Their places among the bins.
    rows
        (B or 1, C, N) int64 index of the first cell in the histogram row of every voxel.
    weight
        (B, N) or None.
    bins
        Per image.
    """

    @abstractmethod
    def __init__(self, values: Tensor, scale: Scale, rows: Tensor, weight: Tensor | None, bins: int) -> None: ...

    @abstractmethod
    def moments(self) -> Tensor:
        """(B, C, bins * bins, 4) float64 sums of 1, t, t^2, t^3 over the voxels of each cell, weighted."""

    @abstractmethod
    def gradient(self, table: Tensor, out: Tensor) -> None:
        """Into ``out`` (B, C, N): the derivative to intensities, by (B, C, bins * bins, 3) quadratics in t of cells."""


class TorchHistograms(Histograms):
    """All images at once, on any device, in any dtype."""

    def __init__(self, values: Tensor, scale: Scale, rows: Tensor, weight: Tensor | None, bins: int) -> None:
        self.slope, self.bins = scale.slope[..., None], bins
        self.weight = None if weight is None else weight[:, None]
        self.place = scale.place(values, bins)
        base = self.place.floor().clamp_(max=bins - 3)
        self.t = self.place - base
        image = torch.arange(values.shape[0] * values.shape[1], device=values.device).reshape(*values.shape[:2], 1)
        self.cell = base.long().add_(rows).add_(image * bins**2)

    def moments(self) -> Tensor:
        t = self.t.double()
        power = torch.ones_like(t) if self.weight is None else self.weight.to(t.dtype).expand_as(t)
        cells, length = self.cell.flatten(), t.shape[0] * t.shape[1] * self.bins**2
        sums = []
        for k in range(4):
            power = power * t if k else power
            sums.append(torch.bincount(cells, weights=power.flatten(), minlength=length))
        return torch.stack(sums, dim=-1).reshape(*t.shape[:2], self.bins**2, 4)

    def gradient(self, table: Tensor, out: Tensor) -> None:
        first, second, third = (column.contiguous() for column in table.to(self.t).flatten(0, 2).unbind(1))
        torch.take(third, self.cell, out=out)
        out.mul_(self.t).add_(torch.take(second, self.cell)).mul_(self.t).add_(torch.take(first, self.cell))
        out.masked_fill_((self.place <= 2) | (self.place >= self.bins - 2), 0).mul_(self.slope)
        if self.weight is not None:
            out.mul_(self.weight)


class CompiledHistograms(Histograms):
    """One image, float32 on the CPU, by compiled loops."""

    def __init__(self, values: Tensor, scale: Scale, rows: Tensor, weight: Tensor | None, bins: int) -> None:
        own = None if weight is None else weight[0]
        low, slope = float(scale.low), float(scale.slope)
        self.found = Histogram(values[0, 0], low, slope, rows[0, 0], own, bins)

    def moments(self) -> Tensor:
        return self.found.moments()[None, None]

    def gradient(self, table: Tensor, out: Tensor) -> None:
        self.found.gradient(table[0, 0], out[0, 0])
