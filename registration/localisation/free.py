"""Free parameters: the localiser of pairwise registration, which ignores the images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..image import Image
from ..transforms.base import Transform
from .base import Localiser


class FreeParameters(Localiser):
    """Parameters that are optimised themselves; zeros, the identity, at the start.

    Parameters
    ----------
    size
        Number of parameters P, ``family.size(domain)``.
    batch
        B for one set per pair of a batch; None for a (P,) vector shared by all.
    """

    def __init__(self, size: int, batch: int | None = None) -> None:
        super().__init__()
        shape = (size,) if batch is None else (batch, size)
        self.theta = nn.Parameter(torch.zeros(shape, dtype=torch.float64))

    def forward(self, fixed: Tensor, warped: Tensor) -> Tensor:
        return self.theta

    def propose(self, fixed: Image, moving: Image, initial: Transform) -> Tensor:
        return self.theta
