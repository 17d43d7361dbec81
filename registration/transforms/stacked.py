"""Different transforms for the items of a batch, where their parameters cannot share one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..space import Space
from .base import Transform


class Stacked(Transform):
    """One transform per item of a batch.

    Parameters
    ----------
    items
        B transforms of one dimension D, none of them a batch itself.
    """

    def __init__(self, items: Sequence[Transform]) -> None:
        if not items or len({item.ndim for item in items}) != 1 or any(item.batched for item in items):
            raise ValueError("a stack takes one or more transforms of one dimension, none of them a batch")
        self.items = tuple(items)

    @property
    def ndim(self) -> int:
        return self.items[0].ndim

    @property
    def batched(self) -> bool:
        return True

    def __call__(self, points: Tensor) -> Tensor:
        points = points.expand(len(self.items), *points.shape[1:])
        return torch.stack([item(place) for item, place in zip(self.items, points, strict=True)])

    def on_grid(self, space: Space, like: Tensor | None = None) -> Tensor:
        return torch.stack([item.on_grid(space, like) for item in self.items])

    def jacobian(self, points: Tensor) -> Tensor:
        points = points.expand(len(self.items), *points.shape[1:])
        return torch.stack([item.jacobian(place) for item, place in zip(self.items, points, strict=True)])

    def inverse(self) -> Stacked:
        return Stacked([item.inverse() for item in self.items])
