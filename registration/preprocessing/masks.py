"""Steps around what is body and what is not: masks, and the bias field inside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..errors import InputError
from ..image import Image
from ..limits import check_counts, check_finite
from .base import Step


@dataclass(frozen=True)
class ForegroundMask(Step):
    """A mask of the object, where the image has none: Otsu's threshold, the largest piece, its holes filled.

    That is the head, not the brain: a skull is taken off by the mask file of the subject and :class:`ApplyMask`.
    """

    @property
    def makes_mask(self) -> bool:
        return True

    def __call__(self, image: Image) -> Image:
        from ..io.itk_filters import foreground

        return image if image.mask is not None else image.with_mask(foreground(image))


@dataclass(frozen=True)
class ApplyMask(Step):
    """Give everything outside the mask one value, as skull stripping does; the mask stays.

    Parameters
    ----------
    fill
        The value.
    needed
        Whether an image without a mask is an error; else it passes unchanged.
    """

    fill: float = 0.0
    needed: bool = False

    def __post_init__(self) -> None:
        check_finite(fill=self.fill)

    def __call__(self, image: Image) -> Image:
        if image.mask is None:
            if self.needed:
                raise InputError(image.name, "has no mask, preprocessing needs one", "give masks, or needed=false")
            return image
        return image.with_data(torch.where(image.mask, image.data, torch.full((), self.fill).to(image.data)))


@dataclass(frozen=True)
class BiasCorrection(Step):
    """N4 bias field correction (Tustison et al. 2010) by SimpleITK, within the mask or else the foreground.

    The slow step: seconds per volume, so let it be cached or done once by ``registration preprocess``.

    Parameters
    ----------
    shrink
        The field is fitted on an image coarser by this factor.
    iterations
        Most iterations of each of the fitting levels.
    """

    shrink: int = 4
    iterations: Sequence[int] = (50, 50, 50)

    def __post_init__(self) -> None:
        check_counts(1, shrink=self.shrink)
        if not self.iterations:
            raise ValueError("iterations are those of each level, at least one, got none")
        for count in self.iterations:
            check_counts(1, iterations=count)

    def __call__(self, image: Image) -> Image:
        from ..io.itk_filters import n4

        return n4(image, self.shrink, self.iterations)
