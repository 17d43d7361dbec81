"""The spatial transformer layer and the registrar."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from registration.families.affine import Affine
from registration.families.base import Family
from registration.families.lattices import Lattice
from registration.families.rigid import Rigid
from registration.families.tps import ThinPlateSplines
from registration.image import Image
from registration.localisation.base import Localiser
from registration.localisation.free import FreeParameters
from registration.registrar import Registrar
from registration.sampling import warp
from registration.space import Space
from registration.spatial_transformer import SpatialTransformer
from registration.transforms.linear import Linear

SHAPES = {2: (7, 6), 3: (5, 6, 4)}
D = pytest.mark.parametrize("d", [2, 3])


class Constant(nn.Module):
    """Proposes fixed parameters."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = theta

    def forward(self, x: Tensor) -> Tensor:
        return self.theta


def families(d: int) -> list[Family]:
    return [Affine(), ThinPlateSplines(Lattice(counts=(2, 3, 2)[:d]), smoothing=0.01)]


@D
def test_zeros_return_the_input(d: int) -> None:
    x = torch.randn(2, 3, *SHAPES[d])
    for family in families(d):
        layer = SpatialTransformer(Constant(torch.zeros(2, family.size(Space.regular(SHAPES[d])))), family)
        assert torch.allclose(layer(x), x, atol=1e-5)


@D
def test_gradcheck_to_image_and_parameters(d: int) -> None:
    # Every voxel and parameter costs two runs, so the image is tiny.
    shape = {2: (5, 4), 3: (4, 5, 2)}[d]
    space = Space.regular(shape)
    x = torch.randn(2, 1, *shape, dtype=torch.float64, requires_grad=True)
    for family in families(d):
        theta = (0.05 * torch.randn(2, family.size(space), dtype=torch.float64)).requires_grad_()
        for onto in (None, tuple(n // 2 for n in shape)):
            run = lambda image, t, f=family, s=onto: SpatialTransformer(Constant(t), f, s)(image)  # noqa: E731
            assert torch.autograd.gradcheck(run, (x, theta), atol=1e-6)


@D
def test_a_rotation_moves_pixels_where_it_should(d: int) -> None:
    x = torch.zeros(1, 1, *[5] * d)
    x[(0, 0, 4, 2, 2)[: d + 2]] = 1
    theta = torch.zeros(1, Rigid().size(Space.regular((5,) * d)))
    theta[0, -1] = torch.pi / 2  # anticlockwise from axis 0 to axis 1: pulls back from axis 1
    out = SpatialTransformer(Constant(theta), Rigid())(x)
    assert out[(0, 0, 2, 0, 2)[: d + 2]] == pytest.approx(1.0, abs=1e-5)


def test_batch_items_are_independent() -> None:
    x = torch.randn(3, 1, 6, 7)
    theta = torch.randn(3, 6) * 0.1
    together = SpatialTransformer(Constant(theta), Affine())(x)
    for b in range(3):
        alone = SpatialTransformer(Constant(theta[b : b + 1]), Affine())(x[b : b + 1])
        assert torch.allclose(together[b : b + 1], alone, atol=1e-6)


@D
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_are_sampled_at_exact_places(d: int, dtype: torch.dtype) -> None:
    shape = (96, 5, 5)[:d]
    x, theta = torch.randn(2, 1, *shape).to(dtype), torch.zeros(2, Affine().size(Space.regular(shape)))
    theta[:, 0] = 0.3 / Space.regular(shape).radius  # 0.3 voxels
    for onto in (None, (40, 5, 5)[:d]):
        found = SpatialTransformer(Constant(theta.to(dtype)), Affine(), onto)(x)
        exact = SpatialTransformer(Constant(theta.to(dtype)), Affine(), onto)(x.float())
        assert found.dtype == dtype and torch.equal(found, exact.to(dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = SpatialTransformer(Constant(theta), Affine(), (40, 5, 5)[:d])(x.float())
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, SpatialTransformer(Constant(theta), Affine(), (40, 5, 5)[:d])(x.float()))


@D
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_images_of_sixteen_bits_are_warped_at_exact_places(d: int, dtype: torch.dtype) -> None:
    space = Space.regular((96, 7, 7)[:d], 1.7)
    data = torch.rand(1, 2, *space.shape).to(dtype)
    move = Linear.identity(d).matrix.clone()
    move[0, d] = 0.6
    onto = Space.regular((140, 9, 9)[:d], 1.1)
    found, inside = warp(Image(data, space), Linear(move), onto)
    exact, within = warp(Image(data.float(), space), Linear(move), onto)
    assert found.data.dtype == dtype and torch.equal(inside, within)
    torch.testing.assert_close(found.data, exact.data.to(dtype), rtol=0, atol=0.01)


def test_downsampling_does_not_alias() -> None:
    x = torch.zeros(1, 1, 64, 64)
    x[..., ::2] = 1  # stripes that the output cannot show
    out = SpatialTransformer(Constant(torch.zeros(1, 6)), Affine(), (13, 13))(x)
    assert out.shape == (1, 1, 13, 13)
    assert float((out - 0.5)[..., 1:-1].abs().max()) < 0.01  # the stripes are cut at the border
    up = SpatialTransformer(Constant(torch.zeros(1, 6)), Affine(), (128, 128))(x)
    assert float(up.max() - up.min()) > 0.9


def test_training_recovers_a_shift() -> None:
    grid = torch.linspace(-2, 2, 24)
    blob = torch.exp(-(grid[:, None] ** 2 + grid[None] ** 2))[None, None]
    network = nn.Linear(1, 3)
    nn.init.zeros_(network.weight)
    nn.init.zeros_(network.bias)
    layer = SpatialTransformer(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), network), Rigid())
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.02)
    goal = torch.roll(blob, 3, dims=2)
    for _ in range(60):
        optimiser.zero_grad()
        loss = (layer(blob) - goal).square().mean()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 1e-4


