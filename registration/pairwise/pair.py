"""The two images of one registration, with robust intensities and shared pyramid levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from ..filters import downsample, refine
from ..image import Image
from ..sampling import nearest, unit_grid
from ..space import Space
from ..transforms.base import Transform
from .chance import TRIES, independent_samples, shared, volume
from .terms import Term

_SAMPLES = 1_000_000
_COARSE = 4.0


class Pair:
    """A fixed and a moving image, intensities scaled to [0, 1], and their coarser versions, each made once.

    Parameters
    ----------
    fixed, moving
        (1, C, *S) images of the same dimension D; their masks restrict the alignment.
    terms
        What guides the alignment beside their similarity.
    wary
        Whether what images as smooth as these may share by chance is held against what they share (:attr:`chance`).
    whole
        The grids that the result is for, where the images are parts of larger ones; None for their own.

    Raises
    ------
    ValueError
        If the images differ in D or in the number of channels, or one is a batch of several.
    """

    def __init__(
        self,
        fixed: Image,
        moving: Image,
        *,
        terms: Sequence[Term] = (),
        wary: bool = True,
        whole: tuple[Space, Space] | None = None,
    ) -> None:
        if fixed.ndim != moving.ndim:
            raise ValueError(
                f"{fixed.name} has {fixed.ndim} spatial axes {fixed.space.shape}, "
                f"{moving.name} has {moving.ndim} {moving.space.shape}: both must be 2-D or both 3-D"
            )
        if fixed.data.shape[1] != moving.data.shape[1]:
            raise ValueError(
                f"{fixed.name} has {fixed.data.shape[1]} channels, {moving.name} has {moving.data.shape[1]}"
            )
        for image in (fixed, moving):
            if (many := len(image.data)) != 1:
                raise ValueError(f"{image.name} is a batch of {many} images; one pair is registered at a time")
        self.fixed = rescale(fixed)
        self.moving = rescale(moving)
        self.terms = tuple(terms)
        self.wary = wary
        self.whole = whole or (fixed.space, moving.space)
        self._levels: dict[tuple[str, tuple[int, ...]], Image] = {}

    def guide(self, term: Term) -> None:
        """Let a term guide the stages that come from now on."""
        self.terms = (*self.terms, term)

    @cached_property
    def samples(self) -> float:
        """How many independent places the images hold; infinite unless the pair is wary."""
        return independent_samples(self.fixed, self.moving) if self.wary else math.inf

    @property
    def chance(self) -> float:
        """Nats of mutual information that images as smooth as these reach although they show nothing of the same."""
        return TRIES / self.samples

    def shared(self, transform: Transform) -> float:
        """Nats of mutual information under a transform, on a coarse level."""
        return shared(*self.level(self.coarse), transform)

    @property
    def coarse(self) -> float:
        """The shrink of a level on which what the images share is quickly counted."""
        return self.scaled([_COARSE])[0]

    def size(self, role: Literal["fixed", "moving"]) -> float:
        """What an image shows inside its mask, mm³; of slices, the area."""
        return volume(self.fixed if role == "fixed" else self.moving)

    @property
    def exchanged(self) -> Pair:
        """The same images in each other's place, without what guides them."""
        other = copy(self)
        other.fixed, other.moving, other.terms, other._levels = self.moving, self.fixed, (), {}
        other.whole = self.whole[::-1]
        return other

    @property
    def finest(self) -> float:
        """The smallest voxel spacing of the fixed image, mm: shrink factors of pyramid levels count from it."""
        many = [s for s, n in zip(self.fixed.space.spacing.tolist(), self.fixed.space.shape, strict=True) if n > 1]
        return min(many or self.fixed.space.spacing.tolist())

    def level(self, shrink: float) -> tuple[Image, Image]:
        """Both images at about ``shrink`` times the finest fixed spacing, antialiased, field of view kept.

        No axis has more voxels than it had.
        """
        spacing = shrink * self.finest
        return self._at("fixed", self.fixed, spacing), self._at("moving", self.moving, spacing)

    def detailed(self, image: Image, shrink: float) -> Image:
        """A part of one of the images on such a level, and finer than its voxels below 1.

        Axes with thicker voxels are split as often, not until voxels are cubes; those that are finer are made coarser.
        """
        return refine(image, image.space.with_spacing(shrink * self.finest, max(1.0, 1 / shrink)).shape)

    def grid(self, shrink: float) -> Space:
        """The fixed grid of a level, for which no image is made."""
        return self.fixed.space.with_spacing(shrink * self.finest, max(1.0, 1 / shrink))

    def scaled(self, shrinks: Sequence[float], least: float = 1.0, fewest: int = 17) -> tuple[float, ...]:
        """Pyramid levels for small images: all halved until the coarsest has ``fewest**D`` voxels; not below ``least``.

        A slice has the voxels of a 2-D image. With fewer voxels a histogram or a correlation says nothing.
        """
        used = sum(n > 1 for n in self.fixed.space.shape)
        divide = 1.0
        while max(shrinks) / divide > 1:
            shape = self.fixed.space.with_spacing(max(shrinks) / divide * self.finest).shape
            if math.prod(shape) >= fewest**used:
                break
            divide *= 2
        return tuple(max(min(least, shrink), shrink / divide) for shrink in shrinks)

    def check_size(self) -> None:
        """Refuse images that are too small to be aligned by what they show.

        Raises
        ------
        ValueError
            If one has a single voxel.
        """
        for image in (self.fixed, self.moving):
            if max(image.space.shape) == 1:
                raise ValueError(f"{image.name} has one voxel, {image.space.shape}: there is nothing in it to align")

    def overlap(self, transform: Transform) -> float:
        """Share of the fixed image, inside its mask, that meets the moving image inside its own; 0 to 1, coarsely."""
        fixed = self._at("fixed", self.fixed, self.fixed.space.radius / 32)
        grid = unit_grid(transform, self.moving.space, fixed.space, fixed.data)
        inside = (grid.abs().amax(dim=-1) <= 1)[:, None]
        met = evidence(self.moving, grid, inside)
        wanted = torch.ones_like(inside) if fixed.mask is None or not bool(fixed.mask.any()) else fixed.mask
        return 1.0 if met is None else float((met & wanted).sum()) / float(wanted.sum())

    def check_overlap(self, transform: Transform, least: float = 0.001) -> None:
        """Refuse a start that leaves nothing to compare.

        Raises
        ------
        ValueError
            If less than ``least`` of the fixed image, inside its mask, meets the moving image inside its own.
        """
        share = self.overlap(transform)
        if share < least or share == 0:
            raise ValueError(
                f"{self.moving.name} does not meet {self.fixed.name} where the alignment starts "
                f"({self.fixed.space.describe()}; {self.moving.space.describe()}): start from centres of mass, "
                "or check headers and masks"
            )

    def _at(self, role: str, image: Image, spacing: float) -> Image:
        shape = image.space.with_spacing(spacing).shape
        if shape == image.space.shape:
            return image
        if (role, shape) not in self._levels:
            self._levels[role, shape] = downsample(image, shape)
        return self._levels[role, shape]


