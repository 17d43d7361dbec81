from __future__ import annotations

import math

import pytest
import torch

from registration.losses import bending_energy, diffusion_energy, folding_penalty, jacobian_determinant
from registration.space import Space

DOUBLE = torch.zeros(0, dtype=torch.float64)


def oblique(shape: tuple[int, ...]) -> Space:
    """A rotated, flipped, anisotropic grid off the origin."""
    d = len(shape)
    c, s = math.cos(0.4), math.sin(0.4)
    turn = torch.eye(d, dtype=torch.float64)
    turn[:2, :2] = torch.tensor([[c, -s], [s, c]])
    if d == 3:
        tilt = torch.eye(3, dtype=torch.float64)
        tilt[1:, 1:] = torch.tensor([[c, s], [-s, c]])
        turn = turn @ tilt
    affine = torch.eye(d + 1, dtype=torch.float64)
    affine[:d, :d] = turn @ torch.diag(torch.tensor([-0.8, 1.1, 1.7], dtype=torch.float64)[:d])
    affine[:d, d] = torch.tensor([5.0, -3.0, 2.0])[:d]
    return Space(shape, affine)


def quadratic(space: Space, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """u = x Q x + M x + t on the grid, with Q (D, D, D) symmetric, and M (D, D)."""
    g = torch.Generator().manual_seed(seed)
    d = space.ndim
    q = torch.randn(d, d, d, generator=g, dtype=torch.float64) * 0.01
    q = (q + q.mT) / 2
    m = torch.randn(d, d, generator=g, dtype=torch.float64) * 0.2
    x = space.points(DOUBLE)
    u = torch.einsum("...i,cij,...j->...c", x, q, x) + x @ m.T + 3
    return u.movedim(-1, 0)[None], q, m


def inside(space: Space) -> torch.Tensor:
    mask = torch.zeros(1, 1, *space.shape)
    mask[(..., *[slice(1, -1)] * space.ndim)] = 1
    return mask


SPACES = [
    Space.regular((7, 8), (1.0, 2.0)),
    oblique((7, 9)),
    oblique((6, 7, 5)),
    Space.regular((6, 5, 7), (0.5, 2.0, 1.0)),
]


@pytest.mark.parametrize("space", SPACES)
def test_bending_energy_is_that_of_the_formula(space: Space) -> None:
    u, q, _ = quadratic(space)
    expected = (2 * q).square().sum()  # the Hessian of x Q x is 2 Q everywhere
    torch.testing.assert_close(bending_energy(u, space, inside(space))[0], expected)


@pytest.mark.parametrize("space", SPACES)
def test_affine_fields_do_not_bend(space: Space) -> None:
    _, _, m = quadratic(space)
    u = (space.points(DOUBLE) @ m.T + 1).movedim(-1, 0)[None]
    torch.testing.assert_close(bending_energy(u, space), torch.zeros(1, dtype=torch.float64), atol=1e-20, rtol=0)
    torch.testing.assert_close(diffusion_energy(u, space)[0], m.square().sum())
    expected = torch.linalg.det(torch.eye(space.ndim, dtype=torch.float64) + m)
    torch.testing.assert_close(jacobian_determinant(u, space), expected.expand(1, *space.shape))


@pytest.mark.parametrize("space", SPACES)
def test_jacobian_of_a_curved_field(space: Space) -> None:
    u, q, m = quadratic(space)
    x = space.points(DOUBLE)
    jacobian = torch.eye(space.ndim, dtype=torch.float64) + m + 2 * torch.einsum("cij,...j->...ci", q, x)
    keep = inside(space)[0, 0] > 0  # central differences are exact for quadratics
    torch.testing.assert_close(jacobian_determinant(u, space)[0][keep], torch.linalg.det(jacobian)[keep])


def test_spacing_stands_for_a_grid_along_the_world_axes() -> None:
    space = SPACES[3]
    u, _, _ = quadratic(space)
    for energy in (bending_energy, diffusion_energy, folding_penalty, jacobian_determinant):
        torch.testing.assert_close(energy(u, space.spacing.tolist()), energy(u, space))


@pytest.mark.parametrize("space", SPACES)
def test_folding_is_what_lies_below_the_margin(space: Space) -> None:
    reflect = torch.zeros(1, space.ndim, *space.shape, dtype=torch.float64)
    reflect[:, 0] = -2 * space.points(DOUBLE)[..., 0]
    torch.testing.assert_close(folding_penalty(reflect, space), torch.ones(1, dtype=torch.float64))
    assert float(folding_penalty(torch.zeros_like(reflect), space)) == 0
    torch.testing.assert_close(
        folding_penalty(torch.zeros_like(reflect), space, margin=1.5), torch.full((1,), 0.5).double()
    )


@pytest.mark.parametrize("energy", [bending_energy, diffusion_energy, folding_penalty])
def test_gradients_and_batches(energy) -> None:  # type: ignore[no-untyped-def]
    space = oblique((4, 5, 4))
    g = torch.Generator().manual_seed(1)
    u = torch.randn(2, 3, *space.shape, generator=g, dtype=torch.float64).requires_grad_()
    mask = torch.rand(2, 1, *space.shape, generator=g)
    assert torch.autograd.gradcheck(lambda t: energy(t, space, mask), u, fast_mode=True)
    together = energy(u, space, mask)
    torch.testing.assert_close(together[1:], energy(u[1:], space, mask[1:]))
    assert float(energy(u, space, torch.zeros_like(mask)).detach().sum()) == 0


def test_one_voxel_axes_are_flat() -> None:
    space = Space.regular((5, 1, 6))
    u = torch.zeros(1, 3, *space.shape)
    u[:, 0] = space.points()[..., 0].square()
    assert bool(torch.isfinite(bending_energy(u, space)).all())
    assert bool(torch.isfinite(jacobian_determinant(u, space)).all())


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match="D = 2 or 3 components"):
        bending_energy(torch.zeros(1, 2, 4, 4, 4), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="does not fit a grid"):
        jacobian_determinant(torch.zeros(1, 2, 4, 4), Space.regular((4, 5)))
