"""A head-like phantom of smooth ellipsoids, and pairs of it with a known deformation: for the demo and for tests.

The phantom is a function of the world, so any grid can look at it, in 2-D (an axial section) or 3-D; nothing is
resampled to make an image, and the truth is exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .image import Image
from .space import Space
from .transforms.base import Transform
from .transforms.linear import Linear

RADIUS = 70.0
"""Half the length of the phantom's head, mm."""


@dataclass(frozen=True)
class Part:
    """An ellipsoid: label, name, centre and semi-axes in units of :data:`RADIUS` (x, y, z), intensity."""

    label: int
    name: str
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    value: float


PARTS = (
    Part(1, "cortex", (0.0, 0.0, 0.1), (0.78, 1.0, 0.72), 0.55),
    Part(2, "white matter", (0.0, 0.0, 0.12), (0.64, 0.85, 0.57), 0.9),
    Part(7, "cerebellum", (0.0, -0.55, -0.5), (0.5, 0.34, 0.27), 0.62),
    Part(8, "brain stem", (0.0, -0.2, -0.62), (0.15, 0.17, 0.36), 0.82),
    Part(3, "left ventricle", (-0.13, 0.05, 0.2), (0.07, 0.42, 0.15), 0.12),
    Part(4, "right ventricle", (0.13, 0.05, 0.2), (0.07, 0.42, 0.15), 0.12),
    Part(5, "left nucleus", (-0.32, 0.1, 0.05), (0.11, 0.24, 0.16), 0.48),
    Part(6, "right nucleus", (0.32, 0.1, 0.05), (0.11, 0.24, 0.16), 0.48),
)
NAMES = {part.label: part.name for part in PARTS}


class Bumps(Transform):
    """``x + sum_k a_k exp(-|x - c_k|² / 2 s²)``: smooth, analytic, and of no family that registration fits.

    Parameters
    ----------
    centres, shifts
        (K, D) centres and displacements there, RAS mm.
    width
        s, mm. One-to-one as long as the sum of ``|a_k|`` of overlapping bumps stays below ``s * exp(0.5)``.
    """

    def __init__(self, centres: Tensor, shifts: Tensor, width: float) -> None:
        self.centres, self.shifts, self.width = centres, shifts, width

    @property
    def ndim(self) -> int:
        return self.centres.shape[1]

    def __call__(self, points: Tensor) -> Tensor:
        moved = points.clone()
        for centre, shift in zip(self.centres.to(points), self.shifts.to(points), strict=True):
            weight = torch.exp(-((points - centre) ** 2).sum(dim=-1, keepdim=True) / (2 * self.width**2))
            moved = moved + weight * shift
        return moved

    def inverse(self) -> Transform:
        return Unbumped(self)


class Unbumped(Transform):
    """The inverse of :class:`Bumps` by fixed-point iteration, which converges where the bumps are one-to-one."""

    def __init__(self, forward: Bumps) -> None:
        self.forward = forward

    @property
    def ndim(self) -> int:
        return self.forward.ndim

    def __call__(self, points: Tensor) -> Tensor:
        guess = points
        for _ in range(60):
            guess = points - (self.forward(guess) - guess)
        return guess

    def inverse(self) -> Transform:
        return self.forward


@dataclass(frozen=True)
class PhantomPair:
    """Two views of the phantom with everything known about them.

    ``truth`` maps fixed RAS mm -> moving RAS mm; ``fixed_points`` and ``moving_points`` are (N, D) landmarks in RAS mm
    that it maps onto each other. Labels are float images holding integers, named in :data:`NAMES`.
    """

    fixed: Image
    moving: Image
    fixed_labels: Image
    moving_labels: Image
    truth: Transform
    fixed_points: Tensor
    moving_points: Tensor


def phantom_pair(
    fixed: Space, moving: Space, seed: int = 0, deformation: float = 7.0, noise: float = 0.02
) -> PhantomPair:
    """Look at the phantom from one grid, and at its deformed self from another.

    Parameters
    ----------
    fixed, moving
        The two grids, of one dimension D; about 180 mm of field of view hold the whole head.
    seed
        Of the deformation, the landmarks and the noise.
    deformation
        Largest displacement of one bump, mm; on top comes a rotation of some degrees, a shift and a scaling.
    noise
        Standard deviation of the noise, as a share of the brightest tissue (0.9).

    Raises
    ------
    ValueError
        If the grids differ in dimension.
    """
    if fixed.ndim != moving.ndim:
        raise ValueError(f"the fixed grid has {fixed.ndim} axes, the moving grid {moving.ndim}")
    generator = torch.Generator().manual_seed(seed)
    truth = _pose(fixed.ndim, generator) @ _bumps(fixed.ndim, deformation, generator)
    seen_fixed, seen_moving = _brain(truth(fixed.points())), _brain(moving.points())
    points = _landmarks(fixed.ndim, generator)
    images = [
        Image.of(values + noise * torch.randn(space.shape, generator=generator, dtype=torch.float32), space, name)
        for (values, _), space, name in ((seen_fixed, fixed, "fixed"), (seen_moving, moving, "moving"))
    ]
    # The landmarks are places of the phantom, so they are chosen there and carried back to the fixed world.
    return PhantomPair(
        fixed=images[0],
        moving=images[1],
        fixed_labels=Image.of(seen_fixed[1], fixed, "fixed labels"),
        moving_labels=Image.of(seen_moving[1], moving, "moving labels"),
        truth=truth,
        fixed_points=truth.inverse()(points),
        moving_points=points,
    )


