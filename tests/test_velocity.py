"""Flows of stationary velocities: against an integrated trajectory, and the laws of every family."""

from __future__ import annotations

import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from registration.families import Velocity
from registration.image import Image
from registration.losses import jacobian_determinant
from registration.sampling import warp
from registration.space import Space
from registration.transforms.field import DisplacementField, sample_field
from registration.transforms.linear import Linear
from registration.transforms.stacked import Stacked
from registration.transforms.velocity import VelocityField

D = pytest.mark.parametrize("d", [2, 3])


def oblique(d: int, shape: tuple[int, ...] = (24, 20, 22)) -> Space:
    """An anisotropic, turned grid away from the origin."""
    turn = torch.linalg.matrix_exp(0.3 * (torch.ones(d, d).triu(1) - torch.ones(d, d).tril(-1)).double())
    affine = torch.eye(d + 1, dtype=torch.float64)
    affine[:d, :d] = turn @ torch.diag(torch.tensor([1.0, 1.5, 0.8], dtype=torch.float64)[:d])
    affine[:d, d] = torch.tensor([-60.0, 25, 110])[:d]
    return Space(shape[:d], affine)


def swirl(space: Space, size: float = 3.0) -> Tensor:
    """(D, *S) mm: a smooth velocity that vanishes towards the border."""
    x = (space.points(torch.zeros(0, dtype=torch.float64)) - space.centre) / space.radius
    bump = torch.exp(-8 * x.square().sum(dim=-1))
    return size * torch.stack([bump * torch.cos(3 * x[..., (a + 1) % space.ndim] + a) for a in range(space.ndim)])


@D
def test_the_flow_is_that_of_an_ode_solver(d: int) -> None:
    space = oblique(d, (48, 44, 46))
    velocity = swirl(space)
    found = VelocityField(velocity, space, steps=8)
    points = space.centre + (torch.rand(6, d, dtype=torch.float64) - 0.5) * 0.6 * space.radius
    field = DisplacementField(velocity, space)

    def speed(_: float, x: object) -> object:
        place = torch.as_tensor(x).reshape(-1, d)
        return (field(place) - place).flatten().numpy()

    truth = solve_ivp(speed, (0, 1), points.flatten().numpy(), rtol=1e-8, atol=1e-8).y[:, -1]
    assert float((found(points).flatten() - torch.as_tensor(truth)).abs().max()) < 0.03
    assert float((found(points) - points).norm(dim=1).max()) > 1


@D
def test_the_opposite_velocity_is_the_inverse_and_nothing_folds(d: int) -> None:
    space = oblique(d, (48, 44, 46))
    flow = VelocityField(swirl(space, 5.0), space, steps=7)
    points = space.centre + (torch.rand(30, d, dtype=torch.float64) - 0.5) * 0.5 * space.radius
    back = flow.inverse()(flow(points))
    assert float((back - points).norm(dim=1).max()) < 0.05
    assert float(jacobian_determinant(sample_field(flow, space)[None], space).min()) > 0
    both = flow.sampled(space)
    assert float((both.inverse()(points) - flow.inverse()(points)).abs().max()) < 0.02


@D
def test_zeros_are_the_identity_on_any_grid(d: int) -> None:
    space, family = oblique(d, (9, 7, 5)), Velocity(shrink=2)
    image = Image.of(torch.rand(space.shape), space)
    flow = family(torch.zeros(family.size(space)), space)
    warped, valid = warp(image, flow, space)
    assert bool(valid.all()) and torch.allclose(warped.data, image.data, atol=1e-4)


@D
def test_parameters_are_radii_along_world_axes(d: int) -> None:
    space, family = oblique(d), Velocity(shrink=2)
    nodes = family.nodes(space)
    assert nodes.shape == tuple(-(-n // 2) for n in space.shape)
    theta = torch.zeros(d, *nodes.shape)
    theta[1] = 0.05  # a constant velocity is a translation
    flow = family(theta.flatten(), space)
    move = flow(space.centre[None]) - space.centre
    expected = torch.zeros(d, dtype=torch.float64)
    expected[1] = 0.05 * space.radius
    assert torch.allclose(move[0], expected, atol=1e-5)
    with pytest.raises(ValueError, match="Velocity in"):
        family(theta.flatten()[:-1], space)


@D
def test_on_grid_equals_the_call(d: int) -> None:
    space = oblique(d)
    coarse = space.resized([n // 2 for n in space.shape])
    flow = VelocityField(swirl(coarse)[None], coarse)
    for onto in (space, coarse, space.cropped([2] * d, [9] * d)):
        fast = flow.on_grid(onto, torch.zeros(0, dtype=torch.float64))
        slow = flow(onto.points(torch.zeros(0, dtype=torch.float64))[None])
        assert torch.allclose(fast, slow, atol=1e-9)


@D
def test_gradients_and_batches(d: int) -> None:
    space = oblique(d, (5, 4, 4))
    # Away from the nodes, where linear interpolation has a kink.
    theta = 0.6 / space.radius + 0.002 * torch.randn(2, Velocity(shrink=1).size(space), dtype=torch.float64)
    theta = theta.requires_grad_()

    def moved(parameters: Tensor) -> Tensor:
        return Velocity(shrink=1, steps=1)(parameters, space).on_grid(space, parameters)

    assert torch.autograd.gradcheck(moved, (theta,), atol=1e-4)
    alone = moved(theta[1])
    assert torch.allclose(moved(theta)[1], alone)


@D
def test_jacobians_of_a_batch_of_fields_are_each_its_own(d: int) -> None:
    space = oblique(d, (9, 8, 7))
    flow = VelocityField(torch.stack([swirl(space), -2 * swirl(space), 0 * swirl(space)]), space)
    points = space.centre + (torch.rand(1, 5, d, dtype=torch.float64) - 0.5) * 0.6 * space.radius
    both = flow.sampled(space)
    assert both.batched and both.inverse().batched and both(points).shape == (3, 5, d)
    alone = [VelocityField(v, space) for v in flow.velocity]
    for batch in (flow, both, Stacked(alone), Linear.translation(torch.ones(d)) @ flow):
        slopes = batch.jacobian(points)
        assert slopes.shape == (3, 5, d, d)
        for found, one in zip(slopes, alone, strict=True):
            torch.testing.assert_close(found, one.jacobian(points[0]), rtol=0, atol=1e-5)


def test_refusals() -> None:
    space = oblique(2)
    with pytest.raises(ValueError, match="0 or more"):
        VelocityField(swirl(space), space, steps=-1)
    with pytest.raises(ValueError, match="shrink is 1 or more"):
        Velocity(shrink=0.5)
    with pytest.raises(ValueError, match="expected"):
        VelocityField(swirl(space)[:1], space)
