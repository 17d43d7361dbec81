"""Affine maps in homogeneous coordinates; rigid and similarity maps are affine maps of a smaller family."""

from __future__ import annotations

import torch
from torch import Tensor

from ..space import Space, lattice
from .base import Transform, parts_of


class Linear(Transform):
    """``x -> A x + t`` in RAS mm.

    Parameters
    ----------
    matrix
        (D+1, D+1) or (B, D+1, D+1), last row (0, ..., 0, 1); may carry a gradient.
    """

    def __init__(self, matrix: Tensor) -> None:
        n = matrix.shape[-1]
        if matrix.ndim not in (2, 3) or matrix.shape[-2] != n or n not in (3, 4):
            raise ValueError(
                f"a linear transform needs a (D+1, D+1) or (B, D+1, D+1) matrix, got {tuple(matrix.shape)}"
            )
        self.matrix = matrix

    @staticmethod
    def identity(ndim: int) -> Linear:
        """The map that moves nothing, in D = ``ndim`` dimensions."""
        return Linear(torch.eye(ndim + 1, dtype=torch.float64))

    @staticmethod
    def translation(offset: Tensor) -> Linear:
        """``x -> x + offset``, a (D,) or (B, D) offset in mm."""
        d = offset.shape[-1]
        eye = torch.eye(d + 1, dtype=offset.dtype, device=offset.device)
        corner = eye.expand(*offset.shape[:-1], d + 1, d + 1).clone()
        corner[..., :d, d] = offset
        return Linear(corner)

    @property
    def ndim(self) -> int:
        return self.matrix.shape[-1] - 1

    @property
    def batched(self) -> bool:
        return self.matrix.ndim == 3

    def is_identity(self) -> bool:
        """Whether this is exactly the identity and carries no gradient."""
        eye = torch.eye(self.ndim + 1, dtype=self.matrix.dtype, device=self.matrix.device)
        return self.matrix.ndim == 2 and not self.matrix.requires_grad and bool((self.matrix == eye).all())

    def __call__(self, points: Tensor) -> Tensor:
        d = self.ndim
        matrix = self.matrix.to(points)
        if matrix.ndim == 2:
            return points @ matrix[:d, :d].T + matrix[:d, d]
        flat = points.reshape(points.shape[0], -1, d)
        moved = flat @ matrix[:, :d, :d].mT + matrix[:, None, :d, d]
        return moved.reshape(moved.shape[0], *points.shape[1:])

    def on_grid(self, space: Space, like: Tensor | None = None) -> Tensor:
        like = torch.zeros(0, dtype=torch.float32) if like is None else like
        matrix = self.matrix.to(device=like.device)
        affine = space.affine.to(device=like.device)
        return lattice(matrix.to(affine.dtype) @ affine, space.shape, like)

    def inverse(self) -> Linear:
        """The closed-form inverse.

        Raises
        ------
        ValueError
            If the matrix is singular.
        """
        matrix = self.matrix.double()
        columns = matrix[..., : self.ndim, : self.ndim]
        # Of columns of length 1, for units are no matter: those of a slide may be micrometres.
        flat = torch.linalg.det(columns / columns.norm(dim=-2, keepdim=True)).abs()
        if not bool((flat > 1e-12).all()):
            raise ValueError(f"the linear transform is singular and has no inverse: {self.matrix.tolist()}")
        return Linear(torch.linalg.inv(matrix).to(self.matrix.dtype))

    def jacobian(self, points: Tensor) -> Tensor:
        d = self.ndim
        linear = self.matrix[..., :d, :d].to(points)
        if self.batched:
            linear = linear.reshape(-1, *[1] * (points.ndim - 2), d, d)
        return torch.broadcast_tensors(points[..., None], linear)[1]  # torch.broadcast_shapes would import sympy


def linear_part(transform: Transform) -> Linear | None:
    """The linear maps of a chain in their order, as one, with what is not linear left out; None where it has none.

    Of ``affine(field(x))``, as the default pipeline gives it, the affine map; of its inverse the inverse of that.
    """
    found: Transform | None = None
    for part in parts_of(transform):
        if isinstance(part, Linear):
            found = part if found is None else found @ part
    return found if isinstance(found, Linear) else None
