"""Figures against hand-worked and slow values; pictures by their geometry."""

from __future__ import annotations

import itertools
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from registration.evaluation.metrics import (
    correlation,
    dice,
    folding_percent,
    jacobian_determinants,
    mean_dice,
    overlap,
    target_registration_error,
)
from registration.evaluation.overview import overview, write_overview
from registration.evaluation.planes import middle_of, planes_through
from registration.evaluation.remembered import Remembered
from registration.evaluation.sheet import Heading
from registration.image import Image
from registration.phantom import Bumps, oblique_space
from registration.sampling import warp
from registration.space import Space
from registration.transforms.linear import Linear


def test_dice_tells_absent_from_missing() -> None:
    a = torch.tensor([0, 1, 1, 2, 2, 2, 5, 5])
    b = torch.tensor([0, 1, 3, 2, 2, 0, 5, 5])
    scores = dice(a, b, labels=[1, 2, 3, 4, 5])
    assert scores == {1: 2 / 3, 2: 4 / 5, 3: None, 5: 1.0}
    assert mean_dice(scores) == pytest.approx((2 / 3 + 4 / 5 + 1) / 3)
    assert mean_dice({3: None}) is None
    assert dice(a, b) == scores and 0 not in dice(a, b)
    with pytest.raises(ValueError, match="one shape"):
        dice(a, b[:-1])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([-3, 0, 2_000_000]))
def test_dice_equals_the_definition(seed: int, offset: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randint(0, 5, (6, 5, 4), generator=generator) + offset for _ in range(2))
    for label, score in dice(a.double(), b.double()).items():
        both = ((a == label) & (b == label)).sum()
        assert score == pytest.approx(float(2 * both / ((a == label).sum() + (b == label).sum())))


def test_landmark_distance_is_in_mm_and_goes_forward() -> None:
    fixed = torch.tensor([[0.0, 0.0, 0.0], [10.0, 0.0, 0.0]])
    shift = Linear.translation(torch.tensor([3.0, 4.0, 0.0], dtype=torch.float64))
    assert target_registration_error(shift, fixed, fixed).tolist() == pytest.approx([5.0, 5.0])
    assert target_registration_error(shift, fixed, shift(fixed)).tolist() == pytest.approx([0.0, 0.0])
    with pytest.raises(ValueError, match="pairs"):
        target_registration_error(shift, fixed, fixed[:1])
    with pytest.raises(ValueError, match="2 coordinates"):
        target_registration_error(shift, fixed[:, :2], fixed[:, :2])


@pytest.mark.parametrize("shape", [(20, 24), (14, 12, 10), (14, 12, 1)])
def test_jacobian_determinant_is_physical(shape: tuple[int, ...]) -> None:
    d = len(shape)
    space = oblique_space(shape, [1.0, 2.0, 3.5][:d], 25, flips=(0,))
    matrix = torch.eye(d + 1, dtype=torch.float64)
    matrix[:d, :d] += 0.2 * torch.randn(d, d, dtype=torch.float64)
    determinants = jacobian_determinants(Linear(matrix), space)
    expected = float(torch.linalg.det(matrix))
    assert determinants.shape == shape
    assert torch.allclose(determinants, torch.full(shape, expected), atol=1e-4)
    assert folding_percent(Linear(matrix), space) == (0.0 if expected > 0 else 100.0)


def test_folding_of_a_map_that_folds() -> None:
    space = oblique_space((60, 50), (1.0, 1.3), 20)
    mild, strong = (Bumps(space.centre[None], torch.tensor([[amount, 0.0]]), 8.0) for amount in (6.0, 30.0))
    assert folding_percent(mild, space) == 0
    determinants = torch.linalg.det(strong.jacobian(space.points(torch.zeros(0, dtype=torch.float64)).reshape(-1, 2)))
    expected = 100 * float((determinants <= 0).double().mean())
    assert expected > 1 and folding_percent(strong, space) == pytest.approx(expected, abs=0.5)
    inside = (jacobian_determinants(strong, space) <= 0)[None, None]
    assert folding_percent(strong, space, inside) == 100
    assert folding_percent(strong, space, ~inside) == 0


def test_folding_does_not_depend_on_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    space = oblique_space((17, 12, 11), (2.0, 1.0, 3.0), 15)
    bumps = Bumps(space.centre[None], torch.tensor([[5.0, 3.0, -9.0]]), 6.0)
    whole = jacobian_determinants(bumps, space)
    monkeypatch.setattr("registration.evaluation.metrics._SLAB", 5 * 12 * 11)
    assert torch.equal(jacobian_determinants(bumps, space), whole)


