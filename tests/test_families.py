"""Families: what their parameters mean, and where control points stand."""

from __future__ import annotations

import pytest
import torch

from registration.families.affine import Affine
from registration.families.landmarks import SplineFit
from registration.families.lattices import Given, Lattice, LatticeNear
from registration.families.rigid import Rigid
from registration.families.similarity import Similarity
from registration.families.tps import ThinPlateSplines
from registration.space import Space
from registration.transforms.tps import SplineSystem

D = pytest.mark.parametrize("d", [2, 3])
LINEAR = pytest.mark.parametrize("family", [Rigid(), Similarity(), Affine()], ids=lambda f: type(f).__name__)


def domain(d: int) -> Space:
    base = Space.regular((20, 31, 9)[:d], (1.0, 0.5, 4.0)[:d])
    affine = base.affine.clone()
    affine[:d, d] += torch.tensor([40.0, -300, 7])[:d]
    return Space(base.shape, affine)


def angles(d: int, *values: float) -> torch.Tensor:
    theta = torch.zeros(Rigid().size(domain(d)), dtype=torch.float64)
    theta[d : d + len(values)] = torch.tensor(values, dtype=torch.float64)
    return theta


@D
def test_sizes(d: int) -> None:
    expected = {2: (3, 4, 6), 3: (6, 7, 12)}[d]
    assert tuple(f.size(domain(d)) for f in (Rigid(), Similarity(), Affine())) == expected


@D
def test_rigid_keeps_distances_and_orientation(d: int) -> None:
    matrix = Rigid()(torch.randn(5, Rigid().size(domain(d))), domain(d)).matrix[:, :d, :d]
    assert torch.allclose(matrix @ matrix.mT, torch.eye(d, dtype=torch.float64).expand_as(matrix), atol=1e-12)
    assert torch.allclose(torch.linalg.det(matrix), torch.ones(5, dtype=torch.float64))


@D
def test_similarity_scales_all_axes_alike(d: int) -> None:
    theta = torch.randn(Similarity().size(domain(d)), dtype=torch.float64)
    matrix = Similarity()(theta, domain(d)).matrix[:d, :d]
    assert torch.allclose(matrix @ matrix.T, torch.eye(d, dtype=torch.float64) * torch.exp(2 * theta[-1]))


