"""Which intensities of an image count."""

from __future__ import annotations

import torch

from ..image import Image, check_images
from ..limits import LARGEST, is_number


def windowed(image: Image, low: float | None = None, high: float | None = None) -> Image:
    """An image for alignment by some of its intensities, such as the soft tissue of CT: values beyond become the ends.

    Parameters
    ----------
    image
        (B, C, *S) image.
    low, high
        The ends, in the units of the image (HU for CT); None leaves that side open.

    Returns
    -------
    The (B, C, *S) image with the same grid, mask and name; what is no number counts as 0, as in alignment. The image
    given stays as it is: that is what to warp by the transform found.

    Raises
    ------
    TypeError
        If it is no image, such as a file name.
    ValueError
        If an end is no finite number, ``low`` is not below ``high``, or the image is constant between them, inside its
        mask.
    """
    check_images(image=image)
    check_ends(low, high)
    if low is None and high is None:
        return image
    data = torch.nan_to_num(image.data)  # a copy: what follows is in place
    values = data if image.mask is None or not bool(image.mask.any()) else data[image.mask.expand_as(data)]
    darkest, brightest = (float(value) for value in values.aminmax())
    largest = torch.finfo(data.dtype).max
    ends = (-largest if low is None else max(low, -largest), largest if high is None else min(high, largest))
    found = image.with_data(data.clamp_(*ends))
    if not bool(torch.tensor([darkest, brightest], dtype=data.dtype).clamp(*ends).diff() > 0):
        inside = " inside its mask" if image.mask is not None else ""
        raise ValueError(
            f"{image.name} is constant within this window: its voxels{inside} go from {darkest:g} to {brightest:g}"
        )
    return found


def check_ends(low: float | None, high: float | None) -> None:
    """Refuse what are no ends of a window.

    Raises
    ------
    ValueError
        If one is no finite number, or they are not in this order.
    """
    for name, value in (("low", low), ("high", high)):
        if value is not None and not (is_number(value) and abs(value) <= LARGEST):
            raise ValueError(f"{name} is a finite number, or None where the window has no end there, got {value!r}")
    if low is not None and high is not None and low >= high:
        raise ValueError(f"a window goes from a low intensity to a higher one, got {low!r} and {high!r}")
