"""The diffeomorphic stage and the fields that it computes with."""

from __future__ import annotations

import math
from functools import cache
from unittest import mock

import pytest
import torch

from registration import compiled
from registration.compiled import Region
from registration.evaluation.metrics import dice, folding_percent, mean_dice
from registration.families import Affine
from registration.image import Image
from registration.io.transforms import read_transform, write_transform
from registration.losses import LocalNormalisedCrossCorrelation, MutualInformation
from registration.pairwise import (
    CentresOfMass,
    DiffeomorphicStage,
    FieldLevel,
    LinearStage,
    Pair,
    Silent,
    Steps,
    presets,
)
from registration.pairwise import voxelfields as vf
from registration.pairwise.middle import read_as
from registration.phantom import PhantomPair, oblique_space, phantom_pair
from registration.sampling import nearest, warp
from registration.space import Space
from registration.transforms.base import Transform
from registration.transforms.diffeomorphism import Diffeomorphism
from registration.transforms.field import DisplacementField
from registration.transforms.linear import Linear

SHAPES = [(12, 14, 16), (1, 20, 18)]


def smooth_field(shape: tuple[int, ...], size: float = 2.0) -> torch.Tensor:
    field = vf.smooth(torch.randn(3, *shape), [2.0 if n > 1 else 0.0 for n in shape])
    field *= size / field.abs().max()
    for axis, n in enumerate(shape):
        if n == 1:
            field[axis] = 0
    return field.contiguous()


