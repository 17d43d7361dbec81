"""Displacement fields against SimpleITK, and numerical inverses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from registration.space import Space
from registration.transforms.base import Transform
from registration.transforms.field import DisplacementField, sample_field
from registration.transforms.inverse import InversionError, NumericalInverse
from registration.transforms.linear import Linear
from registration.transforms.tps import ThinPlateSpline

D = pytest.mark.parametrize("d", [2, 3])
ANGLE = torch.tensor([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]], dtype=torch.float64)


def oblique(d: int, shape: tuple[int, ...] = (14, 12, 10)) -> Space:
    affine = torch.eye(d + 1, dtype=torch.float64)
    affine[:d, :d] = ANGLE[:d, :d] @ torch.diag(torch.tensor([1.5, 2.0, 3.0], dtype=torch.float64)[:d])
    affine[:d, d] = torch.tensor([30.0, -20, 400])[:d]
    return Space(shape[:d], affine)


def smooth(space: Space, size: float = 2.0, batch: tuple[int, ...] = ()) -> Tensor:
    """(D, *S) or (B, D, *S) displacements of about ``size`` mm with gradients well below 1."""
    d = space.ndim
    coarse = torch.randn(max(1, *batch, 1), d, *[3] * d, dtype=torch.float64) * size
    mode = "bilinear" if d == 2 else "trilinear"
    fine = torch.nn.functional.interpolate(coarse, space.shape, mode=mode, align_corners=True)
    return fine if batch else fine[0]


def inside(space: Space, n: int = 200, by: float = 0.5) -> Tensor:
    """(n, D) points anywhere between ``by`` voxels inside the outer voxel centres."""
    d = space.ndim
    index = by + torch.rand(n, d, dtype=torch.float64) * (torch.tensor(space.shape) - 1 - 2 * by)
    return index @ space.affine[:d, :d].T + space.affine[:d, d]


def spline(d: int, size: float = 2.0) -> ThinPlateSpline:
    points = torch.rand(30, d, dtype=torch.float64) * 60 - 30
    return ThinPlateSpline(points, points + size * torch.randn(30, d, dtype=torch.float64), 0.05)


@D
@pytest.mark.parametrize("still", [False, True])
def test_equals_simpleitk(d: int, still: bool) -> None:
    sitk = pytest.importorskip("SimpleITK")
    space = oblique(d)
    values = smooth(space)
    flip = np.diag([-1.0, -1, 1][:d])
    affine = space.affine.numpy()
    image = sitk.GetImageFromArray(
        (flip @ values.numpy().reshape(d, -1)).reshape(d, *space.shape).T.copy(), isVector=True
    )
    image.SetSpacing(space.spacing.tolist())
    image.SetOrigin((flip @ affine[:d, d]).tolist())
    image.SetDirection((flip @ (affine[:d, :d] / space.spacing.numpy())).flatten().tolist())
    itk = sitk.DisplacementFieldTransform(sitk.Cast(image, sitk.sitkVectorFloat64))
    field = DisplacementField(values, space, still_outside=still)
    points = inside(space)
    if still:
        points = torch.cat([points, inside(space, 200, by=-4)])
    expected = np.array([flip @ itk.TransformPoint((flip @ p).tolist()) for p in points.numpy()])
    np.testing.assert_allclose(field(points).numpy(), expected, atol=1e-9)


@D
def test_border_value_holds_outside(d: int) -> None:
    space = oblique(d)
    values = smooth(space)
    far = space.corners()[0] + 5 * (space.corners()[0] - space.centre)
    moved = DisplacementField(values, space)(far[None])[0] - far
    assert torch.allclose(moved, values[(slice(None), *[0] * d)])
    assert torch.equal(DisplacementField(values, space, still_outside=True)(far[None])[0], far)


@D
def test_on_grid_and_sample_field(d: int) -> None:
    space = oblique(d)
    field = DisplacementField(smooth(space, batch=(2,)), space)
    like = torch.zeros(0, dtype=torch.float64)
    other = space.resized([9, 15, 7][:d])
    for grid in (space, other):
        assert torch.allclose(field.on_grid(grid, like), field(grid.points(like)[None]), atol=1e-9)
    assert torch.allclose(sample_field(field, space, like), field.displacement)
    assert sample_field(Linear.identity(d), other).shape == (d, *other.shape)
    assert float(sample_field(Linear.identity(d), other).abs().max()) == 0


@D
def test_gradients_and_jacobian(d: int) -> None:
    space = oblique(d, (4, 5, 3))
    values = smooth(space).requires_grad_()
    points = inside(space, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda v, p: DisplacementField(v, space)(p), (values, points), atol=1e-6)
    field = DisplacementField(values.detach(), space)
    step = 1e-5
    for axis in range(d):
        move = torch.zeros(d, dtype=torch.float64)
        move[axis] = step
        slope = (field(points.detach() + move) - field(points.detach() - move)) / (2 * step)
        assert torch.allclose(field.jacobian(points.detach())[..., axis], slope, atol=1e-4)


def test_refusals() -> None:
    space = oblique(3)
    with pytest.raises(ValueError, match=r"\(D, \*S\)"):
        DisplacementField(torch.zeros(2, *space.shape), space)
    with pytest.raises(ValueError, match="floating"):
        DisplacementField(torch.zeros(3, *space.shape, dtype=torch.int32), space)
    with pytest.raises(ValueError, match="tolerance"):
        NumericalInverse(Linear.identity(3), tolerance=0)


# --- inverses -------------------------------------------------------------------------------------------------------
def forwards(d: int) -> list[Transform]:
    space = oblique(d)
    return [spline(d), DisplacementField(smooth(space), space), spline(d) @ DisplacementField(smooth(space), space)]


@D
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inverse_of_points(d: int, dtype: torch.dtype) -> None:
    points = inside(oblique(d)).to(dtype)
    for forward in forwards(d):
        inverse = forward.inverse()
        assert float((inverse(forward(points)) - points).abs().max()) < 1e-3
        assert float((forward(inverse(points)) - points).abs().max()) < 1e-3


@D
def test_residual_jacobian_and_return(d: int) -> None:
    forward = spline(d)
    inverse = forward.inverse()
    assert isinstance(inverse, NumericalInverse) and inverse.inverse() is forward
    points = inside(oblique(d), 50)
    assert float(inverse.residual(points).max()) < 1e-3 and inverse.residual_mm[0] < 1e-3
    product = forward.jacobian(inverse(points)) @ inverse.jacobian(points)
    assert torch.allclose(product, torch.eye(d, dtype=torch.float64).expand_as(product), atol=1e-6)


@D
def test_inverse_on_grids(d: int) -> None:
    space = oblique(d, (20, 18, 12))
    for forward in forwards(d)[:2]:
        inverse = forward.inverse()
        found = inverse.on_grid(space)
        accepted = 0.02 * float(space.spacing.min())
        # The formula sees float32 positions, some hundred mm from the origin.
        assert float((forward(found.double()) - space.points(found.double())).norm(dim=-1).max()) < accepted + 1e-3
        assert 0 < inverse.residual_mm[0] <= accepted


@D
def test_inverse_of_a_batch(d: int) -> None:
    space = oblique(d)
    values = smooth(space, batch=(2,))
    inverse = DisplacementField(values, space).inverse()
    assert inverse.batched
    for b in range(2):
        alone = DisplacementField(values[b], space).inverse()
        points = inside(space, 30)
        assert torch.allclose(inverse(points[None])[b], alone(points), atol=1e-5)
        assert torch.allclose(inverse.on_grid(space)[b], alone.on_grid(space), atol=0.05)


def test_inverse_carries_gradients() -> None:
    points = torch.rand(8, 2, dtype=torch.float64) * 50
    targets = (points + torch.randn_like(points)).requires_grad_()
    y = (torch.rand(3, 2, dtype=torch.float64) * 50).requires_grad_()
    assert torch.autograd.gradcheck(lambda t, p: ThinPlateSpline(points, t).inverse()(p), (targets, y), atol=1e-4)


@D
def test_a_folding_map_is_never_silently_wrong(d: int) -> None:
    lines = [torch.tensor([-10.0, 0, 10], dtype=torch.float64)] * d
    controls = torch.cartesian_prod(*lines)
    mirrored = torch.cat([controls[:, :1].abs(), controls[:, 1:]], dim=1)
    forward = ThinPlateSpline(controls, mirrored)  # folds half of space onto the other half
    points = torch.rand(30, d, dtype=torch.float64) * 10 - 15
    space = Space.regular((8, 8, 8)[:d], 5.0)
    for call in (lambda i: i(points), lambda i: i.on_grid(space)):
        with pytest.raises(InversionError, match="folds there"):
            call(NumericalInverse(forward))
        lax = NumericalInverse(forward, strict=False)
        with pytest.warns(UserWarning, match="mapped back"):
            assert bool(torch.isfinite(call(lax)).all())
        assert lax.residual_mm[0] > 1e-2
