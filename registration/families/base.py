"""A family turns dimensionless parameters into a transform: the grid generator of a spatial transformer."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..space import Space
from ..transforms.base import Transform


class Family(ABC):
    """Parameters -> transform, with zeros the identity.

    Parameters are dimensionless: the family scales them by ``domain.radius`` (mm), so that one learning rate suits a
    mouse and a torso, and a network's output is of order one. Rotations are about ``domain.centre``.
    """

    @abstractmethod
    def size(self, domain: Space) -> int:
        """Number of parameters P over this fixed domain."""

    @abstractmethod
    def __call__(self, parameters: Tensor, domain: Space) -> Transform:
        """The transform, fixed RAS mm -> moving RAS mm, of (P,) or (B, P) parameters; differentiable to them.

        Raises
        ------
        ValueError
            If the parameters are not ``size(domain)`` along their last axis.
        """

    def check(self, parameters: Tensor, domain: Space) -> Tensor:
        """The parameters in float64, after checking their shape."""
        size = self.size(domain)
        if parameters.ndim not in (1, 2) or parameters.shape[-1] != size:
            raise ValueError(
                f"{type(self).__name__} in {domain.ndim}-D takes parameters of shape ({size},) or (B, {size}), "
                f"got {tuple(parameters.shape)}"
            )
        return parameters.to(torch.float64)
