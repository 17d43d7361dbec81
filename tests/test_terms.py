"""Labels and landmarks that guide an alignment: exact values, gradients, grids of their own, and what is refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from registration import pairwise
from registration.evaluation.metrics import dice, mean_dice
from registration.families import Affine, Rigid
from registration.image import Image
from registration.losses import MeanSquaredError, MutualInformation
from registration.pairwise import CentresOfMass, Header, LabelOverlap, Landmarks, LinearStage, SplineLevel, SplineStage
from registration.pairwise.guides import landmark_force
from registration.pairwise.shares import share_on
from registration.pairwise.terms import Proposal, Term
from registration.phantom import PhantomPair, oblique_space, phantom_pair
from registration.sampling import nearest, unit_grid, warp
from registration.space import Space
from registration.transforms.base import Transform
from registration.transforms.linear import Linear


def phantom(ndim: int) -> PhantomPair:
    spaces = [
        oblique_space((40, 36, 24)[:ndim], (4.0, 4.4, 7.0)[:ndim], 20, flips=[0]),
        oblique_space((36, 40, 28)[:ndim], (4.2, 4.0, 6.0)[:ndim], -15),
    ]
    return phantom_pair(spaces[0], spaces[1], seed=1, deformation=7.0, noise=0.01)


def distance(found: PhantomPair, transform: Transform) -> float:
    return float((transform(found.fixed_points) - found.moving_points).norm(dim=-1).mean())


def value(term: Term, fixed: Image, moving: Image, transform: Transform) -> Tensor:
    grid = unit_grid(transform, moving.space, fixed.space, fixed.data)
    return term.bind(fixed, moving, fixed.space)(Proposal(grid, transform))


def blank(image: Image) -> Image:
    """Nothing to see: the terms alone decide."""
    return image.with_data(torch.zeros_like(image.data))


@pytest.mark.parametrize("ndim", [2, 3])
def test_landmarks_alone_align(ndim: int) -> None:
    found = phantom(ndim)
    term = Landmarks(found.fixed_points, found.moving_points, 10)
    start = CentresOfMass()(pairwise.Pair(found.fixed, found.moving))
    stages = [
        LinearStage("affine", Affine(), MeanSquaredError(), (2,)),
        SplineStage("tps", MeanSquaredError(), [SplineLevel(2, 8)], bending=1e-4),
    ]
    fixed = blank(found.fixed).with_mask(torch.ones(found.fixed.space.shape))
    distances = [distance(found, start)]
    for count in (1, 2):
        result = pairwise.register(fixed, blank(found.moving), stages[:count], initial=start, terms=[term])
        distances.append(distance(found, result.transform))
    assert distances[1] < 0.7 * distances[0] and distances[2] < 0.4 * distances[1]


@pytest.mark.parametrize("ndim", [2, 3])
def test_labels_guide_where_the_images_show_nothing(ndim: int) -> None:
    found = phantom(ndim)
    term = LabelOverlap(found.fixed_labels, found.moving_labels, 1.0)
    stages = [
        LinearStage("affine", Affine(), MeanSquaredError(), (1,)),
        SplineStage("tps", MeanSquaredError(), [SplineLevel(1, 8)], bending=1e-3),
    ]
    start = CentresOfMass()(pairwise.Pair(found.fixed, found.moving))
    fixed = blank(found.fixed).with_mask(torch.ones(found.fixed.space.shape))
    result = pairwise.register(fixed, blank(found.moving), stages, initial=start, terms=[term])

    def overlap(transform: Transform) -> float:
        moved = warp(found.moving_labels, transform, found.fixed.space, nearest)[0].data
        reached = mean_dice(dice(found.fixed_labels.data, moved))
        assert reached is not None
        return reached

    assert overlap(result.transform) > overlap(start) + 0.07 and overlap(result.transform) > 0.75


def test_terms_are_added_to_the_similarity() -> None:
    found = phantom(3)
    stage = LinearStage("rigid", Rigid(), MutualInformation(), (2,))
    term = Landmarks(found.fixed_points, found.moving_points, 30)
    alone = pairwise.register(found.fixed, found.moving, [stage], initial=Header())
    guided = pairwise.register(found.fixed, found.moving, [stage], initial=Header(), terms=[term])
    assert distance(found, guided.transform) < distance(found, alone.transform)
    there = float(value(term, found.fixed, found.moving, Linear.identity(3)))
    assert guided.stages[0].loss_before == pytest.approx(alone.stages[0].loss_before + there, rel=1e-5)


def test_the_landmark_term_is_the_mean_squared_distance_in_radii() -> None:
    image = Image.of(torch.zeros(11, 21), Space.regular((11, 21), (2.0, 1.0)))
    here = torch.tensor([[0.0, 0], [3, 4]])
    moved = here + torch.tensor([[3.0, 4], [0, 1]])
    expected = 7 * (25 + 1) / 2 / image.space.radius**2
    found = value(Landmarks(here, moved, 7), image, image, Linear.identity(2))
    assert float(found) == pytest.approx(expected)


def test_the_label_term_is_soft_dice() -> None:
    fixed, moving = torch.zeros(2, 20, 20)
    fixed[4:10, 4:10], moving[4:10, 7:13] = 3, 3
    fixed[14:18, 2:6], moving[14:18, 2:6] = 5, 5
    one, other = Image.of(fixed), Image.of(moving)
    assert float(value(LabelOverlap(one, other), one, other, Linear.identity(2))) == pytest.approx(1 - (0.5 + 1) / 2)
    assert float(value(LabelOverlap(one, other, 2, [5]), one, other, Linear.identity(2))) == pytest.approx(0, abs=1e-6)
    assert float(value(LabelOverlap(one, other, 2, [3]), one, other, Linear.identity(2))) == pytest.approx(1.0)


def test_the_gradient_of_labels_points_home() -> None:
    fixed, moving = torch.zeros(2, 20, 20)
    fixed[4:10, 4:10], moving[4:10, 6:12] = 1, 1
    one, other = Image.of(fixed), Image.of(moving)
    bound = LabelOverlap(one, other).bind(one, other, one.space)
    shift = torch.zeros(2, requires_grad=True)
    grid = unit_grid(Linear.identity(2), other.space, one.space, one.data) + shift
    (slope,) = torch.autograd.grad(bound(Proposal(grid, Linear.identity(2))), shift)
    assert float(slope[0]) < -0.1 and abs(float(slope[1])) < 1e-5  # x is the last axis: further along it is better


def whole_share(labels: Image, label: float, onto: Space) -> Tensor:
    """(*S) the share of a label on all of a grid."""
    share, whole = share_on(labels, label, onto).within(onto.shape), torch.zeros(onto.shape)
    whole[tuple(slice(a, a + n) for a, n in zip(share.first, share.shape, strict=True))] = share.values[0, 0]
    return whole


def test_labels_take_their_share_on_any_grid() -> None:
    labels = torch.zeros(16, 16, 16)
    labels[4:12, 4:12, 4:12] = 2
    image = Image.of(labels, Space.regular((16, 16, 16)))
    coarse = image.space.resized((4, 4, 4))
    share = whole_share(image, 2, coarse)
    assert bool((whole_share(image, 9, coarse) == 0).all())
    volume = float(share.sum()) * 64
    assert volume == pytest.approx(512, rel=1e-3) and 0 <= float(share.min()) <= float(share.max()) <= 1
    torch.testing.assert_close(whole_share(image, 2, image.space), (labels == 2).float())
    assert max(share_on(image, 2, image.space).shape) <= 16  # the label and a little around it


def blocks(space: Space, seed: int, count: int = 12) -> Image:
    """Boxes anywhere, at the border too."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.zeros(space.shape)
    for label in range(1, count + 1):
        low = [int(torch.randint(0, max(1, n - 3), (), generator=generator)) for n in space.shape]
        labels[tuple(slice(a, a + 5) for a in low)] = label
    return Image.of(labels, space)


