"""Thin-plate splines against SciPy, their energies, their dense evaluation and their use in an optimiser."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from registration.space import Space
from registration.transforms import near, tps
from registration.transforms.dense import dense, evaluate
from registration.transforms.near import AddPatches, Patches
from registration.transforms.tps import SplineSystem, ThinPlateSpline
from registration.transforms.upsample import Upsampler, upsample_cubic

D = pytest.mark.parametrize("d", [2, 3])
OBLIQUE = torch.tensor([[0.8, 0.3, 0.1, 10.0], [-0.2, 1.0, 0.2, -80], [0.1, -0.1, 2, 900], [0, 0, 0, 1]])


def random_spline(d: int, k: int = 40, smoothing: float = 0.0, batch: tuple[int, ...] = ()) -> ThinPlateSpline:
    points = torch.rand(k, d, dtype=torch.float64) * 200 - 50
    return ThinPlateSpline(points, points + 5 * torch.randn(*batch, k, d, dtype=torch.float64), smoothing)


def spline_in(space: Space, k: int, batch: tuple[int, ...] = ()) -> ThinPlateSpline:
    """A spline with control points anywhere in the field of view, and moves of a tenth of their distance."""
    d = space.ndim
    index = torch.rand(k, d, dtype=torch.float64) * torch.tensor(space.shape) - 0.5
    points = index @ space.affine[:d, :d].T + space.affine[:d, d]
    size = 0.1 * float(space.extent.norm()) / k ** (1 / d)
    return ThinPlateSpline(points, points + size * torch.randn(*batch, k, d, dtype=torch.float64))


@D
@settings(max_examples=15, deadline=None)
@given(smoothing=st.sampled_from([0.0, 1e-3, 0.1, 10.0]), seed=st.integers(0, 1000), k=st.integers(4, 60))
def test_equals_scipy(d: int, smoothing: float, seed: int, k: int) -> None:
    from scipy.interpolate import RBFInterpolator

    torch.manual_seed(seed)
    spline = random_spline(d, k, smoothing)
    x = torch.rand(50, d, dtype=torch.float64) * 300 - 100
    scaled = [((p - spline.system.centre) / spline.scale).numpy() for p in (spline.points, x)]
    kernel = "thin_plate_spline" if d == 2 else "linear"
    expected = RBFInterpolator(scaled[0], spline.targets.numpy(), kernel=kernel, degree=1, smoothing=smoothing)(
        scaled[1]
    )
    # Close points make the equations ill-conditioned for both.
    np.testing.assert_allclose(spline(x).numpy(), expected, atol=1e-6)
    with torch.enable_grad():  # the path that carries gradients is another one
        assert torch.allclose(spline(x.clone().requires_grad_()).detach(), spline(x), atol=1e-6)


@D
def test_interpolates_and_large_smoothing_is_the_affine_fit(d: int) -> None:
    spline = random_spline(d)
    assert torch.allclose(spline(spline.points), spline.targets, atol=1e-5)
    flat = ThinPlateSpline(spline.points, spline.targets, smoothing=1e9)
    design = torch.cat([spline.points, torch.ones(40, 1)], dim=1).double()
    fit = design @ torch.linalg.lstsq(design, spline.targets).solution
    assert torch.allclose(flat(spline.points), fit, atol=1e-5)
    assert float(flat.bending_energy()) < 1e-6 * float(spline.bending_energy())


def summed_energy(spline: ThinPlateSpline, half: float, n: int) -> float:
    """Sum of squared finite second differences of component 0 over a box of n**D voxels about the origin."""
    d, h = spline.ndim, 2 * half / (n - 1)
    points = Space.regular((n,) * d, h).points(spline.points)
    slopes = torch.gradient((spline(points) - points)[..., 0], spacing=h, dim=tuple(range(d)))
    bends = [second for slope in slopes for second in torch.gradient(slope, spacing=h, dim=tuple(range(d)))]
    return sum(float(b.square().sum()) for b in bends) * h**d


@D
def test_bending_energy_is_the_integral_of_squared_second_derivatives(d: int) -> None:
    points = torch.tensor([[0, 0, 0], [20, 3, 5], [-5, 18, 0], [6, 4, 22], [9, 12, -14]], dtype=torch.float64)[:, :d]
    moves = torch.zeros_like(points)
    moves[:, 0] = torch.tensor([3, 0, 0, 1, -2])
    spline = ThinPlateSpline(points, points + moves)
    half, n = (600.0, 1201) if d == 2 else (60.0, 97)
    found = summed_energy(spline, half, n)
    if d == 3:  # the cusps make the sum converge with the first power of the step only: extrapolate
        found = 2 * found - summed_energy(spline, half, n // 2 + 1)
    assert found == pytest.approx(float(spline.bending_energy()), rel=0.05)


@D
def test_gradients(d: int) -> None:
    spline = random_spline(d, 8)
    x = torch.cat([torch.rand(5, d, dtype=torch.float64) * 100, spline.points[:1]])

    def moved(points: Tensor, targets: Tensor) -> Tensor:
        new = ThinPlateSpline(points, targets, 0.01, scale=60.0)
        return torch.cat([new(x[:5]).flatten(), new.bending_energy()[None]])

    inputs = (spline.points.clone().requires_grad_(), spline.targets.clone().requires_grad_())
    assert torch.autograd.gradcheck(moved, inputs, atol=1e-4)
    y = x.clone().requires_grad_()
    spline(y).sum().backward()
    assert y.grad is not None and bool(torch.isfinite(y.grad).all())
    analytic = spline.jacobian(x[:5])
    assert torch.allclose(analytic, super(ThinPlateSpline, spline).jacobian(x[:5]), atol=1e-9)


@D
def test_energy_and_jacobian_of_a_batch(d: int) -> None:
    batch = random_spline(d, 12, batch=(3,))
    x = torch.rand(7, d, dtype=torch.float64) * 100
    for b in range(3):
        alone = ThinPlateSpline(batch.points, batch.targets[b])
        assert torch.allclose(batch(x[None])[b], alone(x))
        assert torch.allclose(batch.jacobian(x[None])[b], alone.jacobian(x))
        assert torch.allclose(batch.bending_energy()[b], alone.bending_energy())


def test_float32_points_lose_only_their_own_rounding() -> None:
    spline = random_spline(2, 200)
    x = torch.rand(500, 2) * 200 - 50
    assert float((spline(x).double() - spline(x.double())).abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("points", "smoothing", "words"),
    [
        ([[0, 0, 0], [1, 0, 0], [0, 1, 0]], 0, "at least 4"),
        ([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [3, 2, 0]], 0, "one plane"),
        ([[0, 0], [1, 1], [2, 2], [5, 5]], 0, "one line"),
        ([[3, 3], [3, 3], [3, 3]], 1, "one line"),
        ([[0, 0], [1, 0], [0, 1], [1, 0]], 0, "points 1 and 3 coincide|points 3 and 1 coincide"),
        ([[0, 0], [1, 0], [0, math.nan]], 0, "NaN"),
        ([[0, 0], [1, 0], [0, 1]], -1, "not negative"),
        ([[0, 0], [1, 0], [0, 1]], math.nan, "not negative"),
        ([[0, 0, 0, 0]], 0, r"\(K, 2\)"),
    ],
)
def test_refusals(points: list[list[float]], smoothing: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SplineSystem(torch.tensor(points, dtype=torch.float64), smoothing)


def test_refuses_wrong_targets() -> None:
    points = torch.rand(6, 3)
    with pytest.raises(ValueError, match="control points"):
        ThinPlateSpline(points, torch.rand(5, 3))
    with pytest.raises(ValueError, match="NaN"):
        ThinPlateSpline(points, points * math.nan)


def test_duplicates_are_averaged_when_smoothing() -> None:
    points = torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 0]])
    spline = ThinPlateSpline(points, points + torch.tensor([[0.0, 0], [1, 0], [0, 0], [3, 0]]), 1e-6)
    assert torch.allclose(spline(points[1:2]), torch.tensor([[3.0, 0.0]]), atol=1e-3)


# --- at every voxel -------------------------------------------------------------------------------------------------
SPACES = {
    "3-D": Space.regular((72, 80, 64)),
    "anisotropic": Space.regular((80, 96, 30), (1.0, 0.9, 4.0)),
    "oblique": Space((80, 70, 40), OBLIQUE),
    "one slice": Space.regular((1, 260, 240)),
    "2-D": Space.regular((320, 280), (0.5, 0.7)),
}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
def test_dense_evaluation_stays_below_its_tolerance(space: Space) -> None:
    spline = spline_in(space, 700)
    tolerance = 3e-3 * float(space.spacing.min())
    points, error = dense(spline, space)
    index = torch.stack([torch.randint(0, n, (6000,)) for n in space.shape], dim=-1)
    d = space.ndim
    exact = spline(index.double() @ space.affine[:d, :d].T + space.affine[:d, d])
    largest = float((points[tuple(index.T)].double() - exact).norm(dim=-1).max())
    assert 0 < error <= tolerance and largest < 2 * tolerance
    assert largest > 0.03 * tolerance  # it was not evaluated exactly


def test_dense_batch_and_gradient_equal_the_exact_ones() -> None:
    space = Space((26, 24, 18), OBLIQUE)
    spline = spline_in(space, 30, (2,))
    targets = spline.targets.requires_grad_()
    new = ThinPlateSpline(spline.points, targets)
    like = torch.zeros(0, dtype=torch.float64)
    fast = evaluate(new, space, like, 6.0)
    exact = new(space.points(like)[None])
    assert float((fast - exact).detach().abs().max()) < 5e-3
    weight = torch.randn_like(exact)
    grads = [torch.autograd.grad((out * weight).sum(), targets, retain_graph=True)[0] for out in (fast, exact)]
    assert float((grads[0] - grads[1]).norm() / grads[1].norm()) < 1e-3


def test_blocks_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    space = Space((16, 14, 9), OBLIQUE)
    batch, x = spline_in(space, 30, (2,)), space.points(torch.zeros(0, dtype=torch.float64)).reshape(1, -1, 3)
    found = []
    for entries in (1, 1000, 1 << 24):  # point by point, as on a CPU, as on other devices
        for module in (near, tps):
            monkeypatch.setattr(module, "at_once", lambda *_, n=entries: n)
        with torch.enable_grad():
            targets = batch.targets.clone().requires_grad_()
            new = ThinPlateSpline(batch.points, targets)
            fast = evaluate(new, space, torch.zeros(0, dtype=torch.float64), 4.0)
            (slope,) = torch.autograd.grad(fast.square().sum(), targets)
        found.append((batch(x), batch.jacobian(x[:, :50]), fast.detach(), slope))
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            torch.testing.assert_close(same, one, rtol=1e-9, atol=1e-9)


def test_compact_parts_are_linear_with_an_exact_adjoint() -> None:
    space = Space((5, 4, 3), OBLIQUE)
    system = spline_in(space, 5).system
    patches = Patches(system, space.affine, space.shape, 3.0)

    def add(field: Tensor, weights: Tensor) -> Tensor:
        return AddPatches.apply(field * 1.0, weights, patches, -1.0)

    field = torch.randn(2, 5, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(add, (field, weights))


def test_dense_is_exact_on_small_grids() -> None:
    space = Space.regular((10, 9, 8), 3.0)
    spline = spline_in(space, 20)
    points, error = dense(spline, space)
    assert error < 1e-5 and torch.allclose(points, spline(space.points()))


# --- upsampling -----------------------------------------------------------------------------------------------------
@D
def test_upsampled_nodes_approach_the_spline(d: int) -> None:
    space = Space.regular((48, 40, 44)[:d], (1.0, 1.5, 1.2)[:d])
    coarse = space.resized([n // 2 for n in space.shape])
    spline = spline_in(space, 30)
    moves = spline.targets - spline.points
    nodes = (spline(coarse.points(moves)) - coarse.points(moves))[None].float()
    fine = upsample_cubic(nodes.movedim(-1, 1), coarse, space)
    assert torch.allclose(fine.movedim(1, -1), Upsampler(coarse, space).points(nodes), atol=1e-5)
    error = (fine[0].movedim(0, -1) - (spline.on_grid(space) - space.points())).norm(dim=-1)
    # At a control point the 3-D kernel has a cusp that no cubic follows; everywhere else the two agree closely.
    assert float(error.mean()) < 0.01 * float(moves.norm(dim=-1).mean())
    assert float(error.max()) < 0.3 * float(moves.norm(dim=-1).max())


@D
def test_upsampling_is_exact_for_cubics_beyond_the_outer_nodes_too(d: int) -> None:
    fine = Space.regular((33, 20, 17)[:d], (0.5, 1.0, 2.0)[:d])
    coarse = fine.resized((11, 10, 6)[:d])

    def cubic(space: Space) -> Tensor:
        x = space.points(torch.zeros(0, dtype=torch.float64)) / 10
        return torch.stack([1 + x[..., 0] ** 3 - x[..., 1] ** 2, x.prod(dim=-1)])[None]

    assert torch.allclose(upsample_cubic(cubic(coarse), coarse, fine), cubic(fine), atol=1e-9)


def test_upsampling_handles_thin_axes_and_gradients_and_refuses_rotated_grids() -> None:
    fine = Space.regular((1, 9, 4))
    coarse = fine.resized((1, 5, 2))
    values = torch.randn(1, 2, 1, 5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: upsample_cubic(v, coarse, fine), (values,))
    with pytest.raises(ValueError, match="not parallel"):
        Upsampler(Space((4, 4, 4), OBLIQUE), fine)
    with pytest.raises(ValueError, match="coarse grid"):
        Upsampler(coarse, fine)(torch.zeros(1, 3, 5, 5, 5))


def test_an_upsampler_is_the_same_whatever_it_was_used_for() -> None:
    coarse, fine = Space.regular((4, 5)), Space.regular((7, 9), 0.5)
    values = torch.rand(1, 1, 4, 5, dtype=torch.float64)
    upsampler = Upsampler(coarse, fine)
    before = upsampler(values)
    upsampler(values.float())
    assert torch.equal(upsampler(values), before)


def test_dense_far_from_all_control_points() -> None:
    points = torch.rand(40, 3, dtype=torch.float64) * 20
    spline = ThinPlateSpline(points, points + torch.randn(40, 3, dtype=torch.float64))
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, 3] = 400
    space = Space((30, 31, 32), affine)
    near = Patches(spline.system, affine, space.shape, 5.0)
    assert list(near.groups(torch.zeros(0))) == []
    found = evaluate(spline, space, torch.zeros(0), 12.0)[0]
    torch.testing.assert_close(found, spline(space.points()), rtol=1e-3, atol=0)
