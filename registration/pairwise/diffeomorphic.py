"""The diffeomorphic stage: two fields that meet half-way, composed of small smooth steps, inverse included."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..image import Image
from ..losses.base import Similarity
from ..space import Space
from ..transforms.base import Transform, compose, parts_of
from ..transforms.diffeomorphism import Diffeomorphism
from ..transforms.field import DisplacementField
from ..transforms.linear import Linear
from . import voxelfields as vf
from .observe import Observer, StageReport
from .pair import Pair, evidence
from .splines import object_of
from .stages import Stage

_GRAIN = 4096  # parts of a voxel that displacements are rounded to, so that files compress


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
        return _volume(data[0]).contiguous()


class Middle:
    """The middle space of one level: its grid, both images, and the fields that pull them there.

    Parameters
    ----------
    fixed
        The fixed image of the level, cut to what matters; its grid is the middle space's.
    moving
        The moving image of the level.
    outer
        The linear map that comes after everything, middle RAS mm -> moving RAS mm.
    before
        Fields of the coarser level, or the bend that the stage starts from (None for none).
    """

    def __init__(self, fixed: Image, moving: Image, outer: Linear, before: Middle | Transform | None) -> None:
        self.fixed, self.moving, self.outer = fixed, moving, outer
        space = fixed.space
        self.device = fixed.data.device
        to_moving = torch.linalg.inv(moving.space.affine) @ outer.matrix.detach().double().cpu() @ space.affine
        self.matrix = _padded(to_moving)
        spacing = torch.ones(3, dtype=torch.float64)
        spacing[3 - space.ndim :] = space.spacing
        used = torch.tensor([n > 1 for n in (1,) * (3 - space.ndim) + space.shape])
        self.stretch = torch.where(used, spacing / spacing[used].min(), 1.0)
        self.phi_f, self.phi_m = self._zeros(), self._zeros()
        if isinstance(before, Middle):
            self.phi_f, self.phi_m = self._taken(before, before.phi_f), self._taken(before, before.phi_m)
        elif before is not None:
            moves = before.on_grid(space, fixed.data) - space.points(fixed.data)
            self.phi_m = self._voxels(moves.movedim(-1, 0))
        self.spare = self._zeros()

    def move(self, step: Tensor, scratch: Tensor) -> None:
        """Compose the moving field with a step and the fixed field with the opposite one."""
        self.phi_m, scratch = vf.compose(self.phi_m, step, scratch), self.phi_m
        self.phi_f, self.spare = vf.compose(self.phi_f, step.neg_(), scratch), self.phi_f

    def weight(self) -> Tensor | None:
        """(1, 1, *S) where masks and fields of view of both images hold; None for everywhere."""
        points = self.fixed.space.points(self.fixed.data) + self._mm(self.phi_m).movedim(0, -1)
        grid = (Linear(self.moving.space.to_unit()) @ self.outer)(points)[None]
        inside = (grid.abs().amax(dim=-1) <= 1)[:, None]
        weight = evidence(self.moving, grid, inside)
        if self.fixed.mask is not None:
            weight = self.fixed.mask if weight is None else weight & self.fixed.mask
        return weight

    def transform(self) -> Diffeomorphism:
        """The residual, middle RAS mm -> RAS mm before the outer map, with its inverse."""
        halves = [vf.unfold(self.phi_f.clone()), vf.unfold(self.phi_m.clone())]
        inverses = [vf.invert(half) for half in halves]
        fields = []
        for half, other in ((halves[1], inverses[0]), (halves[0], inverses[1])):
            whole = vf.unfold(vf.compose(half, other, torch.empty_like(half)))
            whole.mul_(_GRAIN).round_().div_(_GRAIN)
            fields.append(DisplacementField(self._mm(whole).cpu(), self.fixed.space))
        return Diffeomorphism(fields[0], fields[1])

    def _zeros(self) -> Tensor:
        return torch.zeros(3, *_volume(self.fixed.data[0]).shape[1:], device=self.device)

    def _taken(self, before: Middle, field: Tensor) -> Tensor:
        """A field of a coarser level on this grid."""
        step = _padded(torch.linalg.inv(before.fixed.space.affine) @ self.fixed.space.affine)
        moved = vf.pull(field, step, self._zeros())
        return torch.einsum("ab,bxyz->axyz", torch.linalg.inv(step[:, :3]).to(moved), moved).contiguous()

    def _voxels(self, moves: Tensor) -> Tensor:
        """(D, *S) mm -> (3, X, Y, Z) voxels."""
        d = self.fixed.ndim
        result = self._zeros()
        turn = torch.linalg.inv(self.fixed.space.affine[:d, :d]).to(moves)
        result[3 - d :] = _volume(torch.einsum("ab,b...->a...", turn, moves))
        return result

    def _mm(self, field: Tensor) -> Tensor:
        """(3, X, Y, Z) voxels -> (D, *S) mm."""
        d = self.fixed.ndim
        turn = self.fixed.space.affine[:d, :d].to(field)
        return torch.einsum("ab,b...->a...", turn, field[3 - d :].reshape(d, *self.fixed.space.shape))


def split(transform: Transform) -> tuple[Linear, Transform | None]:
    """The linear map that comes last, and what comes before it (None for nothing)."""
    parts = parts_of(transform)
    if not isinstance(parts[0], Linear):
        return Linear.identity(transform.ndim), transform
    rest: Transform | None = None
    for part in parts[1:]:
        rest = part if rest is None else compose(rest, part)
    return parts[0], rest


def surroundings(place: Image, margin: float = 0.06) -> Space:
    """The box around an object's mask with a margin of this share of its longest side: as a grid of one voxel."""
    assert place.mask is not None
    index = place.mask[0, 0].nonzero().double().cpu()
    pad = (
        margin * float(((index.amax(dim=0) - index.amin(dim=0) + 1) * place.space.spacing).max()) / place.space.spacing
    )
    low, high = index.amin(dim=0) - pad, index.amax(dim=0) + pad
    limit = torch.tensor(place.space.shape, dtype=torch.float64)
    low, high = low.clamp(min=-0.5), torch.minimum(high, limit - 0.5)
    d = place.ndim
    box = torch.eye(d + 1, dtype=torch.float64)
    box[:d, :d] = torch.diag(high - low)
    box[:d, d] = (low + high) / 2
    return Space((1,) * d, place.space.affine @ box)


