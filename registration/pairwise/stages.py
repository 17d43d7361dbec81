"""Stages: each takes a pair and a transform and returns a better transform.

A stage finds a *residual* in fixed space, and the result is ``initial @ residual``: pyramid levels, grids and
parameters never leak from one stage to the next.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from ..families.base import Family
from ..image import Image
from ..limits import check_sizes, is_number
from ..losses.base import Similarity
from ..sampling import pull, sample, unit_grid
from ..space import Space
from ..transforms.base import Transform
from ..transforms.linear import Linear
from .observe import Observer, StageReport
from .optimise import Descent, QuasiNewton
from .pair import Pair, crop_to_mask, evidence
from .terms import Proposal, Term, guided

_KEPT = 0.6  # share of the overlap that a linear stage may not fall below: less is an escape, not an alignment
_USUAL = 0.08  # of the radius: how far corners move from a start, where nothing but the start is known
_CLEAR = 2.0  # times what chance explains: from here on, what the images share decides alone
_WIDER = 1.5  # times the moving view: a fixed view from here on takes the moving one's part
_STRETCH = 2.0  # most that one linear stage may stretch or shrink: organs of one kind differ by less


class Stage(ABC):
    """One step of a pipeline: ``(pair, initial, observer) -> (a better transform, a report)``."""

    name: str
    deforms = False
    """Whether more is changed than a few numbers can say: that takes images that have something in common."""

    @abstractmethod
    def __call__(self, pair: Pair, initial: Transform, observer: Observer) -> tuple[Transform, StageReport]:
        """Align further; ``initial`` and the result map fixed RAS mm -> moving RAS mm."""


class LinearStage(Stage):
    """Optimise the parameters of a small family (rigid, similarity, affine) over a pyramid.

    Where the moving image has the clearly smaller view, it takes the fixed one's part, and the result is inverted.

    Parameters
    ----------
    name
        What reports call the stage.
    family
        Turns dimensionless parameters into a transform about the centre of the fixed domain.
    similarity
        Loss between the warped and the fixed image.
    shrinks
        Pyramid levels, coarse to fine, as multiples of the finest fixed spacing.
    descent
        How to minimise.
    restraint
        Holds the images near where they are: the loss grows by this times the mean squared displacement of the corners
        of the fixed domain, in its radii. For images that show so little of the same that a similarity, followed
        freely, leads anywhere; 2 suits mutual information in nats.
    """

    def __init__(
        self,
        name: str,
        family: Family,
        similarity: Similarity,
        shrinks: Sequence[float],
        descent: Descent | QuasiNewton | None = None,
        restraint: float = 0.0,
    ) -> None:
        check_sizes(restraint=restraint)
        self.restraint = float(restraint)
        self.name, self.family, self.similarity = name, family, similarity
        shrinks = list(shrinks)
        if not shrinks or not all(is_number(shrink) and 0 < shrink < math.inf for shrink in shrinks):
            raise ValueError(f"shrinks are numbers above 0, at least one, got {shrinks}")
        self.shrinks, self.descent = tuple(float(shrink) for shrink in shrinks), descent or QuasiNewton()

    def __call__(self, pair: Pair, initial: Transform, observer: Observer) -> tuple[Transform, StageReport]:
        if isinstance(initial, Linear) and (other := self.arranged(pair)) is not pair:
            found, report = self._aligned(other, initial.inverse(), observer)
            return found.inverse(), report
        return self._aligned(pair, initial, observer)

    def arranged(self, pair: Pair) -> Pair:
        """The pair as it is aligned: a moving image with a clearly smaller view takes the fixed one's part.

        Else a view of other places, with another loss, would come with every step.
        """
        if pair.terms or pair.size("fixed") <= _WIDER * pair.size("moving"):
            return pair
        return pair.exchanged

    def _aligned(self, pair: Pair, initial: Transform, observer: Observer) -> tuple[Transform, StageReport]:
        began = time.perf_counter()
        shrinks = pair.scaled(self.shrinks)
        observer.stage(self.name, len(shrinks) * self.descent.iterations)
        domain = pair.fixed.space
        parameters = torch.zeros(self.family.size(domain), dtype=torch.float64)
        steps, after = 0, float("nan")
        still = parameters.clone()
        for shrink in shrinks:
            fixed, moving = pair.level(shrink)
            voxel = shrink * pair.finest
            aligned = Alignment(crop_to_mask(fixed, 4 * voxel), moving, initial, self, domain, pair.terms)
            caution = aligned.caution(parameters, pair)
            while True:
                aligned.restraint = max(self.restraint, caution)
                parameters, losses = self.descent(aligned, parameters, voxel / domain.radius, observer.step)
                steps, after = steps + len(losses) - 1, losses[-1]
                if caution == 0 or aligned.caution(parameters, pair) > 0:
                    break
                caution = 0.0  # what was found is clear: the rest of the way is free
        before = float(aligned(still).detach())
        found = initial @ self.family(parameters, domain)
        doubt = self.doubt(pair, initial, found, after - before)
        if doubt:
            observer.note(f"{self.name}: {doubt}; the alignment before this stage is kept")
            found, after = initial, before
        return found, StageReport(self.name, time.perf_counter() - began, before, after, steps)

    def doubt(self, pair: Pair, initial: Transform, found: Transform, gain: float) -> str:
        """Why a result is no improvement; nothing if it is one."""
        if not gain <= 0:
            return "no better alignment was found"
        overlap, was = pair.overlap(found), pair.overlap(initial)
        if overlap < _KEPT * was:
            return f"the images were pushed apart, from {was:.0%} of the fixed image covered to {overlap:.0%}"
        centre = pair.fixed.space.centre[None]
        change = torch.linalg.solve(initial.jacobian(centre)[0], found.jacobian(centre)[0])
        stretch = torch.linalg.svdvals(change)
        if float(stretch[0]) > _STRETCH or float(stretch[-1]) < 1 / _STRETCH:
            return f"the result stretches by {float(stretch[0]):.2g} and {float(stretch[-1]):.2g}"
        return ""


class Alignment:
    """The loss of a linear residual at one pyramid level, as a function of the family's parameters."""

    def __init__(
        self,
        fixed: Image,
        moving: Image,
        initial: Transform,
        stage: LinearStage,
        domain: Space,
        terms: Sequence[Term] = (),
    ) -> None:
        self.fixed, self.moving, self.initial = fixed, moving, initial
        self.terms = [term.bind(fixed, moving, domain) for term in terms]
        self.family, self.domain, self.restraint = stage.family, domain, 0.0
        similarity = stage.similarity.spaced(fixed.space.spacing.tolist())
        self.nats = similarity.nats
        self.similarity = similarity.bind(fixed.data, fixed.mask, moving.data)

    def caution(self, parameters: Tensor, pair: Pair) -> float:
        """The restraint that images ask for which share hardly more than smooth ones do by chance, else 0.

        It is that of the most probable transform, where the loss of so many independent samples stands beside what is
        known beforehand: corners move by :data:`_USUAL` or so.
        """
        if self.terms or not self.nats or not pair.chance > 0:
            return 0.0
        loss = self.mismatch(self.family(parameters, self.domain))
        doubt = max(0.0, 1 + float(loss.detach()) / (_CLEAR * pair.chance))
        return doubt / (2 * _USUAL**2 * pair.samples)

    def __call__(self, parameters: Tensor) -> Tensor:
        residual = self.family(parameters, self.domain)
        loss = self.mismatch(residual)
        if self.restraint > 0:
            corners = self.domain.corners().to(parameters.device)
            away = (residual(corners) - corners).square().sum(dim=-1).mean() / self.domain.radius**2
            loss = loss + (self.restraint * away).to(loss.dtype)
        return loss

    def mismatch(self, residual: Transform) -> Tensor:
        """The loss of a residual, whatever distance it covers."""
        transform = self.initial @ residual
        if self.terms or self.moving.mask is not None:
            grid = unit_grid(transform, self.moving.space, self.fixed.space, self.fixed.data)
            values, inside = sample(self.moving, grid)
            loss = self.similarity(values, evidence(self.moving, grid, inside)).mean()
            return guided(loss, self.terms, Proposal(grid, transform))
        values, inside = pull(self.moving, transform, self.fixed.space)
        return self.similarity(values, None if bool(inside.all()) else inside).mean()
