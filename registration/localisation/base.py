"""What a localiser is: it proposes the parameters of a family."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from ..image import Image
from ..sampling import warp
from ..transforms.base import Transform


class Localiser(nn.Module, ABC):
    """Proposes (P,) or (B, P) dimensionless parameters that align what is left after an initial transform."""

    @abstractmethod
    def forward(self, fixed: Tensor, warped: Tensor) -> Tensor:
        """Parameters from (B, C, *S) tensors on one grid: the fixed image, and the moving one pulled back onto it."""

    def propose(self, fixed: Image, moving: Image, initial: Transform) -> Tensor:
        """Parameters for a pair of images: :meth:`forward` of the fixed image and the warped moving one."""
        warped, _ = warp(moving, initial, fixed.space)
        return self(fixed.data, warped.data)
