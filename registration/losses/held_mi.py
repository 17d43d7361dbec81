"""Local mutual information of which the histograms are held, so that images can be compared part by part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .. import compiled
from ..compiled import Region
from ..compiled.joint import JointBlocks
from ._joint_cells import Ends, blocks_of, cells, ends_of
from .base import Similarity


class HeldInformation(Similarity):
    """What local mutual information is to first order: every pair of intensities has the worth that it had.

    Parameters
    ----------
    scales
        Of every channel.
    terms
        Of every channel, (*S', bins, bins) the derivative to the cells of all blocks times the voxels that count.
    value
        The loss when they were taken.
    sizes, shape
        Of a block, and of the whole images, in voxels.
    """

    def __init__(
        self,
        scales: Sequence[Ends],
        terms: Sequence[Tensor],
        value: float,
        sizes: Sequence[int],
        shape: Sequence[int],
    ) -> None:
        super().__init__()
        self.scales, self.terms, self.value = tuple(scales), tuple(terms), value
        self.sizes, self.shape = tuple(sizes), tuple(shape)
        self.blocks = [torch.arange(n) // size for n, size in zip(shape, sizes, strict=True)]

    def at(self, places: Sequence[Tensor]) -> HeldInformation:
        """For a part whose voxels lie at these voxels of the whole, along each axis."""
        found = HeldInformation(self.scales, self.terms, self.value, self.sizes, self.shape)
        limits = zip(places, self.shape, self.sizes, strict=True)
        found.blocks = [place.round().long().clamp(0, n - 1) // size for place, n, size in limits]
        return found

    def compare(self, warped: Tensor, fixed: Tensor, mask: Tensor | None) -> Tensor:
        """The mean worth of the pairs of intensities, which differs from the loss by a constant."""
        total = warped.new_zeros(warped.shape[0])
        weight = warped.new_ones(()) if mask is None else mask.flatten(1)
        *counts, bins, _ = self.terms[0].shape
        block = blocks_of(self.blocks, counts, warped.device)
        for c, (scale, terms) in enumerate(zip(self.scales, self.terms, strict=True)):
            sides = warped[:, c : c + 1], fixed.expand_as(warped)[:, c : c + 1]
            for cell, share in cells(sides, ends_of([scale], warped), block, bins):
                total = total + (weight * terms.to(warped).flatten()[cell[:, 0]] * share[:, 0]).sum(dim=-1)
        count = warped[0, 0].numel() if mask is None else weight.sum(dim=-1).clamp_min(1)
        return total / (count * len(self.terms))

    def unrelated(self, warped: Tensor, fixed: Tensor) -> Tensor:
        """0: nothing is known of the other image."""
        return warped.new_zeros(warped.shape[0])

    def push(self, moving: Tensor, fixed: Tensor, region: Region, metric: Sequence[float], out: Tensor) -> float:
        """As in :class:`Similarity`; the loss is that of the whole when it was held."""
        if not compiled.fits(moving, fixed, out):
            super().push(moving, fixed, region, metric, out)
            return self.value
        factors = np.array([factor / len(self.terms) for factor in metric], dtype=np.float32)
        for c, (scale, terms) in enumerate(zip(self.scales, self.terms, strict=True)):
            JointBlocks((moving[0, c], fixed[0, c]), region, self.sizes, scale).pushes(terms, factors, out, self.blocks)
        return self.value