def oblique_space(shape: Sequence[int], spacing: Sequence[float], degrees: float, flips: Sequence[int] = ()) -> Space:
    """A grid centred near the world origin, turned about an oblique axis (in 2-D, in the plane), some axes reversed.

    Parameters
    ----------
    shape, spacing
        D voxels and D mm per voxel.
    degrees
        The turn.
    flips
        Axes to reverse, as scanners do.
    """
    straight = Space.regular(shape, spacing)
    d = straight.ndim
    reverse = torch.eye(d + 1, dtype=torch.float64)
    for axis in flips:
        reverse[axis, axis] = -1
        reverse[axis, d] = shape[axis] - 1
    turn = torch.eye(d + 1, dtype=torch.float64)
    turn[:d, :d] = _rotation(d, math.radians(degrees))
    return Space(tuple(shape), turn @ straight.affine @ reverse)


def _brain(points: Tensor) -> tuple[Tensor, Tensor]:
    """Intensity and label at (*S, D) points in mm: parts are painted over each other, with edges about 1.5 mm soft."""
    d = points.shape[-1]
    unit = points / RADIUS
    angle = torch.atan2(unit[..., 1], unit[..., 0])
    height = unit[..., 2] if d == 3 else torch.zeros_like(angle)
    ripple = torch.sin(9 * angle) * torch.cos(7 * height) + 0.6 * torch.sin(14 * angle + 5 * height)
    value, label = torch.zeros_like(angle), torch.zeros_like(angle)
    for part in PARTS:
        centre, radii = torch.tensor(part.centre[:d]).to(points), torch.tensor(part.radii[:d]).to(points)
        if d == 2 and part.centre[2] < -0.4:
            continue  # below the section
        reach = ((unit - centre) / radii).norm(dim=-1)
        size = float(radii.min())
        # The inner border of the cortex is folded, as in a head; everything else is an ellipsoid.
        depth = (1 - reach) * size + (0.025 * ripple if part.label == 2 else 0.0)
        share = torch.sigmoid(depth * RADIUS / 0.75)
        texture = 0.03 * torch.sin(unit * 11 + part.label).sum(dim=-1)
        value = value + share * (part.value + texture - value)
        label = torch.where(depth > 0, torch.full_like(label, part.label), label)
    return value, label


def _pose(d: int, generator: torch.Generator) -> Linear:
    matrix = torch.eye(d + 1, dtype=torch.float64)
    matrix[:d, :d] = _rotation(d, math.radians(6.0)) * (
        1 + 0.05 * torch.rand(d, generator=generator, dtype=torch.float64)
    )
    matrix[:d, d] = 12 * torch.rand(d, generator=generator, dtype=torch.float64) - 6
    return Linear(matrix)


def _rotation(d: int, angle: float) -> Tensor:
    """(D, D) turn by an angle; in 3-D about (1, 2, 4), so that every axis tilts."""
    axis = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    x, y, z = (axis / axis.norm()).tolist()
    if d == 2:
        x, y, z = 0.0, 0.0, 1.0
    generator = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]], dtype=torch.float64)
    return torch.linalg.matrix_exp(angle * generator)[:d, :d]


def _bumps(d: int, largest: float, generator: torch.Generator) -> Bumps:
    """A dozen bumps within the head; far enough apart that their sum stays one-to-one."""
    width = 0.38 * RADIUS
    directions = torch.randn(12, d, generator=generator, dtype=torch.float64)
    reach = 0.75 * torch.rand(12, 1, generator=generator, dtype=torch.float64) ** (1 / d)
    shifts = torch.randn(12, d, generator=generator, dtype=torch.float64)
    shifts = largest * (0.5 + 0.5 * torch.rand(12, 1, generator=generator, dtype=torch.float64)) * _unit(shifts)
    return Bumps(_unit(directions) * reach * RADIUS, shifts, width)


def _landmarks(d: int, generator: torch.Generator, count: int = 60) -> Tensor:
    directions = torch.randn(count, d, generator=generator, dtype=torch.float64)
    reach = 0.68 * torch.rand(count, 1, generator=generator, dtype=torch.float64) ** (1 / d)
    return _unit(directions) * reach * RADIUS


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)
