from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from registration import filters
from registration.filters import box
from registration.image import Image
from registration.space import Space

SHAPES = [(9, 12), (7, 6, 10), (5, 1, 8)]


def noise(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def slow_box(x: torch.Tensor, radius: tuple[int, ...]) -> torch.Tensor:
    out = torch.zeros_like(x)
    for index in itertools.product(*map(range, x.shape[2:])):
        window = tuple(slice(max(0, i - r), i + r + 1) for i, r in zip(index, radius, strict=True))
        out[(..., *index)] = x[(..., *window)].flatten(2).sum(dim=2)
    return out


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=3), st.integers(0, 12), st.integers(0, 3), st.integers(1, 60))
def test_box_sum_is_the_sum_of_the_window(shape: list[int], first: int, other: int, chunk: int) -> None:
    x = noise(2, 3, *shape)
    radius = (first, *[other] * (len(shape) - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(box, "_CHUNK", chunk)  # many small pieces must be the same as one
        torch.testing.assert_close(filters.box_sum(x, radius), slow_box(x, radius))


def test_box_sum_leaves_its_input_alone() -> None:
    x = noise(1, 1, 6, 7)
    kept = x.clone()
    for radius in [(0, 0), (2, 0), (0, 2), (2, 2)]:
        out = filters.box_sum(x, radius)
        assert out.data_ptr() != x.data_ptr()
        out.add_(1)
        assert torch.equal(x, kept)


def test_box_sum_is_accurate_in_float32_for_large_windows_and_offsets() -> None:
    x = noise(1, 1, 64, 96, 32, dtype=torch.float32) + 1000
    exact = filters.box_sum(x.double(), (20, 30, 9))
    relative = ((filters.box_sum(x, (20, 30, 9)) - exact) / exact).abs().max()
    assert float(relative) < 1e-6


@pytest.mark.parametrize("shape", SHAPES)
def test_filters_pass_gradcheck(shape: tuple[int, ...]) -> None:
    x = noise(1, 2, *shape).requires_grad_()
    d = len(shape)
    smaller = tuple(max(1, n // 2) for n in shape)
    for function in (
        lambda t: filters.box_sum(t, (2, 1, 1)[:d]),
        lambda t: filters.gaussian(t, (0.8, 1.5, 0.0)[:d]),
        lambda t: filters.resample(t, smaller),
        lambda t: filters.gradient(t, (1.0, 2.0, 0.5)[:d]),
        lambda t: filters.gradient_magnitude(t, (1.0, 2.0, 0.5)[:d]),
    ):
        assert torch.autograd.gradcheck(function, x, fast_mode=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigma", [0.4, 1.3, 6.0])
def test_gaussian_equals_scipy(shape: tuple[int, ...], sigma: float) -> None:
    x = noise(1, 1, *shape)
    sigmas = (sigma, 2 * sigma, 0.0)[: len(shape)]
    expected = ndimage.gaussian_filter(x[0, 0].numpy(), sigmas, mode="reflect")
    np.testing.assert_allclose(filters.gaussian(x, sigmas)[0, 0], expected, atol=1e-12)


def test_gaussian_on_a_long_axis_goes_in_blocks() -> None:
    x = noise(1, 1, 1300, 3)
    expected = ndimage.gaussian_filter(x[0, 0].numpy(), (5, 1), mode="reflect")
    np.testing.assert_allclose(filters.gaussian(x, (5, 1))[0, 0], expected, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=2, max_size=3), st.floats(0.1, 8))
def test_gaussian_keeps_the_mean_and_is_its_own_adjoint(shape: list[int], sigma: float) -> None:
    x, y = noise(1, 1, *shape), noise(1, 1, *shape, seed=1)
    sigmas = [sigma] * len(shape)
    smooth = filters.gaussian(x, sigmas)
    torch.testing.assert_close(smooth.mean(), x.mean())
    torch.testing.assert_close((smooth * y).sum(), (x * filters.gaussian(y, sigmas)).sum())


def test_gradient_of_a_linear_image_is_its_slope() -> None:
    space = Space.regular((6, 5, 4), (1.0, 2.0, 0.5))
    points = space.points(torch.zeros(0, dtype=torch.float64))
    slopes = torch.tensor([[1.0, -2.0, 3.0], [0.5, 0.0, 4.0]], dtype=torch.float64)
    x = (points @ slopes.T).movedim(-1, 0)[None]
    out = filters.gradient(x, space.spacing.tolist())
    assert out.shape == (1, 6, 6, 5, 4)
    torch.testing.assert_close(out, slopes.reshape(1, 6, 1, 1, 1).expand_as(out))
    length = slopes.norm(dim=1).reshape(1, 2, 1, 1, 1)
    torch.testing.assert_close(filters.gradient_magnitude(x, space.spacing.tolist()), length.expand_as(x))


def test_gradient_magnitude_has_a_finite_derivative_on_flat_images() -> None:
    x = torch.ones(1, 1, 5, 5, requires_grad=True)
    filters.gradient_magnitude(x, (1.0, 1.0)).sum().backward()
    assert x.grad is not None and bool((x.grad == 0).all())


@pytest.mark.parametrize("shape", [(40, 31), (20, 13, 16)])
@pytest.mark.parametrize("factor", [1.3, 2.0, 3.7])
def test_resample_is_gaussian_then_linear(shape: tuple[int, ...], factor: float) -> None:
    x = noise(2, 3, *shape)
    new = tuple(round(n / factor) for n in shape)
    sigma = [0.5 * ((n / m) ** 2 - 1) ** 0.5 for n, m in zip(shape, new, strict=True)]
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    expected = F.interpolate(filters.gaussian(x, sigma), new, mode=mode, align_corners=False)
    torch.testing.assert_close(filters.resample(x, new), expected)


def test_resample_may_also_enlarge() -> None:
    x = noise(1, 1, 5, 7)
    torch.testing.assert_close(filters.resample(x, (9, 7)), F.interpolate(x, (9, 7), mode="bilinear"))


def test_downsample_removes_what_the_coarse_grid_cannot_hold() -> None:
    stripes = (torch.arange(64) % 2).double().expand(64, 64)[None, None]
    small = filters.downsample(Image(stripes, Space.regular((64, 64))), (64, 16))
    assert float((small.data - 0.5)[..., 1:-1].abs().max()) < 0.002  # the mirror at the border doubles a stripe
    assert small.space.same_as(Space.regular((64, 64)).resized((64, 16)))


def test_downsample_keeps_places_and_masks() -> None:
    space = Space.regular((24, 20, 16), (1.0, 1.5, 2.0))
    x = space.points(torch.zeros(0, dtype=torch.float64))[..., 1][None, None]
    image = Image(x, space, mask=x > 0)
    small = filters.downsample(image, (12, 7, 16))
    expected = small.space.points(x)[..., 1][None, None]
    torch.testing.assert_close(small.data[..., 2:-2, :], expected[..., 2:-2, :])
    assert small.mask is not None and small.mask.dtype == torch.bool
    assert torch.equal(small.mask[..., [0, 1, 2, 4, 5, 6], :], (expected > 0)[..., [0, 1, 2, 4, 5, 6], :])


@pytest.mark.parametrize(("first", "coarse"), [(7, 2), (8, 3)])
def test_downsampled_mask_holds_voxels_that_are_mostly_inside(first: int, coarse: int) -> None:
    space = Space.regular((24, 4))
    mask = (torch.arange(24) >= first)[None, None, :, None].expand(1, 1, 24, 4)
    small = filters.downsample(Image(torch.zeros(1, 1, 24, 4), space, mask=mask), (8, 4)).mask
    assert small is not None
    assert torch.equal(small[0, 0, :, 0], torch.arange(8) >= coarse)


def test_a_thin_mask_does_not_vanish() -> None:
    mask = torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    mask[0, :, 8:10, 4:28], mask[1, :, 4:28, 4:28] = True, True
    image = Image(torch.zeros(2, 1, 32, 32), Space.regular((32, 32)), mask=mask)
    small = filters.downsample(image, (4, 4)).mask
    assert small is not None and bool(small[0, 0, 1].all()) and not bool(small[0, 0, 2:].any())
    assert torch.equal(small[1], filters.downsample(Image(image.data[1:], image.space, mask=mask[1:]), (4, 4)).mask[0])
    nothing = filters.downsample(Image(image.data[:1], image.space, mask=torch.zeros_like(mask[:1])), (4, 4)).mask
    assert nothing is not None and not bool(nothing.any())


def test_pyramid_is_in_mm_and_coarse_to_fine() -> None:
    space = Space.regular((32, 32, 8), (1.0, 1.0, 5.0))
    image = Image(noise(1, 1, *space.shape), space)
    levels = filters.pyramid(image, [1, 4, 2])
    assert [level.space.shape for level in levels] == [(8, 8, 8), (16, 16, 8), (32, 32, 8)]
    assert levels[-1] is image
    for level in levels:
        torch.testing.assert_close(level.space.corners(), space.corners())
        torch.testing.assert_close(level.data.mean(), image.data.mean(), atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: filters.box_sum(x, (1,)), "expected 2 radii"),
        (lambda x: filters.gaussian(x, (1, -1)), "expected 2 sigmas"),
        (lambda x: filters.gradient(x, (1, 0)), "expected 2 positive spacings"),
        (lambda x: filters.resample(x, (4, 0)), "expected 2 lengths"),
        (lambda x: filters.pyramid(Image(x, Space.regular((4, 4))), []), "expected one or more"),
    ],
)
def test_errors_say_what_was_expected(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(1, 1, 4, 4))


@pytest.mark.parametrize(
    ("shape", "finer"), [((7, 6, 10), (11, 6, 25)), ((1, 9), (1, 18)), ((600, 5), (1300, 5))], ids=str
)
def test_splines_on_finer_grids_are_those_of_scipy(shape: tuple[int, ...], finer: tuple[int, ...]) -> None:
    x = noise(2, 3, *shape)
    factors = [b / a for a, b in zip(shape, finer, strict=True)]
    expected = ndimage.zoom(x[1, 2].numpy(), factors, order=3, mode="reflect", grid_mode=True)
    np.testing.assert_allclose(filters.spline(x, finer)[1, 2].numpy(), expected, atol=1e-6)
    with pytest.raises(ValueError, match="at least those"):
        filters.spline(x, [n - (n > 1) for n in shape])


def test_a_finer_image_keeps_its_field_of_view_its_range_and_its_mask() -> None:
    mask = torch.zeros(1, 1, 8, 6, dtype=torch.bool)
    mask[..., 2:5, 1:4] = True
    image = Image(
        noise(1, 2, 8, 6).round().float(), Space((8, 6), torch.tensor([[0, 2, 5], [-3, 0, 1], [0, 0, 1.0]])), mask
    )
    fine = filters.refine(image, (16, 3))
    torch.testing.assert_close(fine.space.corners(), image.space.corners())
    assert fine.space.shape == fine.data.shape[2:] == (16, 3)
    assert float(fine.data.min()) >= 0 and float(fine.data.max()) <= 1
    same = filters.refine(image, (16, 12))
    assert same.mask is not None
    assert torch.equal(same.mask, mask.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
