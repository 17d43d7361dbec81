"""Labels and landmarks that guide an alignment: exact values, gradients, grids of their own, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from registration import pairwise
from registration.evaluation.metrics import dice, mean_dice
from registration.families import Affine, Rigid
from registration.image import Image
from registration.losses import MeanSquaredError, MutualInformation
from registration.pairwise import CentresOfMass, Header, LabelOverlap, Landmarks, LinearStage, SplineLevel, SplineStage
from registration.pairwise.terms import Proposal, Term, landmark_force, soft_labels
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


def test_soft_labels_take_their_share_on_any_grid() -> None:
    labels = torch.zeros(16, 16, 16)
    labels[4:12, 4:12, 4:12] = 2
    image = Image.of(labels, Space.regular((16, 16, 16)))
    coarse = image.space.resized((4, 4, 4))
    shares = soft_labels(image, [2, 9], coarse)
    assert shares.shape == (1, 2, 4, 4, 4) and bool((shares[:, 1] == 0).all())
    volume = float(shares[0, 0].sum()) * 64
    assert volume == pytest.approx(512, rel=1e-3) and 0 <= float(shares.min()) <= float(shares.max()) <= 1
    torch.testing.assert_close(soft_labels(image, [2], image.space)[0, 0], (labels == 2).float())


def test_soft_labels_are_smoothed_along_the_axes_that_need_it() -> None:
    labels = torch.zeros(16, 16, 6)
    labels[6:10, 6:10, 2:4] = 1
    image = Image.of(labels, Space.regular((16, 16, 6), (1.0, 1.0, 5.0)))
    torch.testing.assert_close(soft_labels(image, [1], image.space)[0, 0], labels)
    onto = Space.regular((16, 16, 30))
    assert float(soft_labels(image, [1], onto).amax()) == 1


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
