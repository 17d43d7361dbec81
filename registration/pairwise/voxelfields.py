"""Displacement fields in voxels of their own grid, (3, X, Y, Z) float32: what the diffeomorphic stage computes with.

A 2-D image is a volume whose first axis has one voxel. On the CPU the compiled kernels run; elsewhere, or without
numba, the same in torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import compiled
from ..space import lattice


def pull(image: Tensor, matrix: Tensor, field: Tensor, out: Tensor | None = None) -> Tensor:
    """Values of (C, *V) at ``matrix (i + field(i))``: (C, X, Y, Z), linear, border values outside.

    ``matrix`` is a (3, 4) map from voxels of the field's grid to voxels of the image, float64 on the CPU.
    """
    out = torch.empty(image.shape[0], *field.shape[1:], device=field.device) if out is None else out
    if compiled.fits(image, field):
        from ..compiled import field_kernels as kernels

        compiled.call(kernels.pull, image, matrix.float(), field, out)
        return out
    index = lattice(torch.cat([torch.eye(3, 4), torch.eye(4)[3:]]).double(), field.shape[1:], field)
    place = (index + field.movedim(0, -1)) @ matrix[:, :3].T.to(field) + matrix[:, 3].to(field)
    return out.copy_(_sample(image, place))


def compose(field: Tensor, step: Tensor, out: Tensor) -> Tensor:
    """``out(i) = step(i) + field(i + step(i))``: first the step, then the field."""
    return _compose(field, step, 1.0, 1.0, out)


def invert(field: Tensor, rounds: int = 15, tolerance: float = 0.02) -> Tensor:
    """The field w with ``i + w(i)`` the inverse of ``i + field(i)``, by fixed-point rounds ``w <- -field(i + w)``.

    Stops when no vector changes by more than ``tolerance`` voxels; rounds that overshoot are halved.
    """
    current, update = -field, torch.empty_like(field)
    last = math.inf
    share = 1.0
    for _ in range(rounds):
        _compose(field, current, 0.0, -1.0, update)
        update.sub_(current)
        change = longest(update)
        if change > 0.9 * last:
            share = 0.5
        current.add_(update, alpha=share)
        last = change
        if change < tolerance:
            break
    return current


def smooth(field: Tensor, sigma: Sequence[float]) -> Tensor:
    """Gaussian of (C, X, Y, Z) in place, sigma in voxels per axis, truncated at three sigmas, the border repeated."""
    weights = [_gaussian(s) for s in sigma]
    if compiled.fits(field):
        from ..compiled import field_kernels as kernels

        compiled.call(kernels.smooth, field, *weights)
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


def force(
    moving: Tensor, to_moving: Tensor, fixed: Tensor, to_fixed: Tensor | None, metric: Tensor, out: Tensor
) -> Tensor:
    """The derivative of a loss to moving both images by half a step each way.

    Parameters
    ----------
    moving, fixed
        (C, X, Y, Z) warped images.
    to_moving, to_fixed
        Derivatives of the loss to them; None where the loss has none to the fixed image.
    metric
        (3,) weight of each axis, for anisotropic voxels.
    out
        (3, X, Y, Z) result.
    """
    if compiled.fits(moving, fixed):
        from ..compiled import field_kernels as kernels

        back = to_moving if to_fixed is None else to_fixed
        compiled.call(kernels.force, moving, to_moving, fixed, back, to_fixed is not None, metric.float(), out)
        return out
    for axis in range(3):
        total = (to_moving * _slope(moving, axis)).sum(dim=0)
        if to_fixed is not None:
            total -= (to_fixed * _slope(fixed, axis)).sum(dim=0)
        out[axis] = float(metric[axis]) * total
    return out


class Adam:
    """Adam (Kingma and Ba 2015) for a field; the second moment is of the vector's length, so no axis is special."""

    def __init__(self, like: Tensor, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        self.betas, self.steps = betas, 0
        self.first, self.second = torch.zeros_like(like), torch.zeros_like(like[0])

    def direction(self, gradient: Tensor, least: float) -> Tensor:
        """The descent direction, in place of the gradient; ``least`` damps vectors of that length and below."""
        self.steps += 1
        b1, b2 = self.betas
        unbias1, unbias2 = 1 / (1 - b1**self.steps), 1 / (1 - b2**self.steps)
        if compiled.fits(gradient):
            import numpy as np

            from ..compiled import field_kernels as kernels

            numbers = [np.float32(v) for v in (b1, b2, unbias1, unbias2, least)]
            compiled.call(kernels.adam, gradient, self.first, self.second, *numbers)
            return gradient
        self.first.lerp_(gradient, 1 - b1)
        self.second.lerp_(gradient.square().sum(dim=0), 1 - b2)
        scale = -unbias1 / ((self.second * unbias2).sqrt() + least)
        return torch.mul(self.first, scale, out=gradient)


def longest(field: Tensor) -> float:
    """The greatest length of a vector, voxels."""
    if compiled.fits(field):
        from ..compiled import field_kernels as kernels

        return float(compiled.call(kernels.longest, field))
    return float(field.square().sum(dim=0).max().sqrt())


def determinants(field: Tensor) -> Tensor:
    """(X, Y, Z) Jacobian determinants of ``i + field(i)``, by central differences, one-sided at the border."""
    axes = [a for a in range(3) if field.shape[a + 1] > 1]
    slopes = [[torch.gradient(field[a], dim=b)[0] for b in axes] for a in axes]
    for a in range(len(axes)):
        slopes[a][a] = slopes[a][a] + 1
    if len(axes) == 1:
        return slopes[0][0]
    if len(axes) == 2:
        return slopes[0][0] * slopes[1][1] - slopes[0][1] * slopes[1][0]
    p, q, r = slopes
    first = p[0] * (q[1] * r[2] - q[2] * r[1])
    return first - p[1] * (q[0] * r[2] - q[2] * r[0]) + p[2] * (q[0] * r[1] - q[1] * r[0])


def unfold(field: Tensor, least: float = 0.05, rounds: int = 30) -> Tensor:
    """Smooth a field, in place and only near voxels whose determinant is below ``least``, until none is left."""
    for _ in range(rounds):
        bad = (determinants(field) < least).float()[None, None]
        if not bool(bad.any()):
            break
        near = F.max_pool3d(bad, 5, stride=1, padding=2)
        # Padded by hand, for the pooling's own padding refuses axes shorter than its window.
        near, weight = (F.avg_pool3d(F.pad(v, (1,) * 6), 3, stride=1) for v in (near, torch.ones_like(near)))
        near = (near / weight)[0]
        softer = smooth(field.clone(), [1.5 if n > 1 else 0.0 for n in field.shape[1:]])
        field.lerp_(softer, near.expand_as(field))
    return field


def _compose(field: Tensor, step: Tensor, keep: float, sign: float, out: Tensor) -> Tensor:
    if compiled.fits(field, step):
        import numpy as np

        from ..compiled import field_kernels as kernels

        compiled.call(kernels.compose, field, step, np.float32(keep), np.float32(sign), out)
        return out
    index = lattice(torch.eye(4, dtype=torch.float64), field.shape[1:], field)
    return torch.add(_sample(field, index + step.movedim(0, -1)) * sign, step, alpha=keep, out=out)


def _sample(image: Tensor, place: Tensor) -> Tensor:
    """(C, *V) at (X, Y, Z, 3) voxel coordinates."""
    from ..interpolate import linear

    size = torch.tensor(image.shape[1:], dtype=place.dtype, device=place.device)
    return linear(image[None], ((2 * place + 1) / size - 1).flip(-1)[None])[0]


def _slope(image: Tensor, axis: int) -> Tensor:
    n = image.shape[axis + 1]
    index = torch.arange(n, device=image.device)
    after, before = (index + 1).clamp(max=n - 1), (index - 1).clamp(min=0)
    return (image.index_select(axis + 1, after) - image.index_select(axis + 1, before)) / 2


def _gaussian(sigma: float) -> Tensor:
    """Half a kernel, from the middle outwards."""
    if sigma < 0.1:
        return torch.ones(1)
    offset = torch.arange(max(1, math.ceil(3 * sigma)) + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offset / sigma) ** 2)
    return (weights / (weights[0] + 2 * weights[1:].sum())).float()
