"""Displacement fields in voxels of their own grid, (3, X, Y, Z) float32: what the diffeomorphic stage computes with.

A 2-D image is a volume whose first axis has one voxel. On the CPU the compiled kernels run; elsewhere, or without
numba, the same in torch. ``rows`` restricts the work, see :class:`Region`: outside, results are what they were, or, in
torch, what they would be without the restriction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import compiled
from ..space import lattice


def pull(image: Tensor, matrix: Tensor, field: Tensor, out: Tensor | None = None, rows: Tensor | None = None) -> Tensor:
    """Values of (C, *V) at ``matrix (i + field(i))``: (C, X, Y, Z), linear, border values outside.

    ``matrix`` is a (3, 4) map from voxels of the field's grid to voxels of the image, float64 on the CPU.
    """
    out = field.new_zeros(image.shape[0], *field.shape[1:], dtype=torch.float32) if out is None else out
    if compiled.fits(image, field):
        from ..compiled import warp_kernels as kernels

        compiled.call(kernels.pull, image, matrix.float(), field, _rows(rows, field), out)
        return out
    index = lattice(torch.cat([torch.eye(3, 4), torch.eye(4)[3:]]).double(), field.shape[1:], field)
    place = (index + field.movedim(0, -1)) @ matrix[:, :3].T.to(field) + matrix[:, 3].to(field)
    return out.copy_(_sample(image, place))


def compose(field: Tensor, step: Tensor, out: Tensor, rows: Tensor | None = None) -> Tensor:
    """``out(i) = step(i) + field(i + step(i))``: first the step, then the field."""
    return _compose(field, step, (1.0, 1.0), out, rows)


def follow(field: Tensor, step: Tensor, longest: float, sign: float = 1.0, rows: Tensor | None = None) -> Tensor:
    """``field(i) <- s(i) + field(i + s(i))`` in place, with ``s = sign * step``: no second field is needed.

    No component of the step is longer than ``longest`` voxels.
    """
    if compiled.fits(field, step):
        import numpy as np

        from ..compiled import warp_kernels as kernels

        reach = int(longest + 0.01) + 1
        parts = max(1, min(4 * torch.get_num_threads(), field.shape[1] // (4 * reach)))
        compiled.call(kernels.follow, field, step, np.float32(sign), np.float32(1), reach, _rows(rows, field), parts)
        return field
    return field.copy_(_compose(field, step * sign, (1.0, 1.0), torch.empty_like(field), None))


def invert(
    field: Tensor,
    matrix: Tensor | None = None,
    shape: Sequence[int] | None = None,
    rounds: int = 20,
    tolerance: float = 0.002,
) -> Tensor:
    """The inverse of ``q -> q + field(q)`` at the voxels of a lattice, (3, *shape) in voxels of the lattice.

    From voxel i of the lattice, w(i) leads to the voxel that the field brings to where i is, to within ``tolerance``
    voxels of the field where there is one. ``matrix`` is a (3, 4) map from voxels of the lattice to voxels of the
    field, float64 on the CPU; None for the field's own grid. By Newton steps at every voxel; in torch by fixed-point
    rounds, halved when they overshoot.
    """
    matrix = torch.eye(3, 4, dtype=torch.float64) if matrix is None else matrix
    turn = torch.linalg.inv(matrix[:, :3])
    still = field.new_zeros(3, *(field.shape[1:] if shape is None else shape))
    if compiled.fits(field):
        import numpy as np

        from ..compiled import inverse_kernels as kernels

        steps = matrix.float().contiguous(), turn.float().contiguous()
        compiled.call(kernels.invert, field, *steps, rounds, np.float32(tolerance), still)
        return still
    current = turned(-turn, pull(field, matrix, still))
    last, share = math.inf, 1.0
    for _ in range(2 * rounds):
        update = turned(-turn, pull(field, matrix, current, out=still)).sub_(current)
        change = lengths(turned(matrix[:, :3], update))[1]
        share = 0.5 if change > 0.9 * last else share
        current.add_(update, alpha=share)
        last = change
        if change < tolerance:
            break
    return current


def smooth(field: Tensor, sigma: Sequence[float], rows: Tensor | None = None) -> Tensor:
    """Gaussian of (C, X, Y, Z) in place, sigma in voxels per axis, truncated at three sigmas, the border repeated."""
    weights = [_gaussian(s) for s in sigma]
    if compiled.fits(field):
        from ..compiled import field_kernels as kernels

        compiled.call(kernels.smooth, field, *weights, _rows(rows, field))
        return field
    for axis, w in enumerate(weights):
        r = len(w) - 1
        if r:
            pad = [0] * 6
            pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = r
            wide = F.pad(field[None], pad, mode="replicate")[0]
            line = torch.cat([w.flip(0)[:-1], w]).to(field)
            shape = [1, 1, 1, 1, 1]
            shape[axis + 2] = len(line)
            field.copy_(F.conv3d(wide[:, None], line.reshape(shape))[:, 0])
    return field


class Adam:
    """Adam (Kingma and Ba 2015) for a field; the second moment is of the vector's length, so no axis is special."""

    def __init__(self, like: Tensor, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        self.betas, self.steps = betas, 0
        self.first, self.second = torch.zeros_like(like), torch.zeros_like(like[0])

    def direction(self, gradient: Tensor, least: float, rows: Tensor | None = None) -> Tensor:
        """The descent direction, in place of the gradient; ``least`` damps vectors of that length and below."""
        self.steps += 1
        b1, b2 = self.betas
        unbias1, unbias2 = 1 / (1 - b1**self.steps), 1 / (1 - b2**self.steps)
        if compiled.fits(gradient):
            from ..compiled import field_kernels as kernels

            numbers = torch.tensor([b1, b2, unbias1, unbias2, least], dtype=torch.float32)
            compiled.call(kernels.adam, gradient, self.first, self.second, numbers, _rows(rows, gradient))
            return gradient
        self.first.lerp_(gradient, 1 - b1)
        self.second.lerp_(gradient.square().sum(dim=0), 1 - b2)
        scale = -unbias1 / ((self.second * unbias2).sqrt() + least)
        return torch.mul(self.first, scale, out=gradient)


def turned(matrix: Tensor, field: Tensor) -> Tensor:
    """(3, X, Y, Z) vectors times a (3, 3) matrix; themselves if that is the identity."""
    if torch.equal(matrix, torch.eye(3).to(matrix)):
        return field
    return torch.einsum("ab,bxyz->axyz", matrix.to(field), field).contiguous()


def lengths(field: Tensor, rows: Tensor | None = None) -> tuple[float, float]:
    """The sum of the lengths of the vectors, and the greatest, voxels."""
    if compiled.fits(field):
        from ..compiled import field_kernels as kernels

        total, most = compiled.call(kernels.lengths, field, _rows(rows, field))
        return float(total), float(most)
    length = field.square().sum(dim=0).sqrt()
    return float(length.sum(dtype=torch.float64)), float(length.max())


def scale(field: Tensor, factors: Sequence[float], rows: Tensor | None = None) -> Tensor:
    """Multiply the components of (3, X, Y, Z) by factors, in place."""
    if compiled.fits(field):
        from ..compiled import field_kernels as kernels

        compiled.call(kernels.scale, field, torch.tensor(factors, dtype=torch.float32), _rows(rows, field))
        return field
    return field.mul_(torch.tensor(factors, dtype=torch.float32, device=field.device)[:, None, None, None])


def determinants(field: Tensor) -> Tensor:
    """(X, Y, Z) Jacobian determinants of ``i + field(i)``, by central differences, one-sided at the border."""
    if compiled.fits(field):
        from ..compiled import field_kernels as kernels

        out = torch.empty(field.shape[1:], dtype=torch.float32)
        compiled.call(kernels.determinants, field, out)
        return out
    p, q, r = (
        torch.stack([_difference(field[a], b) for b in range(3)])
        + torch.eye(3, dtype=torch.float32, device=field.device)[a, :, None, None, None]
        for a in range(3)
    )
    return (p * torch.linalg.cross(q, r, dim=0)).sum(dim=0)


def _difference(values: Tensor, axis: int) -> Tensor:
    return torch.gradient(values, dim=axis)[0] if values.shape[axis] > 1 else torch.zeros_like(values)


def _rows(rows: Tensor | None, field: Tensor) -> Tensor:
    return compiled.every_row(tuple(field.shape[1:])) if rows is None else rows  # type: ignore[arg-type]


def _compose(field: Tensor, step: Tensor, factors: tuple[float, float], out: Tensor, rows: Tensor | None) -> Tensor:
    """``out(i) = factors[0] * step(i) + factors[1] * field(i + step(i))``."""
    if compiled.fits(field, step):
        import numpy as np

        from ..compiled import warp_kernels as kernels

        keep, sign = (np.float32(factor) for factor in factors)
        compiled.call(kernels.compose, field, step, keep, sign, _rows(rows, field), out)
        return out
    index = lattice(torch.eye(4, dtype=torch.float64), field.shape[1:], field)
    return torch.add(_sample(field, index + step.movedim(0, -1)) * factors[1], step, alpha=factors[0], out=out)


def _sample(image: Tensor, place: Tensor) -> Tensor:
    """(C, *V) at (X, Y, Z, 3) voxel coordinates."""
    from ..interpolate import linear

    size = torch.tensor(image.shape[1:], dtype=place.dtype, device=place.device)
    return linear(image[None], ((2 * place + 1) / size - 1).flip(-1)[None])[0]


def _gaussian(sigma: float) -> Tensor:
    """Half a kernel, from the middle outwards."""
    if sigma < 0.1:
        return torch.ones(1, dtype=torch.float32)
    offset = torch.arange(max(1, round(3 * sigma)) + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offset / sigma) ** 2)
    return (weights / (weights[0] + 2 * weights[1:].sum())).float()