def dense_overlap(maps: tuple[Image, Image], values: list[float], moving: Space, onto: Space, grid: Tensor) -> Tensor:
    """The mean soft Dice with every label on every voxel."""
    target = torch.stack([whole_share(maps[0], value, onto) for value in values])[None]
    source = torch.stack([whole_share(maps[1], value, moving) for value in values])[None]
    inside = (grid.detach().abs().amax(dim=-1) <= 1)[:, None]
    found = F.grid_sample(source, grid, padding_mode="border", align_corners=False) * inside
    axes = tuple(range(2, found.ndim))
    return (2 * (found * target).sum(axes) / (target.square() + found.square()).sum(axes).clamp_min(1e-30)).mean()


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("turn", [0.0, 25.0, 180.0])
def test_labels_in_boxes_of_their_own_overlap_as_they_do_on_all_voxels(ndim: int, turn: float) -> None:
    own = oblique_space((22, 19, 14)[:ndim], (1.0, 1.3, 2.0)[:ndim], 10, flips=[1])
    other = oblique_space((17, 24, 12)[:ndim], (1.4, 1.0, 2.2)[:ndim], -20)
    maps = blocks(oblique_space((30, 28, 16)[:ndim], (0.8, 0.9, 1.8)[:ndim], 10), 0), blocks(other, 1)
    term = LabelOverlap(*maps, weight=2.0)
    images = Image.of(torch.zeros(own.shape), own), Image.of(torch.zeros(other.shape), other)
    angle = torch.tensor(turn).deg2rad()
    matrix = torch.eye(ndim + 1, dtype=torch.float64)
    matrix[:2, :2] = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).reshape(2, 2)
    grid = unit_grid(Linear(matrix), other, own, images[0].data)
    grid = (grid + 0.05 * torch.randn(grid.shape, generator=torch.Generator().manual_seed(2))).requires_grad_()
    found = term.bind(*images, own)(Proposal(grid, Linear.identity(ndim)))
    expected = 2 * (1 - dense_overlap(maps, term.labels, other, own, grid))
    assert float(found.detach()) == pytest.approx(float(expected.detach()), abs=1e-6)
    slopes = [torch.autograd.grad(one, grid)[0] for one in (found, expected)]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-3, atol=1e-6)