def in_torch(call: object) -> torch.Tensor:
    with mock.patch.object(compiled, "available", lambda: False):
        return call()  # type: ignore[operator]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_compiled_fields_equal_torch(shape: tuple[int, ...]) -> None:
    field, step = smooth_field(shape), smooth_field(shape, 0.5)
    image = torch.rand(2, *[max(1, n - 2) for n in shape])
    matrix = torch.eye(3, 4, dtype=torch.float64) + 0.05 * torch.randn(3, 4, dtype=torch.float64)
    if shape[0] == 1:
        matrix[0] = torch.tensor([1.0, 0, 0, 0])
        matrix[1:, 0] = 0
    sigma = [1.2 if n > 1 else 0.0 for n in shape]
    cases = [
        lambda: vf.pull(image, matrix, field),
        lambda: vf.compose(field, step, torch.empty_like(field)),
        lambda: vf.follow(field.clone(), step, 0.5, -1.0),
        lambda: vf.smooth(field.clone(), sigma),
        lambda: vf.Adam(field).direction(field.clone(), 1e-3),
        lambda: torch.tensor(vf.lengths(field)),
        lambda: vf.scale(field.clone(), [2.0, -1.0, 0.5]),
        lambda: vf.determinants(field),
    ]
    for case in cases:
        torch.testing.assert_close(case(), in_torch(case), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("longest", [0.5, 1.0, 2.6])
@pytest.mark.parametrize("shape", [*SHAPES, (45, 9, 8), (3, 4, 5)], ids=str)
def test_following_in_place_equals_composition_to_the_bit(shape: tuple[int, ...], longest: float) -> None:
    field = smooth_field(shape)
    step = (2 * torch.rand(3, *shape) - 1) * longest
    step.flatten()[0] = longest  # as long as it may be
    rows = Region.of(torch.rand(shape) > 0.8, 1).rows
    for sign in (1.0, -1.0):
        expected = vf.compose(field, sign * step, field.clone(), rows)
        assert torch.equal(vf.follow(field.clone(), step, longest, sign, rows), expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_composition_with_the_inverse_is_the_identity(shape: tuple[int, ...]) -> None:
    field = smooth_field(shape, 1.0)
    assert float(vf.determinants(field).min()) > 0.1
    inner = tuple(slice(3, -3) if n > 1 else slice(None) for n in shape)
    for inverse in (vf.invert(field), in_torch(lambda: vf.invert(field))):
        both = vf.compose(field, inverse, torch.empty_like(field))
        assert float(both[(slice(None), *inner)].norm(dim=0).max()) < 0.01


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_inverses_at_the_voxels_of_another_grid(shape: tuple[int, ...]) -> None:
    field = smooth_field(shape, 1.0)
    matrix = turned_into(shape)
    lattice = tuple(max(1, n - 5) for n in shape)
    for inverse in (vf.invert(field, matrix, lattice), in_torch(lambda: vf.invert(field, matrix, lattice))):
        moves = vf.turned(matrix[:, :3], inverse)  # voxels of the field
        both = moves + vf.pull(field, matrix, inverse)
        assert float(both.norm(dim=0).max()) < 0.01
        assert float(moves.norm(dim=0).max()) > 0.2


def turned_into(shape: tuple[int, ...]) -> torch.Tensor:
    """A map to voxels of such a grid, from those of a slightly turned, finer one well inside it."""
    angle, size = 0.3, 0.7
    matrix = torch.eye(3, 4, dtype=torch.float64)
    c, s = size * math.cos(angle), size * math.sin(angle)
    matrix[1:, 1:3] = torch.tensor([[c, -s], [s, c]])
    matrix[1:, 3] = torch.tensor([5.0, 2.5])
    if shape[0] > 1:
        matrix[0, 3], matrix[0, 1] = 3.4, 0.1
    return matrix


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_field_is_sharpened_to_be_right_where_it_is_read(shape: tuple[int, ...]) -> None:
    matrix = turned_into(shape)
    fine = torch.randn(3, *shape)
    fine = vf.smooth(fine, [0.8 if n > 1 else 0.0 for n in shape])
    fine[0] *= shape[0] > 1
    lattice = tuple(max(1, n - 5) for n in shape)
    still = torch.zeros(3, *lattice)
    wanted = vf.pull(fine, matrix, still)
    blurred = vf.smooth(fine.clone(), [0.7 if n > 1 else 0.0 for n in shape])

    def missing(field: torch.Tensor) -> float:
        return float((wanted - vf.pull(field, matrix, still)).square().mean().sqrt())

    before = missing(blurred)
    sharper = read_as(blurred.clone(), matrix, wanted)
    assert missing(sharper) < 0.5 * before
    # Far from the other grid nothing is known to be missing.
    assert torch.equal(sharper[:, :, 0], blurred[:, :, 0])


def stage(similarity: object = None, iterations: int = 15) -> DiffeomorphicStage:
    correlation = LocalNormalisedCrossCorrelation(2, variance_floor=1e-3)
    levels = [FieldLevel(2, iterations), FieldLevel(1, iterations)]
    return DiffeomorphicStage("test", similarity or correlation, levels, Steps())  # type: ignore[arg-type]


@cache
def phantom(ndim: int, seed: int) -> PhantomPair:
    spaces = [
        oblique_space((44, 40, 24)[:ndim], (4.0, 4.4, 7.0)[:ndim], 20, flips=[0]),
        oblique_space((40, 46, 30)[:ndim], (4.2, 4.0, 6.0)[:ndim], -15),
    ]
    return phantom_pair(spaces[0], spaces[1], seed=seed, noise=0.01)


@cache
def affine(ndim: int, seed: int) -> Transform:
    """The phantom's images brought onto each other by an affine stage."""
    pair = Pair(phantom(ndim, seed).fixed, phantom(ndim, seed).moving)
    transform, _ = LinearStage("affine", Affine(), MutualInformation(), (4, 2))(pair, CentresOfMass()(pair), Silent())
    return transform


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_phantom_on_oblique_grids_is_aligned_both_ways_without_folds(ndim: int) -> None:
    found = phantom(ndim, 3)
    views = [(found.fixed, found.fixed_labels), (found.moving, found.moving_labels)]
    starts: list[Transform] = []
    for (fixed, fixed_labels), (moving, moving_labels) in (views, views[::-1]):
        pair = Pair(fixed, moving)
        initial = starts[0].inverse() if starts else affine(ndim, 3)
        transform, report = stage()(pair, initial, Silent())
        scores = []
        for t in (initial, transform):
            warped = warp(moving_labels, t, fixed.space, nearest)[0]
            scores.append(mean_dice(dice(fixed_labels.data, warped.data)) or 0.0)
        assert scores[1] > scores[0] + 0.03
        assert folding_percent(transform, fixed.space) == 0
        assert report.loss_after < report.loss_before
        points = fixed.space.points()[fixed_labels.data[0, 0] > 0][::7]
        back = transform.inverse()(transform(points))
        # Both fields are interpolated between voxels of 4 mm and more.
        assert float((back - points).norm(dim=-1).mean()) < 0.15 * float(fixed.space.spacing.mean())
        starts.append(initial)


def test_mutual_information_moves_the_moving_image_alone() -> None:
    pair = phantom(3, 3)
    images = Pair(pair.fixed, pair.moving)
    transform, report = stage(MutualInformation(), 8)(images, affine(3, 3), Silent())
    assert report.loss_after < report.loss_before
    assert folding_percent(transform, pair.fixed.space) == 0


def test_flat_images_stay_where_they_are() -> None:
    flat = Image.of(torch.ones(16, 16, 16))
    transform, _ = stage(iterations=3)(Pair(flat, flat), Linear.identity(3), Silent())
    points = flat.space.points()
    torch.testing.assert_close(transform(points), points)


def test_a_diffeomorphism_is_written_with_its_inverse(tmp_path) -> None:  # type: ignore[no-untyped-def]
    pair = phantom(3, 3)
    transform, _ = stage(iterations=4)(Pair(pair.fixed, pair.moving), Linear.identity(3), Silent())
    write_transform(tmp_path / "t.h5", transform, pair.fixed.space, pair.moving.space)
    found, info = read_transform(tmp_path / "t.h5")
    points = pair.fixed.space.points().reshape(-1, 3)
    near = 0.02 * float(pair.fixed.space.spacing.max())  # files round by hundredths of a voxel
    torch.testing.assert_close(found(points), transform(points), rtol=0, atol=near)
    torch.testing.assert_close(found.inverse()(points), transform.inverse()(points), rtol=0, atol=near)
    assert info.exact and isinstance(found, Diffeomorphism)


def noisy(seed: int, space: Space, noise: float = 0.03) -> Image:
    """One bright ball in a field of noise."""
    far = (space.points() - space.centre).norm(dim=-1)
    shape = torch.sigmoid((0.25 * float(space.extent.max()) - far) / 2)
    return Image.of(shape + noise * torch.randn(space.shape, generator=torch.Generator().manual_seed(seed)), space)


def moved_mean(fixed: Image, moving: Image, initial: Transform) -> float:
    """How far the diffeomorphic stage of the default preset moves the voxels, on average, in voxels."""
    (dense,) = (stage for stage in presets.default().diffeomorphic() if isinstance(stage, DiffeomorphicStage))
    found, _ = dense(Pair(fixed, moving), initial, Silent())
    away = (found.on_grid(fixed.space) - fixed.space.points()).norm(dim=-1)
    return float(away.mean()) / float(fixed.space.spacing.min())


@pytest.mark.parametrize("shape", [(48, 44), (28, 26, 24)], ids=["2-D", "3-D"])
def test_identical_images_stay_where_they_are(shape: tuple[int, ...]) -> None:
    image = noisy(0, oblique_space(shape, (1.5, 1.2, 2.0)[: len(shape)], 10))
    nudge = Linear.translation(torch.full((len(shape),), 0.03, dtype=torch.float64))
    assert moved_mean(image, image, nudge) < 0.05


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("contrast", ["middle is dark", "inside is inverted"])
def test_fields_are_found_whatever_the_contrasts(ndim: int, contrast: str) -> None:
    pair = phantom(ndim, 3)
    seen, high = pair.moving.data, float(pair.moving.data.max())
    dark = (seen - high / 2).abs() if contrast == "middle is dark" else torch.where(seen > 0.1 * high, high - seen, 0)
    both = Pair(pair.fixed, pair.moving.with_data(dark))
    rigid, affine, *_, dense = presets.default().diffeomorphic()
    start, _ = affine(both, rigid(both, Linear.identity(ndim), Silent())[0], Silent())
    found, _ = dense(both, start, Silent())
    points = pair.fixed.space.points().double()[pair.fixed_labels.data[0, 0] > 0]
    away = [float((one(points) - pair.truth(points)).norm(dim=-1).mean()) for one in (start, found)]
    assert away[1] < 0.75 * away[0]


def test_a_bend_that_fits_is_not_smoothed_away() -> None:
    pair = phantom(3, 3)
    space = pair.fixed.space
    points = space.points().double()
    bend = DisplacementField((pair.truth(points) - points).movedim(-1, 0).float(), space)
    (dense,) = (stage for stage in presets.default().diffeomorphic() if isinstance(stage, DiffeomorphicStage))
    found, _ = dense(Pair(pair.fixed, pair.moving), bend, Silent())
    inside = pair.fixed_labels.data[0, 0] > 0
    away = (found(points[inside]) - pair.truth(points[inside])).norm(dim=-1)
    assert float(away.mean()) < 0.5 * float(space.spacing.min())


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_level_may_smooth_its_steps_more_than_others(ndim: int) -> None:
    found = phantom(ndim, 3)
    pair = Pair(found.fixed, found.moving)
    initial, bends = affine(ndim, 3), []
    for sigma in (None, 1.0, 4.0):
        levels = [FieldLevel(2, 10, sigma=sigma)]
        dense = DiffeomorphicStage("test", LocalNormalisedCrossCorrelation(2, 1e-3), levels, Steps(sigma=1.0))
        moved = dense(pair, initial, Silent())[0].on_grid(found.fixed.space) - initial.on_grid(found.fixed.space)
        bends.append(sum(float(moved.diff(2, dim=axis).square().mean()) for axis in range(ndim)))
    assert bends[0] == bends[1] > 1.5 * bends[2]


def test_levels_may_be_left_out_and_masks_may_be_thin() -> None:
    torch.manual_seed(0)
    space = Space.regular((96, 96))
    mask = torch.zeros(1, 1, 96, 96, dtype=torch.bool)
    mask[..., 40:42, 20:70] = True
    fixed, moving = (Image.of(torch.rand(96, 96), space) for _ in range(2))
    loss = LocalNormalisedCrossCorrelation(2)
    stage = DiffeomorphicStage("dense", loss, [FieldLevel(8, 2, 0.5), FieldLevel(2, 2, 0.5), FieldLevel(1, 0, 0.5)])
    for thin in (fixed.with_mask(mask), fixed):
        _, report = stage(Pair(thin, moving), Linear.identity(2), Silent())
        assert report.iterations == 4 and report.loss_after <= report.loss_before
    with pytest.raises(ValueError, match="no level has iterations"):
        DiffeomorphicStage("dense", loss, [FieldLevel(1, 0, 0.5)])
