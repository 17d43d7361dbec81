"""What may guide an alignment beside the similarity of the images: labels that should overlap, landmarks that meet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..filters import resample
from ..image import Image
from ..losses.base import total
from ..sampling import linear, warp
from ..space import Space
from ..transforms.linear import Linear

if TYPE_CHECKING:
    from .guides import Guide
    from .middle import Middle


@dataclass(frozen=True, eq=False)
class Proposal:
    """An alignment as a term sees it.

    Parameters
    ----------
    grid
        (1, *S, D) places of the voxels of the fixed level, in the unit coordinates of the moving image.
    points
        Maps (N, D) fixed RAS mm to moving RAS mm.
    """

    grid: Tensor
    points: Callable[[Tensor], Tensor]


_FAR = 5  # sigmas: farther out a Gaussian is nothing

BoundTerm = Callable[[Proposal], Tensor]
"""``bound(proposal) -> ()``: a term with everything inside that does not change, weighted, differentiable."""


class Term(ABC):
    """Something that is added to the similarity in every stage that can: ``register(fixed, moving, terms=[...])``."""

    @abstractmethod
    def bind(self, fixed: Image, moving: Image, domain: Space) -> BoundTerm:
        """The term at one pyramid level.

        Parameters
        ----------
        fixed, moving
            The images at the level, the fixed one perhaps cut to a part; only their grids are looked at.
        domain
            The whole fixed grid, whose radius is the unit of length.
        """

    def guide(self, middle: Middle, domain: Space) -> Guide | None:
        """The term at one level of the diffeomorphic stage; None if it has no force to offer there.

        Parameters
        ----------
        middle
            The images and fields of the level.
        domain
            The whole fixed grid.
        """
        return None


def guided(loss: Tensor, terms: Sequence[BoundTerm], proposal: Proposal) -> Tensor:
    """A loss plus all terms, in its dtype."""
    for term in terms:
        loss = loss + term(proposal).to(loss.dtype)
    return loss


class LabelOverlap(Term):
    """One minus the mean soft Dice of the labels that both maps hold; 0 is a perfect overlap.

    ``2 sum(p q) / (sum(p p) + sum(q q))`` (Milletari et al. 2016, doi:10.1109/3DV.2016.79) of every label, where p
    and q are its share of each voxel of the pyramid level, antialiased. Masks do not matter but for the box of
    the fixed one, beyond which linear and spline stages do not look; the moving map is empty outside its field of view.

    Parameters
    ----------
    fixed, moving
        (1, 1, *S) label maps, on any grids.
    weight
        What the term is multiplied by.
    labels
        Which ones; None for all but 0 that both maps hold.

    Raises
    ------
    ValueError
        If the weight is not positive, or no such label is in both maps.
    """

    def __init__(self, fixed: Image, moving: Image, weight: float = 1.0, labels: Sequence[int] | None = None) -> None:
        _check_weight(weight)
        self.fixed, self.moving, self.weight = fixed, moving, float(weight)
        held = [set(image.data.unique().tolist()) for image in (fixed, moving)]
        common = (held[0] & held[1]) - {0.0}
        wanted = common if labels is None else common & {float(label) for label in labels}
        if not wanted:
            asked = "" if labels is None else f" of {sorted(labels)}"
            raise ValueError(f"no label{asked} is in both {fixed.name} and {moving.name}: they cannot guide")
        self.labels = sorted(wanted)

    def bind(self, fixed: Image, moving: Image, domain: Space) -> BoundTerm:
        target = soft_labels(self.fixed, self.labels, fixed.space).to(fixed.data)
        source = soft_labels(self.moving, self.labels, moving.space).to(moving.data)
        own = total(target.square().flatten(2))

        def bound(proposal: Proposal) -> Tensor:
            inside = (proposal.grid.detach().abs().amax(dim=-1) <= 1)[:, None]
            found = linear(source, proposal.grid) * inside
            both = own + total(found.square().flatten(2))
            dice = 2 * total((found * target).flatten(2)) / both.clamp_min(torch.finfo(torch.float32).tiny)
            return self.weight * (1 - dice.mean())

        return bound

    def guide(self, middle: Middle, domain: Space) -> Guide:
        from .guides import LabelGuide

        return LabelGuide((self.fixed, self.moving), self.labels, self.weight, middle)


class Landmarks(Term):
    """Mean squared distance of mapped fixed landmarks to the moving ones, in squared radii of the fixed domain.

    A distance of 1 % of the radius (1 mm in a head of 100 mm) costs ``weight * 1e-4``: weights of hundreds are usual.

    Parameters
    ----------
    fixed, moving
        (N, D) landmarks in RAS mm, row by row the same places.
    weight
        What the term is multiplied by.

    Raises
    ------
    ValueError
        If the weight is not positive, or the tables do not fit each other or hold no numbers.
    """

    def __init__(self, fixed: Tensor, moving: Tensor, weight: float = 100.0) -> None:
        _check_weight(weight)
        if fixed.shape != moving.shape or fixed.ndim != 2 or not len(fixed):
            raise ValueError(
                f"landmarks are two (N, D) tables of one shape, got {tuple(fixed.shape)} and {tuple(moving.shape)}"
            )
        if not bool(torch.isfinite(fixed).all() and torch.isfinite(moving).all()):
            raise ValueError("landmarks hold NaN or infinite coordinates")
        self.fixed, self.moving, self.weight = fixed.double(), moving.double(), float(weight)

    def bind(self, fixed: Image, moving: Image, domain: Space) -> BoundTerm:
        if self.fixed.shape[1] != domain.ndim:
            raise ValueError(f"landmarks in {self.fixed.shape[1]}-D do not fit images in {domain.ndim}-D")
        here, there = (points.to(fixed.data.device) for points in (self.fixed, self.moving))
        scale = self.weight / domain.radius**2

        def bound(proposal: Proposal) -> Tensor:
            return scale * (proposal.points(here) - there).square().sum(dim=1).mean()

        return bound

    def guide(self, middle: Middle, domain: Space) -> Guide:
        from .guides import LandmarkGuide

        return LandmarkGuide((self.fixed, self.moving), self.weight, domain)


def soft_labels(labels: Image, values: Sequence[float], onto: Space) -> Tensor:
    """The share of every voxel of a grid that each label takes: smooth channels to overlap, or to register by.

    Parameters
    ----------
    labels
        (1, 1, *S) label map, on any grid.
    values
        The L labels.
    onto
        The grid; where it is coarser than the map, shares are antialiased.

    Returns
    -------
    (1, L, *onto.shape) between 0 and 1; 0 outside the map's field of view.
    """
    parts = [label_share(labels, value, onto) for value in values]
    return torch.cat([warp(part, Linear.identity(onto.ndim), onto)[0].data for part in parts], dim=1)


def label_share(labels: Image, value: float, onto: Space) -> Image:
    """The share that a label takes of the voxels of its map, antialiased for a grid: cut to where it is above 0.

    Parameters
    ----------
    labels
        (1, 1, *S) label map.
    value
        The label.
    onto
        The grid that it will be looked at on; along the axes of the map, the result is no finer.

    Returns
    -------
    (1, 1, *S') with a border of zeros within the map's field of view; one voxel of 0 if the label is not there.
    """
    d, whole = labels.ndim, labels.data[0, 0] == value
    steps = (torch.linalg.inv(onto.affine) @ labels.space.affine)[:d, :d].abs().amax(dim=0).clamp(max=1).tolist()
    shape = [max(1, round(n * step)) for n, step in zip(whole.shape, steps, strict=True)]
    part, start = whole.float(), [0] * d
    for axis, length in enumerate(shape):
        held = whole.movedim(axis, 0).flatten(1).any(dim=1).nonzero()
        low, high = (int(held.min()), int(held.max()) + 1) if len(held) else (0, 1)
        weights = _shares_along(whole.shape[axis], length)[low:high].to(part)
        reached = weights.any(dim=0).nonzero()
        start[axis] = max(0, int(reached.min()) - 1) if len(held) else 0
        last = min(length, int(reached.max()) + 2) if len(held) else 1
        rows = part.narrow(axis, low, high - low).movedim(axis, -1)
        part = (rows @ weights[:, start[axis] : last]).movedim(-1, axis)
    space = labels.space.resized(shape).cropped(start, part.shape)
    return Image(part[None, None].contiguous(), space, None, labels.name)


@lru_cache(maxsize=32)
def _shares_along(many: int, fewer: int) -> Tensor:
    """(many, fewer) what every voxel along an axis gives to each of those that :func:`downsample` makes of them."""
    return resample(torch.eye(many)[None], (fewer,))[0]


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
    places = space.points(torch.zeros(0, device=points.device))
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


def _check_weight(weight: float) -> None:
    if not weight > 0:
        raise ValueError(f"the weight of a term is above 0, got {weight}; leave the term out instead")


__all__ = [
    "BoundTerm",
    "LabelOverlap",
    "Landmarks",
    "Proposal",
    "Term",
    "guided",
    "label_share",
    "landmark_force",
    "soft_labels",
]
