"""Several contrasts of one object as the channels of one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..filters import downsample
from ..image import Image, check_images
from ..sampling import nearest, warp
from ..space import Space
from ..transforms.linear import Linear


def stack_channels(images: Sequence[Image]) -> Image:
    """Contrasts of one object, such as T1 and T2, as the channels of one image, for alignment by all of them.

    Parameters
    ----------
    images
        (B, C, *S) each, which lie together in the world; on any grids.

    Returns
    -------
    The channels of all (B, sum of C, *S), in this order, on the grid of the first and under its name; others by
    :func:`onto_grid`. Where one has a mask, the result has what all masks hold.

    Raises
    ------
    TypeError
        If one is no image, such as a file name.
    ValueError
        If there is none, they differ in D or B, or one does not meet the first.
    """
    if not images:
        raise ValueError("there are no images to stack")
    for image in images:
        check_images(image=image)
    first = images[0]
    for image in images[1:]:
        if image.ndim != first.ndim:
            raise ValueError(f"{first.name} has {first.ndim} spatial axes, {image.name} has {image.ndim}")
        if len(image.data) != len(first.data):
            raise ValueError(f"{first.name} is a batch of {len(first.data)} images, {image.name} of {len(image.data)}")
    there = [onto_grid(image, first.space)[0] for image in images]
    masks = [image.mask for image in there if image.mask is not None]
    mask = torch.stack(torch.broadcast_tensors(*masks)).all(dim=0) if masks else None
    data = torch.cat([image.data.to(first.data) for image in there], dim=1)
    return replace(first, data=data, mask=mask)


def onto_grid(image: Image, space: Space) -> tuple[Image, float]:
    """An image where it lies in the world, on another grid.

    Parameters
    ----------
    image
        (B, C, *S) image.
    space
        The grid, *S'.

    Returns
    -------
    The (B, C, *S') image, linearly between its voxels, antialiased where these are finer than those of the grid, and
    its smallest value or 0 where it shows nothing, as its mask; and the share of the grid that it covers, 0 to 1. An
    image that has the grid is taken as it is.

    Raises
    ------
    ValueError
        If they differ in D, or the image does not meet the grid.
    """
    if image.space.same_as(space):
        return replace(image, space=space), 1.0
    bare = downsample(replace(image, mask=None), image.space.with_spacing(float(space.spacing.min())).shape)
    still = Linear.identity(space.ndim)
    found, inside = warp(bare, still, space, fill=min(0.0, float(image.data.min())))
    covered = float(inside.double().mean())
    if not covered:
        raise ValueError(f"{image.name} does not meet the grid: {image.space.describe()}; {space.describe()}")
    if image.mask is None:
        return found, covered
    mask = replace(image, data=image.mask.to(image.data.dtype), mask=None)
    return replace(found, mask=warp(mask, still, space, nearest)[0].data > 0.5), covered
