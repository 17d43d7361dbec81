"""A smooth invertible map that carries its inverse with it."""

from __future__ import annotations

from torch import Tensor

from ..space import Space
from .base import Transform
from .field import DisplacementField


class Diffeomorphism(Transform):
    """A displacement field and the field of its inverse, made together.

    Parameters
    ----------
    forward
        Fixed RAS mm -> moving RAS mm.
    backward
        Its inverse, as close as its maker brought it.
    """

    def __init__(self, forward: DisplacementField, backward: DisplacementField) -> None:
        if forward.ndim != backward.ndim:
            raise ValueError(f"the inverse of a {forward.ndim}-D field cannot be {backward.ndim}-D")
        self.forward, self.backward = forward, backward

    @property
    def ndim(self) -> int:
        return self.forward.ndim

    def __call__(self, points: Tensor) -> Tensor:
        return self.forward(points)

    def on_grid(self, space: Space, like: Tensor | None = None) -> Tensor:
        return self.forward.on_grid(space, like)

    def jacobian(self, points: Tensor) -> Tensor:
        return self.forward.jacobian(points)

    def inverse(self) -> Diffeomorphism:
        return Diffeomorphism(self.backward, self.forward)
