"""The thin-plate spline stage: displacements of control points near the object, optimised coarse to fine."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..compiled.products import product
from ..families.lattices import Lattice, LatticeNear, Layout
from ..image import Image
from ..losses.base import Similarity
from ..losses.regularity import jacobian_determinant
from ..sampling import sample
from ..space import Space
from ..transforms.base import Transform
from ..transforms.basis import SplineBasis
from ..transforms.linear import Linear
from ..transforms.tps import SplineSystem, ThinPlateSpline
from ..transforms.upsample import Upsampler
from .observe import Observer, StageReport
from .optimise import Descent, QuasiNewton
from .pair import Pair, crop_to_mask, evidence
from .stages import Stage
from .terms import BoundTerm, Proposal, guided
from .threads import one_thread

_CLOSEST = 5  # voxels of the level between control points at least: closer ones follow noise and fold
_FOLDED = 3e-4  # share of voxels that may fold before the spline is made stiffer
_STIFFEST = 1000  # times the given weight
_NODES_PER_CELL = 2  # of the evaluation grid per spacing of control points: cubic interpolation follows the spline


@dataclass(frozen=True)
class SplineLevel:
    """One step of the coarse-to-fine schedule.

    Parameters
    ----------
    shrink
        Pyramid level, as a multiple of the finest fixed spacing.
    across
        Control points along the longest side of the object.
    """

    shrink: float
    across: int


class SplineStage(Stage):
    """Optimise a thin-plate spline with control points on a lattice around the object.

    The parameters are the control points' displacements. While they change, the spline is a product with a fixed matrix
    followed by cubic interpolation; the result is the exact spline.

    Parameters
    ----------
    name
        What reports call the stage.
    similarity
        Loss between the warped and the fixed image.
    levels
        Coarse to fine.
    bending
        Weight of the bending energy, with lengths in control-point spacings and averaged over the control points, so
        that it means the same at every size.
    most
        Control points at most; the lattice is made coarser until they suffice.
    descent
        How to minimise.
    """

    def __init__(
        self,
        name: str,
        similarity: Similarity,
        levels: Sequence[SplineLevel],
        bending: float = 0.03,
        most: int = 2500,
        descent: Descent | QuasiNewton | None = None,
    ) -> None:
        self.name, self.similarity, self.levels = name, similarity, tuple(levels)
        self.bending, self.most = bending, most
        self.descent = descent or QuasiNewton(iterations=60, tolerance=1e-4)

    def __call__(self, pair: Pair, initial: Transform, observer: Observer) -> tuple[Transform, StageReport]:
        began = time.perf_counter()
        shrinks = pair.scaled([level.shrink for level in self.levels])
        levels = [SplineLevel(shrink, level.across) for shrink, level in zip(shrinks, self.levels, strict=True)]
        observer.stage(self.name, len(levels) * self.descent.iterations)
        place = object_of(pair.fixed)
        spline: ThinPlateSpline | None = None
        steps, before, after, bending = 0, math.nan, math.nan, self.bending
        for level in levels:
            fixed, moving = pair.level(level.shrink)
            voxel = level.shrink * pair.finest
            system = control_points(place, pair.fixed.space, level.across, self.most, _CLOSEST * voxel)
            fixed = crop_to_mask(fixed if fixed.mask is not None else fixed.with_mask(_grown(place, fixed)), 4 * voxel)
            bent = SplineAlignment(fixed, moving, initial, system, self.similarity, bending)
            bent.terms = [term.bind(fixed, moving, pair.fixed.space) for term in pair.terms]
            start = torch.zeros(system.points.numel(), dtype=torch.float64)
            if spline is not None:
                with one_thread():
                    start = ((spline(system.points) - system.points) / system.scale).flatten()
            found, losses = self.descent(bent, start, voxel / system.scale, observer.step)
            steps, after = steps + len(losses) - 1, losses[-1]
            while bent.folded(found) > _FOLDED and bending < _STIFFEST * self.bending:
                # Images that do not match, such as speckle, fold any spline: give way to them less, also later on.
                bent.bending = bending = 4 * bending
                found, losses = self.descent(bent, start, voxel / system.scale, observer.step)
                steps, after = steps + len(losses) - 1, losses[-1]
            spline = system_spline(system, found)
            before = float(bent(torch.zeros_like(start)).detach())
        assert spline is not None
        if bending > self.bending:
            observer.note(f"{self.name}: the images pull the spline into folds; its bending weight is {bending:.2g}")
        if not after <= before:
            observer.note(f"{self.name}: no better alignment was found; the alignment before this stage is kept")
            return initial, StageReport(self.name, time.perf_counter() - began, before, before, steps)
        report = StageReport(self.name, time.perf_counter() - began, before, after, steps)
        return initial @ spline, report


class SplineAlignment:
    """The loss at one level as a function of the (K D,) displacements, in control-point spacings."""

    def __init__(
        self,
        fixed: Image,
        moving: Image,
        initial: Transform,
        system: SplineSystem,
        similarity: Similarity,
        bending: float,
    ) -> None:
        self.fixed, self.moving, self.system, self.bending = fixed, moving, system, bending
        self.initial = initial
        self.terms: list[BoundTerm] = []
        nodes = fixed.space.with_spacing(system.scale / _NODES_PER_CELL)
        self.basis = SplineBasis(system, nodes, like=fixed.data)
        self.upsampler = Upsampler(nodes, fixed.space)
        self.outer = Linear(moving.space.to_unit()) @ initial
        self.rest = self.outer.on_grid(fixed.space, fixed.data) if isinstance(self.outer, Linear) else None
        spaced = similarity.spaced(fixed.space.spacing.tolist())
        self.similarity = spaced.bind(fixed.data, fixed.mask, moving.data)
        with one_thread():
            self.solved = system.solve(torch.eye(system.size, dtype=torch.float64)).contiguous()
            weights = self.solved[: system.size]
            self.stiffness = 8 * math.pi / system.size * (weights.T @ system.gram @ weights)

    def folded(self, parameters: Tensor) -> float:
        """Share of the level's voxels where the spline folds; 0 to 1."""
        shift = self.shift(parameters).movedim(-1, 1)
        return float((jacobian_determinant(shift, self.fixed.space) <= 0).float().mean())

    def shift(self, parameters: Tensor) -> Tensor:
        """(1, *S, D) displacements of the level's voxels, mm."""
        moves = parameters.reshape(self.system.size, self.system.ndim) * self.system.scale
        # A product with the solved equations is as quick as a substitution, and can be made the same to the bit.
        nodes = product(self.basis.matrix, product(self.solved.to(moves), moves).to(self.basis.matrix))
        return self.upsampler.points(nodes.reshape(1, *self.basis.space.shape, self.system.ndim))

    def mapped(self, points: Tensor, moves: Tensor) -> Tensor:
        """(N, D) fixed RAS mm -> moving RAS mm under (K, D) displacements, in control-point spacings."""
        coefficients = self.solved.to(moves) @ (moves * self.system.scale)
        return self.initial(points + self.system.rows(points).to(moves) @ coefficients)

    def __call__(self, parameters: Tensor) -> Tensor:
        moves = parameters.reshape(self.system.size, self.system.ndim)
        shift = self.shift(parameters)
        if self.rest is not None and isinstance(self.outer, Linear):
            d = self.system.ndim
            turned = shift.reshape(-1, d) @ self.outer.matrix[:d, :d].T.to(shift)
            grid = self.rest + turned.reshape(shift.shape)
        else:
            grid = self.outer(self.fixed.space.points(shift) + shift)
        values, inside = sample(self.moving, grid)
        loss = self.similarity(values, evidence(self.moving, grid, inside)).mean()
        loss = guided(loss, self.terms, Proposal(grid, lambda points: self.mapped(points, moves)))
        return loss + self.bending * (moves * product(self.stiffness.to(moves), moves)).sum()


