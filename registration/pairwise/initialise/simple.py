"""What an initialiser is, and the two that look at nothing but the grids."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ...transforms.base import Transform
from ...transforms.linear import Linear
from ..pair import Pair


class Initialiser(ABC):
    """``pair -> transform``, fixed RAS mm -> moving RAS mm: where the first stage starts."""

    @abstractmethod
    def __call__(self, pair: Pair) -> Transform:
        """The transform to start from."""


class Header(Initialiser):
    """Trust the headers: the same world point is the same place. For images of one session."""

    def __call__(self, pair: Pair) -> Transform:
        return Linear.identity(pair.fixed.ndim)


class Centres(Initialiser):
    """Lay the centres of the two fields of view on one another."""

    def __call__(self, pair: Pair) -> Transform:
        fixed, moving = pair.whole
        return Linear.translation(moving.centre - fixed.centre)
