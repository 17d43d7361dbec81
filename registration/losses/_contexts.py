"""Self-similarity descriptors: distances of the patches around every voxel to each other, slab by slab."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..compiled.blocks import at_once
from ..filters import box_sum, gaussian
from ._slabs import Slab, part_of, slabs

_CHUNK = 1 << 17  # voxels of a slab on the CPU: a dozen descriptor channels of it stay in the cache
_FILLED = 1 << 21  # elsewhere: for the derivative some hundred numbers per voxel are held


@dataclass(frozen=True)
class Patch:
    """The voxels of a patch and their weights: a box of ``radius`` voxels, or a Gaussian of ``sigma`` voxels."""

    radius: int
    sigma: float | None = None

    @property
    def reach(self) -> int:
        """How many voxels from its centre a patch ends."""
        return self.radius if self.sigma is None else int(4 * self.sigma + 0.5)

    @property
    def least(self) -> float:
        """Sum of weights below which a patch says nothing: part of a voxel, or the far tail of a Gaussian."""
        return 0.5 if self.sigma is None else 1e-3

    def sums(self, x: Tensor, axes: tuple[bool, ...]) -> Tensor:
        """Weighted sums of (B, C, *S) over the patches, along the chosen axes; a constant factor is left open."""
        if self.sigma is None:
            return box_sum(x, [self.radius * chosen for chosen in axes])
        return gaussian(x, [self.sigma * chosen for chosen in axes])


def contexts(image: Tensor, inside: Tensor | None, dilation: int, patch: Patch) -> tuple[Tensor, Tensor]:
    """Mean squared differences of the patches at two neighbours of every voxel, for all pairs on different axes.

    For axes i < j the pairs ``(+i, +j)`` and ``(-i, -j)`` are one field at two places, and so are ``(+i, -j)`` and
    ``(-i, +j)``: half the filtering does.

    Parameters
    ----------
    image
        (B, C, *S) intensities; differentiable.
    inside
        (B or 1, 1, *S) boolean, what patches may count; None for everything.
    dilation
        Distance of the neighbours, voxels.
    patch
        What a patch is.

    Returns
    -------
    (B, C, K, *S) distances, 0 where nothing could be compared, and (B or 1, 1, K, *S) whether something could.
    """
    distances, exist = [], []
    d = image.ndim - 2
    longer = [axis for axis in range(d) if image.shape[2 + axis] > dilation]
    for i, j in combinations(longer, 2):
        for aligned in (True, False):
            ends = _ends(image, (i, j), dilation, aligned)
            both = None
            if inside is not None:
                first, second = _ends(inside, (i, j), dilation, aligned)
                both = first & second
            mean, counted = _patch_means((ends[0] - ends[1]).square(), both, (i, j), dilation, patch)
            # Where the field lies for a voxel: see the two lines of the docstring.
            for starts in ((dilation, dilation), (0, 0)) if aligned else ((dilation, 0), (0, dilation)):
                distances.append(_place(mean, (i, j), starts, dilation))
                exist.append(_place(counted, (i, j), starts, dilation))
    if not distances:
        shape = (*image.shape[:2], 0, *image.shape[2:])
        return image.new_zeros(shape), torch.zeros(1, 1, *shape[2:], dtype=torch.bool, device=image.device)
    size = image.shape[2:]
    return torch.stack(distances, dim=2), torch.stack([e.expand(e.shape[0], 1, *size) for e in exist], dim=2)


def _ends(x: Tensor, axes: tuple[int, int], step: int, aligned: bool) -> tuple[Tensor, Tensor]:
    """The two neighbours of y on different axes: ``y + i`` and ``y + j``, or else ``y + i + j`` and ``y``."""
    i, j = axes

    def at(along_i: int, along_j: int) -> Tensor:
        part = x.narrow(2 + i, along_i, x.shape[2 + i] - step)
        return part.narrow(2 + j, along_j, x.shape[2 + j] - step)

    return (at(step, 0), at(0, step)) if aligned else (at(step, step), at(0, 0))


def _patch_means(
    field: Tensor, both: Tensor | None, axes: tuple[int, int], step: int, patch: Patch
) -> tuple[Tensor, Tensor]:
    """Means of a field over patches ``step`` beyond its ends along the axes, and where a patch meets any of it."""
    d = field.ndim - 2
    widths = [w for axis in reversed(range(d)) for w in ((step, step) if axis in axes else (0, 0))]
    everywhere = (True,) * d
    if both is None:
        count = field.new_ones((1,) * field.ndim)
        for axis in range(d):  # the number of voxels in a patch is a product over the axes
            line = field.new_ones(1, 1, *[field.shape[2 + a] if a == axis else 1 for a in range(d)])
            if axis in axes:
                line = F.pad(line, [w for a in reversed(range(d)) for w in (2 * [step * int(a == axis)])])
            count = count * patch.sums(line, tuple(a == axis for a in range(d)))
    else:
        field = torch.where(both, field, 0)
        count = patch.sums(F.pad(both.to(field.dtype), widths), everywhere)
    counted = count > patch.least
    inverse = torch.where(counted, 1 / torch.where(counted, count, 1), 0)
    return patch.sums(F.pad(field, widths), everywhere) * inverse, counted


def _place(x: Tensor, axes: tuple[int, int], starts: tuple[int, int], step: int) -> Tensor:
    """The part of an extended field that belongs to the voxels of the image."""
    for axis, start in zip(axes, starts, strict=True):
        x = x.narrow(2 + axis, start, x.shape[2 + axis] - step)
    return x


# --- descriptors, in slabs ------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Description:
    """How descriptors are made: the patches, the distance of the neighbours in voxels, and the variance floor."""

    patch: Patch
    dilation: int
    variance_floor: float

    @property
    def reach(self) -> int:
        """How many voxels away a descriptor looks."""
        return self.dilation + self.patch.reach


def few(images: Tensor) -> Iterator[slice]:
    """Items of (B, C, *S) images that are worked on together."""
    step = max(1, at_once(images, _CHUNK, _FILLED) // images[0].numel())
    for start in range(0, len(images), step):
        yield slice(start, min(len(images), start + step))


def thick(images: Tensor, reach: int) -> Iterator[Slab]:
    """Slabs of (B, C, *S) images that are worked on one by one; descriptors look ``reach`` voxels beyond a slab."""
    rows = at_once(images, _CHUNK, _FILLED) * images.shape[2] // images.numel()
    yield from slabs(images, max(2 * reach, rows, 1), 0, reach)


def describe(image: Tensor, support: Tensor | None, slab: Slab, settings: Description) -> tuple[Tensor, Tensor]:
    """(B, C, K, *S) descriptors of the slab's own rows, and the (B or 1, 1, K, *S) ones that exist."""
    inside = None if support is None else support[:, :, slab.voxels]
    distances, exist = contexts(image[:, :, slab.voxels], inside, settings.dilation, settings.patch)
    distances, exist = distances[:, :, :, slab.core], exist[:, :, :, slab.core]
    if distances.shape[2] == 0:
        return distances, exist
    least = torch.where(exist, distances, torch.inf).amin(dim=2, keepdim=True)
    count = exist.sum(dim=2, keepdim=True).clamp_min(1)
    typical = distances.sum(dim=2, keepdim=True) / count + settings.variance_floor
    # Chosen before the exponential, so that no gradient meets an infinite minimum.
    values = exist * torch.exp(torch.where(exist, least - distances, 0) / typical)
    return values, exist


def describe_whole(images: Tensor, mask: Tensor | None, settings: Description) -> tuple[Tensor, Tensor]:
    """(B, C, K, *S) descriptors and (B or 1, 1, K, *S) whether they exist, of whole images."""
    support, found = None if mask is None else mask > 0, []
    for items in few(images):
        own, there = images[items], None if support is None else part_of(support, items)
        parts = [describe(own, there, slab, settings) for slab in thick(own, settings.reach)]
        found.append([torch.cat(side, dim=3) for side in zip(*parts, strict=True)])
    values, exist = (torch.cat(side) for side in zip(*found, strict=True))
    return values, exist[:1] if support is None or len(support) == 1 else exist
