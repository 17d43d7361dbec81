"""The diffeomorphic stage: two fields that meet half-way, composed of small smooth steps, inverse included."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..compiled import Region
from ..image import Image
from ..losses.base import Similarity
from ..transforms.base import Transform, compose
from . import voxelfields as vf
from .ground import common_ground, region_on
from .guides import Guide
from .middle import Middle, cut, split, surroundings, volume
from .observe import Observer, StageReport
from .pair import Pair
from .stages import Stage


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
        Sigma of the Gaussian that smooths the whole field after every step, in voxels of the level: what resists
        deformation.
    """

    shrink: float
    iterations: int
    total: float = 0.4


@dataclass(frozen=True)
class Steps:
    """How each step is made.

    Parameters
    ----------
    sigma
        Sigma of the Gaussian that smooths a step, in voxels of the level.
    first, last
        The longest vector of the first and the last step of a level, in voxels; it shrinks geometrically.
    damping
        Gradients below this share of the mean length count less than their direction alone.
    """

    sigma: float = 1.0
    first: float = 0.5
    last: float = 0.1
    damping: float = 0.05


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
    """

    def __init__(
        self,
        name: str,
        similarity: Similarity,
        levels: Sequence[FieldLevel],
        steps: Steps | None = None,
        edges: float = 1.0,
    ) -> None:
        self.name, self.similarity, self.levels = name, similarity, tuple(levels)
        self.steps, self.edges = steps or Steps(), edges

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
            losses = self.descend(middle, region, level, observer, [g for g in guides if g is not None])
        assert middle is not None
        found = compose(outer, middle.transform(pair.fixed.space, pair.moving.space))
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
        fixed, moving = self.channels(middle.fixed), self.channels(middle.moving)
        rows, stretch = region.rows, middle.stretch
        still = torch.eye(3, 4, dtype=torch.float64)
        warped = [
            torch.zeros(image.shape[0], *middle.phi_m.shape[1:], device=image.device) for image in (fixed, moving)
        ]
        step = torch.zeros_like(middle.phi_m)
        used = step[3 - middle.fixed.ndim :].view(-1, *middle.fixed.space.shape)
        images = [image.view(1, -1, *middle.fixed.space.shape) for image in warped]
        metric = (1 / stretch).tolist()[3 - middle.fixed.ndim :]
        adam = vf.Adam(step)
        shrink = (self.steps.last / self.steps.first) ** (1 / max(1, level.iterations - 1))
        losses = []
        for iteration in range(level.iterations):
            vf.pull(fixed, still, middle.phi_f, warped[0], rows)
            vf.pull(moving, middle.matrix, middle.phi_m, warped[1], rows)
            step.zero_()
            loss = similarity.push(images[1], images[0], region, metric, used)
            losses.append(loss + sum(guide.push(middle, region.voxels, step) for guide in guides))
            observer.step(losses[-1])
            typical = vf.lengths(step, rows)[0] / region.voxels
            if not typical > 0:
                break
            adam.direction(step, self.steps.damping * typical, rows)
            vf.smooth(step, (self.steps.sigma / stretch).tolist(), rows)
            size = self.steps.first * shrink**iteration / max(vf.lengths(step, rows)[1], 1e-12)
            vf.scale(step, (size / stretch).tolist(), rows)
            middle.move(step, rows)
            for field in (middle.phi_m, middle.phi_f):
                vf.smooth(field, (level.total / stretch).tolist(), rows)
        return losses

    def channels(self, image: Image) -> Tensor:
        """(C, X, Y, Z) intensities and, if wanted, the root of their gradient's length per voxel of the finest axis.

        The root brings weak edges, between tissues, nearer to the strong ones about them.
        """
        data = image.data
        if self.edges > 0:
            from ..filters import gradient_magnitude

            step = float(min(s for s, n in zip(image.space.spacing, image.space.shape, strict=True) if n > 1))
            magnitude = gradient_magnitude(data, image.space.spacing.tolist())
            data = torch.cat([data, self.edges * (step * magnitude).sqrt()], dim=1)
        return volume(data[0]).contiguous()
