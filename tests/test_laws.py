"""The laws that every family and every transform obeys, over lists to which new ones are added."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from registration.families.affine import Affine
from registration.families.base import Family
from registration.families.lattices import Lattice
from registration.families.rigid import Rigid
from registration.families.similarity import Similarity
from registration.families.tps import ThinPlateSplines
from registration.image import Image
from registration.interpolate import linear, nearest
from registration.sampling import warp
from registration.space import Space
from registration.transforms import inverse
from registration.transforms.base import Transform
from registration.transforms.field import DisplacementField
from registration.transforms.linear import Linear

FAMILIES: dict[str, Callable[[int], Family]] = {
    "rigid": lambda d: Rigid(),
    "similarity": lambda d: Similarity(),
    "affine": lambda d: Affine(),
    "tps": lambda d: ThinPlateSplines(Lattice(counts=(3, 2, 3)[:d])),
    "smoothing tps": lambda d: ThinPlateSplines(Lattice(counts=(3, 3, 2)[:d]), smoothing=0.1),
}
EACH = pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES.keys())
D = pytest.mark.parametrize("d", [2, 3])


def domain(d: int) -> Space:
    """An anisotropic, oblique grid away from the origin."""
    affine = torch.eye(d + 1, dtype=torch.float64)
    turn = torch.linalg.matrix_exp(0.4 * torch.triu(torch.ones(d, d), 1).sub(torch.tril(torch.ones(d, d), -1)).double())
    affine[:d, :d] = turn @ torch.diag(torch.tensor([1.0, 2.5, 0.7], dtype=torch.float64)[:d])
    affine[:d, d] = torch.tensor([-60.0, 25, 110])[:d]
    return Space((12, 7, 10)[:d], affine)


def drawn(family: Family, space: Space, batch: tuple[int, ...] = (), size: float = 0.04) -> Tensor:
    return size * torch.randn(*batch, family.size(space), dtype=torch.float64)


def somewhere(space: Space, n: int = 40) -> Tensor:
    return space.centre + (torch.rand(n, space.ndim, dtype=torch.float64) - 0.5) * space.radius


@EACH
@D
def test_zeros_are_the_identity(make: Callable[[int], Family], d: int) -> None:
    family, space = make(d), domain(d)
    points = somewhere(space)
    assert torch.allclose(family(torch.zeros(family.size(space)), space)(points), points, atol=1e-9)
    batch = family(torch.zeros(2, family.size(space)), space)
    assert torch.allclose(batch.on_grid(space), space.points()[None].expand(2, *space.shape, d), atol=1e-4)


@EACH
@D
def test_identity_warp_returns_the_image(make: Callable[[int], Family], d: int) -> None:
    family, space = make(d), domain(d)
    image = Image.of(torch.rand(space.shape), space)
    warped, valid = warp(image, family(torch.zeros(family.size(space)), space), space)
    assert bool(valid.all()) and float((warped.data - image.data).abs().max()) < 1e-4


@EACH
@D
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_inverse_undoes(make: Callable[[int], Family], d: int, seed: int) -> None:
    torch.manual_seed(seed)
    family, space = make(d), domain(d)
    transform = family(drawn(family, space), space)
    points = somewhere(space)
    assert float((transform.inverse()(transform(points)) - points).abs().max()) < 1e-3
    assert float((transform(transform.inverse()(points)) - points).abs().max()) < 1e-3


@EACH
@pytest.mark.parametrize("other", FAMILIES.values(), ids=FAMILIES.keys())
def test_composition(make: Callable[[int], Family], other: Callable[[int], Family]) -> None:
    space = domain(3)
    outer, inner = (f(drawn(f, space), space) for f in (make(3), other(3)))
    points = somewhere(space)
    assert torch.allclose((outer @ inner)(points), outer(inner(points)), atol=1e-9)
    both = (outer @ inner).inverse()
    assert float((both((outer @ inner)(points)) - points).abs().max()) < 2e-3
    assert torch.allclose((outer @ inner).jacobian(points), outer.jacobian(inner(points)) @ inner.jacobian(points))


@EACH
@D
def test_gradcheck(make: Callable[[int], Family], d: int) -> None:
    family, space = make(d), domain(d)
    theta = drawn(family, space).requires_grad_()
    points = somewhere(space, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda t, p: family(t, space)(p), (theta, points), atol=1e-5)


@EACH
@D
def test_batch_items_are_independent(make: Callable[[int], Family], d: int) -> None:
    family, space = make(d), domain(d)
    theta = drawn(family, space, (3,))
    together = family(theta, space)
    assert together.batched
    points = somewhere(space)
    grid = together.on_grid(space, points)
    for b in range(3):
        alone = family(theta[b], space)
        assert torch.allclose(together(points[None])[b], alone(points), atol=1e-9)
        assert torch.allclose(grid[b], alone.on_grid(space, points), atol=1e-9)
    first = torch.autograd.functional.jacobian(lambda t: family(t, space)(points[None])[0].sum(), theta)
    assert float(first[1:].abs().max()) == 0 and float(first[0].abs().max()) > 0


@EACH
@D
def test_on_grid_equals_the_call(make: Callable[[int], Family], d: int) -> None:
    family, space = make(d), domain(d)
    transform = family(drawn(family, space), space)
    for grid in (space, space.resized((5, 9, 4)[:d]), Space.regular((1, 6, 5)[:d], 3.0)):
        assert torch.allclose(transform.on_grid(grid), transform(grid.points()), atol=1e-3)


@EACH
@D
def test_jacobian_equals_differences(make: Callable[[int], Family], d: int) -> None:
    family, space = make(d), domain(d)
    transform = family(drawn(family, space), space)
    points = somewhere(space, 6)
    for axis in range(d):
        step = torch.zeros(d, dtype=torch.float64)
        step[axis] = 1e-4
        slope = (transform(points + step) - transform(points - step)) / 2e-4
        assert torch.allclose(transform.jacobian(points)[..., axis], slope, atol=1e-5)


@EACH
@D
def test_the_same_parameters_mean_the_same_at_any_resolution(make: Callable[[int], Family], d: int) -> None:
    family, space = make(d), domain(d)
    theta, points = drawn(family, space), somewhere(space)
    other = space.resized([2 * n + 1 for n in space.shape])
    assert torch.allclose(other.corners(), space.corners())
    assert torch.allclose(family(theta, space)(points), family(theta, other)(points), atol=1e-6)


@D
def test_a_batch_composes_with_a_lone_transform_on_either_side(d: int) -> None:
    space = domain(d)
    spline, affine = ThinPlateSplines(Lattice(counts=(3, 2, 3)[:d])), Affine()
    field: Transform = DisplacementField(torch.randn(d, *space.shape, dtype=torch.float64), space)
    batch = spline(drawn(spline, space, (2,)), space)
    lone = affine(drawn(affine, space), space)
    like = torch.zeros(0, dtype=torch.float64)
    for chain in (batch @ lone, lone @ batch, batch @ field, field @ batch, batch @ Linear.identity(d)):
        assert chain.batched
        points = space.points(like)
        assert torch.allclose(chain.on_grid(space, like), chain(points[None]), atol=1e-6)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("shape", [(2, 2), (3, 5), (3, 4, 2)], ids=str)
def test_jacobians_of_a_batch_of_matrices_are_each_its_own(d: int, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrices = torch.eye(d + 1, dtype=torch.float64).repeat(shape[0], 1, 1)
    matrices[:, :d] += torch.rand(shape[0], d, d + 1, dtype=torch.float64)
    found = Linear(matrices).jacobian(torch.rand(*shape, d, dtype=torch.float64))
    assert found.shape == (*shape, d, d)
    for one, matrix in zip(found, matrices, strict=True):
        assert bool((one == matrix[:d, :d]).all())


def test_images_with_masks_of_their_own_are_warped_by_one_transform() -> None:
    mask = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    mask[0, :, :4], mask[1, :, 4:] = True, True
    image = Image(torch.rand(2, 1, 8, 8), Space.regular((8, 8)), mask=mask)
    assert torch.equal(warp(image, Linear.identity(2), image.space)[1], mask)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_image_is_sampled_at_many_grids_and_many_at_one(dtype: torch.dtype) -> None:
    data, grid = torch.rand(3, 1, 6, 7, dtype=dtype), torch.rand(3, 4, 5, 2, dtype=dtype) * 2 - 1
    for sampler in (linear, nearest):
        for a, b in ((data[:1], grid), (data, grid[:1])):
            expected = [sampler(a[k % len(a)][None], b[k % len(b)][None])[0] for k in range(3)]
            torch.testing.assert_close(sampler(a, b), torch.stack(expected))


def test_what_is_not_known_ends_with_the_image() -> None:
    data = torch.rand(6, 6)
    data[0] = torch.nan
    image = Image.of(data, Space.regular((6, 6)))
    wide = Space.regular((12, 6))
    found, valid = warp(image, Linear.identity(2), wide)
    assert bool((~valid).any()) and bool((found.data[~valid] == 0).all())


@D
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_a_matrix_has_an_inverse_in_any_units(d: int, scale: float) -> None:
    matrix = torch.eye(d + 1, dtype=torch.float64)
    matrix[:d, :d] = scale * torch.linalg.matrix_exp(torch.randn(d, d, dtype=torch.float64))
    points = torch.rand(5, d, dtype=torch.float64)
    torch.testing.assert_close(Linear(matrix).inverse()(Linear(matrix)(points)), points)
    matrix[:d, 0] = matrix[:d, 1]
    with pytest.raises(ValueError, match="singular"):
        Linear(matrix).inverse()


def test_many_points_in_any_layout_have_an_inverse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inverse, "_MANY", 10)
    space = domain(3)
    field = DisplacementField(0.3 * torch.rand(3, *space.shape, dtype=torch.float64), space)
    points = somewhere(space).reshape(4, 10, 3)
    across = points.permute(2, 1, 0).contiguous().permute(2, 1, 0)  # the same numbers, the last axis first in memory
    torch.testing.assert_close(field(field.inverse()(across)), points, rtol=0, atol=1e-3)
