"""What may guide an alignment beside the similarity of the images: labels that should overlap, landmarks that meet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..image import Image
from ..limits import HEAVIEST, check_above
from ..space import Space
from .guides import Guide, LabelGuide, LandmarkGuide
from .overlap import Overlaps

if TYPE_CHECKING:
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
        overlaps = Overlaps((self.fixed, self.moving), self.labels, (fixed.space, moving.space), fixed.data)

        def bound(proposal: Proposal) -> Tensor:
            return self.weight * (1 - overlaps.mean(proposal.grid))

        return bound

    def guide(self, middle: Middle, domain: Space) -> Guide:
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
        return LandmarkGuide((self.fixed, self.moving), self.weight, domain)


def _check_weight(weight: float) -> None:
    check_above(HEAVIEST, weight=weight)  # a term of weight 0 is left out instead


__all__ = [
    "BoundTerm",
    "LabelOverlap",
    "Landmarks",
    "Proposal",
    "Term",
    "guided",
]
