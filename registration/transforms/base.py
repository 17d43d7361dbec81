"""What a transform is: call it, invert it, compose it.

A transform is a value that maps **fixed RAS mm to moving RAS mm**. Parameters may carry a leading batch axis B; then
the first axis of the points is B too (or 1, which broadcasts).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..space import Space


class Transform(ABC):
    """A map of world points, fixed RAS mm -> moving RAS mm."""

    @property
    @abstractmethod
    def ndim(self) -> int:
        """Spatial dimension D."""

    @property
    def batched(self) -> bool:
        """Whether this is a batch of B transforms, which takes (B, ..., D) or (1, ..., D) points."""
        return False

    @abstractmethod
    def __call__(self, points: Tensor) -> Tensor:
        """Map (..., D) points in mm; computed in the dtype and on the device of the points."""

    @abstractmethod
    def inverse(self) -> Transform:
        """The map from moving to fixed points: closed form, or numerical with its residual in mm."""

    def on_grid(self, space: Space, like: Tensor | None = None) -> Tensor:
        """The images of all voxel centres of ``space``: (*S, D) mm, or (B, *S, D) for a batch of transforms.

        The same as ``self(space.points(like))``; transforms with structure have faster ways.
        """
        points = space.points(like)
        return self(points[None] if self.batched else points)

    def jacobian(self, points: Tensor) -> Tensor:
        """(N, D, D) derivatives d(moving)/d(fixed) at (N, D) points, by forward differentiation."""
        columns = []
        for axis in range(self.ndim):
            direction = torch.zeros_like(points)
            direction[..., axis] = 1
            columns.append(torch.func.jvp(self, (points,), (direction,))[1])
        return torch.stack(columns, dim=-1)

    def __matmul__(self, inner: Transform) -> Transform:
        """Composition: ``(self @ inner)(x) == self(inner(x))``."""
        return compose(self, inner)


class Composite(Transform):
    """Several transforms in a row, outermost first: ``parts[0](parts[1](... x))``. Built by ``@``, flat and fused."""

    def __init__(self, parts: tuple[Transform, ...]) -> None:
        if len(parts) < 2:
            raise ValueError(f"a composite needs at least two parts, got {len(parts)}")
        self.parts = parts

    @property
    def ndim(self) -> int:
        return self.parts[0].ndim

    @property
    def batched(self) -> bool:
        return any(part.batched for part in self.parts)

    def __call__(self, points: Tensor) -> Tensor:
        for part in reversed(self.parts):
            points = part(points)
        return points

    def inverse(self) -> Transform:
        result = self.parts[-1].inverse()
        for part in reversed(self.parts[:-1]):
            result = result @ part.inverse()
        return result

    def on_grid(self, space: Space, like: Tensor | None = None) -> Tensor:
        points = self.parts[-1].on_grid(space, like)
        if self.batched and points.ndim == space.ndim + 1:
            points = points[None]
        for part in reversed(self.parts[:-1]):
            points = part(points)
        return points

    def jacobian(self, points: Tensor) -> Tensor:
        result: Tensor | None = None
        for part in reversed(self.parts):
            step = part.jacobian(points)
            result = step if result is None else step @ result
            points = part(points)
        assert result is not None
        return result


def parts_of(transform: Transform) -> tuple[Transform, ...]:
    """The chain of a transform, outermost first; a transform that is no composite is a chain of one."""
    return transform.parts if isinstance(transform, Composite) else (transform,)


def compose(outer: Transform, inner: Transform) -> Transform:
    """``outer(inner(x))``: neighbouring linear maps fuse into one, everything else stays exact in a flat chain."""
    from .linear import Linear

    if outer.ndim != inner.ndim:
        raise ValueError(f"cannot compose a {outer.ndim}-D transform with a {inner.ndim}-D one")
    chain: list[Transform] = []
    for part in (*parts_of(outer), *parts_of(inner)):
        last = chain[-1] if chain else None
        if isinstance(last, Linear) and isinstance(part, Linear):
            wide = torch.result_type(last.matrix, part.matrix)
            chain[-1] = Linear(last.matrix.to(wide) @ part.matrix.to(device=last.matrix.device, dtype=wide))
        else:
            chain.append(part)
    if len(chain) > 1:
        chain = [p for p in chain if not (isinstance(p, Linear) and p.is_identity())] or chain[:1]
    return chain[0] if len(chain) == 1 else Composite(tuple(chain))
