"""A level between the voxels that is done part by part, because the whole does not fit into memory."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from registration import compiled
from registration.compiled import Region
from registration.evaluation.metrics import folding_percent
from registration.families import Affine
from registration.image import Image
from registration.losses import (
    LocalMutualInformation,
    LocalNormalisedCrossCorrelation,
    MeanSquaredError,
    MutualInformation,
    Similarity,
)
from registration.pairwise import (
    CentresOfMass,
    DiffeomorphicStage,
    FieldLevel,
    LinearStage,
    Pair,
    Silent,
    diffeomorphic,
)
from registration.pairwise.observe import Noted
from registration.pairwise.parts import divided
from registration.pairwise.plan import plan
from registration.phantom import PhantomPair, oblique_space, phantom_pair
from registration.space import Space
from registration.transforms.base import Transform, parts_of
from registration.transforms.diffeomorphism import Diffeomorphism

SHAPES = {2: (44, 40), 3: (34, 32, 26)}
LEVELS = FieldLevel(2, 12), FieldLevel(1, 8), FieldLevel(0.5, 8)


def stage(*levels: FieldLevel, similarity: Similarity | None = None, **more: Any) -> DiffeomorphicStage:
    return DiffeomorphicStage("test", similarity or LocalMutualInformation(), levels, least=0.5, **more)


@given(
    shape=st.lists(st.integers(1, 60), min_size=2, max_size=3),
    limit=st.integers(200, 40_000),
    finer=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_parts_lie_side_by_side_and_say_one_together(shape: list[int], limit: int, finer: int) -> None:
    grid = oblique_space(tuple(shape), (1.0, 2.0, 1.5)[: len(shape)], 20)
    parts = divided(grid, limit)
    whole = grid.resized([n if n == 1 else finer * n for n in shape])
    total = torch.zeros((1,) * (3 - len(shape)) + whole.shape)
    inside = 0
    for part in parts:
        total += part.share(whole)
        inside += torch.tensor([b - a for a, b in zip(part.starts, part.stops, strict=True)]).prod().item()
        places = part.places(part.space)
        for place, start, stop, n in zip(places, part.starts, part.stops, shape, strict=True):
            assert place[0] == pytest.approx(max(0, start - 6)) and place[-1] == pytest.approx(min(n, stop + 6) - 1)
    assert inside == torch.tensor(shape).prod().item()
    torch.testing.assert_close(total, torch.ones_like(total))
    if max(b - a for part in parts for a, b in zip(part.starts, part.stops, strict=True)) > 12:
        assert max(torch.tensor(part.space.shape).prod().item() for part in parts) <= limit
    # Beyond the voxels about it a part has nothing to say.
    for part in parts:
        for axis, place in enumerate(part.places(whole)):
            own = part.places(part.space)[axis]
            far = (place < own[0] - 1) | (place > own[-1] + 1)
            share = part.share(whole).reshape(whole.shape)
            assert float(share.index_select(axis, far.nonzero().flatten()).sum()) == 0


@pytest.mark.parametrize("plain", [False, True], ids=["compiled", "torch"])
@pytest.mark.parametrize("shape", [(30, 26), (20, 18, 16)], ids=str)
@pytest.mark.parametrize(
    "similarity",
    [LocalMutualInformation(), LocalNormalisedCrossCorrelation(2, 1e-3), MeanSquaredError()],
    ids=lambda s: type(s).__name__,
)
def test_a_part_is_pushed_as_the_whole(similarity: Similarity, shape: tuple[int, ...], plain: bool) -> None:
    assert similarity.divisible
    d = len(shape)
    g = torch.Generator().manual_seed(1)
    fixed = torch.rand(1, 2, *shape, generator=g)
    moving = (1 - fixed + 0.2 * torch.rand(1, 2, *shape, generator=g)).contiguous()
    metric = [1.0, 0.5, 2.0][:d]
    with mock.patch.object(compiled, "available", lambda: not plain and compiled._installed()):
        region = whole_of(shape)
        expected = torch.zeros(d, *shape)
        similarity.push(moving, fixed, region, metric, expected)
        held = similarity.held(moving, fixed, region)
        start, stop = 1, 15
        window = (slice(None), slice(None), *[slice(start, stop)] * d)
        places = [torch.arange(start, stop).double()] * d
        found = torch.zeros(d, *[stop - start] * d)
        parts = [image[window].contiguous() for image in (moving, fixed)]
        small = whole_of((stop - start,) * d)
        held(places).push(*parts, small, metric, found)
        inner = (slice(None), *[slice(5, -5)] * d)
        there = expected[window[1:]][inner]
        assert float(there.abs().max()) > 1e-3
        # A loss is a mean over the voxels, and its derivative is given times their number.
        torch.testing.assert_close(found[inner], there, rtol=2e-3, atol=2e-4 * float(there.abs().max()))


def whole_of(shape: tuple[int, ...]) -> Region:
    return Region.whole((1,) * (3 - len(shape)) + shape)  # type: ignore[arg-type]


def phantom(ndim: int) -> PhantomPair:
    spaces = [
        oblique_space(SHAPES[ndim], (4.0, 4.4, 5.0)[:ndim], 20, flips=[0]),
        oblique_space(SHAPES[ndim][::-1], (4.4, 4.2, 5.0)[:ndim], -15),
    ]
    return phantom_pair(*spaces, seed=3)


def aligned(pair: PhantomPair, bends: DiffeomorphicStage) -> tuple[Transform, Transform]:
    images = Pair(pair.fixed, pair.moving)
    start = CentresOfMass()(images)
    start, _ = LinearStage("affine", Affine(), MutualInformation(), (2,))(images, start, Silent())
    return start, bends(images, start, Silent())[0]


@pytest.mark.parametrize("ndim", [2, 3])
def test_parts_find_what_the_whole_finds(ndim: int) -> None:
    pair = phantom(ndim)
    most = 2000 if ndim == 2 else 80_000
    _, whole = aligned(pair, stage(*LEVELS))
    start, parted = aligned(pair, stage(*LEVELS, most=most))
    with mock.patch.object(diffeomorphic, "divided", lambda grid, voxels: divided(grid, float("inf"))):
        _, single = aligned(pair, stage(*LEVELS, most=most))
    inside = pair.fixed.space.points()[pair.fixed_labels.data[0, 0] > 0]
    truth = pair.truth(inside)
    voxel = float(pair.fixed.space.spacing.min())

    def apart(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a - b).norm(dim=-1).mean()) / voxel

    assert 0 < apart(parted(inside), single(inside)) < 0.01
    assert apart(parted(inside), whole(inside)) < 0.2
    assert apart(parted(inside), truth) < 1.1 * apart(whole(inside), truth) < 0.8 * apart(start(inside), truth)
    assert folding_percent(parted, pair.fixed.space) == 0
    back = parted.inverse()(parted(inside))
    assert apart(back, inside) < 0.12
    (field,) = (part.forward for part in parts_of(parted) if isinstance(part, Diffeomorphism))
    torch.testing.assert_close(field.space.spacing, pair.fixed.space.spacing)


def test_what_cannot_be_divided_keeps_to_the_voxels() -> None:
    pair = Pair(*(Image.of(torch.rand(40, 44, 40)) for _ in range(2)))
    box = Space((1, 1, 1), pair.fixed.space.affine @ torch.diag(torch.tensor([40.0, 44, 40, 1])).double())
    fine = FieldLevel(2, 3), FieldLevel(1, 5, detail=1.5), FieldLevel(0.5, 4)

    def said(bends: DiffeomorphicStage, given: Pair) -> tuple[list[tuple[float, int]], FieldLevel | None]:
        levels, last = bends.arranged(given, list(bends.levels), box)
        return [(level.shrink, level.iterations) for level in levels], last

    assert said(stage(*fine), pair) == ([(2, 3), (1, 5), (0.5, 4)], None)
    assert said(stage(*fine, most=10_000), pair) == ([(2, 3), (1, 5)], fine[2])
    assert said(stage(fine[0], fine[2], most=10_000), pair) == ([(2, 3), (1, 1)], fine[2])
    assert said(stage(*fine, most=10_000, similarity=MutualInformation()), pair) == ([(2, 3), (1, 9)], None)
    guided = Pair(pair.fixed, pair.moving, terms=[mock.Mock()])
    assert said(stage(*fine, most=10_000), guided) == ([(2, 3), (1, 9)], None)


def test_steps_are_told_as_they_are_made_and_planned() -> None:
    class Counted(Silent):
        def __init__(self) -> None:
            self.promised = self.made = 0

        def stage(self, name: str, steps: int, done: int = 0) -> None:
            self.promised = steps

        def step(self, loss: float) -> None:
            self.made += 1

    pair = phantom(3)
    images = Pair(pair.fixed, pair.moving)
    seen = Counted()
    bends = stage(FieldLevel(1, 2), FieldLevel(0.5, 3), most=80_000)
    bends(images, CentresOfMass()(images), Noted(seen))
    assert seen.made == seen.promised > 5
    rows, inone = plan(images, [bends]), plan(images, [stage(FieldLevel(1, 2), FieldLevel(0.5, 3))])
    assert [row.steps for row in inone] == [2, 3]
    assert rows[0].steps == 2 and rows[1].steps % 3 == 0 and rows[1].steps > 3
    assert rows[1].memory < 0.6 * inone[1].memory
    assert all(a.grid.same_as(b.grid) for a, b in zip(rows, inone, strict=True))


def test_a_level_between_the_voxels_may_be_the_only_one() -> None:
    pair = phantom(2)
    start, found = aligned(pair, stage(FieldLevel(0.5, 4), most=2000))
    assert folding_percent(found, pair.fixed.space) == 0
    points = pair.fixed.space.points()
    assert 0 < float((found(points) - start(points)).norm(dim=-1).max()) < 20  # mm, of voxels of 4


def test_masks_that_leave_nothing_leave_the_whole_as_it_is() -> None:
    pair = phantom(2)
    none = torch.zeros_like(pair.fixed.data, dtype=torch.bool)
    none[0, 0, 3, 3] = True
    images = Pair(pair.fixed.with_mask(none), pair.moving)
    start = CentresOfMass()(images)
    whole, parted = (stage(*levels, most=2000)(images, start, Silent())[0] for levels in (LEVELS[:2], LEVELS))
    points = pair.fixed.space.points()
    assert bool(torch.isfinite(parted(points)).all())
    assert float((whole(points) - parted(points)).norm(dim=-1).max()) < 2 * float(pair.fixed.space.spacing.max())


def test_pairs_of_parts_do_not_overlap() -> None:
    borders = sorted({(part.starts[0], part.stops[0]) for part in divided(Space.regular((50, 40)), 500)})
    assert len(borders) > 1 and all(a[1] == b[0] for a, b in pairwise(borders))
