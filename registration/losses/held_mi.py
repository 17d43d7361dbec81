"""Local mutual information of which the histograms are held, so that images can be compared part by part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .. import compiled
from ..compiled import Region
from ..compiled.joint import JointBlocks
from .base import Similarity
from .local_mi import Ends, LocalMutualInformation, blocks_of, ends_of


class HeldInformation(Similarity):
    """To first order what :class:`LocalMutualInformation` is: every pair of intensities has the worth that it had.

    Parameters
    ----------
    whole
        The loss of the whole images.
    scales
        Of every channel.
    terms
        Of every channel, (*S', bins, bins) the derivative to the cells of all blocks times the voxels that count.
    value
        The loss when they were taken.
    shape
        Of the whole images.
    """

    def __init__(
        self,
        whole: LocalMutualInformation,
        scales: Sequence[Ends],
        terms: Sequence[Tensor],
        value: float,
        shape: Sequence[int],
    ) -> None:
        super().__init__()
        self.whole, self.scales, self.terms, self.value = whole, tuple(scales), tuple(terms), value
        self.shape, self.places = tuple(shape), tuple(torch.arange(n) for n in shape)

    def at(self, places: Sequence[Tensor]) -> HeldInformation:
        """For a part whose voxels lie at these voxels of the whole, along each axis."""
        found = HeldInformation(self.whole, self.scales, self.terms, self.value, self.shape)
        found.places = tuple(place.round().long().clamp(0, n - 1) for place, n in zip(places, self.shape, strict=True))
        return found

    def compare(self, warped: Tensor, fixed: Tensor, mask: Tensor | None) -> Tensor:
        """The mean worth of the pairs of intensities, which differs from the loss by a constant."""
        total = warped.new_zeros(warped.shape[0])
        weight = warped.new_ones(()) if mask is None else mask.flatten(1)
        block = blocks_of(self._blocks, self.terms[0].shape[:-2], warped.device)
        for c, (scale, terms) in enumerate(zip(self.scales, self.terms, strict=True)):
            sides = warped[:, c : c + 1], fixed.expand_as(warped)[:, c : c + 1]
            for cell, share in self.whole.cells(*sides, ends_of([scale], warped), block):
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
        sizes = self.whole.windows.blocks(self.shape)
        for c, (scale, terms) in enumerate(zip(self.scales, self.terms, strict=True)):
            JointBlocks((moving[0, c], fixed[0, c]), region, sizes, scale).pushes(terms, factors, out, self._blocks)
        return self.value

    @property
    def _blocks(self) -> list[Tensor]:
        """Along each axis the block that every voxel lies in."""
        return [place // size for place, size in zip(self.places, self.whole.windows.blocks(self.shape), strict=True)]
