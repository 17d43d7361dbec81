"""The thin-plate spline stage: displacements of control points near the object, optimised coarse to fine."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..compiled.threads import one_thread
from ..image import Image
from ..limits import WIDEST, check_above, check_counts, check_sizes
from ..losses.base import Similarity
from ..losses.regularity import jacobian_determinant
from ..sampling import sample
from ..transforms.base import Transform
from ..transforms.lattice_spline import LatticeSpline
from ..transforms.linear import Linear
from ..transforms.polyharmonic import STENCIL, LatticeBasis, bilaplacian, metric_of
from ..transforms.upsample import Upsampler
from .bumps import Bumps
from .ground import object_of
from .observe import Observer, StageReport
from .optimise import Descent, QuasiNewton
from .pair import Pair, crop_to_mask, evidence
from .stages import Stage
from .terms import BoundTerm, Proposal, guided

_WILD = 0.02  # share of voxels that fold where images do not match: the spline is made stiffer
_STIFFEST = 1000  # times the given weight
_NODES_PER_STEP = 2  # of the evaluation grid per step of the lattice: cubic interpolation follows the spline
_LEAST = 0.25  # determinant below which a fold is near
_UNFOLDING = (100.0, 1000.0)  # weights of what holds folds off, where there are any
_FEW = 1e-6  # share of voxels that may fold


@dataclass(frozen=True)
class SplineLevel:
    """One step of the coarse-to-fine schedule.

    Parameters
    ----------
    shrink
        Pyramid level, as a multiple of the finest fixed spacing.
    across
        Control points along the longest side of the object.
    closest
        Voxels of the level between control points at least.
    """

    shrink: float
    across: int
    closest: float = 3.0

    def __post_init__(self) -> None:
        check_above(shrink=self.shrink)
        check_counts(2, across=self.across)
        check_sizes(WIDEST, closest=self.closest)


class SplineStage(Stage):
    """Optimise a thin-plate spline whose knots stand on a lattice around the object.

    The parameters are the coefficients of its bumps (see :class:`LatticeSpline`). While they change, the spline is a
    convolution followed by cubic interpolation; the result is the exact spline. Where it folds, the same loss is
    minimised on with a penalty on small determinants.

    Parameters
    ----------
    name
        What reports call the stage.
    similarity
        Loss between the warped and the fixed image.
    levels
        Coarse to fine.
    bending
        Weight of the bending energy, with lengths in steps of the lattice and averaged over the control points, so
        that it means the same at every size.
    most
        Control points at most; the lattice is made coarser until they suffice.
    descent
        How to minimise.
    """

    deforms = True

    def __init__(
        self,
        name: str,
        similarity: Similarity,
        levels: Sequence[SplineLevel],
        bending: float = 0.03,
        most: int = 20000,
        descent: Descent | QuasiNewton | None = None,
    ) -> None:
        check_sizes(bending=bending)
        check_counts(1, most=most)
        self.name, self.similarity, self.levels = name, similarity, tuple(levels)
        self.bending, self.most = bending, most
        self.descent = descent or QuasiNewton(iterations=60, tolerance=1e-4)

    def __call__(self, pair: Pair, initial: Transform, observer: Observer) -> tuple[Transform, StageReport]:
        began = time.perf_counter()
        shrinks = pair.scaled([level.shrink for level in self.levels])
        observer.stage(self.name, len(shrinks) * self.descent.iterations)
        place = object_of(pair.fixed)
        spline: LatticeSpline | None = None
        steps, before, after, bending = 0, math.nan, math.nan, self.bending
        for shrink, level in zip(shrinks, self.levels, strict=True):
            fixed, moving = (self._suited(image) for image in pair.level(shrink))
            voxel = shrink * pair.finest
            bumps = Bumps.near(place, level.across, self.most, level.closest * voxel)
            fixed = crop_to_mask(fixed if fixed.mask is not None else fixed.with_mask(_grown(place, fixed)), 4 * voxel)
            bent = SplineAlignment(fixed, moving, initial, bumps, self.similarity, bending)
            bent.terms = [term.bind(fixed, moving, pair.fixed.space) for term in pair.terms]
            start = torch.zeros(bumps.size * bumps.ndim, dtype=torch.float64)
            before = float(bent(start).detach())
            if spline is not None:
                with one_thread():
                    start = bumps.through(spline).flatten()
            found, losses = self._descend(bent, start, voxel / bumps.step, observer)
            bending, after, steps = bent.bending, bent.plain(found), steps + len(losses)
            spline = bumps.spline(found.reshape(-1, bumps.ndim))
        assert spline is not None
        if bending > self.bending:
            observer.note(f"{self.name}: the images pull the spline into folds; its bending weight is {bending:.2g}")
        if not after <= before:
            observer.note(f"{self.name}: no better alignment was found; the alignment before this stage is kept")
            return initial, StageReport(self.name, time.perf_counter() - began, before, before, steps)
        report = StageReport(self.name, time.perf_counter() - began, before, after, steps)
        return initial @ spline, report

    def _suited(self, image: Image) -> Image:
        return image.with_data(self.similarity.suited(image.data, image.mask))

    def _descend(
        self, bent: SplineAlignment, start: Tensor, voxel: float, observer: Observer
    ) -> tuple[Tensor, list[float]]:
        """Minimise at one level, then hold folds off; the parameters and the losses of all steps."""
        found, losses = self.descent(bent, start, voxel, observer.step)
        while bent.folded(found) > _WILD and bent.bending < _STIFFEST * self.bending:
            # Images that do not match, such as speckle, fold any spline: give way to them less, also later on.
            bent.bending *= 4
            found, more = self.descent(bent, start, voxel, observer.step)
            losses += more[:-1]
        for weight in _UNFOLDING:
            if bent.folded(found) <= _FEW:
                break
            bent.unfolding = weight
            found, more = self.descent(bent, found, voxel, observer.step)
            losses += more[:-1]
        return found, losses[:-1]


class SplineAlignment:
    """The loss at one level as a function of the (K D,) coefficients, in steps of the lattice."""

    def __init__(
        self,
        fixed: Image,
        moving: Image,
        initial: Transform,
        bumps: Bumps,
        similarity: Similarity,
        bending: float,
    ) -> None:
        self.fixed, self.moving, self.bumps, self.bending = fixed, moving, bumps, bending
        self.initial, self.unfolding = initial, 0.0
        self.terms: list[BoundTerm] = []
        self.basis = LatticeBasis(bumps.lattice, _NODES_PER_STEP, STENCIL, fixed.data)
        self.upsampler = Upsampler(self.basis.space, fixed.space)
        self.metric = metric_of(bumps.lattice)[1]
        self.outer = Linear(moving.space.to_unit()) @ initial
        self.rest = self.outer.on_grid(fixed.space, fixed.data) if isinstance(self.outer, Linear) else None
        spaced = similarity.spaced(fixed.space.spacing.tolist())
        self.similarity = spaced.bind(fixed.data, fixed.mask, moving.data)

    def folded(self, parameters: Tensor) -> float:
        """Share of the level's voxels where the spline folds; 0 to 1."""
        with torch.no_grad():
            shift = self.shift(self.nodes(self.spread(parameters)))
            determinant = jacobian_determinant(shift.movedim(-1, 1), self.fixed.space)
        return float((determinant <= 0).float().mean())

    def plain(self, parameters: Tensor) -> float:
        """The loss without what holds folds off."""
        held, self.unfolding = self.unfolding, 0.0
        try:
            with torch.no_grad():
                return float(self(parameters))
        finally:
            self.unfolding = held

    def spread(self, parameters: Tensor) -> Tensor:
        """(D, *M) coefficients on the whole lattice, in steps."""
        return self.bumps.spread(parameters.reshape(self.bumps.size, self.bumps.ndim))

    def nodes(self, coefficients: Tensor) -> Tensor:
        """(D, *nodes) displacements at the nodes of the refined lattice, in steps."""
        return self.basis(coefficients.to(self.fixed.data))

    def shift(self, nodes: Tensor) -> Tensor:
        """(1, *S, D) displacements of the level's voxels, mm."""
        return self.upsampler.points(nodes.movedim(0, -1)[None]) * self.bumps.step

    def __call__(self, parameters: Tensor) -> Tensor:
        coefficients = self.spread(parameters)
        nodes = self.nodes(coefficients)
        shift = self.shift(nodes)
        if self.rest is not None and isinstance(self.outer, Linear):
            d = self.bumps.ndim
            turned = shift.reshape(-1, d) @ self.outer.matrix[:d, :d].T.to(shift)
            grid = self.rest + turned.reshape(shift.shape)
        else:
            grid = self.outer(self.fixed.space.points(shift) + shift)
        values, inside = sample(self.moving, grid)
        loss = self.similarity(values, evidence(self.moving, grid, inside)).mean()
        moves = parameters.reshape(self.bumps.size, -1)
        loss = guided(loss, self.terms, Proposal(grid, lambda points: self.initial(self.bumps.spline(moves)(points))))
        loss = loss + self.bending * self.bent(coefficients, nodes)
        if self.unfolding:
            determinant = jacobian_determinant(shift.movedim(-1, 1), self.fixed.space)
            with one_thread():
                loss = loss + self.unfolding * (_LEAST - determinant).clamp_min(0).square().mean()
        return loss

    def bent(self, coefficients: Tensor, nodes: Tensor) -> Tensor:
        """() bending energy per control point, lengths in steps."""
        d = self.bumps.ndim
        curved = bilaplacian(F.pad(coefficients, [2 * STENCIL] * (2 * d)), self.metric)
        knots = nodes[(slice(None), *[slice(None, None, _NODES_PER_STEP)] * d)]
        with one_thread():
            return (curved * knots.to(curved)).sum() / self.bumps.size


def _grown(place: Image, onto: Image) -> Tensor:
    """The object's mask on another grid of the same field of view."""
    assert place.mask is not None
    size = list(onto.space.shape)
    return F.interpolate(place.mask.float(), size=size, mode="nearest") > 0.5


__all__ = ["SplineLevel", "SplineStage"]
