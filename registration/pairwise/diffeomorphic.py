"""The diffeomorphic stage: two fields that meet half-way, composed of small smooth steps, inverse included."""

from __future__ import annotations

import time
from collections.abc import Sequence
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
from .folds import Folds, VoxelFolds
from .forces import Forces, Source, steepness
from .ground import common_ground, region_on
from .guides import Guide
from .middle import Middle, cut, padded, reached, split, surroundings, volume
from .observe import Observer, StageReport
from .pair import Pair
from .stages import Stage

_WEAK = 0.5  # a longest direction below this, of at most 1, is not drawn out to a full step
_NOTHING = 1e-30
_READ = 6  # voxels of an image beyond those that a field reads when a level begins: steps may lead there
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
    ) -> None:
        if not any(level.iterations > 0 for level in levels):
            raise ValueError(f"{name}: no level has iterations; leave the stage out instead")
        check_sizes(edges=edges)
        check_above(1.0, least=least)
        self.least = least
        self.name, self.similarity, self.levels = name, similarity, tuple(levels)
        self.steps, self.edges, self.folds = steps or Steps(), edges, folds or VoxelFolds()

    def __call__(self, pair: Pair, initial: Transform, observer: Observer) -> tuple[Transform, StageReport]:
        began = time.perf_counter()
        levels = self.fitting(pair)
        observer.stage(self.name, sum(level.iterations for level in levels))
        outer, bend = split(initial)
        ground = common_ground(pair, initial)
        box = surroundings(ground)
        middle: Middle | None = None
        losses: list[float] = []
        for level in levels:
            middle = Middle(*self.images(pair, level.shrink, box), outer, bend if middle is None else middle)
            region = region_on(ground, middle.fixed.space, middle.weight(), self.similarity.reach)
            guides = [term.guide(middle, pair.fixed.space) for term in pair.terms]
            sources = self.sources(pair, middle, region, level)
            losses = self.descend(middle, region, level, observer, sources, [g for g in guides if g]) or losses
        assert middle is not None
        del region, guides, sources  # their scratch is as large as two fields
        found = compose(outer, middle.transform(pair.fixed.space, pair.moving.space, self.folds))
        steps = sum(level.iterations for level in levels)
        return found, StageReport(self.name, time.perf_counter() - began, losses[0], losses[-1], steps)

    def fitting(self, pair: Pair) -> list[FieldLevel]:
        """The levels for these images: finer ones where they are small, and one for any that become the same."""
        levels: list[FieldLevel] = []
        shrinks = pair.scaled([level.shrink for level in self.levels], self.least)
        for shrink, level in zip(shrinks, self.levels, strict=True):
            before = levels.pop().iterations if levels and levels[-1].shrink == shrink else 0
            levels.append(replace(level, shrink=shrink, iterations=before + level.iterations))
        return levels

    def images(self, pair: Pair, shrink: float, box: Space) -> tuple[Image, Image]:
        """Both images of a level, the fixed one cut to a box."""
        if shrink < 1:
            return pair.detailed(cut(pair.fixed, box), shrink), pair.detailed(pair.moving, shrink)
        fixed, moving = pair.level(shrink)
        return cut(fixed, box), moving

    def sources(self, pair: Pair, middle: Middle, region: Region, level: FieldLevel) -> tuple[Source, Source]:
        """What the fields read of the fixed and the moving image at a level."""
        if level.detail == 1 or not region.voxels:
            return self.plain(middle)
        linear, shrink, margin = middle.outer.matrix.detach().double().cpu(), level.shrink / level.detail, _READ
        margin += self.similarity.spaced(middle.fixed.space.spacing.tolist()).reach
        found = []
        for image, field, to_world in (
            (pair.fixed, middle.phi_f, middle.fixed.space.affine),
            (pair.moving, middle.phi_m, linear @ middle.fixed.space.affine),
        ):
            onto = padded(torch.linalg.inv(image.space.affine) @ to_world)
            part = pair.detailed(cut(image, reached(image.space, field, onto, region, margin)), shrink)
            found.append(Source(self.channels(part), padded(torch.linalg.inv(part.space.affine) @ to_world)))
        return found[0], found[1]

    def plain(self, middle: Middle) -> tuple[Source, Source]:
        """The images of the level as they are."""
        still = torch.eye(3, 4, dtype=torch.float64)
        return Source(self.channels(middle.fixed), still), Source(self.channels(middle.moving), middle.matrix)

    def descend(
        self,
        middle: Middle,
        region: Region,
        level: FieldLevel,
        observer: Observer,
        sources: tuple[Source, Source],
        guides: Sequence[Guide] = (),
    ) -> list[float]:
        """Improve both fields at one level, inside the region; the losses of its steps."""
        similarity = self.similarity.spaced(middle.fixed.space.spacing.tolist())
        forces = Forces(similarity, *sources, middle, region)
        rows, stretch = region.rows, middle.stretch
        step = torch.zeros_like(middle.phi_m)
        adam: vf.Adam | None = None
        shrink = (self.steps.last / self.steps.first) ** (1 / max(1, level.iterations - 1))
        sigma = self.steps.sigma if level.sigma is None else level.sigma
        losses: list[float] = []
        clear = 0.0
        for iteration in range(level.iterations):
            loss = forces.push(step.zero_())
            if adam is None:  # its memory is not needed before that of the look at what is clear is free again
                clear = forces.clear(step)
                adam = vf.Adam(step)
            losses.append(loss + sum(guide.push(middle, region.voxels, step) for guide in guides))
            observer.step(losses[-1])
            if not vf.lengths(step, rows)[0] > 0:
                break
            adam.direction(step, self.steps.damping * clear + _NOTHING, rows)
            vf.smooth(step, (sigma / stretch).tolist(), rows)
            size = self.steps.first * shrink**iteration / max(vf.lengths(step, rows)[1], _WEAK)
            vf.scale(step, (size / stretch).tolist(), rows)
            middle.move(step, self.steps.first, rows)
            middle.soften((level.total / stretch).tolist(), rows)
        return losses

    def channels(self, image: Image) -> Tensor:
        """(C, X, Y, Z) intensities that suit the loss and, if wanted, the root of the gradient's length.

        That is per voxel of the finest axis, of the intensities as they were. The root brings weak edges, between
        tissues, nearer to the strong ones about them.
        """
        data = self.similarity.suited(image.data, image.mask)
        if self.edges > 0:
            data = torch.cat([data, torch.empty_like(image.data)], dim=1)
            step = float(min(s for s, n in zip(image.space.spacing, image.space.shape, strict=True) if n > 1))
            steepness(image.data, image.space.spacing.tolist(), data[:, image.data.shape[1] :])
            data[:, image.data.shape[1] :].mul_(step).sqrt_().mul_(self.edges)
        return volume(data[0]).contiguous()
