"""All linear maps that keep the orientation."""

from __future__ import annotations

import torch
from torch import Tensor

from .linear import LinearFamily, deviations, rotations, scaling, translations


class Affine(LinearFamily):
    """P = 6 in 2-D, 12 in 3-D: those of :class:`Similarity`, then stretches and shears that keep the volume."""

    def generators(self, ndim: int) -> Tensor:
        return torch.cat([translations(ndim), rotations(ndim), scaling(ndim), deviations(ndim)])
