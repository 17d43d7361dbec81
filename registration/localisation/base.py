"""What a localiser is: it proposes the parameters of a family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..image import Image
from ..sampling import warp
from ..transforms.base import Transform
from ..transforms.linear import Linear


@dataclass(frozen=True)
class Named:
    """What a network says each voxel of both images is.

    Parameters
    ----------
    labels
        Values of label maps.
    logits
        (2B, 1 + labels, *S) on the fixed grid: background first, and the fixed images before the moving ones, which are
        there as the initial transform brings them.
    """

    labels: tuple[int, ...]
    logits: Tensor


class Localiser(nn.Module, ABC):
    """Proposes (P,) or (B, P) dimensionless parameters that align what is left after an initial transform."""

    any_size = False
    """Whether images of another size than those of training mean the same to it, voxel by voxel."""

    @abstractmethod
    def forward(self, fixed: Tensor, warped: Tensor) -> Tensor:
        """Parameters from (B, C, *S) tensors on one grid: the fixed image, and the moving one pulled back onto it."""

    def propose(self, fixed: Image, moving: Image, initial: Transform) -> Tensor:
        """Parameters for a pair of images: :meth:`forward` of the fixed image and the warped moving one."""
        return self(fixed.data, pulled(fixed, moving, initial)).to(fixed.data.dtype)

    def proposed(self, fixed: Image, moving: Image, initial: Transform) -> tuple[Tensor, Named | None]:
        """What :meth:`propose` gives, and what was named on the way by those who name the anatomy."""
        return self.propose(fixed, moving, initial), None

    def named(self, fixed: Image, moving: Image, initial: Transform) -> Named | None:
        """What is named on the way alone."""
        return self.proposed(fixed, moving, initial)[1]


def pulled(fixed: Image, moving: Image, initial: Transform) -> Tensor:
    """(B, C, *S) the moving image on the fixed grid; it is there already if the grids and the start say so."""
    if isinstance(initial, Linear) and initial.is_identity() and moving.space.same_as(fixed.space, tolerance=1e-6):
        return moving.data
    with full_precision(fixed.data):
        return warp(moving, initial, fixed.space)[0].data


def full_precision(like: Tensor) -> torch.autocast:
    """A context in which mixed precision is off: positions in mm need all their digits, networks do not."""
    return torch.autocast(like.device.type, enabled=False)
