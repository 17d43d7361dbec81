"""Joint histograms of two images in every block of voxels, in compiled loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import _mass, _solid, call
from .region import Region


@dataclass(frozen=True, eq=False)
class JointBlocks:
    """Two images, the voxels of them that count, and the blocks and bins they are counted in.

    Parameters
    ----------
    images
        Two (*S) images, float32 on the CPU.
    region
        The voxels that count.
    sizes
        D sizes of a block in voxels; blocks at the end may be smaller.
    scale
        Lowest value and bins per unit of intensity, of the first and then of the second image.
    """

    images: tuple[Tensor, Tensor]
    region: Region
    sizes: tuple[int, ...]
    scale: tuple[float, float, float, float]

    def sums(self, bins: int) -> Tensor:
        """(*S', bins, bins) joint histograms, first image by second, each value in the three bins about it."""
        from . import joint_kernels as kernels

        counts = [-(-n // b) for n, b in zip(self.images[0].shape, self.sizes, strict=True)]
        out = torch.empty(*(1,) * (3 - len(counts)), *counts, bins, bins, dtype=torch.float32)
        images, scale = self._images()
        call(kernels.joint_sums, *images, np.array((1,) * (3 - len(self.sizes)) + self.sizes), scale, out)
        return out.view(*counts, bins, bins)

    def pushes(self, terms: Tensor, metric: np.ndarray, out: Tensor, places: Sequence[Tensor] | None = None) -> None:
        """Add to ``out`` (D, *S) metric times the derivative to opposite moves; ``terms`` is that to :meth:`sums`.

        ``places`` are the whole numbers of the blocks that voxels belong to, along each of D axes, where the images are
        a part of those whose blocks these are.
        """
        from . import joint_kernels as kernels

        flat = (1,) * (3 - len(self.sizes))
        shape = self.images[0].shape
        if places is None:
            places = [torch.arange(n) // size for n, size in zip(shape, self.sizes, strict=True)]
        lines = torch.zeros(3, max(shape), dtype=torch.int64)
        for line, place in zip(lines[len(flat) :], places, strict=True):
            line[: len(place)] = place
        target = out.view(out.shape[0], *flat, *out.shape[1:])
        images, scale = self._images()
        call(kernels.joint_pushes, *images, lines, scale, terms.view(*flat, *terms.shape), metric, target)

    def _images(self) -> tuple[tuple[Any, ...], np.ndarray]:
        first, second = (_solid(image) for image in self.images)
        mass, weighted = _mass(self.region, first)
        return (first, second, mass, weighted, self.region.rows), np.array(self.scale, dtype=np.float32)


def windowed_information(sums: Tensor, radius: int, prior: float, even: float) -> tuple[float, Tensor]:
    """The mean information of windows of blocks, and the derivative of its sum over voxels to every cell.

    Parameters
    ----------
    sums
        (*S', bins, bins) joint histograms of blocks.
    radius
        Windows have 2*radius+1 blocks along an axis.
    prior, even
        Voxels of the whole image that are added to every window; the share of them that is spread over all cells.

    Returns
    -------
    The mean in nats, weighed by the voxels of the blocks, and the derivative, in the shape of ``sums``.
    """
    from . import information_kernels as kernels

    *counts, bins, _ = sums.shape
    terms = torch.empty_like(sums)
    cells = [x.view(*(1,) * (3 - len(counts)), *counts, bins * bins) for x in (sums, terms)]
    values, count = call(kernels.window_information, cells[0], bins, radius, prior, even, cells[1])
    return float(values.sum()) / count, terms


__all__ = ["JointBlocks", "windowed_information"]
