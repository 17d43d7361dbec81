"""A transform that is looked at again and again on one grid."""

from __future__ import annotations

import torch
from torch import Tensor

from ..space import Space
from ..transforms.base import Transform
from ..transforms.linear import Linear


class Remembered(Transform):
    """The same map, its values on the last grid kept: warping images and labels and counting folds evaluate it once.

    Parameters
    ----------
    transform
        Fixed RAS mm -> moving RAS mm.
    """

    def __init__(self, transform: Transform) -> None:
        self.transform = transform
        self._space: Space | None = None
        self._values = torch.zeros(0, dtype=torch.float32)

    @staticmethod
    def of(transform: Transform) -> Transform:
        """The transform with a memory; a linear one as it is, for it is quicker computed than kept."""
        return transform if isinstance(transform, Linear | Remembered) else Remembered(transform)

    @property
    def ndim(self) -> int:
        return self.transform.ndim

    def __call__(self, points: Tensor) -> Tensor:
        return self.transform(points)

    def on_grid(self, space: Space, like: Tensor | None = None) -> Tensor:
        like = torch.zeros(0, dtype=torch.float32) if like is None else like
        same = self._space is space and self._values.dtype == like.dtype and self._values.device == like.device
        if not same:
            self._values = self.transform.on_grid(space, like).detach()
            self._space = space
        return self._values

    def inverse(self) -> Transform:
        return self.transform.inverse()

    def jacobian(self, points: Tensor) -> Tensor:
        return self.transform.jacobian(points)
