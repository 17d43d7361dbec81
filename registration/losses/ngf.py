"""Normalised gradient fields: edges should be parallel, however strong they are in either image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..limits import check_above
from .base import Similarity, spread, total


class NormalisedGradientFields(Similarity):
    """``1 - <grad w, grad f>**2 / ((|grad w|**2 + e_w**2) (|grad f|**2 + e_f**2))``, averaged.

    Haber and Modersitzki (2006, doi:10.1007/11866763_89): 0 where edges are parallel or antiparallel, 1 where they are
    at right angles or there are none; gain, offset and inversion of contrast do not matter. The edge parameter e of
    each image is ``noise`` times the mean length of its gradient inside the mask, so that it follows the intensities;
    it is part of what is differentiated. Channels are averaged. Derivatives are mean differences to the neighbours
    that are inside the image and the mask. The gradient goes to both images, by autograd.

    Parameters
    ----------
    noise
        Edges weaker than this many mean edges count as noise.
    spacing
        D distances of voxels, any unit: what makes directions those of the world on anisotropic grids. Without it
        voxels are cubes; the stages of a registration set it by :meth:`spaced`.
    """

    def __init__(self, noise: float = 1.0, spacing: Sequence[float] | None = None) -> None:
        super().__init__()
        check_above(noise=noise)
        for step in () if spacing is None else spacing:
            check_above(spacing=step)
        self.noise = float(noise)
        self.spacing = None if spacing is None else tuple(float(s) for s in spacing)

    def spaced(self, spacing: Sequence[float]) -> NormalisedGradientFields:
        return NormalisedGradientFields(self.noise, spacing)

    def compare(self, warped: Tensor, fixed: Tensor, mask: Tensor | None) -> Tensor:
        support = None if mask is None else mask > 0
        steps = self._steps(warped.ndim - 2)
        first, second = _gradients(warped, support, steps), _gradients(fixed, support, steps)
        weight = torch.ones_like(warped[:, :1]) if mask is None else mask
        count = total(weight.flatten(1))
        product = _dot(first, second).square()
        for own in (first, second):
            square = _dot(own, own)
            product = product / (square + self._edge(square, weight, count))
        share = total((product * weight).flatten(1)) / (
            count.clamp_min(torch.finfo(torch.float32).tiny) * warped.shape[1]
        )
        return (1 - share).to(warped.dtype)

    def unrelated(self, warped: Tensor, fixed: Tensor) -> Tensor:
        """1: nowhere parallel edges."""
        return warped.new_ones(warped.shape[0])

    def _edge(self, square: Tensor, weight: Tensor, count: Tensor) -> Tensor:
        """(B, C, *S) squared edge parameters, one number per item and channel, of squared lengths of gradients."""
        tiny = torch.finfo(square.dtype).tiny
        length = square.clamp_min(tiny).sqrt()  # the clamp: a finite derivative where the image is flat
        mean = total((length * weight).flatten(2)) / count.clamp_min(tiny)[:, None]
        edge = (self.noise * mean).square().to(square.dtype).clamp_min(tiny**0.5)
        return spread(edge, square)

    def _steps(self, ndim: int) -> tuple[float, ...]:
        steps = self.spacing or (1.0,) * ndim
        if len(steps) != ndim:
            raise ValueError(f"{len(steps)} spacings {steps} do not fit images with {ndim} spatial axes")
        shortest = min(steps)
        return tuple(step / shortest for step in steps)


def _dot(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """(B, C, *S) scalar products of vectors given by components."""
    result = first[0] * second[0]
    for one, other in zip(first[1:], second[1:], strict=True):
        result = result + one * other
    return result


def _gradients(x: Tensor, support: Tensor | None, steps: tuple[float, ...]) -> list[Tensor]:
    """D derivatives (B, C, *S): means of the differences to those of the two neighbours that may be looked at."""
    result = []
    for axis, step in enumerate(steps, start=2):
        n = x.shape[axis]
        change = x.narrow(axis, 1, n - 1) - x.narrow(axis, 0, n - 1)
        may = torch.ones_like(change[:1, :1], dtype=torch.bool)
        if support is not None:
            may = support.narrow(axis, 1, n - 1) & support.narrow(axis, 0, n - 1)
            change = torch.where(may, change, 0)
        both = [_on_both_sides(t, axis) for t in (change, may.to(x.dtype))]
        result.append(both[0] / (both[1].clamp_min(1) * step))
    return result


def _on_both_sides(change: Tensor, axis: int) -> Tensor:
    """The sum of what lies before and after every voxel of an axis, from what lies between voxels."""
    after = 2 * (change.ndim - 1 - axis)
    left, right = ([0] * after + ends for ends in ([1, 0], [0, 1]))
    return F.pad(change, left) + F.pad(change, right)
