"""The cells of a mapped grid: volumes of their simplices, which tell whether the map is one-to-one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor


def smallest_simplices(mapped: Tensor, keeps: bool = True) -> Tensor:
    """(*S - 1) the smallest volume of the simplices of every cell between voxel centres, as sides' determinants.

    The 2^D simplices of one corner and the D edges that leave it, and in 3-D half the volumes of the two of four
    corners of which no two share an edge (Liu et al. 2024, doi:10.1007/s11263-024-02047-1). All are 1 for the identity
    on voxels. A determinant by central or one-sided differences is a mean over corners around its voxel.

    Parameters
    ----------
    mapped
        (*S, D) where the voxel centres go.
    keeps
        Whether the voxel axes are right-handed in the world, as they are with a positive determinant of the affine.
    """
    d = mapped.shape[-1]
    nodes = mapped.movedim(-1, 0).contiguous()
    edges = [torch.diff(nodes, dim=1 + axis) for axis in range(d)]
    sign = 1.0 if keeps else -1.0
    shape = tuple(n - 1 for n in mapped.shape[:-1])
    worst = torch.full(shape, torch.inf, dtype=mapped.dtype, device=mapped.device)
    for corner in itertools.product((0, 1), repeat=d):
        sides = []
        for axis, edge in enumerate(edges):
            begin = [0 if other == axis else corner[other] for other in range(d)]
            sides.append(_part(edge, begin, shape))
        torch.minimum(worst, sign * determinant([list(side) for side in sides]), out=worst)
    if d == 3:
        for base in ((0, 0, 0), (1, 1, 1)):
            apex = _part(nodes, base, shape)
            others = [tuple(b ^ (axis != k) for axis, b in enumerate(base)) for k in (1, 2, 0)]
            sides = [_part(nodes, other, shape) - apex for other in others]
            turned = (-sign if base[0] else sign) / 2
            torch.minimum(worst, turned * determinant([list(side) for side in sides]), out=worst)
    return worst


def determinant(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Determinants of D x D matrices whose entries are tensors of one shape; written out, for LAPACK is slow at it."""
    if len(rows) == 1:
        return rows[0][0]
    if len(rows) == 2:
        return rows[0][0] * rows[1][1] - rows[0][1] * rows[1][0]
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def _part(values: Tensor, begin: Sequence[int], shape: Sequence[int]) -> Tensor:
    """The block of (D, *S') values that begins there, of one entry per cell."""
    for axis, (start, length) in enumerate(zip(begin, shape, strict=True)):
        values = values.narrow(1 + axis, start, length)
    return values
