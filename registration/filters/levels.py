"""Images at other resolutions, on the same field of view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from ..image import Image
from .smooth import resample, spline


def downsample(image: Image, shape: Sequence[int]) -> Image:
    """The image on ``image.space.resized(shape)`` by :func:`resample`; any factor, the field of view is kept.

    A mask goes the same way and is True where more than half remains; where so much of one that is not empty remains
    nowhere, as of a thin one, it is True where more than half as much remains as anywhere.
    """
    shape = tuple(int(n) for n in shape)
    if shape == image.space.shape:
        return image
    mask = image.mask
    if mask is not None:
        share = resample(mask.to(image.data.dtype), shape)
        most = share.flatten(1).amax(dim=1).reshape(-1, *[1] * (share.ndim - 1))
        mask = share > torch.where(most > 0.5, 0.5, most / 2)
    return replace(image, data=resample(image.data, shape), space=image.space.resized(shape), mask=mask)


def refine(image: Image, shape: Sequence[int]) -> Image:
    """The image on ``image.space.resized(shape)``: cubic splines along axes that grow, :func:`downsample` along others.

    Intensities stay within those that the image has; a mask is True where more than half of what is interpolated
    linearly lies.
    """
    image = downsample(image, [min(n, old) for n, old in zip(shape, image.space.shape, strict=True)])
    if tuple(shape) == image.space.shape:
        return image
    low, high = image.data.aminmax()
    data = spline(image.data, shape).clamp_(low, high)
    mask = None if image.mask is None else resample(image.mask.to(image.data.dtype), shape) > 0.5
    return replace(image, data=data, space=image.space.resized(shape), mask=mask)


def pyramid(image: Image, spacings: Sequence[float]) -> list[Image]:
    """The image at several resolutions, coarse to fine.

    Parameters
    ----------
    image
        The finest level available.
    spacings
        Wanted voxel sizes, mm, in any order. An axis that is coarser already is left alone (``Space.with_spacing``).

    Returns
    -------
    One image per spacing, largest spacing first; every level is filtered from ``image`` itself, so nothing accumulates.
    """
    if not spacings or not all(0 < s < math.inf for s in spacings):
        raise ValueError(f"expected one or more positive spacings in mm, got {list(spacings)}")
    return [downsample(image, image.space.with_spacing(s).shape) for s in sorted(spacings, reverse=True)]
