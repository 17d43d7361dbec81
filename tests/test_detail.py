"""Images finer than the field that reads them, and fields finer than the voxels while they are found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from registration.compiled import Region
from registration.evaluation.metrics import folding_percent
from registration.families import Affine
from registration.image import Image
from registration.losses import LocalMutualInformation, MutualInformation
from registration.pairwise import CentresOfMass, DiffeomorphicStage, FieldLevel, LinearStage, Pair, Silent
from registration.pairwise import voxelfields as vf
from registration.pairwise.boxes import cut, surroundings
from registration.pairwise.ground import common_ground
from registration.pairwise.middle import Middle, split
from registration.phantom import oblique_space, phantom_pair
from registration.space import Space
from registration.transforms.base import parts_of
from registration.transforms.diffeomorphism import Diffeomorphism
from registration.transforms.linear import Linear

SHAPES = {2: (30, 26), 3: (22, 20, 16)}


def stage(*levels: FieldLevel, **settings: Any) -> DiffeomorphicStage:
    return DiffeomorphicStage("test", LocalMutualInformation(), levels, **settings)


def ramp(space: Space, onto: Linear) -> Image:
    """Intensities that grow along the first axis of the fixed world, faint at every other voxel."""
    points = onto.inverse()(space.points())
    return Image(points[..., 0][None, None].float(), space)


@pytest.mark.parametrize("shift", [0.0, 3.0])
@pytest.mark.parametrize("ndim", [2, 3])
def test_what_is_read_finer_lies_where_it_lay(ndim: int, shift: float) -> None:
    fixed_space = oblique_space(SHAPES[ndim], (2.0, 2.5, 3.0)[:ndim], 20, flips=[0])
    moving_space = oblique_space(SHAPES[ndim][::-1], (2.4, 2.0, 2.2)[:ndim], -15)
    start = Linear.identity(ndim)
    start.matrix[0, -1] = shift
    pair = Pair(ramp(fixed_space, Linear.identity(ndim)), ramp(moving_space, start))
    pair.fixed, pair.moving = ramp(fixed_space, Linear.identity(ndim)), ramp(moving_space, start)  # not rescaled
    outer, _ = split(start)
    middle = Middle(cut(pair.fixed, surroundings(common_ground(pair, start))), pair.moving, outer, None)
    region = Region.whole(tuple(middle.phi_m.shape[1:]))  # type: ignore[arg-type]
    level = FieldLevel(1, 1, detail=2)
    sources = replaced(stage(level, edges=0.0)).sources(pair, middle, region, level)
    points = middle.fixed.space.points()
    for image, side, world in zip((pair.fixed, pair.moving), sources, (points, start(points)), strict=True):
        assert side.channels[0].numel() > image.data.numel()
        seen = vf.pull(side.channels, side.matrix, torch.zeros_like(middle.phi_f)).reshape(points.shape[:-1])
        to_index = torch.linalg.inv(image.space.affine)
        index = world.double() @ to_index[:ndim, :ndim].T + to_index[:ndim, ndim]
        inside = ((index > 4) & (index < torch.tensor(image.space.shape) - 5)).all(dim=-1)
        assert int(inside.sum()) > 50
        # A line is a line between voxels as well, but near the border, beyond which splines see the image mirrored.
        torch.testing.assert_close(seen[inside], points[..., 0][inside].float(), rtol=0, atol=0.05)


@pytest.mark.parametrize("ndim", [2, 3])
def test_finer_images_are_blurred_less_between_their_voxels(ndim: int) -> None:
    space = Space.regular((24, 25, 26)[:ndim], 1.5)
    place = torch.stack(torch.meshgrid(*[torch.arange(n).float() for n in space.shape], indexing="ij"))
    image = Image.of(torch.sin(1.4 * place.sum(dim=0)), space)
    pair = Pair(image, image)
    pair.fixed = pair.moving = image  # not rescaled
    middle = Middle(image, image, Linear.identity(ndim), None)
    middle.phi_m[3 - ndim :] = 0.3  # voxels
    region = Region.whole(tuple(middle.phi_m.shape[1:]))  # type: ignore[arg-type]
    inner = (slice(5, -5),) * ndim
    truth = torch.sin(1.4 * (place + 0.3).sum(dim=0))[inner]
    errors = []
    for detail in (1, 2):
        level = FieldLevel(1, 1, detail=detail)
        _, moving = replaced(stage(level, edges=0.0)).sources(pair, middle, region, level)
        seen = vf.pull(moving.channels, moving.matrix, middle.phi_m).reshape(space.shape)[inner]
        errors.append(float((seen - truth).abs().mean()))
    assert errors[1] < 0.5 * errors[0]


def replaced(bends: DiffeomorphicStage) -> DiffeomorphicStage:
    """The stage with intensities as they are."""
    bends.similarity = bends.channels.similarity = LocalMutualInformation(spread=0)
    return bends


@pytest.mark.parametrize("level", [FieldLevel(1, 12, detail=2), FieldLevel(0.6, 12)], ids=["detail", "finer"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_the_truth_is_found_and_read_at_the_voxels(ndim: int, level: FieldLevel) -> None:
    spaces = [
        oblique_space((44, 40, 24)[:ndim], (4.0, 4.4, 7.0)[:ndim], 20, flips=[0]),
        oblique_space((40, 46, 30)[:ndim], (4.2, 4.0, 6.0)[:ndim], -15),
    ]
    phantom = phantom_pair(spaces[0], spaces[1], seed=3, noise=0.01)
    pair = Pair(phantom.fixed, phantom.moving)
    bends = stage(FieldLevel(2, 12), level)
    centred = CentresOfMass()(pair)
    start, _ = LinearStage("affine", Affine(), MutualInformation(), (4, 2))(pair, centred, Silent())
    found, _ = bends(pair, start, Silent())
    inside = phantom.fixed.space.points()[phantom.fixed_labels.data[0, 0] > 0]
    truth = phantom.truth(inside)
    errors = [float((t(inside) - truth).norm(dim=-1).mean()) for t in (start, found)]
    assert errors[1] < 0.7 * errors[0]
    assert folding_percent(found, phantom.fixed.space) == 0
    back = (found.inverse()(found(inside)) - inside).norm(dim=-1)
    assert float(back.mean()) < 0.5  # mm, of voxels of 4 and more
    (field,) = (part.forward for part in parts_of(found) if isinstance(part, Diffeomorphism))
    torch.testing.assert_close(field.space.spacing, phantom.fixed.space.spacing)


def test_where_nothing_counts_nothing_is_made_finer() -> None:
    image = Image.of(torch.rand(9, 8, 7))
    middle = Middle(image, image, Linear.identity(3), None)
    region = Region(Region.whole((9, 8, 7)).rows, torch.zeros(9, 8, 7, dtype=torch.uint8))
    level = FieldLevel(1, 2, detail=2)
    fixed, moving = stage(level).sources(Pair(image, image), middle, region, level)
    assert fixed.channels.shape == moving.channels.shape == (2, 9, 8, 7)


def test_levels_for_small_images_are_divided_as_far_as_the_stage_lets_them() -> None:
    pair = Pair(*(Image.of(torch.rand(36, 40, 36)) for _ in range(2)))
    levels = FieldLevel(4, 3), FieldLevel(2, 4), FieldLevel(1, 5, detail=1.5)
    assert [(one.shrink, one.iterations) for one in stage(*levels).fitting(pair)] == [(2, 3), (1, 9)]
    assert [(one.shrink, one.iterations) for one in stage(*levels, least=0.6).fitting(pair)] == [
        (2, 3),
        (1, 4),
        (0.6, 5),
    ]
    large = Pair(*(Image.of(torch.rand(80, 80, 80)) for _ in range(2)))
    assert [one.shrink for one in stage(*levels, least=0.6).fitting(large)] == [4, 2, 1]


@pytest.mark.parametrize("detail", [0.5, 4.5, float("nan"), "2", None, True])
def test_detail_out_of_range_is_refused(detail: Any) -> None:
    with pytest.raises(ValueError, match="detail is a number from 1 to 4"):
        replace(FieldLevel(1, 1), detail=detail)


@pytest.mark.parametrize("least", [0.0, 1.5, float("nan")])
def test_least_out_of_range_is_refused(least: float) -> None:
    with pytest.raises(ValueError, match="least is a number above 0"):
        stage(FieldLevel(1, 1), least=least)