def system_spline(system: SplineSystem, parameters: Tensor) -> ThinPlateSpline:
    """The exact spline of (K D,) displacements in control-point spacings."""
    moves = parameters.detach().reshape(system.size, system.ndim) * system.scale
    with one_thread():
        return ThinPlateSpline(system.points, system.points + moves.to(system.points), system=system)


def control_points(place: Image, domain: Space, across: int, most: int, closest: float = 0.0) -> SplineSystem:
    """A lattice near the object, ``across`` points along its longest side; coarser if there were more than ``most``.

    Points are never closer than ``closest`` mm.
    """
    assert place.mask is not None
    inside = place.mask[0, 0].nonzero()
    sides = (inside.amax(dim=0) - inside.amin(dim=0) + 1).double() * place.space.spacing
    spacing = max(float(sides.max()) / max(1, across - 1), closest)
    while True:
        layout: Layout = LatticeNear(Lattice(spacing=spacing), place.mask, place.space)
        points = layout(domain)
        if len(points) <= most:
            with one_thread():
                return SplineSystem(points, scale=spacing)
        spacing *= 1.05


def object_of(fixed: Image, samples: int = 64) -> Image:
    """Where the fixed image has anything to align: its mask, else whatever differs from the flat background.

    A coarse image whose mask holds the voxels inside the mask, or with a visible local variation of intensity.
    """
    from ..filters import downsample

    size = max(fixed.space.extent.tolist()) / samples
    small = downsample(fixed, fixed.space.with_spacing(size).shape)
    if small.mask is not None and bool(small.mask.any()):
        return small
    data = small.data.mean(dim=1, keepdim=True)
    busy = _highest(data) + _highest(-data) > 0.05
    return small.with_mask(busy if bool(busy.any()) else torch.ones_like(busy))


def _highest(values: Tensor) -> Tensor:
    """(1, 1, *S) largest value among each voxel and its neighbours, corners included."""
    for axis in range(2, values.ndim):
        n = values.shape[axis] - 1
        result = values.clone()
        for to, at in ((1, 0), (0, 1)):
            torch.maximum(result.narrow(axis, to, n), values.narrow(axis, at, n), out=result.narrow(axis, to, n))
        values = result
    return values


def _grown(place: Image, onto: Image) -> Tensor:
    """The object's mask on another grid of the same field of view."""
    assert place.mask is not None
    size = list(onto.space.shape)
    return F.interpolate(place.mask.float(), size=size, mode="nearest") > 0.5


__all__ = ["SplineLevel", "SplineStage"]
