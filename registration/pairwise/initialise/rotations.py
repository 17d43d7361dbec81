"""Rotations spread evenly over all rotations."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_PSI = 1.533751168755204288118041  # the real root of psi**4 = psi + 4


def spread(ndim: int, count: int) -> Tensor:
    """(count, D, D) rotation matrices, float64, that leave no large gap: always the same ones.

    In 3-D the super-Fibonacci spiral of Alexa (2022, doi:10.1109/CVPR52688.2022.00811), neighbours about
    ``(8 pi**2 / count) ** (1/3)`` radians apart; in 2-D equal angles, the first of them 0.
    """
    index = torch.arange(count, dtype=torch.float64)
    if ndim == 2:
        angle = index * (2 * math.pi / count)
        cos, sin = angle.cos(), angle.sin()
        return torch.stack([cos, -sin, sin, cos], dim=-1).reshape(-1, 2, 2)
    place = index + 0.5
    inner, outer = (place / count).sqrt(), (1 - place / count).sqrt()
    alpha, beta = (2 * math.pi * place / math.sqrt(2)), (2 * math.pi * place / _PSI)
    return from_quaternions(
        torch.stack([inner * alpha.sin(), inner * alpha.cos(), outer * beta.sin(), outer * beta.cos()], dim=-1)
    )


def from_quaternions(quaternions: Tensor) -> Tensor:
    """(N, 4) unit quaternions, the scalar last -> (N, 3, 3) rotation matrices."""
    x, y, z, w = quaternions.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).reshape(-1, 3, 3)


def about(rotations: Tensor, fixed: Tensor, moving: Tensor) -> Tensor:
    """(N, D+1, D+1) maps ``x -> R (x - fixed) + moving`` of (N, D, D) rotations and (D,) or (N, D) centres in mm."""
    d = rotations.shape[-1]
    poses = torch.eye(d + 1, dtype=rotations.dtype).repeat(len(rotations), 1, 1)
    poses[:, :d, :d] = rotations
    poses[:, :d, d] = moving - (rotations @ fixed.to(rotations)[..., None])[..., 0]
    return poses
