"""Which of two images takes the part of the fixed one inside a symmetric registration: the same whoever asks."""

from __future__ import annotations

from ..image import Image
from ..transforms.base import Transform
from ..transforms.linear import Linear
from .terms import Term


def swapped(fixed: Image, moving: Image, initial: Transform | None, terms: tuple[Term, ...]) -> bool:
    """Whether the moving image should take the fixed one's part.

    An image with a mask goes first, then the one with smaller voxels, with fewer of them (the other is more likely to
    cover it), with the greater mean: rules that do not ask which image was called fixed, so that exchanging both gives
    the inverse transform. Terms, and starts that bend, know fixed from moving: with them nothing is exchanged, nor
    between images of different dimensions or with axes of one voxel.
    """
    if terms or fixed.ndim != moving.ndim or not (initial is None or isinstance(initial, Linear)):
        return False
    if 1 in (*fixed.space.shape, *moving.space.shape):
        return False
    return _rank(moving) < _rank(fixed)


def _rank(image: Image) -> tuple[float, ...]:
    voxel = round(float(image.space.spacing.log().sum()), 6)
    data = image.data.double().nan_to_num()
    return (0.0 if image.mask is not None else 1.0, voxel, float(data[0, 0].numel()), -float(data.mean()))
