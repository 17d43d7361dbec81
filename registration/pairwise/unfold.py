"""Fields without folds, on every grid that they will be read on.

A field can be one-to-one on its own grid and still fold on another one that reads it between its voxels, or beyond its
border, or after rounding. So folds are looked for where fields are read, in the numbers that will be stored.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import compiled
from . import voxelfields as vf
from .folds import Folds, VoxelFolds, distinct

Settle = Callable[[Tensor], Tensor]

_PATIENCE = 4  # rounds without fewer folds
_MANY = 1_000_000  # voxels: where more have changed, all is looked at


@dataclass(frozen=True, eq=False)
class View:
    """A grid on which a field is read, linearly between its voxels, the border value outside.

    Parameters
    ----------
    matrix
        (3, 4) map from voxels of the view to voxels of the field, float64 on the CPU.
    shape
        (X, Y, Z) voxels of the view.
    """

    matrix: Tensor
    shape: tuple[int, int, int]
    _kept: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def own(cls, shape: Sequence[int]) -> View:
        """The grid of the field itself."""
        x, y, z = shape
        return cls(torch.eye(3, 4, dtype=torch.float64), (x, y, z))

    def covers(self, shape: Sequence[int]) -> bool:
        """Whether the view has every voxel of the grid of a field of this shape, and perhaps more around them."""
        start = -self.matrix[:, 3].round()
        whole = torch.eye(3, 4, dtype=torch.float64)
        whole[:, 3] = -start
        inside = start + torch.tensor(list(shape)) <= torch.tensor(self.shape)
        return bool((self.matrix - whole).abs().max() < 1e-4 and (start >= 0).all() and inside.all())

    def seen(self, vectors: Tensor, rows: Tensor | None, changed: Tensor | None = None) -> Tensor:
        """(3, *shape) a field (3, X', Y', Z') as read on the view, in voxels of the view; anew in these rows only.

        ``changed`` (N, 3) are the voxels of the field that are not as they were when it was read last; None for all.
        """
        if tuple(vectors.shape[1:]) == self.shape and self.covers(self.shape):
            return vectors
        if "still" not in self._kept:
            self._kept["still"] = torch.zeros(3, *self.shape, dtype=torch.float32, device=vectors.device)
            self._kept["read"] = torch.zeros_like(self._kept["still"])
            rows = changed = None
        # Turned before they are read: the field often has fewer voxels than the view.
        return vf.pull(self._turned(vectors, changed), self.matrix, self._kept["still"], self._kept["read"], rows)

    def _turned(self, vectors: Tensor, changed: Tensor | None) -> Tensor:
        """(3, X', Y', Z') the field in voxels of the view."""
        turn = torch.linalg.inv(self.matrix[:, :3]).float()
        if torch.equal(turn, torch.eye(3)):
            return vectors
        if "turned" not in self._kept:
            self._kept["turned"] = torch.empty_like(vectors)
            changed = None
        turned = self._kept["turned"]
        if changed is None:
            for axis, factors in enumerate(turn.tolist()):
                _mixed(vectors, factors, turned[axis])
        else:
            x, y, z = changed.to(vectors.device).T
            part = vectors[:, x, y, z]
            for axis, factors in enumerate(turn.tolist()):
                turned[axis, x, y, z] = _mixed(part, factors, torch.empty_like(part[0]))
        return turned

    def touched(self, changed: Tensor, shape: Sequence[int]) -> Tensor | None:
        """(2, X, Y) the rows of cells that (N, 3) voxels of a field of this shape have a part in; None for all."""
        places = self._and_beyond(changed, shape)
        if places is None:
            return None
        back = torch.linalg.inv(self.matrix[:, :3])
        spot = (places.double() - self.matrix[:, 3]) @ back.T
        reach = back.abs().sum(dim=1) + 1
        limit = torch.tensor(self.shape)
        spot = spot[((spot > -reach - 1) & (spot < limit + reach)).all(dim=1)]
        low, high = (spot - reach).floor().long(), (spot + reach).ceil().long() + 1
        middle = torch.minimum(spot.round().long().clamp(min=0), limit - 1)
        at = middle[:, 0] * limit[1] + middle[:, 1]
        first = torch.full((int(limit[0] * limit[1]),), self.shape[2])
        first.scatter_reduce_(0, at, low[:, 2].clamp(min=0, max=self.shape[2]), "amin")
        beyond = torch.zeros_like(first).scatter_reduce_(0, at, high[:, 2].clamp(min=0, max=self.shape[2]), "amax")
        window = [2 * (math.ceil(float(r)) + 1) + 1 for r in reach[:2]]
        planes = torch.stack([-first, beyond]).reshape(2, 1, *self.shape[:2]).double()
        low, high = F.max_pool2d(planes, window, stride=1, padding=[w // 2 for w in window]).long()[:, 0]
        return torch.stack([torch.minimum(-low, high), high]).int().contiguous()

    def _and_beyond(self, places: Tensor, shape: Sequence[int]) -> Tensor | None:
        """(M, 3) the (N, 3) voxels of a field of this shape, and where those at its border are read outside it.

        None for too many to be worth it.
        """
        ends = torch.cartesian_prod(*[torch.tensor([0, n - 1]) for n in self.shape]).reshape(-1, 3).double()
        corners = ends @ self.matrix[:, :3].T + self.matrix[:, 3]
        for axis, n in enumerate(shape):
            if n == 1:
                continue
            before, after = math.ceil(-float(corners[:, axis].min())), math.ceil(float(corners[:, axis].max())) - n + 1
            for end, steps in ((0, range(-before, 0)), (n - 1, range(1, after + 1))):
                there = places[places[:, axis] == end]
                if len(there) * len(steps) > _MANY:
                    return None
                out = there[:, None].repeat(1, len(steps), 1)
                out[..., axis] += torch.tensor(steps, dtype=torch.long)
                places = torch.cat([places, out.reshape(-1, 3)])
        return places

    def places(self, cells: Tensor) -> Tensor:
        """(M, 3) voxels of the field nearest to the corners of (N, 3) cells of the view."""
        steps = torch.cartesian_prod(*[torch.arange(2 if n > 1 else 1) for n in self.shape]).reshape(-1, 3)
        corners = (cells.cpu()[:, None] + steps).reshape(-1, 3).double()
        return (corners @ self.matrix[:, :3].T + self.matrix[:, 3]).round().long()


def unfold(
    vectors: Tensor,
    views: Sequence[View] | None = None,
    folds: Folds | None = None,
    least: float = 0.02,
    settle: Settle | None = None,
    rounds: int = 400,
) -> Tensor:
    """Soften a field only where it folds, until no view of it has any; the field given is used up.

    Parameters
    ----------
    vectors
        (3, X, Y, Z) displacements in voxels.
    views
        The grids that it will be read on; its own alone if there are none.
    folds
        What counts as one; None for :class:`VoxelFolds`.
    least
        What has to be kept of a volume.
    settle
        Rounds (3, N) vectors as they will be stored: folds are looked for after that.
    rounds
        Attempts.

    Returns
    -------
    (3, X, Y, Z) the field as it will be stored.
    """
    views = [View.own(vectors.shape[1:])] if views is None else list(views)
    folds = folds or VoxelFolds()
    # What is stored is looked at, but rounding would end the softening of small steps.
    stored = vectors if settle is None else settle(vectors.view(3, -1)).view_as(vectors)
    unseen: list[list[Tensor] | None] = [None for _ in views]  # what has changed since a view was looked at
    at = clean = 0
    stuck = _Stuck()
    for _ in range(rounds):
        if clean == len(views):
            break
        # One view until it is clean, then the next: most folds are in all views, and the first is the cheapest.
        view, since = views[at], unseen[at]
        changed = torch.cat(since) if since else None
        rows = None if changed is None else view.touched(changed, vectors.shape[1:])
        bad = torch.zeros(0, 3) if since == [] else view.places(folds(view.seen(stored, rows, changed), least, rows))
        unseen[at] = []
        if not len(bad):
            at, clean, stuck = (at + 1) % len(views), clean + 1, _Stuck()
            continue
        moved, softer = _soften(vectors, stuck.widened(bad))
        if settle is not None:
            x, y, z = moved.to(stored.device).T
            stored[:, x, y, z] = settle(softer)
        clean, unseen = 0, [None if places is None else [*places, moved] for places in unseen]
    return stored


class _Stuck:
    """Widens what is softened where folds stay: those of coarse voxels may be smooth to the fine ones of the field."""

    def __init__(self) -> None:
        self.fewest, self.since, self.width = math.inf, 0, 0

    def widened(self, places: Tensor) -> Tensor:
        """(M, 3) the (N, 3) voxels and those about them, the more the longer their number has not fallen."""
        self.since = self.since + 1 if len(places) >= self.fewest else 0
        self.fewest = min(self.fewest, len(places))
        if self.since == _PATIENCE:
            self.since, self.width = 0, self.width + 1
        if not self.width:
            return places
        steps = torch.arange(-self.width, self.width + 1)
        return (distinct(places)[:, None] + torch.cartesian_prod(steps, steps, steps)).reshape(-1, 3)


def _mixed(vectors: Tensor, factors: Sequence[float], out: Tensor) -> Tensor:
    """``out`` (*S) gets the sum of components (3, *S) times factors; each voxel the same, however many there are."""
    torch.mul(vectors[0], factors[0], out=out)
    for component, factor in zip(vectors[1:], factors[1:], strict=True):
        if factor:
            out.add_(component, alpha=factor)
    return out


def settled(vectors: Tensor, there: Tensor, back: Tensor, step: float) -> Tensor:
    """(3, N) voxels as they are read from a file that holds multiples of ``step``, in mm.

    Parameters
    ----------
    vectors
        (3, N) voxels.
    there, back
        (3, 3) voxels to mm and mm to voxels.
    step
        mm.
    """
    if compiled.fits(vectors):
        import numpy as np

        from ..compiled import fold_kernels as kernels

        out = torch.empty_like(vectors)
        compiled.call(kernels.settled, vectors, there.contiguous(), back.contiguous(), np.float32(step), out)
        return out
    return back @ torch.round(there @ vectors / step).mul_(step)


def _soften(vectors: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    """Bring vectors at (N, 3) voxels half-way to the mean of the 27 about them; (M, 3) which, (3, M) to what."""
    shape = vectors.shape[1:]
    x, y, z = torch.minimum(where.clamp(min=0), torch.tensor(shape) - 1).T
    marks = torch.zeros(shape, dtype=torch.bool)
    marks[x, y, z] = True
    near = marks.nonzero()
    softer = torch.empty(3, len(near), dtype=torch.float32, device=vectors.device)
    x, y, z = near.to(vectors.device).T
    if compiled.fits(vectors):
        from ..compiled import fold_kernels as kernels

        compiled.call(kernels.softened, vectors, near, softer)
    else:
        mean = softer.zero_()
        for i, j, k in itertools.product((-1, 0, 1), repeat=3):
            shifts = zip((x, y, z), (i, j, k), shape, strict=True)
            beside = [(a + shift).clamp(0, n - 1) for a, shift, n in shifts]
            mean += vectors[:, beside[0], beside[1], beside[2]] / 27
        softer = vectors[:, x, y, z].lerp(mean, 0.5)
    vectors[:, x, y, z] = softer
    return near, softer
