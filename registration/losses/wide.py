"""Local correlation in wide windows, made of blocks of voxels so that their size costs nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import compiled
from ..compiled import Region
from ..limits import check_above
from ._wide_windows import WideWindows
from .base import Similarity
from .lncc import glance


class WideLocalCorrelation(Similarity):
    """``1 - mean(cc)``, with ``cc = cov**2 / (var_warped * var_fixed)`` in windows of several blocks about every block.

    As :class:`LocalNormalisedCrossCorrelation`, with windows placed at every block instead of every voxel. Wide windows
    keep what narrow ones divide away, that one tissue is brighter than another, and still do not mind slow shading.

    Parameters
    ----------
    share
        Width of a window as a share of the image, along each axis; a block is at least one voxel.
    radius
        Windows have 2*radius+1 blocks along an axis.
    variance_floor
        Added to both variances, in squared intensity units; for intensities in [0, 1].
    """

    def __init__(self, share: float = 0.3, radius: int = 2, variance_floor: float = 1e-3) -> None:
        super().__init__()
        check_above(variance_floor=variance_floor)
        self.windows, self.variance_floor = WideWindows(float(share), radius), float(variance_floor)

    def compare(self, warped: Tensor, fixed: Tensor, mask: Tensor | None) -> Tensor:
        mass = torch.ones_like(warped[:, :1]) if mask is None else mask
        shift = 0.5
        a, b = warped - shift, fixed - shift
        parts = [mass * part for part in (a, b, a * a, b * b, a * b)]
        own = self._blocks(mass)
        n = self.windows.sums(own, 2, own.ndim).clamp_min(torch.finfo(warped.dtype).tiny)
        s = [self.windows.sums(self._blocks(part), 2, own.ndim) / n for part in parts]
        var_a = (s[2] - s[0] * s[0]).clamp_min(0) + self.variance_floor
        var_b = (s[3] - s[1] * s[1]).clamp_min(0) + self.variance_floor
        cov = s[4] - s[0] * s[1]
        total = (own * cov * cov / (var_a * var_b)).flatten(1).sum(dim=1)
        return 1 - total / (own.flatten(1).sum(dim=1) * warped.shape[1]).clamp_min(torch.finfo(warped.dtype).tiny)

    def unrelated(self, warped: Tensor, fixed: Tensor) -> Tensor:
        """1: no correlation."""
        return warped.new_ones(warped.shape[0])

    def push(self, moving: Tensor, fixed: Tensor, region: Region, metric: Sequence[float], out: Tensor) -> float:
        """As in :class:`Similarity`, in two sweeps through memory for both images together."""
        if not compiled.fits(moving, fixed, out):
            return super().push(moving, fixed, region, metric, out)
        if not region.voxels:
            return 1.0
        channels, total = moving.shape[1], 0.0
        factors = np.array([-factor / channels for factor in metric], dtype=np.float32)
        for c in range(channels):
            images = moving[0, c], fixed[0, c]
            shifts = tuple(glance(image, self.variance_floor)[1] for image in images)
            sizes = self.windows.blocks(moving.shape[2:])
            sums = compiled.block_sums(images, region, sizes, (shifts[0], shifts[1]))
            value, terms = self._terms(sums)
            blocks = compiled.BlockTerms(terms, sizes, (shifts[0], shifts[1]))
            compiled.block_pushes(images, region, blocks, factors, out)
            total += value
        return 1 - total / (region.voxels * channels)

    def _terms(self, sums: Tensor) -> tuple[float, Tensor]:
        """The sum of the correlations, and (5, *S') what windows give to the derivatives in every block."""
        own = sums[5]
        windows = self.windows.sums(sums, 1, sums.ndim)
        inverse = torch.where(windows[5] > 0, 1 / windows[5].clamp_min(1e-6), 0)
        ma, mb, aa, bb, ab = (windows[c] * inverse for c in range(5))
        va = (aa - ma * ma).clamp_min(0) + self.variance_floor
        vb = (bb - mb * mb).clamp_min(0) + self.variance_floor
        cov = ab - ma * mb
        ratio = own * cov / (va * vb)
        total = float((ratio * cov).sum(dtype=torch.float64))
        ratio = ratio * 2 * inverse
        to_a, to_b = ratio * cov / va, ratio * cov / vb
        terms = torch.stack([ratio, to_a, to_b, to_a * ma - ratio * mb, to_b * mb - ratio * ma])
        return total, self.windows.sums(terms, 1, terms.ndim).contiguous()

    def _blocks(self, x: Tensor) -> Tensor:
        """(B, C, *S') sums over blocks."""
        sizes = self.windows.blocks(x.shape[2:])
        pad = [(-n) % size for n, size in zip(x.shape[2:], sizes, strict=True)]
        wide = F.pad(x, [p for size in reversed(pad) for p in (0, size)])
        pool = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
        return pool(wide, sizes) * math.prod(sizes)
