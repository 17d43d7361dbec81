"""Work in a region alone, and what similarities push there."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from registration import compiled
from registration.compiled import Region
from registration.image import Image
from registration.losses import (
    LocalMutualInformation,
    LocalNormalisedCrossCorrelation,
    Similarity,
    WideLocalCorrelation,
)
from registration.losses.mse import MeanSquaredError
from registration.losses.weighted import Part, WeightedSum
from registration.pairwise import Pair
from registration.pairwise import voxelfields as vf
from registration.pairwise.ground import common_ground, region_on
from registration.space import Space
from registration.transforms.linear import Linear

SHAPES = [(13, 11, 14), (1, 12, 15), (16, 18)]
LOSSES = [
    LocalNormalisedCrossCorrelation(2, 1e-3),
    LocalNormalisedCrossCorrelation(1, 1e-3),
    WideLocalCorrelation(0.8, 1),
    WideLocalCorrelation(0.3, 0),
    WeightedSum([Part(WideLocalCorrelation(0.8, 1), 0.5), Part(LocalNormalisedCrossCorrelation(2, 1e-3), 2.0)]),
    LocalMutualInformation(8, 0.8, 1, 50.0),
    LocalMutualInformation(16, 0.3, 0),
    MeanSquaredError(),
]


def volume(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return (1, *shape) if len(shape) == 2 else shape  # type: ignore[return-value]


def blob(shape: tuple[int, ...]) -> torch.Tensor:
    """A mask of (X, Y, Z) with a hole."""
    mass = torch.zeros(volume(shape), dtype=torch.bool)
    mass[:, 3:8, 4:10] = True
    mass[:, 5, 6] = False
    return mass


@pytest.mark.parametrize("where", ["whole", "blob"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_pushes_equal_those_by_automatic_derivatives(loss: Similarity, shape: tuple[int, ...], where: str) -> None:
    torch.manual_seed(0)
    fixed = torch.rand(1, 2, *shape)
    moving = 0.6 * fixed + 0.4 * torch.rand(1, 2, *shape)
    region = Region.whole(volume(shape)) if where == "whole" else Region.of(blob(shape), 3)
    metric = [1.0, 0.5, 2.0][: len(shape)]
    found, expected = torch.ones(len(shape), *shape), torch.ones(len(shape), *shape)
    value = loss.push(moving, fixed, region, metric, found)
    with mock.patch.object(compiled, "available", lambda: False):
        reference = loss.push(moving, fixed, region, metric, expected)
    assert value == pytest.approx(reference, abs=2e-6)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)
    assert float((expected - 1).abs().max()) > 1e-3


@pytest.mark.skipif(not compiled.available(), reason="numba is not installed")
def test_a_mask_does_not_have_kernels_compiled_once_more() -> None:
    from registration.compiled import block_kernels, joint_kernels, window_kernels

    image, shape = torch.rand(1, 1, *SHAPES[0]), SHAPES[0]
    for region in (Region.whole(volume(shape)), Region.of(blob(shape), 3)):
        for loss in (LOSSES[0], LOSSES[2], LocalMutualInformation()):
            loss.push(image, image, region, [1.0] * 3, torch.zeros(3, *shape))
    for kernel in (window_kernels.pushes, block_kernels.block_sums, block_kernels.block_pushes):
        assert len(kernel.signatures) == 1
    assert len(joint_kernels.joint_sums.signatures) == len(joint_kernels.joint_pushes.signatures) == 1


def test_pushes_are_the_derivative_of_opposite_moves() -> None:
    torch.manual_seed(1)
    index = torch.linspace(0, 6, 40)
    image = (index.sin()[:, None] * index.cos()[None]).clone()[None, None] + 1
    other = (index + 0.3).sin()[None, None, :, None] * index.cos() + 1
    loss = WideLocalCorrelation(0.5, 2)
    out = torch.zeros(2, 40, 40)
    loss.push(image, other, Region.whole((1, 40, 40)), [1.0, 1.0], out)
    # Along the first axis, where the images are apart: its sign is that of the change of the loss.
    size = 1e-2
    slopes = [torch.gradient(x[0, 0], dim=0)[0] for x in (image, other)]
    change = loss(image + size * slopes[0], other - size * slopes[1]) - loss(image, other)
    assert float(out[0].sum()) / 1600 * size == pytest.approx(float(change), rel=0.05)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**16), st.sampled_from([(9, 10, 12), (1, 14, 9)]))
def test_fields_change_inside_the_rows_alone(seed: int, shape: tuple[int, int, int]) -> None:
    if not compiled.available():
        pytest.skip("numba is not installed")
    torch.manual_seed(seed)
    rows = Region.of(torch.rand(shape) > 0.97, 1).rows
    inside = torch.zeros(shape, dtype=torch.bool)
    for i in range(shape[0]):
        for j in range(shape[1]):
            inside[i, j, rows[0, i, j] : rows[1, i, j]] = True
    field, step = torch.randn(3, *shape), 0.3 * torch.randn(3, *shape)
    still = torch.eye(3, 4, dtype=torch.float64)
    sigma = [1.0 if n > 1 else 0.0 for n in shape]
    cases = {
        "pull": lambda r: vf.pull(field, still, step, torch.full_like(field, 7.0), r),
        "compose": lambda r: vf.compose(field, step, torch.full_like(field, 7.0), r),
        "scale": lambda r: vf.scale(field.clone(), [2.0, 3.0, 4.0], r),
    }
    for case in cases.values():
        part, all_ = case(rows), case(None)
        torch.testing.assert_close(part[:, inside], all_[:, inside], rtol=0, atol=1e-6)
        outside = part[:, ~inside]
        assert torch.equal(outside, field[:, ~inside]) or bool((outside == 7).all())
    smooth = vf.smooth(field.clone(), sigma, rows)
    assert torch.equal(smooth[:, ~inside], field[:, ~inside])


def test_a_region_reaches_around_its_mask() -> None:
    mass = torch.zeros(12, 12, 12, dtype=torch.bool)
    mass[5, 6, 7] = True
    region = Region.of(mass, 2)
    assert region.voxels == 1
    assert region.rows[:, 3, 4].tolist() == [5, 10] and region.rows[:, 2, 6].tolist() == [0, 0]
    assert float(region.counts((1, 1, 1)).sum()) == 27
    assert Region.whole((2, 3, 4)).voxels == 24 and Region.of(torch.ones(2, 3, 4) > 0, 1).mass is None


@pytest.mark.parametrize("shape", [(9, 10, 11), (13, 7)], ids=str)
def test_wide_correlation_equals_a_loop(shape: tuple[int, ...]) -> None:
    torch.manual_seed(2)
    radius, floor = 1, 1e-3
    loss = WideLocalCorrelation(0.8, radius, floor)
    block = loss.windows.blocks(shape)
    x, y = torch.rand(1, 1, *shape, dtype=torch.float64), torch.rand(1, 1, *shape, dtype=torch.float64)
    mask = torch.rand(1, 1, *shape) > 0.2
    blocks = [range(-(-n // b)) for n, b in zip(shape, block, strict=True)]
    total = weight = 0.0
    for place in torch.cartesian_prod(*[torch.tensor(list(b)) for b in blocks]).tolist():
        wide = tuple(slice(max(0, (p - radius) * b), (p + radius + 1) * b) for p, b in zip(place, block, strict=True))
        own = tuple(slice(p * b, (p + 1) * b) for p, b in zip(place, block, strict=True))
        inside = mask[0, 0][wide]
        a, b = x[0, 0][wide][inside], y[0, 0][wide][inside]
        n = float(mask[0, 0][own].sum())
        cov = ((a - a.mean()) * (b - b.mean())).mean()
        total += n * float(cov**2 / ((a.var(unbiased=False) + floor) * (b.var(unbiased=False) + floor)))
        weight += n
    found = loss(x, y, mask)
    assert float(found) == pytest.approx(1 - total / weight, abs=1e-9)


@pytest.mark.parametrize("shape", [(6, 7, 8), (13, 7)], ids=str)
def test_local_information_equals_a_loop(shape: tuple[int, ...]) -> None:
    torch.manual_seed(2)
    bins, prior, even = 5, 30.0, 0.01
    loss = LocalMutualInformation(bins, 0.8, 1, prior, (-0.1, 1.1), (0.2, 0.7))
    block = loss.windows.blocks(shape)
    x, y = torch.rand(1, 1, *shape, dtype=torch.float64), torch.rand(1, 1, *shape, dtype=torch.float64)
    mask = torch.rand(1, 1, *shape) > 0.2

    def weights(value: float, low: float, high: float) -> torch.Tensor:
        place = 1 + min(max((value - low) / (high - low), 0), 1) * (bins - 3)
        far = (torch.arange(bins, dtype=torch.float64) - place).abs()
        return torch.where(far < 0.5, 0.75 - far**2, (1.5 - far).clamp(min=0) ** 2 / 2)

    def histogram(part: tuple[slice, ...]) -> torch.Tensor:
        inside = mask[0, 0][part]
        pairs = zip(x[0, 0][part][inside].tolist(), y[0, 0][part][inside].tolist(), strict=True)
        cells = [weights(a, 0.2, 0.7)[:, None] * weights(b, -0.1, 1.1) for a, b in pairs]
        return sum(cells, torch.zeros(bins, bins, dtype=torch.float64))

    usual = histogram((slice(None),) * len(shape))
    usual = (1 - even) * usual / usual.sum() + even / bins**2
    blocks = [range(-(-n // b)) for n, b in zip(shape, block, strict=True)]
    total = weight = 0.0
    for place in torch.cartesian_prod(*[torch.tensor(list(b)) for b in blocks]).tolist():
        wide = tuple(slice(max(0, (p - 1) * b), (p + 2) * b) for p, b in zip(place, block, strict=True))
        own = tuple(slice(p * b, (p + 1) * b) for p, b in zip(place, block, strict=True))
        joint = histogram(wide) + prior * usual
        joint = joint / joint.sum()
        n = float(mask[0, 0][own].sum())
        total += n * float((joint * (joint / (joint.sum(0) * joint.sum(1, keepdim=True))).log()).sum())
        weight += n
    assert float(loss(x, y, mask)) == pytest.approx(-total / weight, abs=1e-9)


def test_rows_of_nothing_between_blocks_leave_the_rest_alone() -> None:
    torch.manual_seed(3)
    mass = torch.zeros(1, 24, 20, dtype=torch.bool)
    mass[:, 1:3], mass[:, 14:21] = True, True  # nothing where the second block of rows begins
    region, loss = Region.of(mass, 0), WideLocalCorrelation(0.5, 1)
    assert loss.windows.blocks((24, 20)) == (4, 3)
    fixed = torch.rand(1, 1, 24, 20)
    moving = 0.6 * fixed + 0.4 * torch.rand(1, 1, 24, 20)
    found, expected = torch.zeros(2, 24, 20), torch.zeros(2, 24, 20)
    loss.push(moving, fixed, region, [1.0, 1.0], found)
    with mock.patch.object(compiled, "available", lambda: False):
        loss.push(moving, fixed, region, [1.0, 1.0], expected)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("loss", [WideLocalCorrelation(), LocalNormalisedCrossCorrelation(2), LocalMutualInformation()])
def test_a_region_of_nothing_pushes_nothing(loss: Similarity) -> None:
    region, out = Region.of(torch.zeros(6, 7, 8, dtype=torch.bool), 2), torch.zeros(3, 6, 7, 8)
    image = torch.rand(1, 1, 6, 7, 8)
    assert loss.push(image, image, region, [1.0, 1.0, 1.0], out) == float(loss.unrelated(image, image))
    assert not bool(out.any())


def test_rows_reach_as_far_as_windows_along_thick_slices() -> None:
    data = torch.zeros(48, 48, 24)
    data[18:30, 18:30, 8:16] = torch.rand(12, 12, 8)
    image = Image.of(data, Space.regular((48, 48, 24), (1.0, 1.0, 8.0)))
    region = region_on(common_ground(Pair(image, image), Linear.identity(3)), image.space, None, 3)
    assert region.mass is not None
    wide = Region.of(region.mass > 0, 3).rows
    used = wide[1] > wide[0]
    assert bool((region.rows[0][used] <= wide[0][used]).all() and (region.rows[1][used] >= wide[1][used]).all())


@pytest.mark.parametrize("radius", [2, 9])
def test_rows_reach_as_far_as_windows(radius: int) -> None:
    data = torch.zeros(64, 64, 64)
    data[26:38, 26:38, 26:38] = torch.rand(12, 12, 12)
    image = Image.of(data)
    pair = Pair(image, image)
    region = region_on(common_ground(pair, Linear.identity(3)), image.space, None, radius)
    assert region.mass is not None
    wide = Region.of(region.mass > 0, radius).rows
    used = wide[1] > wide[0]
    assert bool((region.rows[0][used] <= wide[0][used]).all() and (region.rows[1][used] >= wide[1][used]).all())