def cut(image: Image, box: Space) -> Image:
    """The part of an image in a box whose axes are those of its voxels."""
    d = image.ndim
    corners = (
        box.corners() @ torch.linalg.inv(image.space.affine)[:d, :d].T + torch.linalg.inv(image.space.affine)[:d, d]
    )
    limit = torch.tensor(image.space.shape)
    low = torch.minimum((corners.amin(dim=0) + 0.5).floor().long().clamp(min=0), limit - 1)
    high = torch.maximum(torch.minimum((corners.amax(dim=0) + 0.5).ceil().long(), limit), low + 1)
    window = (slice(None), slice(None), *(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True)))
    space = image.space.cropped(low.tolist(), (high - low).tolist())
    mask = None if image.mask is None else image.mask[window]
    return Image(image.data[window].contiguous(), space, mask, image.name)


def _volume(data: Tensor) -> Tensor:
    """(C, *S) -> (C, X, Y, Z)."""
    return data if data.ndim == 4 else data[:, None]


def _padded(matrix: Tensor) -> Tensor:
    """(D+1, D+1) map of voxels -> (3, 4) map of the voxels of volumes."""
    d = matrix.shape[0] - 1
    result = torch.eye(3, 4, dtype=torch.float64)
    result[3 - d :, 3 - d : 3] = matrix[:d, :d]
    result[3 - d :, 3] = matrix[:d, d]
    return result
