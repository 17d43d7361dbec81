"""What a verdict rests on: the images on a coarse grid, and a result measured there beside where it started.

Letters in shapes: S spatial shape, D spatial dimension, N points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import downsample
from ..image import Image
from ..losses import LocalNormalisedCrossCorrelation, MutualInformation
from ..pairwise.ground import object_of
from ..pairwise.pair import Pair, evidence
from ..sampling import sample, unit_grid
from ..space import Space
from ..transforms.base import Transform
from ..transforms.inverse import InversionError
from .metrics import jacobian_determinants
from .remembered import Remembered

_VOXELS = 1 << 17  # of the coarse grid
_POINTS = 4000  # of the object whose places are looked at
_RETURNS = 400  # points that go to the moving image and back
_APART = 8  # the images are put out of place by this part of the object's size
_VARIANCE = 1e-4  # a contrast of one hundredth of the range is none


@dataclass(frozen=True)
class Likeness:
    """How alike the images are in the fixed object, less what unrelated images would have, times the share in view.

    Parameters
    ----------
    nmi
        Normalised mutual information minus 1 (Studholme 1999); 0 for unrelated images.
    lncc
        Mean squared correlation in windows of five coarse voxels; 0 to 1.
    view
        Share of the fixed object that meets the moving image, inside its mask; of as much as a smaller mask could meet.
    """

    nmi: float
    lncc: float
    view: float

    def described(self) -> dict[str, float]:
        """As plain values."""
        return {"nmi": self.nmi, "lncc": self.lncc, "in_view": self.view}


class Coarse:
    """Two images at one coarse resolution, intensities in [0, 1], and the object of the fixed one.

    Parameters
    ----------
    fixed, moving
        (1, C, *S) images with their masks.
    """

    def __init__(self, fixed: Image, moving: Image) -> None:
        spacing = max(_spacing(fixed.space), min(fixed.space.spacing.tolist()))
        small = [downsample(image, image.space.with_spacing(spacing).shape) for image in (fixed, moving)]
        pair = Pair(small[0].to(dtype=torch.float32), small[1].to(dtype=torch.float32))
        self.fixed, self.moving = pair.fixed, pair.moving
        place = object_of(self.fixed, 48)
        assert place.mask is not None
        size = list(self.fixed.space.shape)
        self.object = F.interpolate(place.mask.float(), size=size, mode="nearest") > 0.5
        if not bool(self.object.any()):
            self.object = torch.ones_like(self.object)
        self.most = float(self.object.sum())
        if self.moving.mask is not None:  # what it leaves out on purpose is not held against a result
            self.most *= min(1.0, _masked(self.moving) / self._size())
        every = self.fixed.space.points(torch.zeros(0, dtype=torch.float64))[self.object[0, 0]]
        self.points = every[:: max(1, len(every) // _POINTS)]
        self.nmi = MutualInformation(32 if self.object.sum() > 20_000 else 16, normalised=True)
        self.lncc = LocalNormalisedCrossCorrelation(2, _VARIANCE)

    def _size(self) -> float:
        """Of the object, mm³."""
        return _volume(self.fixed.space) * float(self.object.float().mean())

    @property
    def reach(self) -> float:
        """Half the diagonal of the object's points, mm."""
        return float((self.points.amax(dim=0) - self.points.amin(dim=0)).norm()) / 2

    def through(self, transform: Transform) -> tuple[Tensor, Tensor]:
        """(1, C, *S) the moving image, and (1, 1, *S) where it was met."""
        grid = unit_grid(transform, self.moving.space, self.fixed.space, self.fixed.data).detach()
        values, inside = sample(self.moving, grid)
        met = evidence(self.moving, grid, inside)
        return values, torch.ones_like(self.object) if met is None else met

    def likeness(self, values: Tensor, met: Tensor) -> Likeness:
        """How the fixed image resembles values found through a transform."""
        seen = met & self.object
        view = min(1.0, float(seen.sum()) / self.most)
        with torch.no_grad():
            nmi = -float(self.nmi(values, self.fixed.data, met)) - 1
            lncc = 1 - float(self.lncc(values, self.fixed.data, seen))
        return Likeness(nmi * view, lncc * view, view)

    def misplaced(self, values: Tensor, met: Tensor) -> Likeness:
        """The best likeness that is left when the found values are shifted along each axis, either way."""
        index = self.object[0, 0].nonzero()
        sides = (index.amax(dim=0) - index.amin(dim=0) + 1).tolist()
        found = []
        for axis, side in enumerate(sides):
            steps = max(2, int(side) // _APART)
            if self.fixed.space.shape[axis] < 4 * steps:
                continue
            for shift in (-steps, steps):
                found.append(self.likeness(values.roll(shift, axis + 2), met.roll(shift, axis + 2) & met))
        if not found:
            return Likeness(0.0, 0.0, 0.0)
        return Likeness(max(f.nmi for f in found), max(f.lncc for f in found), max(f.view for f in found))


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that the checks look at.

    Parameters
    ----------
    before, after, apart
        Likeness at the initial alignment, of the result, and of the result put out of place on purpose.
    covered
        Share of the smaller field of view (or mask) that both images share.
    linear
        (D, D) linear part of the affine map nearest to the result on the object.
    bend
        Longest distance from that affine map, as a share of half the object's diagonal.
    volumes
        Volume changes that 98 % of the object lie between, relative to the mean.
    folding
        Percent of the fixed grid.
    returns
        (N,) distances in mm of fixed points from where the inverse brings them back to; None where it cannot.
    moved
        (mean, largest) distance in mm of the result from the initial alignment, on the object.
    voxel
        Of the fixed image, mm.
    finite
        Whether the result has a place for every point.
    mirrored
        Whether the result turns the object inside out and the initial alignment did not.
    """

    before: Likeness
    after: Likeness
    apart: Likeness
    covered: float
    linear: Tensor
    bend: float
    volumes: tuple[float, float]
    folding: float
    returns: Tensor | None
    moved: tuple[float, float]
    voxel: float
    finite: bool
    mirrored: bool


def gather(fixed: Image, moving: Image, initial: Transform, transform: Transform, folding: float) -> Evidence:
    """Look at a result, fixed RAS mm -> moving RAS mm, beside the initial alignment."""
    coarse = Coarse(fixed.to("cpu"), moving.to("cpu"))
    points, transform = coarse.points, Remembered(transform)
    with torch.no_grad():
        start, end = initial(points), transform(points)
        finite = bool(torch.isfinite(end).all())
        end = end if finite else torch.where(torch.isfinite(end), end, start)
        linear, rest = _affine_fit(points, end)
        values, met = coarse.through(transform)
        distance = (end - start).norm(dim=1)
        return Evidence(
            coarse.likeness(*coarse.through(initial)), coarse.likeness(values, met), coarse.misplaced(values, met),
            _covered(fixed.space, coarse.moving, met, linear), linear, float(rest.max()) / max(coarse.reach, 1e-9),
            _volumes(transform, coarse), folding, _returns(transform, points),
            (float(distance.mean()), float(distance.max())), _voxel(fixed.space), finite,
            _turned(linear) and not _turned(_affine_fit(points, start)[0]),
        )  # fmt: skip


def _turned(linear: Tensor) -> bool:
    return float(torch.linalg.det(linear)) <= 0


def _affine_fit(points: Tensor, mapped: Tensor) -> tuple[Tensor, Tensor]:
    """(D, D) linear part of the least-squares affine map of (N, D) points, and the (N,) distances from it in mm."""
    middle, goal = points.mean(dim=0), mapped.mean(dim=0)
    # The pseudo-inverse leaves directions alone that the points do not span, as across a slice.
    turn = (torch.linalg.pinv(points - middle) @ (mapped - goal)).T
    spread = points - middle
    flat = torch.eye(len(turn), dtype=points.dtype) - torch.linalg.pinv(spread) @ spread
    return turn + flat, (spread @ turn.T + goal - mapped).norm(dim=1)


def _volumes(transform: Transform, coarse: Coarse) -> tuple[float, float]:
    values = jacobian_determinants(transform, coarse.fixed.space)[coarse.object[0, 0]].double()
    values = values / values.mean().clamp(min=1e-9)
    low, high = values[:: max(1, len(values) // 100_000)].nan_to_num().quantile(torch.tensor([0.01, 0.99]).double())
    return float(low), float(high)


def _returns(transform: Transform, points: Tensor) -> Tensor | None:
    chosen = points[:: max(1, len(points) // _RETURNS)]
    try:
        return (transform.inverse()(transform(chosen)) - chosen).norm(dim=1)
    except (InversionError, NotImplementedError, torch.linalg.LinAlgError):
        return None


def _covered(fixed: Space, moving: Image, met: Tensor, linear: Tensor) -> float:
    """Share of the smaller of two fields of view, of the moving one inside its mask, that both see; fixed volume."""
    whole = _volume(fixed)
    other = _masked(moving) / max(1e-9, abs(float(torch.linalg.det(linear))))
    return min(1.0, float(met.float().mean()) * whole / max(1e-9, min(whole, other)))


def _masked(image: Image) -> float:
    """What an image shows inside its mask, mm³; an empty mask is none."""
    share = 1.0 if image.mask is None else float(image.mask.float().mean())
    return _volume(image.space) * (share or 1.0)


def _volume(space: Space) -> float:
    return math.prod(space.extent.tolist())


def _voxel(space: Space) -> float:
    """The mean spacing of the axes that have more than one voxel, geometrically, mm."""
    many = [s for s, n in zip(space.spacing.tolist(), space.shape, strict=True) if n > 1]
    return math.exp(sum(math.log(s) for s in many) / len(many)) if many else float(space.spacing.min())


def _spacing(space: Space) -> float:
    """The spacing at which the field of view has ``_VOXELS`` voxels, mm."""
    many = [length for length, n in zip(space.extent.tolist(), space.shape, strict=True) if n > 1]
    return float((math.prod(many) / _VOXELS) ** (1 / len(many))) if many else float(space.spacing.min())
