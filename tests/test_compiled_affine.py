"""Sampling along affine maps and joint histograms by compiled loops: the same as torch, on any number of threads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from registration import compiled
from registration.families import Affine
from registration.image import Image
from registration.losses import MutualInformation
from registration.pairwise.initialise.histogram import JointHistogram
from registration.sampling import pull, sample, unit_grid
from registration.space import Space

pytestmark = pytest.mark.skipif(not compiled.available(), reason="numba is not installed")

SHAPES = [(20, 24, 22), (30, 26), (18, 1, 20)]


def scene(shape: tuple[int, ...]) -> tuple[Image, Space, Tensor]:
    """A moving image of two channels, a fixed grid, and parameters of three affine maps, partly leaving the image."""
    fixed = Space.regular(shape)
    own = Space.regular([n + 2 if n > 1 else 1 for n in shape])
    parameters = 0.1 * torch.randn(3, Affine().size(fixed), dtype=torch.float64)
    return Image(torch.rand(1, 2, *own.shape), own), fixed, parameters.requires_grad_(True)


@pytest.mark.parametrize("shape", SHAPES)
def test_pulling_equals_sampling_a_grid(shape: tuple[int, ...]) -> None:
    moving, fixed, parameters = scene(shape)
    upstream, results = torch.rand(3, 2, *shape), []
    transform = Affine()(parameters, fixed)
    for values, inside in (
        pull(moving, transform, fixed),
        sample(moving, unit_grid(transform, moving.space, fixed, moving.data)),
    ):
        (slope,) = torch.autograd.grad((values * upstream).sum(), parameters, retain_graph=True)
        results.append((values.detach(), slope, inside))
    (values, slope, inside), (wanted, wanted_slope, wanted_inside) = results
    torch.testing.assert_close(values, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(slope, wanted_slope, atol=1e-4 * float(wanted_slope.abs().max()), rtol=0)
    assert torch.equal(inside, wanted_inside) and 0.05 < float(inside.float().mean()) < 1


def information(warped: Tensor, fixed: Tensor, moving: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Mutual information, its derivative, and that of sharp bins."""
    warped = warped.clone().requires_grad_(True)
    loss = MutualInformation(32).bind(fixed, None, moving)(warped, mask)
    (slope,) = torch.autograd.grad(loss.sum(), warped)
    return loss.detach(), slope, JointHistogram()(warped.detach(), fixed, mask)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_histograms_equal_those_of_torch(
    shape: tuple[int, ...], weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    warped, fixed = torch.rand(3, 2, *shape), torch.rand(1, 2, *shape)
    mask = torch.rand(3, 1, *shape) > 0.3 if weighted else None
    quick = information(warped, fixed, warped[:1], mask)
    monkeypatch.setattr(compiled, "fits", lambda *tensors: False)
    for found, wanted in zip(quick, information(warped, fixed, warped[:1], mask), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5 * float(wanted.abs().max()), rtol=0)


def test_the_number_of_threads_does_not_change_a_bit() -> None:
    moving, fixed, parameters = scene((40, 30, 20))
    target, results = torch.rand(1, 2, *fixed.shape), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        values, inside = pull(moving, Affine()(parameters, fixed), fixed)
        loss = MutualInformation(32).bind(target, None, moving.data)(values, inside)
        (slope,) = torch.autograd.grad(loss.sum(), parameters)
        results.append((loss.detach(), slope))
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))
