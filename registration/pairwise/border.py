"""Borders that only repeat what is next to them: padding, in which there is nothing to align."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..image import Image
from .pair import Pair
from .terms import Term


def inner_pair(fixed: Image, moving: Image, *, terms: Sequence[Term] = (), wary: bool = True) -> Pair:
    """A pair of two images without the borders that repeat; the result is for their whole grids."""
    whole = fixed.space, moving.space
    return Pair(unrepeated(fixed), unrepeated(moving), terms=terms, wary=wary, whole=whole)


def unrepeated(image: Image) -> Image:
    """An image without the planes at its border that repeat the next one to the bit, as padding with edge values does.

    They show what is not there, and take time. Flat planes stay: a background, by which an outline is told. So does an
    axis along which all planes are the same, and what a mask chooses.
    """
    ends = [_ends(image, axis) for axis in range(image.ndim)]
    start, shape = [first for first, _ in ends], [last - first + 1 for first, last in ends]
    if shape == list(image.space.shape):
        return image
    window = (slice(None), slice(None), *(slice(first, last + 1) for first, last in ends))
    mask = None if image.mask is None else image.mask[window]
    if mask is not None and image.mask is not None and mask.sum() < image.mask.sum():
        return image
    return Image(image.data[window].contiguous(), image.space.cropped(start, shape), mask, image.name)


def _ends(image: Image, axis: int) -> tuple[int, int]:
    """The first and the last plane along an axis that are no repetition."""
    first, last = 0, image.space.shape[axis] - 1
    while first < last and _repeats(image, axis, first, first + 1):
        first += 1
    if first == last:  # the same throughout
        return 0, image.space.shape[axis] - 1
    while _repeats(image, axis, last, last - 1):
        last -= 1
    return first, last


def _repeats(image: Image, axis: int, outer: int, inner: int) -> bool:
    """Whether one plane is the same as another, and not flat."""
    plane = image.data.select(axis + 2, outer)
    if not torch.equal(plane, image.data.select(axis + 2, inner)):
        return False
    low, high = plane.flatten(2).aminmax(dim=2)
    return bool((high > low).any())
