"""Rotations, translations and one scale."""

from __future__ import annotations

import torch
from torch import Tensor

from .linear import LinearFamily, rotations, scaling, translations


class Similarity(LinearFamily):
    """Keeps angles: P = 4 in 2-D, 7 in 3-D; the parameters of :class:`Rigid`, then the logarithm of the scale."""

    def generators(self, ndim: int) -> Tensor:
        return torch.cat([translations(ndim), rotations(ndim), scaling(ndim)])
