"""Where training pairs start from, and the frame in which a network sees them."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..space import Space
from ..transforms.linear import Linear


class Start(ABC):
    """The first guess for a pair of preprocessed images."""

    @abstractmethod
    def __call__(self, fixed: Space, moving: Space) -> Linear:
        """Fixed RAS mm -> moving RAS mm, from the grids of the two images."""


class Grids(Start):
    """Lays the grids on each other voxel by voxel: for crops and scans whose headers do not place them together."""

    def __call__(self, fixed: Space, moving: Space) -> Linear:
        return Linear(moving.affine @ torch.linalg.inv(fixed.affine))


class Headers(Start):
    """Believes the headers: for images in one space, such as brains brought to an atlas."""

    def __call__(self, fixed: Space, moving: Space) -> Linear:
        return Linear.identity(fixed.ndim)


def upright(space: Space) -> Space:
    """A grid of the same shape and spacing with its axes along the world axes and its centre at the origin.

    A network answers along the axes of its tensors. In this frame those are the world axes, whatever the header says.
    """
    return Space.regular(space.shape, space.spacing.tolist())


def to_upright(space: Space) -> Tensor:
    """(D+1, D+1) matrix from the world mm of a grid to those of :func:`upright`; voxels keep their places."""
    return upright(space).affine @ torch.linalg.inv(space.affine)
