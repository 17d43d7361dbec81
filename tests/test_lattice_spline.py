"""Thin-plate splines on lattices: the formula, SciPy's splines, quick evaluation, and the file form."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RBFInterpolator

from registration.image import Image
from registration.io.chain import decode, encode
from registration.io.transforms import read_transform, write_transform
from registration.pairwise.bumps import Bumps
from registration.phantom import oblique_space
from registration.space import Space
from registration.transforms import inverse, local_spline
from registration.transforms.lattice_spline import LatticeSpline
from registration.transforms.linear import Linear
from registration.transforms.polyharmonic import LatticeBasis, bilaplacian, bump, metric_of
from registration.transforms.tps import ThinPlateSpline

D = pytest.mark.parametrize("d", [2, 3])
DOUBLE = torch.zeros(0, dtype=torch.float64)


def lattice_in(d: int, shape: tuple[int, ...] = (7, 6, 5), step: float = 6.0) -> Space:
    affine = torch.eye(d + 1, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(4)))[0]
    affine[:d, :d], affine[:d, d] = step * turn, torch.arange(d) - 10.0
    return Space(shape[:d], affine)


def spline_in(lattice: Space, seed: int = 0, size: float = 1.0) -> LatticeSpline:
    generator = torch.Generator().manual_seed(seed)
    moves = torch.randn(lattice.ndim, *lattice.shape, dtype=torch.float64, generator=generator)
    return LatticeSpline(size * moves, lattice)


@D
def test_it_is_the_spline_of_scipy_through_its_knots(d: int) -> None:
    spline = spline_in(lattice_in(d))
    x = spline.points.mean(dim=0) + 30 * (torch.rand(300, d, dtype=torch.float64) - 0.5)
    kernel = {2: "thin_plate_spline", 3: "linear"}[d]
    reference = RBFInterpolator(spline.points.numpy(), spline.targets.numpy(), kernel=kernel, degree=1)
    assert torch.allclose(spline(x), torch.from_numpy(reference(x.numpy())), atol=1e-5)
    solved = ThinPlateSpline(spline.points, spline.targets)
    assert float(spline.bending_energy()) == pytest.approx(float(solved.bending_energy()), rel=1e-4)
    assert torch.allclose(spline.jacobian(x), solved.jacobian(x), atol=1e-5)


@D
@settings(max_examples=8, deadline=None)
@given(tilt=st.floats(-0.3, 0.3))
def test_bumps_are_short_and_sum_to_one(d: int, tilt: float) -> None:
    metric = torch.eye(d, dtype=torch.float64)
    whole = bump(metric, 2)
    assert float(whole.sum()) / 2**d == pytest.approx(1, abs=1e-4)
    middle = tuple(n // 2 for n in whole.shape)
    far = [float(whole[(middle[0] + 2 * k, *middle[1:])].abs() / whole[middle]) for k in (3, 5)]
    assert far[0] < 1e-3 and far[1] < 2e-5
    metric[0, 1] = metric[1, 0] = tilt  # of a sheared lattice: not as short, but one still
    metric /= torch.linalg.det(metric) ** (1 / d)
    assert float(bump(metric, 1).sum()) == pytest.approx(1, abs=0.02)


@D
def test_the_bilaplacian_is_symmetric_and_ignores_cubics(d: int) -> None:
    metric = torch.eye(d, dtype=torch.float64)
    x = Space.regular((9, 8, 10)[:d]).points(DOUBLE)
    assert float(bilaplacian(x[..., 0] ** 3 - x[..., 1] ** 2 * x[..., 0], metric).abs().max()) < 1e-9
    one = torch.zeros((9,) * d, dtype=torch.float64)
    one[(4,) * d] = 1
    stencil = bilaplacian(one, metric)
    assert torch.allclose(stencil, stencil.flip(0)) and torch.allclose(stencil, stencil.transpose(0, 1))


@D
@pytest.mark.parametrize("around", [0, 2])
def test_nodes_equal_the_formula_and_have_an_exact_adjoint(d: int, around: int) -> None:
    lattice = lattice_in(d, (4, 5, 3))
    spline = spline_in(lattice)
    basis = LatticeBasis(lattice, 2, around, DOUBLE)
    places = basis.space.points(DOUBLE)
    assert torch.allclose(basis(spline.moves).movedim(0, -1), spline(places) - places, atol=1e-4)
    moves = spline.moves.clone().requires_grad_()
    upstream = torch.randn_like(basis(moves))
    (slope,) = torch.autograd.grad((basis(moves) * upstream).sum(), moves)
    other = torch.randn_like(slope)
    assert float((slope * other).sum()) == pytest.approx(float((basis(other) * upstream).sum()), rel=1e-9)


@pytest.mark.parametrize("size", [0.3, 4.0])
def test_whole_grids_equal_the_formula(size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    space = oblique_space((40, 36, 30), (1.0, 1.5, 1.2), 20)
    step = 5.0
    affine = space.affine.clone()
    affine[:3, :3] = space.affine[:3, :3] / space.spacing * step
    affine[:3, 3] = space.affine[:3, :3] @ torch.tensor([4.0, 3.0, -2.0], dtype=torch.float64) + space.affine[:3, 3]
    spline = spline_in(Space((5, 6, 7), affine), size=size)
    exact = spline(space.points())
    monkeypatch.setattr(ThinPlateSpline, "on_grid", None)  # by Fourier transform, or not at all
    assert float((spline.on_grid(space) - exact).norm(dim=-1).max()) < 5e-3


def test_other_grids_and_still_splines_are_read_too() -> None:
    lattice = lattice_in(3)
    space = Space.regular((30, 30, 30))
    spline = spline_in(lattice)
    assert float((spline.on_grid(space) - spline(space.points())).norm(dim=-1).max()) < 4e-3
    still = LatticeSpline(torch.zeros(3, *lattice.shape), lattice)
    assert torch.equal(still.on_grid(space), space.points())
    assert torch.equal(still(space.points()), space.points())


@D
@pytest.mark.parametrize("sheared", [False, True])
def test_many_points_are_read_locally_and_equal_the_formula(
    d: int, sheared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba")
    lattice = lattice_in(d, (9, 8, 7))
    if sheared:
        affine = lattice.affine.clone()
        affine[:d, 0] += 0.2 * affine[:d, 1]
        lattice = Space(lattice.shape, affine)
    spline = spline_in(lattice)
    index = torch.rand(2000, d, dtype=torch.float64) * (torch.tensor(lattice.shape) + 14) - 7  # also far outside
    x = (index @ lattice.affine[:d, :d].T + lattice.affine[:d, d]).reshape(40, 50, d)
    x[0, : len(spline.points[:50])] = spline.points[:50]  # where kernels have their cusps
    monkeypatch.setattr(local_spline, "_MANY", 1 << 62)
    exact, slopes = spline(x), spline.jacobian(x)
    monkeypatch.setattr(local_spline, "_MANY", 1)
    limit = 1e-4 * float(spline.moves.abs().max())
    found = spline(x)
    assert spline._local is not None and not torch.equal(found, exact)
    assert float((found - exact).abs().max()) < limit * (5 if sheared else 1)
    assert float((spline.jacobian(x) - slopes).abs().max()) < limit * (5 if sheared else 1)
    assert spline(x.float()).dtype == torch.float32
    with torch.enable_grad():
        tracked = x.clone().requires_grad_()
        assert torch.allclose(spline(tracked), exact, atol=1e-9)  # gradients are those of the formula


def test_a_point_goes_to_the_same_place_alone_and_among_others_before_and_after() -> None:
    lattice = lattice_in(3, (10, 9, 8))
    spline, again = spline_in(lattice, size=5.0), spline_in(lattice, size=5.0)
    x = lattice.centre + 40 * (torch.rand(100_000, 3, dtype=torch.float64) - 0.5)
    few = spline(x[:50])
    many = spline(x)
    assert torch.equal(spline(x[:50]), few) and torch.equal(many[:50], few) and torch.equal(again(x), many)
    slopes = spline.jacobian(x[:1000])
    assert torch.equal(slopes[:9], spline.jacobian(x[:9])) and torch.equal(slopes, again.jacobian(x[:1000]))
    space = Space.regular((30, 28, 26))
    assert torch.equal(spline.on_grid(space), again.on_grid(space))


def test_the_inverse_of_a_whole_grid_misses_by_less_than_a_hundredth_of_a_voxel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr(inverse, "_MANY", 5000)  # in parts
    spline = spline_in(lattice_in(3, (9, 8, 10)), size=0.8)
    affine = torch.eye(4, dtype=torch.float64)
    affine[0, 1], affine[:3, 3] = 0.05, 1.5
    space = Space.regular((26, 24, 22), 2.0)
    backward = (Linear(affine) @ spline).inverse()
    found = backward.on_grid(space, torch.zeros(0, dtype=torch.float64))
    monkeypatch.setattr(local_spline, "_MANY", 1 << 62)
    there = (Linear(affine) @ spline)(found)
    assert float((there - space.points(found)).norm(dim=-1).max()) < 0.01 * 2


@D
def test_its_inverse_undoes_it(d: int) -> None:
    spline = spline_in(lattice_in(d), size=0.8)
    x = spline.points[::7]
    assert torch.allclose(spline.inverse()(spline(x)), x, atol=1e-3)


def test_files_hold_the_coefficients(tmp_path: Path) -> None:
    lattice = lattice_in(3, (4, 5, 3))
    spline = spline_in(lattice)
    again = decode(encode(spline))
    assert isinstance(again, LatticeSpline)
    assert torch.equal(again.moves, spline.moves) and again.lattice.same_as(lattice)
    space = Space.regular((20, 18, 16), 2.0)
    write_transform(tmp_path / "t.h5", spline, space, space)
    x = torch.rand(20, 3, dtype=torch.float64) * 20
    assert torch.equal(read_transform(tmp_path / "t.h5")[0](x), spline(x))


def test_coefficients_have_derivatives_where_they_are_zero() -> None:
    lattice = lattice_in(2, (3, 4))
    moves = torch.zeros(2, 3, 4, dtype=torch.float64, requires_grad=True)
    x = 10 * torch.rand(5, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda m: LatticeSpline(m, lattice)(x), (moves,))


def test_wrong_coefficients_are_refused() -> None:
    lattice = lattice_in(2)
    with pytest.raises(ValueError, match=r"shape \(2, 7, 6\) expected"):
        LatticeSpline(torch.zeros(3, 7, 6), lattice)
    with pytest.raises(ValueError, match="NaN"):
        LatticeSpline(torch.full((2, 7, 6), float("nan")), lattice)


# --- what the stage chooses -----------------------------------------------------------------------------------------
def ball(d: int, count: int = 24) -> Image:
    space = Space.regular((count,) * d, 2.0)
    inside = (space.points().norm(dim=-1) < 0.3 * 2 * count)[None, None]
    return Image(inside.float(), space, inside)


@D
def test_bumps_surround_the_object_and_are_as_few_as_allowed(d: int) -> None:
    place = ball(d)
    bumps = Bumps.near(place, 8, 10000)
    assert metric_of(bumps.lattice)[0] == pytest.approx(bumps.step)
    points = bumps.lattice.points().flatten(0, -2)[bumps.chosen]
    assert place.mask is not None
    inside = place.space.points()[place.mask[0, 0]]
    assert float(torch.cdist(inside, points).amin(dim=1).max()) < bumps.step
    assert Bumps.near(place, 8, 30).size <= 30
    assert Bumps.near(place, 8, 10000, closest=9.0).step == pytest.approx(9.0)
    fewest = Bumps.near(place, 8, 4**d).size
    with pytest.raises(ValueError, match=f"has {fewest} control points about an object at least, more than 5"):
        Bumps.near(place, 8, 5)


@D
def test_a_finer_lattice_takes_over_a_spline(d: int) -> None:
    place = ball(d)
    coarse, fine = Bumps.near(place, 4, 1000), Bumps.near(place, 8, 10000)
    spline = coarse.spline(0.2 * torch.randn(coarse.size, d, dtype=torch.float64))
    over = fine.spline(fine.through(spline))
    points = fine.lattice.points(DOUBLE).flatten(0, -2)[fine.chosen]
    assert float((over(points) - spline(points)).abs().max()) < 0.01


def test_nodes_are_the_same_to_the_bit_on_any_number_of_threads() -> None:
    lattice = lattice_in(3, (20, 18, 16))
    moves = torch.randn(3, *lattice.shape)
    many = torch.get_num_threads()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(LatticeBasis(lattice, 2)(moves))
    torch.set_num_threads(many)
    assert torch.equal(*found)
