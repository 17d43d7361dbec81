"""The network that matches features from coarse to fine, and what it matches them with."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from registration import compiled
from registration.families import Velocity
from registration.image import Image
from registration.localisation import MatchingPyramid
from registration.localisation.matching import contrast, correlation, unit_length
from registration.registrar import Registrar
from registration.sampling import warp
from registration.space import Space
from registration.transforms.linear import Linear

D = pytest.mark.parametrize("d", [2, 3])


def network(d: int, start: float = 0.0, inputs: int = 2) -> MatchingPyramid:
    torch.manual_seed(0)
    made = MatchingPyramid(d, inputs, (4, 6, 6), 5, (6, 8, 6))
    for estimator in made.estimators:
        torch.nn.init.normal_(estimator.last.weight, 0.0, start)  # type: ignore[operator, union-attr, arg-type]
    return made


def images(d: int, shape: tuple[int, ...] = (18, 21, 16), batch: int = 1, channels: int = 1) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.rand(batch, channels, *shape[:d]), torch.rand(batch, channels, *shape[:d])


@D
@pytest.mark.parametrize("radius", [1, 2])
def test_compiled_correlation_equals_torch_and_its_definition(
    d: int, radius: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (5, 4, 3)[:d]
    first, second = (torch.randn(2, 3, *shape, requires_grad=True) for _ in range(2))
    weight = torch.randn(2, (2 * radius + 1) ** d, *shape)
    answers = []
    for loops in (True, False):
        monkeypatch.setattr(compiled, "available", lambda loops=loops: loops)
        found = correlation(first, second, radius)
        answers.append((found, *torch.autograd.grad((weight * found).sum(), (first, second))))
    for ours, plain in zip(*answers, strict=True):
        assert torch.allclose(ours, plain, atol=1e-5)
    a, b = first.detach().numpy(), second.detach().numpy()
    for k, offset in enumerate(product(range(-radius, radius + 1), repeat=d)):
        for x in product(*map(range, shape)):
            y = tuple(i + o for i, o in zip(x, offset, strict=True))
            inside = all(0 <= i < n for i, n in zip(y, shape, strict=True))
            expected = (a[(0, slice(None), *x)] * b[(0, slice(None), *y)]).mean() if inside else 0.0
            assert abs(float(answers[0][0][(0, k, *x)].detach()) - expected) < 1e-5


@D
def test_correlation_is_largest_where_features_agree(d: int) -> None:
    features = unit_length(torch.randn(1, 16, *(9,) * d))
    moved = features.roll(1, dims=2)  # what is at x is at x + 1 along the first axis
    best = correlation(features, moved).argmax(dim=1)[(0, *[slice(2, -2)] * d)]
    offsets = list(product((-1, 0, 1), repeat=d))
    assert bool((best == offsets.index((1, *[0] * (d - 1)))).all())


def test_correlation_refuses_features_on_different_grids() -> None:
    with pytest.raises(ValueError, match="one grid"):
        correlation(torch.rand(1, 2, 4, 4), torch.rand(1, 2, 4, 5))


@D
def test_contrast_is_that_of_scipy_and_has_no_unit(d: int) -> None:
    data = torch.rand(1, 1, *(15, 12, 11)[:d])
    found = contrast(data, 2, 1e-3)
    inner = (0, 0, *[slice(5, -5)] * d)
    values = data[0, 0].double().numpy()
    less = values - ndimage.uniform_filter(values, 5, mode="constant")
    expected = less / np.sqrt(ndimage.uniform_filter(less**2, 5, mode="constant") + 1e-3)
    assert np.allclose(found[inner].numpy(), expected[inner[2:]], atol=1e-4)
    assert torch.allclose(contrast(3 + 2 * data, 2, 4e-3), found, atol=1e-3)
    assert float(contrast(torch.full_like(data, 0.7)).abs().max()) < 1e-3


@D
@pytest.mark.parametrize("shape", [(16, 16, 16), (18, 21, 16), (5, 9, 7)])
def test_any_size_and_number_of_channels_and_nothing_before_training(d: int, shape: tuple[int, ...]) -> None:
    found = network(d, inputs=4)(*images(d, shape, 2, 2))
    assert found.shape == (2, d, *[-(-n // 2) for n in shape[:d]]) and not found.any()


@D
def test_exchanged_images_give_the_inverse_and_batches_do_not_mix(d: int) -> None:
    model = network(d, 0.05)
    fixed, moving = images(d, batch=2)
    there, back = model(fixed, moving), model(moving, fixed)
    assert float(there.detach().abs().max()) > 0.05
    assert torch.allclose(there, -back, atol=1e-5)
    assert torch.allclose(model(fixed[1:], moving[1:]), there[1:], atol=1e-2)


@D
def test_equal_images_stay_where_they_are(d: int) -> None:
    fixed, _ = images(d)
    assert float(network(d, 0.05)(fixed, fixed).detach().abs().max()) < 1e-5


@D
def test_every_part_learns_and_mixed_precision_stays_inside(d: int) -> None:
    fixed, moving = (Image(x, Space.regular(tuple(x.shape[2:]))) for x in images(d))
    aligner = Registrar(network(d, 0.1), Velocity(2, 4))
    assert aligner.any_size
    exact = aligner(fixed, moving, Linear.identity(d)).on_grid(fixed.space)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = aligner(fixed, moving, Linear.identity(d)).on_grid(fixed.space)
    assert rough.dtype == torch.float32 and 0 < float((rough - exact).detach().abs().max()) < 0.5
    warped, _ = warp(moving, aligner(fixed, moving, Linear.identity(d)), fixed.space)
    (warped.data - fixed.data).square().mean().backward()
    idle = [n for n, p in aligner.named_parameters() if p.grad is None or float(p.grad.abs().sum()) == 0]
    assert not idle, idle


@D
def test_a_recorded_program_answers_the_same(d: int, tmp_path: Path) -> None:
    model, pair = network(d, 0.05).eval().requires_grad_(False), images(d)
    expected = model(*pair)
    torch.jit.save(torch.jit.trace(model, pair, check_trace=False), tmp_path / "net.ts")
    for program in (torch.jit.load(tmp_path / "net.ts"), torch.export.export(model, pair).module()):
        assert torch.allclose(program(*pair), expected, atol=1e-4)


def test_a_pyramid_has_as_many_estimators_as_levels_and_two_images() -> None:
    with pytest.raises(ValueError, match="as many widths"):
        MatchingPyramid(3, 2, (4, 6), 4, (6,))
    with pytest.raises(ValueError, match="even number"):
        MatchingPyramid(3, 3)
