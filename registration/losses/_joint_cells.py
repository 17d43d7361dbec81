"""Which cells of the joint histograms of blocks every voxel has a share in."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ._ranges import Scale

Ends = tuple[float, float, float, float]
"""Lowest value and bins per unit of intensity, of the moving and then of the fixed image."""


def ends_of(scales: Sequence[Ends], like: Tensor) -> tuple[Scale, Scale]:
    """(1, C) scales of the moving and of the fixed image."""
    low, slope, start, rise = like.new_tensor(scales).T[:, None]
    return Scale(low, slope), Scale(start, rise)


def blocks_of(places: Sequence[Tensor], counts: Sequence[int], device: torch.device) -> Tensor:
    """(N,) the number of the block that every voxel lies in, from that along each axis."""
    block = torch.zeros((), dtype=torch.long, device=device)
    for axis, (line, count) in enumerate(zip(places, counts, strict=True)):
        block = block * count + line.to(device).reshape([-1 if a == axis else 1 for a in range(len(counts))])
    return block.flatten()


def cells(
    images: tuple[Tensor, Tensor], ends: Sequence[Scale], block: Tensor, bins: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Nine times the (B, C, N) cell that every voxel of two images has a share in, and the share."""
    (m, s), (n, t) = (_place(image, end, bins) for image, end in zip(images, ends, strict=True))
    middle = (block * bins + m) * bins + n
    for (row, own), (column, other) in itertools.product(enumerate(_weights(s)), enumerate(_weights(t))):
        yield middle + (row - 1) * bins + column - 1, own * other


def _place(image: Tensor, ends: Scale, bins: int) -> tuple[Tensor, Tensor]:
    """(B, C, N) the bin nearest to every value of (B, C, *S), and how far beyond its middle the value is."""
    at = ((image.flatten(2) - ends.low[..., None]) * ends.slope[..., None] + 1).clamp(1, bins - 2)
    nearest = (at.detach() + 0.5).floor().clamp_(max=bins - 2)
    return nearest.long(), at - nearest


def _weights(d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What values beyond the middle of a bin by ``d`` of its width give to the bin before, to that one and to the next.

    Quadratic B-splines: with linear windows all values drift to the middles of bins.
    """
    return (0.5 - d) ** 2 / 2, 0.75 - d * d, (0.5 + d) ** 2 / 2
