"""Where a registration starts: the header, the centres of the fields of view, or the centres of mass."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..image import Image
from ..transforms.base import Transform
from ..transforms.linear import Linear
from .pair import Pair


class Initialiser(ABC):
    """``pair -> transform``, fixed RAS mm -> moving RAS mm: a first guess without optimisation."""

    @abstractmethod
    def __call__(self, pair: Pair) -> Transform:
        """The transform to start from."""


class Header(Initialiser):
    """Trust the headers: the same world point is the same place. For images of one session."""

    def __call__(self, pair: Pair) -> Transform:
        return Linear.identity(pair.fixed.ndim)


class Centres(Initialiser):
    """Lay the centres of the two fields of view on one another."""

    def __call__(self, pair: Pair) -> Transform:
        return Linear.translation(pair.moving.space.centre - pair.fixed.space.centre)


class CentresOfMass(Initialiser):
    """Lay the intensity-weighted centres of mass on one another; the weights are taken inside the masks."""

    def __call__(self, pair: Pair) -> Transform:
        return Linear.translation(centre_of_mass(pair.moving) - centre_of_mass(pair.fixed))


def centre_of_mass(image: Image) -> Tensor:
    """(D,) intensity-weighted centre inside the mask, RAS mm, float64; the centre of the grid for an empty image."""
    weight = image.data[0].double().mean(dim=0).clamp(min=0)
    if image.mask is not None:
        weight = weight * image.mask[0, 0]
    total = weight.sum()
    if not float(total) > 0:
        return image.space.centre
    d = image.ndim
    index = []
    for axis, n in enumerate(image.space.shape):
        profile = weight.sum(dim=[a for a in range(d) if a != axis])
        index.append((profile * torch.arange(n, dtype=torch.float64, device=weight.device)).sum() / total)
    voxel = torch.stack(index).cpu()
    return image.space.affine[:d, :d] @ voxel + image.space.affine[:d, d]