def test_labels_beyond_the_other_grid_overlap_with_nothing() -> None:
    labels = torch.zeros(20, 20)
    labels[2:6, 2:6], labels[14:18, 14:18] = 1, 2
    image = Image.of(labels)
    half = Image(torch.zeros(1, 1, 8, 20), image.space.cropped((0, 0), (8, 20)))
    assert float(value(LabelOverlap(image, image), image, half, Linear.identity(2))) == pytest.approx(0.5)
    away = Linear.translation(torch.tensor([500.0, 0]))
    assert float(value(LabelOverlap(image, image), image, half, away)) == pytest.approx(1)


def test_many_labels_hold_no_more_than_their_voxels() -> None:
    labels = (
        torch.arange(64.0).reshape(4, 4, 4).repeat_interleave(12, 0).repeat_interleave(12, 1).repeat_interleave(12, 2)
    )
    image = Image.of(labels)
    shares = [share_on(image, float(label), image.space).within(image.space.shape) for label in range(64)]
    assert sum(share.values.numel() for share in shares) < 4 * labels.numel()


def test_shares_are_smoothed_along_the_axes_that_need_it() -> None:
    labels = torch.zeros(16, 16, 6)
    labels[6:10, 6:10, 2:4] = 1
    image = Image.of(labels, Space.regular((16, 16, 6), (1.0, 1.0, 5.0)))
    torch.testing.assert_close(whole_share(image, 1, image.space), labels)
    onto = Space.regular((16, 16, 30))
    assert float(whole_share(image, 1, onto).amax()) == 1


def test_a_landmark_pushes_its_surroundings() -> None:
    space = Space.regular((21, 25), (2.0, 1.0))
    points, error = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, -2.0]])
    force = landmark_force(error, points, space, sigma=2.0)
    torch.testing.assert_close(force[10, 12], error[0])
    assert float(force[0, 0].norm()) < 1e-6 and force.shape == (21, 25, 2)
    twice = landmark_force(error.repeat(2, 1), points.repeat(2, 1), space, sigma=2.0)
    torch.testing.assert_close(twice[10, 12], error[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, b: LabelOverlap(a, b), "no label is in both"),
        (lambda a, b: LabelOverlap(b, b, labels=[4]), r"no label of \[4\]"),
        (lambda a, b: LabelOverlap(b, b, 0), "above 0"),
        (lambda a, b: Landmarks(torch.zeros(2, 2), torch.zeros(3, 2)), "of one shape"),
        (lambda a, b: Landmarks(torch.zeros(0, 2), torch.zeros(0, 2)), "of one shape"),
        (lambda a, b: Landmarks(torch.full((1, 2), torch.nan), torch.zeros(1, 2)), "NaN"),
        (lambda a, b: Landmarks(torch.zeros(1, 3), torch.zeros(1, 3)).bind(a, a, a.space), "do not fit"),
    ],
)
def test_refusals(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call(Image.of(torch.zeros(4, 4), name="a"), Image.of(torch.ones(4, 4), name="b"))
