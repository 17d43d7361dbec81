"""The middle space of the diffeomorphic stage, and how images and transforms are brought there."""

from __future__ import annotations

import torch
from torch import Tensor

from ..image import Image
from ..space import Space
from ..transforms.base import Transform, compose, parts_of
from ..transforms.diffeomorphism import Diffeomorphism, grain, rounded
from ..transforms.field import DisplacementField
from ..transforms.linear import Linear
from . import voxelfields as vf
from .folds import Folds
from .pair import evidence
from .unfold import View, settled, unfold


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
        self.bend: Tensor | None = None
        if isinstance(before, Middle):
            self.phi_f, self.phi_m = self._taken(before, before.phi_f), self._taken(before, before.phi_m)
        elif before is not None:
            moves = before.on_grid(space, fixed.data) - space.points(fixed.data)
            self.phi_m = self._voxels(moves.movedim(-1, 0))
            self.bend = self.phi_m.clone()

    def move(self, step: Tensor, longest: float, rows: Tensor) -> None:
        """Compose the moving field with a step, and the fixed field with the opposite one.

        No component of the step is longer than ``longest`` voxels.
        """
        vf.follow(self.phi_m, step, longest, 1.0, rows)
        vf.follow(self.phi_f, step, longest, -1.0, rows)

    def soften(self, sigma: list[float], rows: Tensor) -> None:
        """Smooth both fields; of the moving one what came on top of the bend it began with, which is smooth already.

        Only at the first level: on finer grids this smooths too little to matter to a bend.
        """
        vf.smooth(self.phi_f, sigma, rows)
        if self.bend is not None:
            self.phi_m.sub_(self.bend)
        vf.smooth(self.phi_m, sigma, rows)
        if self.bend is not None:
            self.phi_m.add_(self.bend)

    def moves(self, field: Tensor, points: Tensor) -> Tensor:
        """(N, D) displacements in mm of one of the fields at (N, D) points of the middle space, RAS mm."""
        d, space = self.fixed.ndim, self.fixed.space
        to_voxel = torch.linalg.inv(space.affine).to(points)
        # Read as an image of N voxels in a row, each at the place of a point.
        place = torch.zeros(3, len(points)).to(points)
        place[3 - d :] = to_voxel[:d, :d] @ points.T + to_voxel[:d, d:]
        place[2] -= torch.arange(len(points)).to(points)
        read = vf.pull(field, torch.eye(3, 4, dtype=torch.float64), place[:, None, None].float().contiguous())
        return (space.affine[:d, :d].to(points) @ read[3 - d :, 0, 0].to(points)).T

    def weight(self) -> Tensor | None:
        """(1, 1, *S) where the masks of both images hold, and a moving slice reaches; None for everywhere."""
        weight = self.fixed.mask
        if self.moving.mask is not None or 1 in self.moving.space.shape:
            points = self.fixed.space.points(self.fixed.data) + self._mm(self.phi_m).movedim(0, -1)
            grid = (Linear(self.moving.space.to_unit()) @ self.outer)(points)[None]
            seen = evidence(self.moving, grid, (grid.abs().amax(dim=-1) <= 1)[:, None])
            weight = seen if weight is None else weight if seen is None else weight & seen
        return weight

    def transform(self, fixed: Space, moving: Space, folds: Folds | None = None) -> Diffeomorphism:
        """The residual, middle RAS mm -> RAS mm before the outer map, with its inverse; nothing can be moved after.

        Parameters
        ----------
        fixed, moving
            The grids of the images: neither the whole map on the fixed one nor its inverse on the moving one folds.
        folds
            What counts as a fold; None for :class:`VoxelFolds`.
        """
        self.bend = None
        own = self.fixed.space
        # The inverse of the whole agrees better with it than the inverses of its halves do.
        forward = self._unfolded(self._whole(), fixed.affine, fixed, folds)
        to_own = torch.linalg.inv(self.outer.matrix.detach().double().cpu()) @ moving.affine
        backward = self._unfolded(vf.invert(forward), to_own, moving, folds)
        fields = []
        for way in (forward, backward):
            fields.append(DisplacementField(rounded(self._mm(way), own).cpu(), own))
        return Diffeomorphism(fields[0], fields[1])

    def _whole(self) -> Tensor:
        """The moving field after the inverse of the fixed one; neither is there afterwards."""
        halves = self.phi_m, self.phi_f
        self.phi_m = self.phi_f = torch.empty(3, 0, 0, 0, dtype=torch.float32, device=self.device)
        back = vf.invert(halves[1])
        return vf.compose(halves[0], back, torch.empty_like(back))

    def _unfolded(self, field: Tensor, places: Tensor, reader: Space, folds: Folds | None) -> Tensor:
        """A field without folds, rounded; ``places``: voxels of the grid that will read it -> middle RAS mm."""
        own = self.fixed.space
        d = self.fixed.ndim
        shape = volume(torch.empty(1, *reader.shape, device="meta")).shape[1:]
        view = View(_padded(torch.linalg.inv(own.affine) @ places), (shape[0], shape[1], shape[2]))
        views = [view] if view.covers(field.shape[1:]) else [View.own(field.shape[1:]), view]
        turn = torch.eye(3, dtype=torch.float64)
        turn[3 - d :, 3 - d :] = own.affine[:d, :d]
        there, back = turn.to(field), torch.linalg.inv(turn).to(field)
        return unfold(field, views, folds, settle=lambda vectors: settled(vectors, there, back, grain(own)))

    def _zeros(self) -> Tensor:
        return torch.zeros(3, *volume(self.fixed.data[0]).shape[1:], dtype=torch.float32, device=self.device)

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
        result[3 - d :] = volume(torch.einsum("ab,b...->a...", turn, moves))
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
    low, shape = _window(image.space, box)
    window = (slice(None), slice(None), *(slice(a, a + n) for a, n in zip(low, shape, strict=True)))
    mask = None if image.mask is None else image.mask[window]
    return Image(image.data[window].contiguous(), image.space.cropped(low, shape), mask, image.name)


def cut_grid(space: Space, box: Space) -> Space:
    """The grid of :func:`cut`, without an image."""
    return space.cropped(*_window(space, box))


def _window(space: Space, box: Space) -> tuple[list[int], list[int]]:
    """The first voxel of the part of a grid in a box with its axes, and how many follow along each."""
    d, to_index = space.ndim, torch.linalg.inv(space.affine)
    corners = box.corners() @ to_index[:d, :d].T + to_index[:d, d]
    limit = torch.tensor(space.shape)
    low = torch.minimum((corners.amin(dim=0) + 0.5).floor().long().clamp(min=0), limit - 1)
    high = torch.maximum(torch.minimum((corners.amax(dim=0) + 0.5).ceil().long(), limit), low + 1)
    return low.tolist(), (high - low).tolist()


def volume(data: Tensor) -> Tensor:
    """(C, *S) -> (C, X, Y, Z)."""
    return data if data.ndim == 4 else data[:, None]


def _padded(matrix: Tensor) -> Tensor:
    """(D+1, D+1) map of voxels -> (3, 4) map of the voxels of volumes."""
    d = matrix.shape[0] - 1
    result = torch.eye(3, 4, dtype=torch.float64)
    result[3 - d :, 3 - d : 3] = matrix[:d, :d]
    result[3 - d :, 3] = matrix[:d, d]
    return result
