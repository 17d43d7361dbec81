"""The diffeomorphic stage: two fields that meet half-way, composed of small smooth steps, inverse included."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..image import Image
from ..losses.base import Similarity
from ..transforms.base import Transform, compose
from . import voxelfields as vf
from .middle import Middle, cut, split, surroundings, volume
from .observe import Observer, StageReport
from .pair import Pair
from .splines import object_of
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
        Weight of the gradient magnitude as a further channel beside the intensities; 0 leaves it out.
    """

    def __init__(
        self,
        name: str,
        similarity: Similarity,
        levels: Sequence[FieldLevel],
        steps: Steps | None = None,
        edges: float = 2.0,
    ) -> None:
        self.name, self.similarity, self.levels = name, similarity, tuple(levels)
        self.steps, self.edges = steps or Steps(), edges

    def __call__(self, pair: Pair, initial: Transform, observer: Observer) -> tuple[Transform, StageReport]:
        began = time.perf_counter()
        shrinks = pair.useful(tuple(level.shrink for level in self.levels))
        levels = [level for level in self.levels if level.shrink in shrinks]
        observer.stage(self.name, sum(level.iterations for level in levels))
        outer, bend = split(initial)
        box = surroundings(object_of(pair.fixed))
        middle: Middle | None = None
        losses: list[float] = []
        for level in levels:
            fixed, moving = pair.level(level.shrink)
            middle = Middle(cut(fixed, box), moving, outer, bend if middle is None else middle)
            losses = self.descend(middle, level, observer)
        assert middle is not None
        found = compose(outer, middle.transform())
        steps = sum(level.iterations for level in levels)
        return found, StageReport(self.name, time.perf_counter() - began, losses[0], losses[-1], steps)

    def descend(self, middle: Middle, level: FieldLevel, observer: Observer) -> list[float]:
        """Improve both fields at one level; the losses of its steps."""
        fixed, moving = self.channels(middle.fixed), self.channels(middle.moving)
        weight = middle.weight()
        stretch = middle.stretch
        gradient, scratch = torch.empty_like(middle.phi_m), torch.empty_like(middle.phi_m)
        adam = vf.Adam(gradient)
        shrink = (self.steps.last / self.steps.first) ** (1 / max(1, level.iterations - 1))
        losses = []
        for iteration in range(level.iterations):
            warped_f = vf.pull(fixed, torch.eye(3, 4, dtype=torch.float64), middle.phi_f)
            warped_m = vf.pull(moving, middle.matrix, middle.phi_m)
            losses.append(self.slope(warped_m, warped_f, weight, middle, gradient))
            observer.step(losses[-1])
            typical = float(gradient.square().sum(dim=0).sqrt().mean())
            if not typical > 0:
                break
            step = vf.smooth(
                adam.direction(gradient, self.steps.damping * typical), (self.steps.sigma / stretch).tolist()
            )
            length = vf.longest(step)
            step.mul_(self.steps.first * shrink**iteration / max(length, 1e-12))
            step.div_(stretch.to(step)[:, None, None, None])
            middle.move(step, scratch)
            scratch = middle.spare
            for field in (middle.phi_m, middle.phi_f):
                vf.smooth(field, (level.total / stretch).tolist())
        return losses

    def slope(self, moving: Tensor, fixed: Tensor, weight: Tensor | None, middle: Middle, out: Tensor) -> float:
        """The loss, and into ``out`` its derivative to opposite moves of the two images, in isotropic voxels."""
        moving.requires_grad_(True)
        fixed.requires_grad_(True)
        shape = middle.fixed.space.shape
        images = [image.reshape(1, -1, *shape) for image in (moving, fixed)]
        loss = self.similarity(images[0], images[1], weight).sum()
        to_moving, to_fixed = torch.autograd.grad(loss, [moving, fixed], allow_unused=True)
        assert to_moving is not None
        to_moving.mul_(to_moving.numel())
        if to_fixed is not None:
            to_fixed.mul_(to_fixed.numel())
        vf.force(moving.detach(), to_moving, fixed.detach(), to_fixed, 1 / middle.stretch, out)
        return float(loss.detach())

    def channels(self, image: Image) -> Tensor:
        """(C, X, Y, Z) intensities and, if wanted, the length of their gradient per voxel of the finest axis."""
        data = image.data
        if self.edges > 0:
            from ..filters import gradient_magnitude

            step = float(min(s for s, n in zip(image.space.spacing, image.space.shape, strict=True) if n > 1))
            magnitude = gradient_magnitude(data, image.space.spacing.tolist())
            data = torch.cat([data, self.edges * step * magnitude], dim=1)
        return volume(data[0]).contiguous()
