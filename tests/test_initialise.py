"""Initial guesses: proper rotations, any orientation found, masks and backgrounds respected, nothing crashes."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import registration
from registration.filters import downsample
from registration.image import Image
from registration.losses import MutualInformation
from registration.pairwise import (
    Auto,
    Centres,
    CentresOfMass,
    Header,
    Initialiser,
    Moments,
    Pair,
    Pipeline,
    Search,
)
from registration.pairwise.initialise.contest import Contest
from registration.pairwise.initialise.histogram import JointHistogram
from registration.pairwise.initialise.mass import background, centre_of_mass
from registration.pairwise.initialise.moments import candidates
from registration.pairwise.initialise.rotations import about, spread
from registration.phantom import PhantomPair, oblique_space, phantom_pair
from registration.space import Space
from registration.transforms.linear import Linear


def turn(ndim: int, axis: tuple[float, float, float], degrees: float) -> Tensor:
    """(D, D) rotation; in 2-D in the plane."""
    unit = torch.tensor(axis if ndim == 3 else (0.0, 0.0, 1.0), dtype=torch.float64)
    x, y, z = (unit / unit.norm()).tolist()
    generator = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]], dtype=torch.float64)
    return torch.linalg.matrix_exp(math.radians(degrees) * generator)[:ndim, :ndim]


def displaced(image: Image, rotation: Tensor, shift: list[float]) -> tuple[Image, Linear]:
    """The image carried elsewhere by its header, and the map that did it."""
    centre, offset = image.space.centre, torch.tensor(shift[: image.ndim], dtype=torch.float64)
    pose = Linear(about(rotation[None], centre, centre + offset)[0])
    return replace(image, space=Space(image.space.shape, pose.matrix @ image.space.affine)), pose


@cache
def phantom(ndim: int) -> PhantomPair:
    """The phantom on two oblique anisotropic grids."""
    fixed = oblique_space((60, 50, 42)[:ndim], (3.2, 3.6, 4.5)[:ndim], 25)
    moving = oblique_space((48, 66, 50)[:ndim], (4.0, 2.9, 3.7)[:ndim], -15, flips=(0,))
    return phantom_pair(fixed, moving, deformation=4.0)


def miss(transform: registration.Transform, truth: registration.Transform, points: Tensor) -> float:
    """Mean distance in mm at (N, D) points."""
    return float((transform(points) - truth(points)).norm(dim=-1).mean())


def blob(space: Space, centre: list[float], radii: list[float]) -> Tensor:
    """(*S) a soft ellipsoid, 0 to 1."""
    unit = (space.points(torch.zeros(0, dtype=torch.float64)) - torch.tensor(centre)) / torch.tensor(radii)
    return torch.sigmoid(8 * (1 - unit.norm(dim=-1))).float()


# --- rotations --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("count", [1, 17, 600])
def test_spread_are_rotations(ndim: int, count: int) -> None:
    turns = spread(ndim, count)
    eye = torch.eye(ndim, dtype=torch.float64).expand(count, ndim, ndim)
    assert torch.allclose(turns @ turns.mT, eye, atol=1e-12)
    assert torch.allclose(torch.linalg.det(turns), torch.ones(count, dtype=torch.float64))


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda axis: math.dist(axis, (0, 0, 0)) > 0.1),
    st.floats(-180, 180),
)
def test_spread_leaves_no_gap(axis: tuple[float, float, float], degrees: float) -> None:
    wanted = turn(3, axis, degrees)
    cosine = ((spread(3, 600) * wanted).sum(dim=(1, 2)).max() - 1) / 2
    assert math.degrees(math.acos(min(1.0, float(cosine)))) < 30


@pytest.mark.parametrize("ndim", [2, 3])
def test_about_turns_centres_onto_centres(ndim: int) -> None:
    one, other = torch.arange(ndim, dtype=torch.float64), torch.full((ndim,), -3.0, dtype=torch.float64)
    for pose in about(spread(ndim, 5), one, other):
        assert torch.allclose(Linear(pose)(one), other)


# --- the object -------------------------------------------------------------------------------------------------------
@settings(max_examples=20, deadline=None)
@given(st.floats(-300, 300), st.floats(0.5, 40), st.sampled_from([-1.0, 1.0]), st.sampled_from([2, 3]))
def test_mass_does_not_depend_on_the_background(level: float, gain: float, sign: float, ndim: int) -> None:
    space = Space.regular((40, 36, 30)[:ndim], 2.0)
    values = blob(space, [9.0, -6.0, 5.0][:ndim], [12.0, 9.0, 7.0][:ndim])
    image = Image.of(level + sign * gain * values, space)
    expected = torch.tensor([9.0, -6.0, 5.0][:ndim], dtype=torch.float64)
    assert torch.allclose(centre_of_mass(image), expected, atol=0.3)


def test_no_background_inside_a_body() -> None:
    space = Space.regular((20, 22, 24))
    image = Image.of(torch.rand(space.shape), space)
    assert background(image) is None
    assert torch.allclose(centre_of_mass(image), space.centre)


def test_the_mass_of_a_slice_does_not_depend_on_its_axes() -> None:
    data = torch.zeros(60, 50)
    data[3:49, 4:41] = 1  # most of the image
    flat, thick = Image.of(data, Space.regular((60, 50))), Image.of(data[..., None], Space.regular((60, 50, 1)))
    torch.testing.assert_close(centre_of_mass(thick)[:2], centre_of_mass(flat))
    assert background(Image.of(torch.ones(1, 1), Space.regular((1, 1)))) is None


def test_the_mask_limits_the_mass() -> None:
    space = Space.regular((40, 40), 1.0)
    left, right = (blob(space, [x, 0.0], [5.0, 5.0]) for x in (-12.0, 12.0))
    image = Image.of(left + right, space).with_mask(space.points()[..., 0] < 0)
    assert torch.allclose(centre_of_mass(image), torch.tensor([-12.0, 0.0], dtype=torch.float64), atol=0.2)


# --- ranking ----------------------------------------------------------------------------------------------------------
def test_joint_histogram_against_a_loop() -> None:
    warped, fixed = torch.rand(3, 2, 7, 8), torch.rand(1, 2, 7, 8)
    mask = torch.rand(3, 1, 7, 8) > 0.3
    found = JointHistogram(6)(warped, fixed, mask)
    for b in range(3):
        total = 0.0
        for c in range(2):
            inside = mask[b, 0]
            x, y = (warped[b, c][inside] * 6).long(), (fixed[0, c][inside] * 6).long()
            for i in range(6):
                for j in range(6):
                    p, px, py = (float(v.double().mean()) for v in ((x == i) & (y == j), x == i, y == j))
                    total += p * math.log(p / (px * py)) if p else 0.0
        assert float(found[b]) == pytest.approx(-total / 2, abs=1e-5)
    assert float(JointHistogram()(warped, fixed, torch.zeros_like(mask)).abs().max()) == 0
    with pytest.raises(ValueError, match="bins is a whole number from 2"):
        JointHistogram(1)


def test_a_few_fitting_voxels_do_not_win() -> None:
    image = phantom(3).fixed
    shape = (image.space.shape[0] // 3, *image.space.shape[1:])
    third = replace(image, data=image.data[:, :, : shape[0]], space=image.space.cropped((0, 0, 0), shape))
    here = torch.eye(4, dtype=torch.float64)[None]
    away = here.clone()
    away[0, :3, 3] = 1000.0
    whole, part = (Contest(Pair(image, moving), MutualInformation(16), 16) for moving in (image, third))
    # What is left in view fits perfectly in both.
    assert float(part.losses(here)) > 0.5 * float(whole.losses(here))
    assert float(whole.losses(away)) == pytest.approx(whole.unrelated, abs=1e-6)


# --- starts -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("ndim", "count"), [(2, 2), (3, 4)])
@pytest.mark.parametrize("flips", [(), (0,)])
def test_moments_are_proper_rotations(ndim: int, count: int, flips: tuple[int, ...]) -> None:
    space = oblique_space((44, 40, 36)[:ndim], (2.0, 2.5, 3.0)[:ndim], 20, flips=flips)
    fixed = Image.of(blob(space, [3.0, 2.0, -4.0][:ndim], [30.0, 20.0, 12.0][:ndim]), space)
    moving, pose = displaced(fixed, turn(ndim, (1.0, -2.0, 0.5), 110), [20.0, -9.0, 14.0])
    poses = candidates(Pair(fixed, moving))
    linear = poses[:, :ndim, :ndim]
    assert len(poses) == count
    assert torch.allclose(linear @ linear.mT, torch.eye(ndim, dtype=torch.float64).expand_as(linear), atol=1e-9)
    assert torch.allclose(torch.linalg.det(linear), torch.ones(count, dtype=torch.float64))
    # One of them is the truth; which of them a symmetric blob cannot tell.
    assert float((poses - pose.matrix).abs().amax(dim=(1, 2)).min()) < 1.0


@pytest.mark.parametrize("start", [Moments(), Search(), Auto()], ids=lambda start: type(start).__name__)
@pytest.mark.parametrize("degrees", [35, 100, 170])
@pytest.mark.parametrize("ndim", [2, 3])
def test_large_rotations_are_found(start: Initialiser, degrees: float, ndim: int) -> None:
    case = phantom(ndim)
    moving, pose = displaced(case.moving, turn(ndim, (1.0, 0.6, -1.4), degrees), [25.0, -30.0, 18.0])
    found = start(Pair(case.fixed, moving))
    assert isinstance(found, Linear)
    linear = found.matrix[:ndim, :ndim]
    assert float(torch.linalg.det(linear)) == pytest.approx(1, abs=1e-9)
    assert torch.allclose(linear @ linear.T, torch.eye(ndim, dtype=torch.float64), atol=1e-9)
    # The truth has a scaling of some percent and bumps, so no rigid map is exact; and the phantom is almost as wide as
    # high, so that its axes tilt easily.
    limit = 30 if isinstance(start, Moments) and ndim == 3 else 12
    assert miss(found, pose @ case.truth, case.fixed_points) < limit


def test_another_contrast() -> None:
    case = phantom(3)
    inverted = case.moving.with_data((1.2 - case.moving.data) * (case.moving.data > 0.1))
    moving, pose = displaced(inverted, turn(3, (0.3, 1.0, 0.8), 140), [10.0, 25.0, -12.0])
    assert miss(Auto()(Pair(case.fixed, moving)), pose @ case.truth, case.fixed_points) < 12


def test_the_background_may_be_white() -> None:
    case = phantom(2)
    fixed, moving = (image.with_data(1.0 - image.data) for image in (case.fixed, case.moving))
    moving, pose = displaced(moving, turn(2, (0, 0, 1), 120), [30.0, -20.0])
    for start in (Moments(), Auto()):
        assert miss(start(Pair(fixed, moving)), pose @ case.truth, case.fixed_points) < 12


def test_masks_matter() -> None:
    """A second, brighter object in both images, which only masks take out of the way."""
    case = phantom(3)
    shift = [20.0, -10.0, 5.0]
    moving, pose = displaced(case.moving, turn(3, (1.0, 0.2, 0.4), 80), shift)
    truth = pose @ case.truth
    images = []
    for image, spot in ((case.fixed, [85.0, 0.0, 0.0]), (moving, [20.0, -100.0, 5.0])):
        clutter = blob(image.space, spot, [25.0, 25.0, 25.0])
        images.append(image.with_data(image.data + 5 * clutter).with_mask(clutter < 0.01))
    assert miss(Auto()(Pair(images[0], images[1])), truth, case.fixed_points) < 12
    bare = Pair(*(image.with_mask(None) for image in images))
    assert miss(CentresOfMass()(bare), truth, case.fixed_points) > miss(
        CentresOfMass()(Pair(*images)), truth, case.fixed_points
    )


@pytest.mark.parametrize("ndim", [2, 3])
def test_auto_is_never_worse_than_the_cheap_starts(ndim: int) -> None:
    case = phantom(ndim)
    for degrees in (0, 20, 90):
        moving, _ = displaced(case.moving, turn(ndim, (1.0, 0.0, 1.0), degrees), [15.0, 10.0, -20.0])
        pair = Pair(case.fixed, moving)
        judge = Contest(pair, MutualInformation(16), 32)
        found = [s(pair) for s in (Auto(), Header(), Centres(), CentresOfMass(), Moments())]
        losses = judge.losses(torch.stack([t.matrix for t in found if isinstance(t, Linear)]))
        assert float(losses[0]) <= float(losses[1:].min()) + 1e-6


def test_the_same_images_give_the_same_start() -> None:
    case = phantom(3)
    moving, _ = displaced(case.moving, turn(3, (1.0, 1.0, 0.0), 75), [5.0, 5.0, 5.0])
    for start in (Moments(), Search(), Auto()):
        one, other = (start(Pair(case.fixed, moving)) for _ in range(2))
        assert isinstance(one, Linear) and isinstance(other, Linear)
        assert torch.equal(one.matrix, other.matrix)


# --- odd images -------------------------------------------------------------------------------------------------------
def _odd(kind: str, ndim: int) -> Image:
    space = Space.regular((24, 20, 18)[:ndim], 3.0)
    values = {
        "sphere": blob(space, [0.0] * ndim, [20.0] * ndim),
        "empty": torch.zeros(space.shape),
        "constant": torch.full(space.shape, 7.0),
        "noise": torch.rand(space.shape, generator=torch.Generator().manual_seed(1)),
        "not a number": torch.full(space.shape, float("nan")),
        "one voxel": torch.zeros(space.shape).index_put_(tuple(torch.tensor([5]) for _ in range(ndim)), torch.ones(1)),
    }
    return Image.of(values[kind], space)


@pytest.mark.parametrize(
    "start", [Moments(), Search(rotations=60), Auto(Search(rotations=60))], ids=lambda start: type(start).__name__
)
@pytest.mark.parametrize("kind", ["sphere", "empty", "constant", "noise", "not a number", "one voxel"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_odd_images_do_not_crash(start: Initialiser, kind: str, ndim: int) -> None:
    image = _odd(kind, ndim)
    moving, _ = displaced(image, turn(ndim, (0.0, 0.0, 1.0), 30), [4.0, 3.0, 2.0])
    for pair in (Pair(image, moving), Pair(image.with_mask(torch.zeros(image.space.shape)), moving)):
        found = start(pair)
        assert isinstance(found, Linear) and bool(torch.isfinite(found.matrix).all())
        assert float(torch.linalg.det(found.matrix)) == pytest.approx(1, abs=1e-6)


def test_images_with_nothing_in_common_stay_where_their_mass_is() -> None:
    generator = torch.Generator().manual_seed(3)
    space = Space.regular((40, 40, 40), 2.0)
    one, other = (Image.of(torch.rand(space.shape, generator=generator), space) for _ in range(2))
    other, _ = displaced(other, turn(3, (0.0, 0.0, 1.0), 10), [30.0, 0.0, 0.0])
    found = Auto()(Pair(one, other))
    assert isinstance(found, Linear)
    assert torch.allclose(found.matrix, Linear.translation(other.space.centre - one.space.centre).matrix, atol=1e-6)


def test_one_slice_and_thin_grids() -> None:
    case = phantom(3)
    for shape in ((60, 50, 1), (60, 50, 3)):
        space = Space(shape, oblique_space(shape, (3.2, 3.6, 4.5), 25).affine)
        slab = registration.warp(case.fixed, Linear.identity(3), space)[0]
        for start in (Moments(), Auto()):
            found = start(Pair(slab, case.moving))
            assert isinstance(found, Linear) and bool(torch.isfinite(found.matrix).all())


def test_wrong_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="rotations"):
        Search(rotations=0)


# --- real images ------------------------------------------------------------------------------------------------------
@pytest.mark.real
@pytest.mark.parametrize("degrees", [60, 180])
def test_a_brain_on_its_head(shared_data: Path, degrees: float) -> None:
    fixed, moving = (registration.read_image(shared_data / f"brain/{role}.nii.gz") for role in ("fixed", "moving"))
    fixed, moving = (downsample(image, image.space.with_spacing(3.0).shape) for image in (fixed, moving))
    moving, pose = displaced(moving, turn(3, (0.7, -1.0, 0.4), degrees), [22.0, -14.0, 12.0])
    found = Pipeline(Auto(), [])(fixed, moving).transform
    points = fixed.space.points(torch.zeros(0, dtype=torch.float64))[fixed.data[0, 0] > 0]
    assert miss(found, pose, points) < 10
    # The brain lies on its side by 60 degrees: what the default was before is lost there.
    assert miss(CentresOfMass()(Pair(fixed, moving)), pose, points) > 30
