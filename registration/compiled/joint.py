"""Joint histograms of two images in every block of voxels, in compiled loops."""

from __future__ import annotations

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
        call(kernels.joint_sums, *self._arguments(), out)
        return out.view(*counts, bins, bins)

    def pushes(self, terms: Tensor, metric: np.ndarray, out: Tensor) -> None:
        """Add to ``out`` (D, *S) metric times the derivative to opposite moves; ``terms`` is that to :meth:`sums`."""
        from . import joint_kernels as kernels

        flat = (1,) * (3 - len(self.sizes))
        target = out.view(out.shape[0], *flat, *out.shape[1:])
        call(kernels.joint_pushes, *self._arguments(), terms.view(*flat, *terms.shape), metric, target)

    def _arguments(self) -> tuple[Any, ...]:
        first, second = (_solid(image) for image in self.images)
        mass, weighted = _mass(self.region, first)
        blocks = np.array((1,) * (3 - len(self.sizes)) + self.sizes)
        return first, second, mass, weighted, self.region.rows, blocks, np.array(self.scale, dtype=np.float32)


__all__ = ["JointBlocks"]
