"""What a pipeline would do: grids, points and steps of every level, with estimates of time and memory.

Time is estimated by doing every kind of step once on small images, on the machine at hand, and counting voxels. Memory
is counted: how many numbers per voxel each kind of stage holds at its largest level.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..compiled import Region
from ..image import Image
from ..space import Space
from ..transforms.linear import Linear
from .boxes import cut_grid, surroundings
from .bumps import Bumps
from .diffeomorphic import DiffeomorphicStage, FieldLevel
from .ground import common_ground, object_of, voxels_on
from .middle import Middle
from .observe import Silent
from .pair import Pair, crop_to_mask
from .splines import SplineAlignment, SplineStage
from .stages import Alignment, LinearStage, Stage

_PROBE = {2: (256, 256), 3: (48, 48, 48)}
_SEARCHES = 25  # evaluations that a level of a linear or spline stage usually takes
_FLOATS_LINEAR, _FLOATS_SPLINE, _FLOATS_DENSE = 16, 20, 52  # per voxel of the level
_FLOATS_STEPS = 26  # of these while a dense level makes its steps; the rest when both fields become one
_FLOATS_READ = 5  # per voxel of images finer than the level: two channels of each, and one image they are made of
_FLOATS_HELD = 22  # per voxel of the whole while a level is done part by part
_FLOATS_POINT = 600  # per control point: ten pairs of steps and slopes, padded transforms


@dataclass(frozen=True)
class LevelPlan:
    """One level of a stage.

    Parameters
    ----------
    stage
        Its name.
    grid
        What is computed on.
    points
        Control points of a spline; 0 elsewhere.
    steps
        Steps, or evaluations of the loss that such a level usually takes.
    seconds
        Estimate.
    memory
        Bytes held while it runs, beside the images; an estimate.
    """

    stage: str
    grid: Space
    points: int
    steps: int
    seconds: float
    memory: int


def plan(pair: Pair, stages: Sequence[Stage]) -> list[LevelPlan]:
    """The levels of these stages on a pair of images; a stage of another kind gets no level.

    A dry run: takes a second or two, mostly for measuring how fast this machine is, whatever the size of the images,
    whose levels are not made.
    """
    place = object_of(pair.fixed)
    found: list[LevelPlan] = []
    for stage in stages:
        if isinstance(stage, LinearStage):
            found += _linear(stage, pair)
        elif isinstance(stage, SplineStage):
            found += _spline(stage, pair, place)
        elif isinstance(stage, DiffeomorphicStage):
            found += _dense(stage, pair)
    return found


def _linear(stage: LinearStage, pair: Pair) -> list[LevelPlan]:
    pair = stage.arranged(pair)
    still = Linear.identity(pair.fixed.ndim)
    small = _probe(pair)
    aligned = Alignment(small.fixed, small.moving, still, stage, small.fixed.space)
    zeros = torch.zeros(stage.family.size(small.fixed.space), dtype=torch.float64)
    pace = _seconds(lambda: _slope(aligned, zeros)) / _voxels(small.fixed.space)
    result = []
    for shrink in pair.scaled(stage.shrinks):
        grid = _about_mask(pair, pair.grid(shrink), 4 * shrink * pair.finest)
        steps = min(_SEARCHES, 2 * stage.descent.iterations)
        seconds = steps * pace * _voxels(grid)
        result.append(LevelPlan(stage.name, grid, 0, steps, seconds, 4 * _FLOATS_LINEAR * _voxels(grid)))
    return result


def _spline(stage: SplineStage, pair: Pair, place: Image) -> list[LevelPlan]:
    small = _probe(pair)
    # As dense as the finest levels are: a point costs as much as a few voxels.
    bumps = Bumps.near(object_of(small.fixed), max(small.fixed.space.shape) // 3 + 1, stage.most)
    still = Linear.identity(pair.fixed.ndim)
    aligned = SplineAlignment(small.fixed, small.moving, still, bumps, stage.similarity, stage.bending)
    zeros = torch.zeros(bumps.size * bumps.ndim, dtype=torch.float64)
    pace = _seconds(lambda: _slope(aligned, zeros)) / _voxels(small.fixed.space)
    result = []
    shrinks = pair.scaled([level.shrink for level in stage.levels])
    for shrink, level in zip(shrinks, stage.levels, strict=True):
        voxel = shrink * pair.finest
        grid = cut_grid(pair.grid(shrink), surroundings(place))
        points = Bumps.near(place, level.across, stage.most, level.closest * voxel).size
        seconds = _SEARCHES * pace * _voxels(grid)
        memory = 4 * _FLOATS_SPLINE * _voxels(grid) + 8 * _FLOATS_POINT * points
        result.append(LevelPlan(stage.name, grid, points, _SEARCHES, seconds, memory))
    return result


def _dense(stage: DiffeomorphicStage, pair: Pair) -> list[LevelPlan]:
    small = _probe(pair)
    middle = Middle(small.fixed, small.moving, Linear.identity(pair.fixed.ndim), None)
    level, sources = FieldLevel(1, 2), stage.channels.plain(middle)
    forces = stage.forces(middle, Region.whole(tuple(middle.phi_m.shape[1:])), sources)  # type: ignore[arg-type]
    pace = _seconds(lambda: stage.descend(middle, level, Silent(), forces)) / 2 / _voxels(small.fixed.space)
    ground = common_ground(pair, Linear.identity(pair.fixed.ndim))
    box = surroundings(ground)
    result = []
    levels, last = stage.arranged(pair, stage.fitting(pair), box)
    for level in levels:
        grid = cut_grid(pair.grid(level.shrink), box)
        seconds = level.iterations * pace * voxels_on(ground, grid)
        finer = _FLOATS_READ * _voxels(grid) * level.detail**grid.ndim if level.detail > 1 else 0
        memory = round(4 * max(_FLOATS_DENSE * _voxels(grid), _FLOATS_STEPS * _voxels(grid) + finer))
        result.append(LevelPlan(stage.name, grid, 0, level.iterations, seconds, memory))
    if last:
        grid, many = cut_grid(pair.grid(last.shrink), box), (1 / last.shrink) ** pair.fixed.ndim
        pieces = [part.space for part in stage.pieces(pair, ground, box, last)]
        seconds = last.iterations * pace * many * sum(voxels_on(ground, piece) for piece in pieces)
        part = many * max((_voxels(piece) for piece in pieces), default=0)
        finer = _FLOATS_READ * part * last.detail**grid.ndim
        memory = round(4 * (_FLOATS_HELD * _voxels(cut_grid(pair.fixed.space, box)) + _FLOATS_STEPS * part + finer))
        steps = last.iterations * len(pieces)
        result.append(LevelPlan(stage.name, grid, 0, steps, seconds, memory))
    return result


def _about_mask(pair: Pair, grid: Space, margin_mm: float) -> Space:
    """The part of a level's grid that a linear stage keeps to."""
    if pair.fixed.mask is None:
        return grid
    return cut_grid(grid, crop_to_mask(pair.fixed, margin_mm).space.resized([1] * pair.fixed.ndim))


def _probe(pair: Pair) -> Pair:
    """A small pair of smooth random images with as many channels."""
    d = pair.fixed.ndim
    shape = tuple(1 if n == 1 else m for n, m in zip(pair.fixed.space.shape, _PROBE[d], strict=True))
    generator = torch.Generator().manual_seed(0)
    channels = pair.fixed.data.shape[1]
    data = [torch.rand(1, channels, *shape, generator=generator, dtype=torch.float32) for _ in range(2)]
    return Pair(*(Image(values, Space.regular(shape), name="probe") for values in data))


def _slope(objective: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor) -> None:
    parameters = at.clone().requires_grad_(True)
    objective(parameters).backward()  # type: ignore[no-untyped-call]


def _seconds(work: Callable[[], object], rounds: int = 5) -> float:
    """The middle one of a few rounds, after one that compiles and fills caches."""
    work()
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return sorted(found)[rounds // 2]


def _voxels(space: Space) -> int:
    return math.prod(space.shape)
