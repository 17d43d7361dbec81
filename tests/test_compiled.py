"""The compiled kernels against the torch code they replace."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from registration import compiled
from registration.interpolate import _grid_sample
from registration.losses._windows import correlate, side

pytestmark = pytest.mark.skipif(not compiled.available(), reason="numba is not installed")
SHAPES = [(9, 11, 7), (9, 11), (1, 11, 7), (5, 1, 1), (1, 9)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_sampling_and_its_gradient_equal_grid_sample(shape: tuple[int, ...], channels: int) -> None:
    data = torch.rand(2, channels, *shape)
    grid = (torch.rand(2, *[4] * len(shape), len(shape)) * 2.6 - 1.3).requires_grad_()
    expected = _grid_sample(data, grid, "bilinear")
    found = compiled.LinearSampling.apply(data, grid)
    upstream = torch.rand_like(expected)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
    gradients = [torch.autograd.grad((value * upstream).sum(), grid)[0] for value in (expected, found)]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-5)


def test_sampling_survives_numbers_that_are_no_coordinates() -> None:
    grid = torch.tensor([[[float("nan"), 0.0], [float("inf"), -float("inf")], [1e30, -1e30]]])[:, None]
    assert torch.isfinite(compiled.LinearSampling.apply(torch.rand(1, 1, 5, 6), grid)).all()


@pytest.mark.parametrize(
    "shape, radius", [((9, 11, 13), (2, 1, 3)), ((12, 15), (2, 2)), ((1, 9, 8), (2, 2, 2))], ids=str
)
@pytest.mark.parametrize("kind", ["everywhere", "mask", "weights"])
def test_local_correlation_equals_torch(shape: tuple[int, ...], radius: tuple[int, ...], kind: str) -> None:
    weight = None if kind == "everywhere" else torch.rand(shape)
    if weight is not None and kind == "mask":
        weight = (weight > 0.3).float()
    images = torch.rand(shape) + 5, torch.rand(shape)
    own = None if weight is None else weight[None, None]
    first, second = (side(image[None, None], own, 1e-5) for image in images)
    expected = [torch.zeros(shape), torch.zeros(shape)]
    total = correlate(first, second, own, radius, None, expected[0][None, None])
    correlate(second, first, own, radius, None, expected[1][None, None])
    floors, shifts = (float(first.floor), float(second.floor)), (float(first.shift), float(second.shift))

    def sums(*grads: Tensor | None) -> float:
        windows = compiled.Windows(radius, floors, shifts)
        return compiled.correlation_sums(images, weight, windows, (grads[0], grads[1]))

    found = [torch.zeros(shape), torch.zeros(shape)]
    assert sums(found[0], found[1]) == pytest.approx(float(total), rel=1e-5)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    alone = torch.zeros(shape)
    assert sums(None, alone) == pytest.approx(float(total), rel=1e-5)
    torch.testing.assert_close(alone, expected[1], rtol=1e-4, atol=1e-5)
    assert sums(None, None) == pytest.approx(float(total), rel=1e-5)


def test_the_number_of_threads_does_not_change_a_bit() -> None:
    data, grid = torch.rand(1, 1, 20, 21, 22), torch.rand(1, 20, 21, 22, 3) * 2 - 1
    many = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            grad = torch.zeros(20, 21, 22)
            value = compiled.LinearSampling.apply(data, grid)
            windows = compiled.Windows((2, 2, 2), (1e-5, 1e-5), (0.5, 0.5))
            total = compiled.correlation_sums((data[0, 0], value[0, 0]), None, windows, (None, grad))
            results.append((value, grad, total))
    finally:
        torch.set_num_threads(many)
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])
    assert results[0][2] == results[1][2]
