"""Mutual information in wide windows, made of blocks of voxels so that their size costs nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from .. import compiled
from ..compiled import Region
from ..compiled.joint import JointBlocks, windowed_information
from ..limits import HEAVIEST, check_above, check_counts, check_shares
from ._joint_cells import Ends, blocks_of, cells, ends_of
from ._ranges import Range, Scale, check_ranges
from ._spread import spread_out
from ._wide_windows import WideWindows
from .base import Held, Similarity
from .held_mi import HeldInformation

_MOST = 256  # bins: every block holds their square
_SAMPLES = 1 << 14  # voxels at least that tell an intensity range, in larger images
_TAIL = 1e-3  # share of the voxels left out at either end of an intensity range
_EVEN = 0.01  # of what is expected without evidence, spread evenly, so that no pair of intensities is impossible


class LocalMutualInformation(Similarity):
    """Minus the mean mutual information, in nats, of the intensities in windows of several blocks about every block.

    For dense fields, whatever the contrasts. A window asks how well intensities tell each other, not whether one grows
    with the other; and as every window asks for itself, slow shading matters little (Klein et al. 2008,
    doi:10.1118/1.2842076). What is seldom in a window is filled up from the joint histogram of the whole image (Likar
    and Pernus 2001, doi:10.1016/S0262-8856(00)00053-6). Both images enter alike; histograms have quadratic windows, and
    gradients go to both, with the intensity ranges taken as constants. Channels are averaged.

    Parameters
    ----------
    bins
        Bins per image, 4 to 256, one of them spare at either end.
    share
        Width of a window as a share of the image, along each axis; a block is at least one voxel.
    radius
        Windows have 2*radius+1 blocks along an axis.
    prior
        How many voxels of the whole image's joint histogram are added to that of a window.
    fixed_range, moving_range
        Intensities (low, high) that the bins span; values beyond count as the end values and have no gradient. None
        takes them from each image, inside the mask, without the outermost thousandths.
    spread
        How much narrower bins are where more voxels lie, see :meth:`suited`: a power of the density, 0 to 1.
    """

    def __init__(
        self,
        bins: int = 16,
        share: float = 0.4,
        radius: int = 1,
        prior: float = 1000.0,
        fixed_range: Range | None = None,
        moving_range: Range | None = None,
        spread: float = 0.5,
    ) -> None:
        super().__init__()
        check_counts(4, _MOST, bins=bins)
        check_above(HEAVIEST, prior=prior)
        check_ranges(fixed_range, moving_range)
        check_shares(spread=spread)
        self.windows, self.bins, self.prior = WideWindows(float(share), radius), int(bins), float(prior)
        self.fixed_range, self.moving_range, self.spread = fixed_range, moving_range, float(spread)

    def suited(self, data: Tensor, mask: Tensor | None = None) -> Tensor:
        """Intensities spread out by how many voxels have them, so that the bins tell apart soft tissues in a CT.

        Information does not depend on what the intensities are, only on which are the same. Where ranges are given,
        they are of intensities as they are, and nothing is changed.
        """
        if self.spread == 0 or self.fixed_range or self.moving_range:
            return data
        return spread_out(data, mask, self.spread)

    def compare(self, warped: Tensor, fixed: Tensor, mask: Tensor | None) -> Tensor:
        ends = tuple(self._ends(image, mask, given) for image, given in self._ranged(warped, fixed.expand_as(warped)))
        found = self._histograms(warped, fixed.expand_as(warped), mask, ends)
        batch, channels = warped.shape[:2]
        return torch.stack([-self._information(one) for one in found]).reshape(batch, channels).mean(dim=1)

    def _histograms(self, warped: Tensor, fixed: Tensor, mask: Tensor | None, ends: Sequence[Scale]) -> Tensor:
        """(B C, *S', N, N) joint histograms of all blocks."""
        batch, channels, *shape = warped.shape
        sizes = self.windows.blocks(shape)
        counts = [-(-n // size) for n, size in zip(shape, sizes, strict=True)]
        weight = warped.new_ones(()) if mask is None else _usual_one(mask.flatten(2))
        image = torch.arange(batch * channels, device=warped.device).reshape(batch, channels, 1)
        places = [torch.arange(n) // size for n, size in zip(shape, sizes, strict=True)]
        block = image * math.prod(counts) + blocks_of(places, counts, warped.device)
        sums = warped.new_zeros(batch * channels * math.prod(counts) * self.bins**2)
        for cell, share in cells((warped, fixed), ends, block, self.bins):
            sums = sums.index_add(0, cell.flatten(), (weight * share).flatten())
        return sums.reshape(batch * channels, *counts, self.bins, self.bins)

    def unrelated(self, warped: Tensor, fixed: Tensor) -> Tensor:
        """0: nothing is known of the other image."""
        return warped.new_zeros(warped.shape[0])

    def push(self, moving: Tensor, fixed: Tensor, region: Region, metric: Sequence[float], out: Tensor) -> float:
        """As in :class:`Similarity`, in two sweeps through memory for both images together."""
        if not compiled.fits(moving, fixed, out):
            return super().push(moving, fixed, region, metric, out)
        if not region.voxels:
            return 0.0
        channels, total = moving.shape[1], 0.0
        factors = np.array([factor / channels for factor in metric], dtype=np.float32)
        for pair in self._pairs(moving, fixed, region, self._scales(moving, fixed, region)):
            value, slope = windowed_information(pair.sums(self.bins), self.windows.radius, self.prior, _EVEN)
            pair.pushes(slope.neg_(), factors, out)
            total -= value
        return total / channels

    @property
    def divisible(self) -> bool:
        """True: with the histograms of the whole."""
        return True

    def held(self, moving: Tensor, fixed: Tensor, region: Region) -> Held:
        """The derivatives to all histograms, which then stay as they are: a part is pushed as the whole would be."""
        if not region.voxels:
            return lambda places: self
        scales = self._scales(moving, fixed, region)
        terms, total = [], 0.0
        for c in range(moving.shape[1]):
            value, slope = self._slopes(moving[:, c : c + 1], fixed[:, c : c + 1], region, scales[c])
            terms.append(slope)
            total += value / moving.shape[1]
        return HeldInformation(scales, terms, total, self.windows.blocks(moving.shape[2:]), moving.shape[2:]).at

    def _slopes(self, moving: Tensor, fixed: Tensor, region: Region, scale: Ends) -> tuple[float, Tensor]:
        """The loss of one channel, and its derivative to the cells of all blocks times the voxels that count."""
        if compiled.fits(moving, fixed):
            (pair,) = self._pairs(moving, fixed, region, [scale])
            value, slope = windowed_information(pair.sums(self.bins), self.windows.radius, self.prior, _EVEN)
            return -value, slope.neg_()
        weight = region.weight()
        mask = None if weight is None else weight.reshape(1, 1, *moving.shape[2:])
        with torch.enable_grad():
            sums = self._histograms(moving, fixed, mask, ends_of([scale], moving)).requires_grad_(True)
            loss = -self._information(sums[0])
            (slope,) = torch.autograd.grad(loss, sums)
        return float(loss.detach()), slope[0].detach().mul_(region.voxels)

    def _pairs(self, moving: Tensor, fixed: Tensor, region: Region, scales: Sequence[Ends]) -> Iterator[JointBlocks]:
        sizes = self.windows.blocks(moving.shape[2:])
        for c, scale in enumerate(scales):
            yield JointBlocks((moving[0, c], fixed[0, c]), region, sizes, scale)

    def _scales(self, moving: Tensor, fixed: Tensor, region: Region) -> list[Ends]:
        """Of every channel, the lowest value and bins per unit of the moving and then of the fixed image."""
        mask = None if region.mass is None else region.mass.view(1, 1, *moving.shape[2:])
        a, b = (self._ends(image, mask, given) for image, given in self._ranged(moving, fixed))
        both = torch.stack([a.low[0], a.slope[0], b.low[0], b.slope[0]], dim=1)
        return [(low, slope, start, rise) for low, slope, start, rise in both.tolist()]

    def _ranged(self, moving: Tensor, fixed: Tensor) -> list[tuple[Tensor, Range | None]]:
        return [(moving, self.moving_range), (fixed, self.fixed_range)]

    def _ends(self, image: Tensor, mask: Tensor | None, given: Range | None) -> Scale:
        """From intensities to bins, of which one is spare at either end; ranges are those of a regular subset."""
        step = max(1, math.prod(image.shape[2:]) // _SAMPLES)
        some = None if mask is None else mask.flatten(2)[..., ::step]
        return Scale.of(image.flatten(2)[..., ::step], some, given, self.bins + 1, _TAIL)

    def _information(self, sums: Tensor) -> Tensor:
        """The mean information of windows, weighed by voxels, from (*S', N, N) histograms of blocks."""
        own = sums.sum(dim=(-2, -1), keepdim=True)
        whole = _total(sums)
        count = whole.sum().clamp_min(torch.finfo(sums.dtype).tiny)
        usual = (1 - _EVEN) * whole / count + _EVEN / self.bins**2
        windows = self.windows.sums(sums, 0, sums.ndim - 2)
        joint = (windows + self.prior * usual) / (windows.sum(dim=(-2, -1), keepdim=True) + self.prior)
        information = joint.log() - joint.sum(dim=-1, keepdim=True).log() - joint.sum(dim=-2, keepdim=True).log()
        return (own * joint * information).sum() / count


def _usual_one(weight: Tensor) -> Tensor:
    """(B, 1, N) weights, in multiples of their mean where they are not 0: the prior is counted in voxels."""
    many = (weight > 0).sum(dim=-1, keepdim=True)
    return weight * many / weight.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)


def _total(x: Tensor) -> Tensor:
    """(*S', N, N) -> (N, N), one after another: the same with any number of threads."""
    return x.flatten(0, -3).cumsum(dim=0, dtype=torch.float64)[-1].to(x.dtype)
