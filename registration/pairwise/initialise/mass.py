"""Where an image holds an object, judged by its border, and how the mass of the object lies."""

from __future__ import annotations

import torch
from torch import Tensor

from ...image import Image
from ...losses.base import total
from ...transforms.base import Transform
from ...transforms.linear import Linear
from ..pair import Pair
from .simple import Initialiser

_CONTRAST = 0.1  # of the intensity range: how far from the background an object is at least
_FLAT = 0.05  # of the intensity range: median deviation of the border, up to which the border shows a background
_NOISE = 6.0  # median deviations of the border that the object stands out by at least


class CentresOfMass(Initialiser):
    """Lay the centres of mass of the two objects on one another (:func:`mass`)."""

    def __call__(self, pair: Pair) -> Transform:
        fixed, moving = coarse(pair)
        return Linear.translation(centre_of_mass(moving) - centre_of_mass(fixed))


def coarse(pair: Pair, samples: int = 64) -> tuple[Image, Image]:
    """Both images with at most about ``samples`` voxels across: enough for moments."""
    size = max(max(image.space.extent.tolist()) for image in (pair.fixed, pair.moving)) / samples
    return pair.level(max(1.0, size / pair.finest))


def mass(image: Image) -> Tensor:
    """(*S) float64 weights, 0 or more: the object inside the mask, whatever the brightness of its background.

    A background is what most of the outer shell of the field of view shows, if that is nearly one intensity: the air
    of a scan, the white of a slide. The object's mass is the distance from it, in the channel that shows it most, and 0
    near it. Without a background, as in a crop out of the middle of a body, brightness does not tell the object apart,
    and all voxels weigh the same.
    """
    known = background(image)
    if known is None:
        weight = torch.ones(image.space.shape, dtype=torch.float64, device=image.data.device)
    else:
        level, least = known
        distance = (image.data[0].double() - level.reshape(-1, *[1] * image.ndim)).abs().amax(dim=0)
        weight = torch.where(distance > least, distance, 0)
    return weight if image.mask is None else weight * image.mask[0, 0]


def background(image: Image) -> tuple[Tensor, float] | None:
    """(C,) intensities of the background, and how far from it the object begins; None without a background."""
    data = image.data[0].double()
    across = [a for a in range(1, data.ndim) if data.shape[a] > 1]  # the one layer of a slice is no border
    if not across:
        return None
    shell = torch.cat([data.select(a, i).flatten(1) for a in across for i in (0, -1)], dim=1)
    level = shell.median(dim=1).values
    spread = float((shell - level[:, None]).abs().median(dim=1).values.mean())
    width = float(data.amax() - data.amin())
    if not width > 0 or spread > _FLAT * width:
        return None
    return level, max(_CONTRAST * width, _NOISE * spread)


def centre_of_mass(image: Image) -> Tensor:
    """(D,) centre of the object's mass, RAS mm, float64; the centre of the grid if there is none."""
    weight = mass(image)
    whole = total(weight.flatten())
    if not float(whole) > 0:
        return image.space.centre
    d = image.ndim
    index = []
    for axis, n in enumerate(image.space.shape):
        profile = weight.sum(dim=[a for a in range(d) if a != axis])
        index.append((profile * torch.arange(n, dtype=torch.float64, device=weight.device)).sum() / whole)
    voxel = torch.stack(index).cpu()
    return image.space.affine[:d, :d] @ voxel + image.space.affine[:d, d]


def principal_axes(image: Image) -> Tensor:
    """(D, D) unit columns, the principal axes of the object's mass from the shortest to the longest, RAS, float64."""
    weight = mass(image)
    if not float(total(weight.flatten())) > 0:
        weight = torch.ones_like(weight)
    points = image.space.points(weight).reshape(-1, image.ndim)
    share = (weight / total(weight.flatten())).flatten()
    offset = points - share @ points
    spread = (offset * share[:, None]).T @ offset
    return torch.linalg.eigh(spread.cpu()).eigenvectors
