"""The compiled self-similarity context against the torch code, which equals a slow loop."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from torch import Tensor

from registration import compiled
from registration.compiled import Region
from registration.losses import SelfSimilarityContext

pytestmark = pytest.mark.skipif(not compiled.available(), reason="numba is not installed")
SHAPES = [(9, 11, 13), (36, 70, 12), (40, 70), (1, 9, 8), (5, 1, 7)]
LOSSES = [SelfSimilarityContext(), SelfSimilarityContext(2, 1), SelfSimilarityContext(0, 2, absolute=True)]


def pair(shape: tuple[int, ...], channels: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    first, second = torch.rand(2, 2, channels, *shape, generator=generator)
    return (0.5 * first + 0.5 * second).requires_grad_(), second.requires_grad_()


def masks(shape: tuple[int, ...]) -> dict[str, Tensor | None]:
    weights = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(6))
    far = torch.zeros(2, 1, *shape)
    far[..., shape[-1] // 2 :] = weights[..., shape[-1] // 2 :]
    return {"everywhere": None, "weights": weights * (weights > 0.3), "a part": far}


def apart(found: Tensor, expected: Tensor) -> float:
    """Relative difference: not voxel by voxel, as two patches may be equally alike up to rounding."""
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("loss", LOSSES, ids=["default", "radius 2", "absolute"])
def test_values_and_gradients_equal_torch(shape: tuple[int, ...], loss: SelfSimilarityContext) -> None:
    single = pair(shape, 2)
    double = [x.detach().double().requires_grad_() for x in single]
    for name, mask in masks(shape).items():
        found, expected = loss(*single, mask), loss(*double, mask)
        torch.testing.assert_close(found, expected.float(), rtol=2e-5, atol=1e-7)
        slopes = [torch.autograd.grad(value.sum(), x) for value, x in ((found, single), (expected, double))]
        for one, other in zip(*slopes, strict=True):
            assert apart(one, other) < (5e-3 if loss.absolute else 1e-4), name
        (alone,) = torch.autograd.grad(loss.bind(single[1], mask)(single[0]).sum(), single[0])
        torch.testing.assert_close(alone, slopes[0][0])


@pytest.mark.parametrize("shape", [(14, 37, 12), (40, 36)], ids=str)
def test_pushes_equal_those_in_torch(shape: tuple[int, ...]) -> None:
    loss, solid = SelfSimilarityContext(), (1,) * (3 - len(shape)) + shape
    moving, fixed = (x[:1].detach() for x in pair(shape, 2))
    inside = torch.zeros(solid, dtype=torch.bool)
    inside[..., 3:-4] = True
    metric = [0.5, 1.0, 2.0][: len(shape)]
    for region in (Region.whole(solid), Region.of(inside, 4)):
        found, expected = torch.ones(2, len(shape), *shape)
        value = loss.push(moving, fixed, region, metric, found)
        with mock.patch.object(compiled, "available", lambda: False):
            assert loss.push(moving, fixed, region, metric, expected) == pytest.approx(value, rel=2e-5)
        assert apart(found - 1, expected - 1) < 1e-4


def test_nothing_to_compare_is_no_evidence_and_pushes_nothing() -> None:
    loss, image, out = SelfSimilarityContext(), torch.rand(1, 1, 2, 9), torch.zeros(2, 2, 9)
    assert loss.push(image, image, Region.whole((1, 2, 9)), [1.0, 1.0], out) == 1.0 and not out.any()
    moving = torch.rand(1, 1, 8, 9, requires_grad=True)
    value = loss(moving, torch.rand(1, 1, 8, 9), torch.zeros(1, 1, 8, 9))
    assert not torch.autograd.grad(value.sum(), moving)[0].any() and torch.isfinite(value).all()


def test_the_number_of_threads_does_not_change_a_bit() -> None:
    first, second = pair((40, 70, 9))
    many, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            value = SelfSimilarityContext()(first, second)
            results.append((value, *torch.autograd.grad(value.sum(), (first, second))))
    finally:
        torch.set_num_threads(many)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
