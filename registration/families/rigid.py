"""Rotations and translations."""

from __future__ import annotations

import torch
from torch import Tensor

from .linear import LinearFamily, rotations, translations


class Rigid(LinearFamily):
    """Rigid in mm on any spacing: P = 3 in 2-D, 6 in 3-D.

    First the translations in radii of the domain, then the rotations in radians.
    """

    def generators(self, ndim: int) -> Tensor:
        return torch.cat([translations(ndim), rotations(ndim)])