def test_overlap_and_correlation() -> None:
    space = Space.regular((10, 10), 1.0)
    image = Image.of(torch.rand(10, 10), space)
    half = Linear.translation(torch.tensor([5.0, 0.0], dtype=torch.float64))
    _, inside = warp(image, half, space)
    assert overlap(inside) == pytest.approx(0.5)
    mask = torch.zeros(1, 1, 10, 10, dtype=torch.bool)
    mask[..., :5, :] = True
    assert overlap(inside, mask) == pytest.approx(1.0)
    assert overlap(inside, torch.zeros_like(mask)) == 0
    assert correlation(image, image.with_data(3 - 2 * image.data)) == pytest.approx(-1)
    x, y = np.random.default_rng(0).random((2, 10, 10))
    value = correlation(Image.of(torch.tensor(x)), Image.of(torch.tensor(y)))
    assert value == pytest.approx(np.corrcoef(x.ravel(), y.ravel())[0, 1])
    assert correlation(image, image.with_data(torch.ones_like(image.data))) is None
    assert correlation(image, image, torch.zeros_like(mask)) is None


@pytest.mark.parametrize("piece", [7, 1 << 16])
def test_correlation_looks_at_the_chosen_voxels_alone(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr("registration.evaluation.metrics._PIECE", piece)
    g = torch.Generator().manual_seed(0)
    x, y = 1e4 + torch.rand(11, 9, 5, generator=g), torch.rand(11, 9, 5, generator=g)
    chosen = torch.zeros(11, 9, 5)
    chosen[2:9, 3:, 1:4] = 1
    chosen = chosen.bool()
    expected = np.corrcoef(x[chosen].double().numpy(), y[chosen].double().numpy())[0, 1]
    x[~chosen] = torch.nan
    assert correlation(Image.of(x), Image.of(y), chosen[None, None]) == pytest.approx(expected)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (-1, -1, 1)])
