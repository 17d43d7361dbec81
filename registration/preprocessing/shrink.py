"""The cheap way to few voxels, for networks that need a glance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..image import Image
from ..space import Space
from .base import Step, check_spacing, per_axis


@dataclass(frozen=True)
class Shrink(Step):
    """Means of blocks of whole voxels, so many that the spacing comes nearest to the wanted one; never finer.

    Every voxel is read once, which is several times cheaper than :class:`Resample` of a large image, and no worse
    where nobody will look at details. What is left over at the border, less than a block, is left out on both sides
    alike. Put a Resample behind it where the spacing must be exact: of the few voxels that remain, it costs nothing.

    Parameters
    ----------
    spacing
        mm, one for all axes or D of them in the order of the voxel axes.
    """

    spacing: float | Sequence[float]

    def __post_init__(self) -> None:
        check_spacing(self.spacing)

    def __call__(self, image: Image) -> Image:
        wanted, space = per_axis(self.spacing, image, "spacing"), image.space
        blocks = [
            min(n, max(1, round(w / s))) for w, s, n in zip(wanted, space.spacing.tolist(), space.shape, strict=True)
        ]
        if max(blocks) == 1:
            return image
        shape = [n // k for n, k in zip(space.shape, blocks, strict=True)]
        starts = [(n % k) // 2 for n, k in zip(space.shape, blocks, strict=True)]
        to_old = torch.eye(image.ndim + 1, dtype=torch.float64)
        for axis, (k, start) in enumerate(zip(blocks, starts, strict=True)):
            to_old[axis, axis], to_old[axis, -1] = k, start + (k - 1) / 2

        def means(x: Tensor) -> Tensor:
            # The first axis first: whole slices are added, and the others have less left to read.
            for axis, (k, start, n) in enumerate(zip(blocks, starts, shape, strict=True), start=2):
                if k > 1:
                    slices = [x[(slice(None),) * axis + (slice(start + j, start + n * k, k),)] for j in range(k)]
                    x = slices[0] + slices[1]
                    for part in slices[2:]:
                        x += part
                    x /= k
            return x

        mask = None if image.mask is None else means(image.mask.to(image.data.dtype)) > 0.5
        return replace(image, data=means(image.data), space=Space(tuple(shape), space.affine @ to_old), mask=mask)