@pytest.mark.parametrize(
    ("shape", "theta", "out", "words"),
    [
        ((2, 3, 8), (2, 6), None, "2 or 3 spatial axes"),
        ((2, 1, 8, 8), (2, 5), None, "Affine in 2-D takes"),
        ((2, 1, 8, 8), (3, 6), None, "localisation gives"),
        ((2, 1, 8, 8), (2, 6), (4, 4, 4), "output_shape"),
    ],
)
def test_refusals(shape: tuple, theta: tuple, out: tuple | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SpatialTransformer(Constant(torch.zeros(theta)), Affine(), out)(torch.zeros(shape))


# --- registrar ------------------------------------------------------------------------------------------------------
class Difference(Localiser):
    """Proposes the mean difference as the first translation."""

    def forward(self, fixed: Tensor, warped: Tensor) -> Tensor:
        shift = (fixed - warped).flatten(1).mean(dim=1, keepdim=True)
        return torch.cat([shift, shift.new_zeros(len(shift), 2)], dim=1)


def test_registrar_chains_the_residual_after_the_initial_transform() -> None:
    fixed, moving = (Image.of(torch.rand(8, 9), Space.regular((8, 9), 2.0)) for _ in range(2))
    initial = Linear.translation(torch.tensor([1.0, -2.0], dtype=torch.float64))
    free = FreeParameters(3)
    registrar = Registrar(free, Rigid())
    points = torch.rand(5, 2, dtype=torch.float64)
    assert torch.allclose(registrar(fixed, moving, initial)(points), initial(points))
    with torch.no_grad():
        free.theta[:] = torch.tensor([0.1, 0.2, 0.3])
    expected = initial(Rigid()(free.theta, fixed.space)(points))
    found = registrar(fixed, moving, initial)(points)
    assert torch.allclose(found, expected)
    found.sum().backward()
    assert free.theta.grad is not None and bool((free.theta.grad != 0).all())


def test_registrar_shows_the_localiser_the_warped_image() -> None:
    space = Space.regular((8, 8))
    fixed, moving = Image.of(torch.ones(8, 8), space), Image.of(torch.ones(8, 8) * 0.5, space)
    found = Registrar(Difference(), Rigid())(fixed, moving, Linear.identity(2))
    moved = found(space.centre[None, None])[0, 0] - space.centre
    assert torch.allclose(moved, torch.tensor([0.5 * space.radius, 0.0], dtype=torch.float64))


def test_registrar_refuses_other_dimensions() -> None:
    flat, deep = Image.of(torch.rand(8, 9)), Image.of(torch.rand(8, 9, 3))
    with pytest.raises(ValueError, match="must agree"):
        Registrar(FreeParameters(3), Rigid())(flat, deep, Linear.identity(2))