def test_planes_stand_upright_whatever_the_storage(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    shape, spacing = (20, 30, 12), (1.0, 2.0, 4.0)
    affine = torch.eye(4, dtype=torch.float64)
    for axis in range(3):
        affine[:3, axis] = 0
        affine[order[axis], axis] = spacing[axis] * signs[axis]
    image = Image.of(torch.rand(shape), Space(shape, affine))
    planes = {plane.name: plane for plane in planes_through(image)}
    assert set(planes) == {"axial", "coronal", "sagittal"}
    assert planes["axial"].letters == ("R", "L", "P", "A")
    assert planes["coronal"].letters == ("R", "L", "I", "S")
    assert planes["sagittal"].letters == ("A", "P", "I", "S")
    for plane, steps in (("axial", (-1, 2)), ("coronal", (-1, 3)), ("sagittal", (-2, 3))):
        columns = planes[plane].space.affine[:3, :2]
        for column, step in zip(columns.T, steps, strict=True):
            assert float(column[abs(step) - 1]) * step > 0 and planes[plane].tilt < 1e-3
        width, height = planes[plane].size
        extents = {order[axis]: shape[axis] * spacing[axis] for axis in range(3)}
        assert (width, height) == pytest.approx([extents[abs(step) - 1] for step in steps])


def test_a_view_shows_the_voxels_of_the_image() -> None:
    data = torch.rand(9, 8, 7)
    image = Image.of(data, oblique_space((9, 8, 7), (1.0, 1.0, 1.0), 20))
    middle = middle_of(image).round().long()
    axial = next(plane for plane in planes_through(image) if plane.name == "axial")
    seen, inside = warp(image, Linear.identity(3), axial.space)
    assert bool(inside.all())
    # The picture runs towards the patient's left, against the first axis of this grid.
    assert torch.allclose(seen.data[0, 0, :, :, 0], data[:, :, middle[2]].flip(0), atol=1e-4)


def test_planes_through_the_object_and_of_one_slice() -> None:
    data = torch.zeros(30, 40, 20)
    data[4:8, 30:34, 11:15] = 5.0
    image = Image.of(data + 100, Space.regular(data.shape, (1.0, 1.0, 3.0)))
    assert middle_of(image).tolist() == pytest.approx([5.5, 31.5, 12.5])
    mask = torch.zeros_like(data)
    mask[20, 10, 5] = 1
    assert middle_of(image.with_mask(mask)).tolist() == [20, 10, 5]
    assert [plane.name for plane in planes_through(Image.of(data[:, :, :1]))] == ["axial"]
    assert [plane.name for plane in planes_through(Image.of(data[:, :, 0]))] == ["plane"]
    assert middle_of(Image.of(torch.ones(3, 4))).tolist() == [1.0, 1.5]


@pytest.mark.parametrize("shape", [(40, 50), (24, 30, 16), (24, 30, 1)])
def test_overview_is_drawn_without_pyplot(shape: tuple[int, ...], tmp_path: Path) -> None:
    space = oblique_space(shape, [2.0, 2.0, 5.0][: len(shape)], 12)
    fixed, moving = (Image.of(torch.rand(shape), space, name) for name in ("a", "b"))
    figure = overview(fixed, moving, Bumps(space.centre[None], torch.full((1, len(shape)), 4.0), 15.0), "title")
    assert len(figure.axes) == 5 * (3 if min(shape) > 1 and len(shape) == 3 else 1)
    write_overview(tmp_path / "overview.png", figure)
    assert (tmp_path / "overview.png").read_bytes()[:4] == b"\x89PNG"


def test_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    """Dollars are no formulas, a sign that the font does not have is no reason to warn, and bytes may be no text."""
    image = Image.of(torch.rand(20, 20))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        heading = Heading("a$^$.nii onto \u8133$_\udcff\n.nii", "passed", "$\\frac$")
        write_overview(tmp_path / "overview.png", overview(image, image, Linear.identity(2), heading))
    assert not [warning for warning in caught if "Glyph" in str(warning.message)]


def test_overview_of_nothing_to_see(tmp_path: Path) -> None:
    flat = Image.of(torch.full((20, 20), 7.0))
    write_overview(tmp_path / "overview.png", overview(flat, flat, Linear.identity(2), letters=False))
    far = Linear.translation(torch.tensor([500.0, 0.0], dtype=torch.float64))
    write_overview(tmp_path / "overview.png", overview(Image.of(torch.rand(20, 20)), flat, far))


def test_drawing_leaves_pyplot_alone() -> None:
    code = (
        "import sys, torch\n"
        "from registration.evaluation.overview import overview\n"
        "from registration.image import Image\n"
        "from registration.transforms.linear import Linear\n"
        "overview(Image.of(torch.rand(9, 9)), Image.of(torch.rand(9, 9)), Linear.identity(2))\n"
        "assert 'matplotlib.figure' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


def test_remembered_is_the_same_map_evaluated_once() -> None:
    class Counted(Bumps):
        calls = 0

        def on_grid(self, space: Space, like: torch.Tensor | None = None) -> torch.Tensor:
            Counted.calls += 1
            return super().on_grid(space, like)

    space, other = Space.regular((8, 9), 2.0), Space.regular((5, 6), 2.0)
    bumps = Counted(torch.zeros(1, 2), torch.ones(1, 2), 4.0)
    kept = Remembered.of(bumps)
    image = Image.of(torch.rand(8, 9), space)
    first, again = warp(image, kept, space)[0], warp(image, kept, space)[0]
    assert Counted.calls == 1 and torch.equal(first.data, again.data)
    assert torch.equal(first.data, warp(image, bumps, space)[0].data)
    assert torch.equal(warp(image, kept, other)[0].data, warp(image, bumps, other)[0].data)
    double = torch.zeros(0, dtype=torch.float64)
    assert torch.equal(kept.on_grid(other, double), bumps.on_grid(other, double))
    assert folding_percent(kept, space) == folding_percent(bumps, space)
    points = torch.rand(4, 2)
    assert torch.equal(kept(points), bumps(points)) and torch.equal(kept.jacobian(points), bumps.jacobian(points))
    assert torch.allclose(kept.inverse()(kept(points)), points, atol=1e-5)
    linear = Linear.identity(2)
    assert Remembered.of(linear) is linear and Remembered.of(kept) is kept


@pytest.mark.parametrize("shape", [(40, 1, 1), (1, 1, 40), (300, 3, 3), (2, 400)])
def test_a_needle_is_drawn_at_a_bounded_size(shape: tuple[int, ...]) -> None:
    space = Space.regular(shape, (2.0,) * len(shape))
    image = Image.of(torch.rand(shape), space)
    assert planes_through(image)
    figure = overview(image, image, Linear.identity(len(shape)), "title")
    width, height = figure.get_size_inches()
    assert 0 < width < 50 and 0 < height < 50
    figure.canvas.draw()
