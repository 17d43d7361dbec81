"""The diffeomorphic stage: two fields that meet half-way, composed of small smooth steps, inverse included."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..compiled import Region
from ..image import Image
from ..limits import WIDEST, check_above, check_counts, check_sizes
from ..losses.base import Similarity
from ..transforms.base import Transform, compose
from . import voxelfields as vf
from .folds import Folds, VoxelFolds
from .ground import common_ground, region_on
from .guides import Guide
from .middle import Middle, cut, split, surroundings, volume
from .observe import Observer, StageReport
from .pair import Pair
from .stages import Stage

_WEAK = 0.5  # a longest direction below this, of at most 1, is not drawn out to a full step
_NOTHING = 1e-30


@dataclass(frozen=True)
class FieldLevel:
    """One step of the coarse-to-fine schedule.

    Parameters
    ----------
    shrink
        Pyramid level, as a multiple of the finest fixed spacing.
    iterations
        Steps.
    total
        Sigma of the Gaussian that smooths the whole field after every step, less the bend that the stage starts from,
        in voxels of the level: what resists deformation.
    sigma
        Sigma of the Gaussian that smooths a step, in voxels of the level; None for that of the stage's :class:`Steps`.
        Large at coarse levels, the way begins with what all of the image agrees on.
    """

    shrink: float
    iterations: int
    total: float = 0.4
    sigma: float | None = None

    def __post_init__(self) -> None:
        check_above(shrink=self.shrink)
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
    ) -> None:
        if not any(level.iterations > 0 for level in levels):
            raise ValueError(f"{name}: no level has iterations; leave the stage out instead")
        check_sizes(edges=edges)
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
            fixed, moving = pair.level(level.shrink)
            middle = Middle(cut(fixed, box), moving, outer, bend if middle is None else middle)
            region = region_on(ground, middle.fixed.space, middle.weight(), self.similarity.reach)
            guides = [term.guide(middle, pair.fixed.space) for term in pair.terms]
            losses = self.descend(middle, region, level, observer, [g for g in guides if g is not None]) or losses
        assert middle is not None
        del region, guides  # their scratch is as large as two fields
        found = compose(outer, middle.transform(pair.fixed.space, pair.moving.space, self.folds))
        steps = sum(level.iterations for level in levels)
        return found, StageReport(self.name, time.perf_counter() - began, losses[0], losses[-1], steps)

    def fitting(self, pair: Pair) -> list[FieldLevel]:
        """The levels for these images: finer ones where they are small, and one for any that become the same."""
        levels: list[FieldLevel] = []
        for shrink, level in zip(pair.scaled([level.shrink for level in self.levels]), self.levels, strict=True):
            before = levels.pop().iterations if levels and levels[-1].shrink == shrink else 0
            levels.append(replace(level, shrink=shrink, iterations=before + level.iterations))
        return levels

    def descend(
        self, middle: Middle, region: Region, level: FieldLevel, observer: Observer, guides: Sequence[Guide] = ()
    ) -> list[float]:
        """Improve both fields at one level, inside the region; the losses of its steps."""
        similarity = self.similarity.spaced(middle.fixed.space.spacing.tolist())
        forces = Forces(similarity, (self.channels(middle.fixed), self.channels(middle.moving)), middle, region)
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
            from ..filters import gradient_magnitude

            step = float(min(s for s, n in zip(image.space.spacing, image.space.shape, strict=True) if n > 1))
            magnitude = gradient_magnitude(image.data, image.space.spacing.tolist())
            data = torch.cat([data, self.edges * (step * magnitude).sqrt()], dim=1)
        return volume(data[0]).contiguous()


class Forces:
    """What the similarity of two images does to the fields of a middle space.

    Parameters
    ----------
    similarity
        For voxels of the middle space.
    images
        (C, X, Y, Z) channels of the fixed and the moving image of the level.
    middle
        The fields, which may move between calls.
    region
        Where to look.
    """

    def __init__(self, similarity: Similarity, images: tuple[Tensor, Tensor], middle: Middle, region: Region) -> None:
        self.similarity, self.middle, self.region = similarity, middle, region
        self.fixed, self.moving = images
        shape = middle.phi_m.shape[1:]
        self.warped = [image.new_zeros(image.shape[0], *shape, dtype=torch.float32) for image in images]
        factors = 1 / middle.stretch
        # A slice looks the same when moved along its only voxel: the other image alone would drive it out of view.
        thin = torch.tensor([n == 1 for n in self.moving.shape[1:]])
        factors[middle.matrix[thin, :3].abs().argmax(dim=1)] = 0
        self.metric = factors.tolist()[3 - middle.fixed.ndim :]

    def push(self, out: Tensor, shift: float = 0.0, sign: float = 1.0) -> float:
        """The loss; adds its derivative to opposite moves of both fields, times ``sign``, to ``out`` (3, X, Y, Z).

        ``shift`` puts the moving field out of place by so many voxels of the finest axis, along every axis.
        """
        middle, space = self.middle, self.middle.fixed.space
        used = torch.tensor([n > 1 for n in middle.phi_m.shape[1:]])
        matrix = middle.matrix.clone()
        matrix[:, 3] += matrix[:, :3] @ torch.where(used, shift / middle.stretch, 0).to(matrix)
        still = torch.eye(3, 4, dtype=torch.float64)
        vf.pull(self.fixed, still, middle.phi_f, self.warped[0], self.region.rows)
        vf.pull(self.moving, matrix, middle.phi_m, self.warped[1], self.region.rows)
        fixed, moving = (image.view(1, -1, *space.shape) for image in self.warped)
        target = out[3 - space.ndim :].view(-1, *space.shape)
        return self.similarity.push(moving, fixed, self.region, [sign * factor for factor in self.metric], target)

    def clear(self, now: Tensor) -> float:
        """How long derivatives are that mean something: by how much half a voxel out of place changes those of now.

        A mean that weighs by length: edges decide, however much background or noise there is beside them.
        """
        change = now.clone()
        self.push(change, 0.5, -1.0)
        squares = change.square_().sum(dim=0)
        del change  # the sums take copies
        total = float(squares.sum(dtype=torch.float64))
        return total / max(float(squares.sqrt_().sum(dtype=torch.float64)), _NOTHING)
