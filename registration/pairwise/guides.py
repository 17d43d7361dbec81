"""Labels and landmarks in the diffeomorphic stage: forces on its two fields, beside those of the similarity."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..image import Image
from ..space import Space
from . import voxelfields as vf
from .shares import share_on

if TYPE_CHECKING:
    from .middle import Middle

_NEAR = 3.0  # voxels of a level: sigma of the Gaussians that spread the pull of a landmark
_ROUNDS = 10
_FAR = 5  # sigmas: farther out a Gaussian is nothing


class Guide(ABC):
    """A term at one level of the diffeomorphic stage."""

    @abstractmethod
    def push(self, middle: Middle, voxels: int, out: Tensor) -> float:
        """The weighted term now; adds its derivative to opposite moves of both fields, times ``voxels``.

        Parameters
        ----------
        middle
            The fields.
        voxels
            How many voxels of the level count, as in :meth:`registration.losses.base.Similarity.push`.
        out
            (3, X, Y, Z) per voxel, of the finest axis.
        """


@dataclass(frozen=True, eq=False)
class _Pulled:
    """(1, X, Y, Z) shares of one label, and the (3, 4) map to their voxels from those of the middle and its field."""

    values: Tensor
    matrix: Tensor


class LabelGuide(Guide):
    """``weight * (1 - mean soft Dice)``; each label in a box of its own, so that many cost little more than one.

    Parameters
    ----------
    labels
        (1, 1, *S) fixed and moving label map.
    values
        Which labels.
    weight
        What the term is multiplied by.
    middle
        The level.
    """

    def __init__(self, labels: tuple[Image, Image], values: Sequence[float], weight: float, middle: Middle) -> None:
        self.weight = weight
        still = torch.eye(3, 4, dtype=torch.float64)
        onto = (middle.fixed.space, still), (middle.moving.space, middle.matrix)
        self.parts = [
            [_pulled(image, value, *place, middle.device) for image, place in zip(labels, onto, strict=True)]
            for value in values
        ]

    def push(self, middle: Middle, voxels: int, out: Tensor) -> float:
        value = 1.0
        for fixed, moving in self.parts:
            box = _box((fixed, moving), middle)
            if box is None:
                value -= 1 / len(self.parts)
                continue
            value -= self._push(fixed, moving, middle, box, out, voxels) / len(self.parts)
        return self.weight * value

    def _push(
        self, fixed: _Pulled, moving: _Pulled, middle: Middle, box: tuple[slice, ...], out: Tensor, voxels: int
    ) -> float:
        """The soft Dice of one label, and its part of the derivative."""
        fields = [phi[(slice(None), *box)].contiguous() for phi in (middle.phi_f, middle.phi_m)]
        start = torch.tensor([side.start for side in box], dtype=torch.float64)
        p, q = (
            vf.pull(share.values, _shifted(share.matrix, start), phi)
            for share, phi in zip((fixed, moving), fields, strict=True)
        )
        both = float(p.square().sum(dtype=torch.float64) + q.square().sum(dtype=torch.float64))
        if not both > 0:
            return 0.0
        dice = 2 * float((p * q).sum(dtype=torch.float64)) / both
        factor = -self.weight * voxels / len(self.parts) * 2 / both
        to_q, to_p = (p - dice * q).mul_(factor)[0], (q - dice * p).mul_(factor)[0]
        for axis, stretch in enumerate(middle.stretch.tolist()):
            if out.shape[axis + 1] > 1:
                slopes = [_slope(image[0], axis) for image in (p, q)]
                out[axis][box] += (to_q * slopes[1] - to_p * slopes[0]) / stretch
        return dice


class LandmarkGuide(Guide):
    """``weight`` times the mean squared distance of the landmarks, in squared radii of the fixed domain.

    Parameters
    ----------
    points
        (N, D) fixed and moving landmarks, RAS mm.
    weight
        What the term is multiplied by.
    domain
        The whole fixed grid.
    """

    def __init__(self, points: tuple[Tensor, Tensor], weight: float, domain: Space) -> None:
        self.points, self.scale = points, weight / domain.radius**2

    def push(self, middle: Middle, voxels: int, out: Tensor) -> float:
        space, d = middle.fixed.space, middle.fixed.ndim
        here, there = (points.to(middle.device) for points in self.points)
        place = here
        for _ in range(_ROUNDS):  # where the fixed landmarks come from: the inverse of the fixed field, at points
            place = here - middle.moves(middle.phi_f, place)
        turn = middle.outer.matrix[:d, :d].to(place)
        error = there - middle.outer(place + middle.moves(middle.phi_m, place))
        many = [s for s, n in zip(space.spacing.tolist(), space.shape, strict=True) if n > 1]
        finest, sigma = min(many), _NEAR * max(many)
        # A force at a point, spread out: the sum over voxels stays what it was. Moved both, fields count twice.
        spread = math.prod(s / (sigma * math.sqrt(2 * math.pi)) for s in many)
        force = landmark_force(error @ turn, place, space, sigma).to(out)
        axes = (space.affine[:d, :d] / space.spacing).to(out)
        factor = 4 * self.scale * voxels * finest * spread / len(here)
        out[3 - d :] -= factor * (force @ axes).movedim(-1, 0).reshape(d, *out.shape[1:])
        return float(self.scale * error.square().sum(dim=1).mean())


def landmark_force(error: Tensor, points: Tensor, space: Space, sigma: float) -> Tensor:
    """Landmark errors spread over a grid by Gaussians: a push for dense fields, which have no parameter at a point.

    Parameters
    ----------
    error
        (N, D) mm: where a landmark should still go, ``moving landmark - T(fixed landmark)``.
    points
        (N, D) where it is in the grid's world, RAS mm.
    space
        The grid.
    sigma
        Width of the Gaussians, mm.

    Returns
    -------
    (*S, D) mm, float32: at a landmark that stands alone its error, between landmarks their weighted mean, far from all
    of them (beyond some sigma) falling to 0.
    """
    places = space.points(torch.zeros(0, dtype=torch.float32, device=points.device))
    push, weight = torch.zeros_like(places), torch.zeros_like(places[..., :1])
    d = space.ndim
    to_voxel = torch.linalg.inv(space.affine)
    reach = (to_voxel[:d, :d].abs().sum(dim=1) * _FAR * sigma).ceil().long()
    limit = torch.tensor(space.shape)
    for one, move in zip(points.to(places), error.to(places), strict=True):
        spot = (to_voxel[:d, :d] @ one.double().cpu() + to_voxel[:d, d]).round().long()
        low, high = (spot - reach).clamp(min=0), torch.minimum(spot + reach + 1, limit)
        box = tuple(slice(a, max(a, b)) for a, b in zip(low.tolist(), high.tolist(), strict=True))
        near = torch.exp(-(places[box] - one).square().sum(dim=-1, keepdim=True) / (2 * sigma**2))
        push[box] += near * move
        weight[box] += near
    return push / weight.clamp_min(1)


def _pulled(labels: Image, value: float, onto: Space, matrix: Tensor, device: torch.device) -> _Pulled:
    """One label on a grid, cut to where it is, with nothing around it; ``matrix``: voxels of the middle to the grid."""
    share = share_on(labels, value, onto)
    values = share.values[0] if labels.ndim == 3 else share.values
    start = torch.zeros(3, dtype=torch.float64)
    start[3 - labels.ndim :] = torch.tensor(share.first, dtype=torch.float64)
    return _Pulled(values.contiguous().to(device), torch.cat([matrix[:, :3], matrix[:, 3:] - start[:, None]], dim=1))


def _box(shares: Sequence[_Pulled], middle: Middle) -> tuple[slice, ...] | None:
    """The part of the middle space that two shares of a label can reach; None for none."""
    shape = torch.tensor(middle.phi_f.shape[1:])
    lows, highs = [], []
    for share, field in zip(shares, (middle.phi_f, middle.phi_m), strict=True):
        back = torch.linalg.inv(share.matrix[:, :3])
        size = torch.tensor(share.values.shape[1:], dtype=torch.float64) - 1
        corners = (torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3).double() * size - share.matrix[:, 3]) @ back.T
        reach = field.abs().amax(dim=(1, 2, 3)).cpu().double()
        lows.append(corners.amin(dim=0) - reach)
        highs.append(corners.amax(dim=0) + reach)
    low = torch.stack(lows).amin(dim=0).floor().long().clamp(min=0)
    high = torch.minimum(torch.stack(highs).amax(dim=0).ceil().long() + 1, shape)
    if bool((high <= low).any()):
        return None
    return tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))


def _shifted(matrix: Tensor, start: Tensor) -> Tensor:
    """The same map for voxels counted from ``start``."""
    return torch.cat([matrix[:, :3], (matrix[:, :3] @ start + matrix[:, 3])[:, None]], dim=1)


def _slope(image: Tensor, axis: int) -> Tensor:
    """Central differences of (X, Y, Z) along an axis, the border repeated."""
    pad = [0] * 6
    pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = 1
    wide = F.pad(image[None, None], pad, mode="replicate")[0, 0]
    n = image.shape[axis]
    return (wide.narrow(axis, 2, n) - wide.narrow(axis, 0, n)) / 2
