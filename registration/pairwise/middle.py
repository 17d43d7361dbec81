"""The middle space of the diffeomorphic stage, and how images and transforms are brought there."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..compiled import Region
from ..image import Image
from ..space import Space
from ..transforms.base import Transform, compose, parts_of
from ..transforms.diffeomorphism import Diffeomorphism, grain, rounded
from ..transforms.field import DisplacementField
from ..transforms.linear import Linear
from . import voxelfields as vf
from .boxes import ALIKE, beyond, continued, cut_grid, moved, padded, reached, sides, volume, window_of
from .folds import Folds
from .pair import evidence
from .unfold import View, settled, unfold

_SHARPENED = 3  # times
_FARTHEST = 4  # fields go on beyond an image by one part of so many of it at most


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
        self.matrix = padded(to_moving)
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
            points = self.fixed.space.points(self.fixed.data) + _in_mm(self.phi_m, self.fixed.space).movedim(0, -1)
            grid = (Linear(self.moving.space.to_unit()) @ self.outer)(points)[None]
            seen = evidence(self.moving, grid, (grid.abs().amax(dim=-1) <= 1)[:, None])
            weight = seen if weight is None else weight if seen is None else weight & seen
        return weight

    def transform(
        self,
        fixed: Space,
        moving: Space,
        folds: Folds | None = None,
        parts: Iterable[tuple[Middle, Tensor]] = (),
        aligned: Space | None = None,
    ) -> Diffeomorphism:
        """The residual, middle RAS mm -> RAS mm before the outer map, with its inverse; nothing can be moved after.

        Its fields have the voxels of the middle space, or, where those are finer than the fixed image's, of that image.

        Parameters
        ----------
        fixed, moving
            The grids of the images: neither the whole map on the fixed one nor its inverse on the moving one folds.
        folds
            What counts as a fold; None for :class:`VoxelFolds`.
        parts
            Parts of this space whose fields are better, each with its (X, Y, Z) share of the whole at its voxels; asked
            for one after another.
        aligned
            The part of the fixed grid that was aligned; None for all of it. The fields go on to the edges of the whole.
        """
        self.bend = None
        own = beyond(self.fixed.space, aligned or fixed, fixed, self._strides())
        if bool((own.spacing < (1 - ALIKE) * fixed.spacing).any()):
            own = continued(fixed, own)
        reader = self._reader(own, moving)
        better = self._gathered(parts, own, reader)
        forward, wanted = self._both(self.phi_f, self.phi_m, own), self._both(self.phi_m, self.phi_f, reader)
        for known, found in zip((forward, wanted), better, strict=False):
            known.mul_(1 - found[3]).add_(found[:3])
        del better
        backward = self._both(self.phi_m, self.phi_f, own)
        self.phi_m = self.phi_f = torch.empty(3, 0, 0, 0, dtype=torch.float32, device=self.device)
        matrix = padded(torch.linalg.inv(own.affine) @ reader.affine)
        wanted = vf.turned(matrix[:, :3], wanted)
        read_as(backward, matrix, wanted)
        del wanted
        fields = []
        ways = [(forward, fixed), (backward, moved(moving, self.outer.inverse()))]
        del forward, backward  # each is let go when it is done
        while ways:
            way, space = ways.pop(0)
            view = padded(torch.linalg.inv(own.affine) @ space.affine)
            way = _unfolded(way, own, View(view, sides(space)), folds)
            fields.append(DisplacementField(rounded(_in_mm(way, own), own).cpu(), own))
        return Diffeomorphism(fields[0], fields[1])

    def _strides(self) -> list[tuple[int, int]]:
        """By how many voxels the fields lead across the two ends of each axis; at most a share of its length."""

        def across(axis: int, end: int) -> int:
            faces = (field[axis].select(axis, end) for field in (self.phi_f, self.phi_m))
            longest = math.ceil(sum(float(face.abs().max()) for face in faces))
            return min(longest, self.phi_f.shape[axis + 1] // _FARTHEST)

        return [(across(axis, 0), across(axis, -1)) for axis in range(3 - self.fixed.ndim, 3)]

    def _gathered(self, parts: Iterable[tuple[Middle, Tensor]], own: Space, reader: Space) -> list[Tensor]:
        """What parts say of the way there on one grid and of the way back on another, see :meth:`say`; of none nothing.

        Each part is let go before the next one is made.
        """
        found: list[Tensor] = []
        for part, share in parts:
            found = found or [torch.zeros(4, *sides(grid), device=self.device) for grid in (own, reader)]
            part.say(part.phi_f, part.phi_m, share, found[0], own)
            part.say(part.phi_m, part.phi_f, share, found[1], reader)
            del part, share
        return found

    def _reader(self, own: Space, moving: Space) -> Space:
        """The grid, in the middle space, at whose voxels an inverse on a grid there is to be right.

        That is where the moving image is read, as far as it lies there and at no more voxels.
        """
        level = self.moving.space
        level = moving if bool((level.spacing < (1 - ALIKE) * moving.spacing).any()) else level
        level = moved(level, self.outer.inverse())
        return cut_grid(level, own)

    def _both(self, first: Tensor, second: Tensor, onto: Space) -> Tensor:
        """One field after the inverse of another, at the voxels of a grid of the middle space and in voxels of it."""
        matrix, back = self._back(first, onto)
        return _after(second, matrix, back)

    def _back(self, field: Tensor, onto: Space) -> tuple[Tensor, Tensor]:
        """The map from voxels of a grid to voxels of this space, and the inverse of a field at them."""
        matrix = padded(torch.linalg.inv(self.fixed.space.affine) @ onto.affine)
        return matrix, vf.invert(field, matrix, sides(onto))

    def say(self, first: Tensor, second: Tensor, share: Tensor, out: Tensor, grid: Space) -> None:
        """Add to ``out`` a share of one field after the inverse of another, and in its last channel the share.

        Parameters
        ----------
        first, second
            Of this space; the first is inverted.
        share
            (X, Y, Z) at the voxels of this space, where both fields meet.
        out
            (4, X', Y', Z') on a grid, in voxels of it.
        """
        here, whole = padded(torch.linalg.inv(grid.affine) @ self.fixed.space.affine), sides(self.fixed.space)
        low, shape = window_of(grid, reached(grid, first, here, Region.whole(whole), 0.5))
        onto = grid.cropped(low, shape)
        matrix, back = self._back(first, onto)
        said = vf.pull(share[None].to(self.device), matrix, back)
        found = _after(second, matrix, back)
        corner = [0] * (3 - grid.ndim) + low
        part = out[(slice(None), *(slice(a, a + n) for a, n in zip(corner, sides(onto), strict=True)))]
        part[:3] += found.mul_(said)
        part[3:] += said

    def _zeros(self) -> Tensor:
        return torch.zeros(3, *volume(self.fixed.data[0]).shape[1:], dtype=torch.float32, device=self.device)

    def _taken(self, before: Middle, field: Tensor) -> Tensor:
        """A field of a coarser level on this grid."""
        return _carried(field, before.fixed.space, self.fixed.space)

    def _voxels(self, moves: Tensor) -> Tensor:
        """(D, *S) mm -> (3, X, Y, Z) voxels."""
        d = self.fixed.ndim
        result = self._zeros()
        turn = torch.linalg.inv(self.fixed.space.affine[:d, :d]).to(moves)
        result[3 - d :] = volume(torch.einsum("ab,b...->a...", turn, moves))
        return result


def _after(field: Tensor, matrix: Tensor, back: Tensor) -> Tensor:
    """A field after steps in voxels of a grid that ``matrix`` leads from, in voxels of that grid."""
    return vf.turned(torch.linalg.inv(matrix[:, :3]), vf.pull(field, matrix, back)).add_(back)


def _in_mm(field: Tensor, space: Space) -> Tensor:
    """(3, X, Y, Z) voxels of a grid -> (D, *S) mm."""
    d = space.ndim
    return torch.einsum("ab,b...->a...", space.affine[:d, :d].to(field), field[3 - d :].reshape(d, *space.shape))


def _carried(field: Tensor, own: Space, onto: Space) -> Tensor:
    """A field in voxels of one grid on another, in voxels of that."""
    step = padded(torch.linalg.inv(own.affine) @ onto.affine)
    moved = vf.pull(field, step, field.new_zeros(3, *sides(onto)))
    return vf.turned(torch.linalg.inv(step[:, :3]), moved)


def read_as(field: Tensor, matrix: Tensor, wanted: Tensor) -> Tensor:
    """Change a field so that it is nearly as wanted, (3, X, Y, Z) in its voxels, where it is read on another grid.

    Reading between voxels takes means, so that a field which is right at its voxels is too smooth between them. What
    is missing there is added to the voxels about, a few times (as van Cittert sharpens spectra). ``matrix`` is the
    (3, 4) map from voxels of the other grid to those of the field.
    """
    # Beyond the other grid nothing is missing.
    back = torch.linalg.inv(torch.cat([matrix, torch.eye(4, dtype=torch.float64)[3:]]))[:3]
    back[:, 3] += 1
    still, here = torch.zeros_like(wanted), torch.zeros_like(field)
    missing = F.pad(still[:1], [1] * 6)
    inner = missing[:, 1:-1, 1:-1, 1:-1]
    for one, goal in zip(field.split(1), wanted.split(1), strict=True):  # one component at a time, to hold less at once
        for _ in range(_SHARPENED):
            torch.sub(goal, vf.pull(one, matrix, still), out=inner)
            one.add_(vf.pull(missing, back, here))
    return field


def _unfolded(field: Tensor, own: Space, reader: View, folds: Folds | None) -> Tensor:
    """A field on a grid without folds there and where it will be read, rounded."""
    d = own.ndim
    views = [reader] if reader.covers(field.shape[1:]) else [View.own(field.shape[1:]), reader]
    turn = torch.eye(3, dtype=torch.float64)
    turn[3 - d :, 3 - d :] = own.affine[:d, :d]
    there, back = turn.to(field), torch.linalg.inv(turn).to(field)
    return unfold(field, views, folds, settle=lambda vectors: settled(vectors, there, back, grain(own)))


def split(transform: Transform) -> tuple[Linear, Transform | None]:
    """The linear map that comes last, and what comes before it (None for nothing)."""
    parts = parts_of(transform)
    if not isinstance(parts[0], Linear):
        return Linear.identity(transform.ndim), transform
    rest: Transform | None = None
    for part in parts[1:]:
        rest = part if rest is None else compose(rest, part)
    return parts[0], rest