def rescale(image: Image, low: float = 0.001, high: float = 0.999) -> Image:
    """Scale each channel linearly so that two quantiles over the mask become 0 and 1, and clip a little beyond.

    Losses with a variance floor or with histogram bins then mean the same on every scanner.
    """
    data = torch.nan_to_num(image.data.detach().float().contiguous())  # a copy: what follows is in place
    for c in range(data.shape[1]):
        values = data[:, c]
        chosen = values[image.mask[:, 0].expand_as(values)] if image.mask is not None else values.flatten()
        chosen = values.flatten() if chosen.numel() == 0 else chosen
        chosen = chosen[:: max(1, chosen.numel() // _SAMPLES)]
        # Two order statistics are found several times faster than all of them.
        bottom, top = (chosen.kthvalue(1 + round(q * (chosen.numel() - 1))).values for q in (low, high))
        if top <= bottom:
            bottom, top = chosen.aminmax()
        width = (top - bottom).clamp(min=torch.finfo(torch.float32).tiny)
        values.sub_(bottom).div_(width).clamp_(-0.1, 1.1)
    return image.with_data(data)


def evidence(moving: Image, grid: Tensor, inside: Tensor) -> Tensor | None:
    """(1, 1, *S) boolean: points of a sampling grid inside the moving field of view and mask; None if all are."""
    if moving.mask is not None:
        inside = inside & (nearest(moving.mask.to(grid.dtype), grid.detach()) > 0.5)
    return None if bool(inside.all()) else inside


def crop_to_mask(image: Image, margin_mm: float) -> Image:
    """Cut an image to the bounding box of its mask plus a margin, so that no work is done far outside."""
    if image.mask is None or not bool(image.mask.any()):
        return image
    start, shape = [], []
    for axis, (n, step) in enumerate(zip(image.space.shape, image.space.spacing.tolist(), strict=True)):
        others = [a for a in range(image.mask.ndim) if a != axis + 2]
        index = image.mask.amax(dim=others).nonzero().flatten()
        pad = round(margin_mm / step)
        first, last = max(0, int(index[0]) - pad), min(n - 1, int(index[-1]) + pad)
        start.append(first)
        shape.append(last - first + 1)
    window = (slice(None), slice(None), *(slice(s, s + n) for s, n in zip(start, shape, strict=True)))
    return Image(image.data[window], image.space.cropped(start, shape), image.mask[window], image.name)
