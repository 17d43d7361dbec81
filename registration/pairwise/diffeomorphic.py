"""The diffeomorphic stage: two fields that meet half-way, composed of small smooth steps, inverse included."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..compiled import Region
from ..image import Image
from ..limits import WIDEST, check_above, check_counts, check_sizes, is_number
from ..losses.base import Similarity
from ..space import Space
from ..transforms.base import Transform, compose
from . import voxelfields as vf
from .boxes import cut, cut_grid, surroundings
from .channels import Channels
from .folds import Folds, VoxelFolds
from .forces import Forces, Source
from .ground import common_ground, region_on
from .guides import Guide
from .middle import Middle, split
from .observe import Observer, StageReport
from .pair import Pair
from .parts import Part, divided
from .stages import Stage

_WEAK = 0.5  # a longest direction below this, of at most 1, is not drawn out to a full step
_NOTHING = 1e-30
_FINEST = 4.0  # times finer than a level its images may be: every one of them takes so many voxels to the power of D


@dataclass(frozen=True)
class FieldLevel:
    """One step of the coarse-to-fine schedule.

    Parameters
    ----------
    shrink
        Pyramid level, as a multiple of the finest fixed spacing. Below 1 the field is finer than the voxels while it is
        found, and read at the voxels in the end.
    iterations
        Steps.
    total
        Sigma of the Gaussian that smooths the whole field after every step, less the bend that the stage starts from,
        in voxels of the level: what resists deformation.
    sigma
        Sigma of the Gaussian that smooths a step, in voxels of the level; None for that of the stage's :class:`Steps`.
        Large at coarse levels, the way begins with what all of the image agrees on.
    detail
        How many times finer than the level's voxels the images are that the fields read, 1 or more. Linear
        interpolation blurs an image the more, the farther from its voxels it is read; where images are finer than
        their own voxels they are made by cubic splines, and blurred less.
    """

    shrink: float
    iterations: int
    total: float = 0.4
    sigma: float | None = None
    detail: float = 1.0

    def __post_init__(self) -> None:
        check_above(shrink=self.shrink)
        if not (is_number(self.detail) and 1 <= self.detail <= _FINEST):
            raise ValueError(f"detail is a number from 1 to {_FINEST:g}, got {self.detail!r}")
        check_counts(0, iterations=self.iterations)
        check_sizes(WIDEST, total=self.total, sigma=0.0 if self.sigma is None else self.sigma)


@dataclass(frozen=True)
class Steps:
    """How each step is made.

    Parameters
    ----------
    sigma
        Sigma of the Gaussian that smooths a step, in voxels of the level.
    first, last
        The longest vector of the first and the last step of a level, in voxels; it shrinks geometrically. Steps are
        shorter where no gradient is clear.
    damping
        Gradients below this share of what half a voxel out of place would cause count less than their direction alone:
        noise, and what is aligned, must not be followed as if it were an edge.
    """

    sigma: float = 1.0
    first: float = 0.5
    last: float = 0.1
    damping: float = 0.5

    def __post_init__(self) -> None:
        check_sizes(WIDEST, sigma=self.sigma)
        check_sizes(damping=self.damping)
        check_above(WIDEST, first=self.first, last=self.last)


class DiffeomorphicStage(Stage):
    """A dense, smooth, invertible residual, found symmetrically.

    Both images are pulled to a middle space by fields of their own, ``fixed(phi_f)`` and ``moving(phi_m)``, and the
    similarity between them pushes the fields apart by opposite small smooth steps (as in Avants et al. 2008,
    doi:10.1016/j.media.2007.06.004), with directions by Adam. The result is ``phi_m`` after the inverse of ``phi_f``;
    the inverse is made with it. Neither image is preferred, and no step can fold.

    Parameters
    ----------
    name
        What reports call the stage.
    similarity
        Loss between the two warped images. One without a gradient to its fixed argument moves the moving image only.
    levels
        Coarse to fine.
    steps
        How each step is made.
    edges
        Weight of the root of the gradient magnitude as a further channel beside the intensities; 0 leaves it out.
    folds
        What counts as a fold and is softened in the end; None for :class:`~registration.pairwise.VoxelFolds`.
    least
        The smallest shrink to which levels are divided where images are small, at most 1: a field between the voxels of
        few voxels costs little.
    most
        Voxels that are worked on at once on a last level between the voxels; larger ones are cut into parts.

    Raises
    ------
    ValueError
        If no level has iterations, or a number is out of its range.
    """

    deforms = True

    def __init__(
        self,
        name: str,
        similarity: Similarity,
        levels: Sequence[FieldLevel],
        steps: Steps | None = None,
        edges: float = 1.0,
        folds: Folds | None = None,
        least: float = 1.0,
        most: int = 6_000_000,
    ) -> None:
        if not any(level.iterations > 0 for level in levels):
            raise ValueError(f"{name}: no level has iterations; leave the stage out instead")
        check_sizes(edges=edges)
        check_above(1.0, least=least)
        check_counts(1, most=most)
        self.least, self.most = least, most
        self.name, self.similarity, self.levels = name, similarity, tuple(levels)
        self.steps, self.folds, self.channels = steps or Steps(), folds or VoxelFolds(), Channels(similarity, edges)

    def __call__(self, pair: Pair, initial: Transform, observer: Observer) -> tuple[Transform, StageReport]:
        began = time.perf_counter()
        outer, bend = split(initial)
        ground = common_ground(pair, initial)
        box = surroundings(ground)
        middle: Middle | None = None
        losses: list[float] = []
        levels, last = self.arranged(pair, self.fitting(pair), box)
        steps = sum(level.iterations for level in levels)
        steps += last.iterations * len(self.pieces(pair, ground, box, last)) if last else 0
        observer.stage(self.name, steps)
        for level in levels:
            middle = Middle(*self.images(pair, level.shrink, box), outer, bend if middle is None else middle)
            region = region_on(ground, middle.fixed.space, middle.weight(), self.similarity.reach)
            guides = [term.guide(middle, pair.fixed.space) for term in pair.terms]
            sources = self.sources(pair, middle, region, level)
            forces = self.forces(middle, region, sources)
            losses = self.descend(middle, level, observer, forces, [g for g in guides if g]) or losses
        assert middle is not None
        del region, guides, sources, forces  # their scratch is as large as two fields
        parts = self.parts(pair, middle, ground, (levels[-1], last), observer) if last else ()
        found = compose(outer, middle.transform(*pair.whole, self.folds, parts, aligned=pair.fixed.space))
        return found, StageReport(self.name, time.perf_counter() - began, losses[0], losses[-1], steps)

    def fitting(self, pair: Pair) -> list[FieldLevel]:
        """The levels for these images: finer ones where they are small, and one for any that become the same."""
        levels: list[FieldLevel] = []
        shrinks = pair.scaled([level.shrink for level in self.levels], self.least)
        for shrink, level in zip(shrinks, self.levels, strict=True):
            before = levels.pop().iterations if levels and levels[-1].shrink == shrink else 0
            levels.append(replace(level, shrink=shrink, iterations=before + level.iterations))
        return levels

    def arranged(self, pair: Pair, levels: list[FieldLevel], box: Space) -> tuple[list[FieldLevel], FieldLevel | None]:
        """The levels that are done in one, and the last one if it is done part by part.

        That is one between the voxels that has more than can be held at once. Labels and landmarks guide the whole, and
        some losses compare nothing less: then its steps are made at the voxels.
        """
        *whole, last = levels
        if last.shrink >= 1 or math.prod(cut_grid(pair.grid(last.shrink), box).shape) <= self.most:
            return levels, None
        if not whole or whole[-1].shrink > 1:  # parts begin from a whole at the voxels, and a step there tells the loss
            whole.append(replace(last, shrink=1.0, iterations=1))
        if pair.terms or not self.similarity.divisible:
            return [*whole[:-1], replace(whole[-1], iterations=whole[-1].iterations + last.iterations)], None
        return whole, last

    def images(self, pair: Pair, shrink: float, box: Space) -> tuple[Image, Image]:
        """Both images of a level, the fixed one cut to a box."""
        if shrink < 1:
            return pair.detailed(cut(pair.fixed, box), shrink), pair.detailed(pair.moving, shrink)
        fixed, moving = pair.level(shrink)
        return cut(fixed, box), moving

    def sources(self, pair: Pair, middle: Middle, region: Region, level: FieldLevel) -> tuple[Source, Source]:
        """What the fields read of the fixed and the moving image at a level."""
        if level.detail == 1 or not region.voxels:
            return self.channels.plain(middle)
        seen = self.channels.suited(pair.fixed), self.channels.suited(pair.moving)
        return self.channels.finer(pair, seen, middle, region, level.shrink / level.detail)

    def forces(self, middle: Middle, region: Region, sources: tuple[Source, Source]) -> Forces:
        """What drives the fields of a level."""
        return Forces(self.similarity.spaced(middle.fixed.space.spacing.tolist()), *sources, middle, region)

    def parts(
        self, pair: Pair, middle: Middle, ground: Image, levels: tuple[FieldLevel, FieldLevel], observer: Observer
    ) -> Iterator[tuple[Middle, Tensor]]:
        """The middle space of the last of two levels, part by part, from the whole of the one before.

        Every part begins where the whole ended, is moved by itself and is let go; what is known of the whole, such as
        histograms, does not change any more.

        Yields
        ------
        Every part with its fields, and (X, Y, Z) its share of the whole at its voxels.
        """
        before, level = levels
        seen = self.channels.suited(pair.fixed), self.channels.suited(pair.moving)
        region = region_on(ground, middle.fixed.space, middle.weight(), self.similarity.reach)
        if not region.voxels:
            return
        sources = self.channels.finer(pair, seen, middle, region, before.shrink / before.detail, pair.finest)
        forces, finer = self.forces(middle, region, sources), level.shrink / before.shrink
        held, clear = forces.held(), finer * forces.clear(forces.now(), 0.5 * finer)
        del forces, sources, region
        for part in self.pieces(pair, ground, middle.fixed.space, level):
            place = pair.detailed(cut(pair.fixed, part.space), level.shrink)
            inner = Middle(place, middle.moving, middle.outer, middle)
            region = region_on(ground, place.space, inner.weight(), self.similarity.reach)
            if region.voxels:
                sources = self.channels.finer(pair, seen, inner, region, level.shrink / level.detail, pair.finest)
                places = replace(part, grid=middle.fixed.space).places(place.space)
                self.descend(inner, level, observer, Forces(held(places), *sources, inner, region), clear=clear)
                del sources
                yield inner, part.share(place.space)
            del place, inner, region  # before the next ones are made

    def pieces(self, pair: Pair, ground: Image, box: Space, level: FieldLevel) -> list[Part]:
        """The parts of the fixed image's grid in a box that have something to align."""
        finer = math.prod(pair.grid(level.shrink).shape) / math.prod(pair.fixed.space.shape)
        parts = divided(cut_grid(pair.fixed.space, box), self.most / finer)
        return [part for part in parts if region_on(ground, part.space, None).voxels]

    def descend(
        self,
        middle: Middle,
        level: FieldLevel,
        observer: Observer,
        forces: Forces,
        guides: Sequence[Guide] = (),
        clear: float | None = None,
    ) -> list[float]:
        """Improve both fields at one level, where the forces look; the losses of its steps.

        ``clear`` is the length of derivatives that mean something, None for what :meth:`Forces.clear` says.
        """
        region = forces.region
        rows, stretch = region.rows, middle.stretch
        step = torch.zeros_like(middle.phi_m)
        adam: vf.Adam | None = None
        shrink = (self.steps.last / self.steps.first) ** (1 / max(1, level.iterations - 1))
        sigma = self.steps.sigma if level.sigma is None else level.sigma
        losses: list[float] = []
        for iteration in range(level.iterations):
            loss = forces.push(step.zero_())
            if adam is None:  # its memory is not needed before that of the look at what is clear is free again
                clear = forces.clear(step) if clear is None else clear
                adam = vf.Adam(step)
            losses.append(loss + sum(guide.push(middle, region.voxels, step) for guide in guides))
            observer.step(losses[-1])
            if not vf.lengths(step, rows)[0] > 0:
                break
            adam.direction(step, self.steps.damping * (clear or 0.0) + _NOTHING, rows)
            vf.smooth(step, (sigma / stretch).tolist(), rows)
            size = self.steps.first * shrink**iteration / max(vf.lengths(step, rows)[1], _WEAK)
            vf.scale(step, (size / stretch).tolist(), rows)
            middle.move(step, self.steps.first, rows)
            middle.soften((level.total / stretch).tolist(), rows)
        return losses