@D
def test_rotations_leave_the_centre_and_translations_count_radii(d: int) -> None:
    space = domain(d)
    turned = Rigid()(angles(d, *[0.5] * (d * (d - 1) // 2)), space)
    assert torch.allclose(turned(space.centre[None])[0], space.centre)
    theta = torch.zeros(Rigid().size(space), dtype=torch.float64)
    theta[0] = 0.25
    moved = Rigid()(theta, space)(space.centre[None])[0] - space.centre
    assert torch.allclose(moved, torch.tensor([0.25 * space.radius, 0, 0], dtype=torch.float64)[:d])


def test_rotation_axes_and_sense() -> None:
    space = domain(3)
    for axis, (start, end) in enumerate([(1, 2), (2, 0), (0, 1)]):
        turned = Rigid()(angles(3, *[torch.pi / 2 if a == axis else 0.0 for a in range(3)]), space)
        eye = torch.eye(3, dtype=torch.float64)
        assert torch.allclose(turned((space.centre + eye[start])[None])[0], space.centre + eye[end], atol=1e-12)


@D
def test_smaller_families_are_the_first_parameters_of_larger_ones(d: int) -> None:
    space = domain(d)
    theta = torch.randn(Similarity().size(space), dtype=torch.float64) * 0.2
    wide = torch.cat([theta, torch.zeros(Affine().size(space) - len(theta), dtype=torch.float64)])
    assert torch.allclose(Similarity()(theta, space).matrix, Affine()(wide, space).matrix)
    small = torch.cat([theta[:-1], torch.zeros(1, dtype=torch.float64)])
    assert torch.allclose(Rigid()(theta[:-1], space).matrix, Similarity()(small, space).matrix)


@D
def test_affine_reaches_every_direction(d: int) -> None:
    space = domain(d)
    zeros = torch.zeros(Affine().size(space), dtype=torch.float64)
    slopes = torch.autograd.functional.jacobian(lambda t: Affine()(t, space).matrix[:d].flatten(), zeros)
    assert int(torch.linalg.matrix_rank(slopes)) == d * (d + 1)
    stretch = torch.zeros_like(zeros)
    stretch[Similarity().size(space) :] = torch.randn(len(zeros) - Similarity().size(space))
    assert torch.linalg.det(Affine()(stretch, space).matrix) == pytest.approx(1.0)


@LINEAR
@D
def test_negative_parameters_are_the_inverse(family: Rigid, d: int) -> None:
    space = domain(d)
    theta = torch.randn(family.size(space), dtype=torch.float64) * 0.3
    there, back = family(theta, space), family(-theta, space)
    assert torch.allclose(there.inverse().matrix, back.matrix, atol=1e-9)
    half = family(theta / 2, space)
    assert torch.allclose((half @ half).matrix, there.matrix, atol=1e-9)  # type: ignore[attr-defined]


def test_refuses_a_wrong_number_of_parameters() -> None:
    with pytest.raises(ValueError, match=r"Rigid in 3-D takes parameters of shape \(6,\) or \(B, 6\), got \(7,\)"):
        Rigid()(torch.zeros(7), domain(3))


# --- control points -------------------------------------------------------------------------------------------------
@D
def test_lattice_spans_the_field_of_view(d: int) -> None:
    space = domain(d)
    points = Lattice(spacing=5.0)(space)
    assert torch.allclose(points.amin(dim=0), space.corners().amin(dim=0))
    assert torch.allclose(points.amax(dim=0), space.corners().amax(dim=0))
    shape = Lattice(spacing=5.0).shape(space)
    assert all(length / (n - 1) <= 5.0 + 1e-9 for length, n in zip(space.extent.tolist(), shape, strict=True))
    assert Lattice(counts=(2, 3, 4)[:d])(space).shape == ((6, 24)[d - 2], d)


def test_lattice_over_one_slice_still_determines_a_spline() -> None:
    space = Space.regular((1, 20, 20), (5.0, 1, 1))
    family = ThinPlateSplines(Lattice(spacing=6.0))
    spline = family(torch.zeros(family.size(space)), space)
    assert torch.equal(spline(space.points()), space.points())


@D
def test_lattice_near_a_mask(d: int) -> None:
    space = Space.regular((40, 40, 40)[:d], 1.0)
    mask = torch.zeros(space.shape)
    mask[(slice(5, 10),) * d] = 1
    full = Lattice(spacing=4.0)
    near = LatticeNear(full, mask, space, margin=1)(space)
    centre = torch.full((d,), -12.5, dtype=torch.float64)
    apart = (near - centre).abs().amax(dim=1)
    corners = (near.abs() > 19.99).all(dim=1)
    assert int(corners.sum()) == 2**d and bool((apart[~corners] < 2.5 + 2 * 4.1).all())
    inner = full(space)
    inner = inner[((inner - centre).abs() < 2.5).all(dim=1)]
    assert len(inner) and all(bool((near == p).all(dim=1).any()) for p in inner)
    assert len(near) < len(full(space))
    with pytest.raises(ValueError, match="empty"):
        LatticeNear(full, mask * 0, space)


@pytest.mark.parametrize("options", [{}, {"spacing": 3.0, "counts": (3, 3)}, {"spacing": -1.0}, {"counts": (1, 3)}])
def test_lattice_refusals(options: dict) -> None:
    with pytest.raises(ValueError):
        Lattice(**options)


@D
def test_spline_parameters_are_displacements_in_radii(d: int) -> None:
    space = domain(d)
    points = torch.rand(9, d, dtype=torch.float64) * 20
    family = ThinPlateSplines(Given(points))
    theta = torch.randn(family.size(space), dtype=torch.float64) * 0.1
    spline = family(theta, space)
    assert torch.allclose(spline.targets - points, theta.reshape(9, d) * space.radius)
    assert torch.allclose(spline(points), spline.targets, atol=1e-6)
    assert family(theta[None].repeat(2, 1), space).system is spline.system  # solved once


# --- fits to points -------------------------------------------------------------------------------------------------
def smoothed(p: torch.Tensor, q: torch.Tensor, w: torch.Tensor, smoothing: float) -> torch.Tensor:
    """The (K, D) values at the points of the spline near them, by the equations of all points."""
    k, d = p.shape
    system = SplineSystem(p, 1.0)
    ridge = torch.diag(smoothing / (w / w.mean()))
    affine = torch.cat([torch.ones_like(p[:, :1]), system.nodes], dim=1)
    whole = torch.cat(
        [torch.cat([system.gram + ridge, affine], 1), torch.cat([affine.T, affine.new_zeros(d + 1, d + 1)], 1)]
    )
    found = torch.linalg.solve(whole, torch.cat([q - p, q.new_zeros(d + 1, d)]))
    return p + system.gram @ found[:k] + affine @ found[k:]


@D
@pytest.mark.parametrize("apart", [0.0, 1e-7, 1e-3])
def test_a_smooth_spline_takes_points_on_one_another(d: int, apart: float) -> None:
    p, q = (60 * torch.rand(12, d, dtype=torch.float64) for _ in range(2))
    w = torch.rand(12, dtype=torch.float64) + 0.1
    p[7], p[9] = p[2] + apart, p[2] - apart
    p[11] = p[5] + apart
    found = SplineFit(0.3)(p[None], q[None], w[None])(p[None])[0]
    torch.testing.assert_close(found, smoothed(p, q, w, 0.3), rtol=0, atol=1e-5)
    assert torch.allclose(SplineFit(0.3)(p[None], p[None] + 5, w[None])(p[None])[0], p + 5, atol=1e-6)


def test_the_gradient_of_a_fit_reaches_points_on_one_another() -> None:
    p, q = (10 * torch.rand(1, 7, 2, dtype=torch.float64) for _ in range(2))
    w = torch.rand(1, 7, dtype=torch.float64) + 0.5
    p[0, 6] = p[0, 1]
    where = 10 * torch.rand(1, 4, 2, dtype=torch.float64)
    inputs = (q.requires_grad_(), w.requires_grad_())
    assert torch.autograd.gradcheck(lambda targets, weights: SplineFit(0.2)(p, targets, weights)(where), inputs)


def test_what_no_spline_can_go_through_is_refused() -> None:
    p = torch.tensor([[[0.0, 0], [1, 0], [0, 1], [1, 0]]])
    with pytest.raises(ValueError, match="coincide"):
        SplineFit(0.0)(p, p, torch.ones(1, 4))
    with pytest.raises(ValueError, match="at least 3 control points, got 2"):
        SplineFit(0.1)(p[:, [0, 1, 3]], p[:, [0, 1, 3]], torch.ones(1, 3))
    with pytest.raises(ValueError, match=r"control points \[2\] hold NaN"):
        SplineFit(0.1)(torch.where(torch.arange(4)[:, None] == 2, torch.nan, p), p, torch.ones(1, 4))
