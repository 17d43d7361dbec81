"""Interpolation that is differentiable to the image: the compiled kernels against torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from registration import compiled
from registration.interpolate import _grid_sample, linear

pytestmark = pytest.mark.skipif(not compiled.available(), reason="numba is not installed")
SHAPES = [(9, 11, 7), (9, 11), (1, 11, 7), (5, 1, 1), (1, 9)]


def all_of(value: Tensor, data: Tensor, grid: Tensor, upstream: Tensor) -> list[Tensor]:
    """A value and its derivatives to data and grid."""
    return [value, *torch.autograd.grad((value * upstream).sum(), (data, grid))]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 16])
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_values_and_both_gradients_equal_grid_sample(shape: tuple[int, ...], channels: int, last: bool) -> None:
    data = torch.rand(2, channels, *shape)
    if last:
        data = data.movedim(1, -1).contiguous().movedim(-1, 1)
    data.requires_grad_()
    grid = (torch.rand(2, *[4] * len(shape), len(shape)) * 2.6 - 1.3).requires_grad_()
    upstream = torch.rand(2, channels, *grid.shape[1:-1])
    expected = all_of(_grid_sample(data, grid, "bilinear"), data, grid, upstream)
    found = all_of(linear(data, grid), data, grid, upstream)
    assert found[0].grad_fn is not None and "Gathering" in str(found[0].grad_fn.next_functions)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_one_image_for_many_grids_gathers_the_gradients_of_all() -> None:
    data = torch.rand(1, 2, 6, 7, 8, requires_grad=True)
    grid = torch.rand(3, 5, 5, 5, 3) * 2 - 1
    expected, found = (
        torch.autograd.grad(f(data).square().sum(), data)[0]
        for f in (lambda x: _grid_sample(x.expand(3, -1, -1, -1, -1), grid, "bilinear"), lambda x: linear(x, grid))
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_only_what_asks_for_a_gradient_gets_one() -> None:
    data = torch.rand(1, 2, 6, 7, requires_grad=True)
    linear(data, torch.rand(1, 4, 4, 2) * 2 - 1).sum().backward()
    assert data.grad is not None and float(data.grad.sum()) == pytest.approx(32, rel=1e-5)  # 16 places of 2 channels


def test_numbers_that_are_no_coordinates_are_survived() -> None:
    data = torch.rand(1, 1, 5, 6, requires_grad=True)
    grid = torch.tensor([[[float("nan"), 0.0], [float("inf"), -float("inf")], [1e30, -1e30]]])[:, None]
    value = linear(data, grid)
    value.sum().backward()
    assert data.grad is not None and torch.isfinite(value).all() and torch.isfinite(data.grad).all()


def test_the_number_of_threads_does_not_change_a_bit() -> None:
    data, grid = torch.rand(2, 3, 12, 13, 14), torch.rand(2, 12, 13, 14, 3) * 2 - 1
    upstream, many = torch.rand(2, 3, 12, 13, 14), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            x, g = data.clone().requires_grad_(), grid.clone().requires_grad_()
            results.append(all_of(linear(x, g), x, g, upstream))
    finally:
        torch.set_num_threads(many)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
