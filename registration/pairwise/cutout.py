"""Two heads, of which one has had its skull removed: a word before the brain is stretched to fill the head."""

from __future__ import annotations

import math
from dataclasses import replace

from ..image import Image
from .initialise.mass import background, mass

_ACROSS = 64  # voxels along each axis that are looked at
_EXACT = 0.4  # of an image: from here on, one value all around is no air of a scan
_TOUCHES = 0.03  # of the border: an object that is cut out lies within the image, one that is scanned goes on
_LARGER = 1.25  # volumes of what is scanned by what is cut out


def cut_out(fixed: Image, moving: Image) -> list[str]:
    """A sentence where one image shows an object cut out of its surroundings and the other shows them; else none.

    Parameters
    ----------
    fixed, moving
        (1, C, *S) images of one dimension. A mask says what counts, so nothing is said of images that have one.
    """
    if fixed.mask is not None or moving.mask is not None:
        return []
    sides = [_Seen(fixed), _Seen(moving)]
    for role, one, other in zip(("fixed", "moving"), sides, sides[::-1], strict=True):
        if one.cut and other.border > _TOUCHES and other.volume > _LARGER * one.volume:
            return [
                f"{one.name} is {one.level:g} all around an object, {other.name} shows a larger one that goes on "
                "beyond its border: if the skull was removed from one head alone, the brain will be stretched to fill "
                f"the other; remove it from both, or give the mask of what {one.name} shows (--{role}-mask)"
            ]
    return []


class _Seen:
    """The object of an image: whether all around it is one value, its volume in mm³ and its share of the border."""

    def __init__(self, image: Image) -> None:
        steps = [max(1, n // _ACROSS) for n in image.space.shape]
        data = image.data[:1, :, *[slice(None, None, step) for step in steps]].float()
        few = replace(image, data=data, space=image.space.cropped([0] * image.ndim, data.shape[2:]))
        self.name, self.cut, self.level, self.border, self.volume = image.name, False, math.nan, 1.0, 0.0
        if (known := background(few)) is None:
            return
        self.level = float(known[0][0])
        exact = float((data[0, 0] == self.level).float().mean())
        there = mass(few) > 0
        ends = [there.select(axis, at) for axis in range(image.ndim) for at in (0, -1)]
        self.border = sum(int(end.sum()) for end in ends) / sum(end.numel() for end in ends)
        self.cut = exact >= _EXACT and self.border == 0
        self.volume = float(there.sum()) * math.prod(steps) * math.prod(image.space.spacing.tolist())
