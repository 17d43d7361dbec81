"""The phantom: seeded, one-to-one, and consistent between images, labels and landmarks."""

from __future__ import annotations

import pytest
import torch

from registration.evaluation.metrics import dice, folding_percent, target_registration_error
from registration.phantom import NAMES, PhantomPair, oblique_space, phantom_pair
from registration.sampling import nearest, warp
from registration.space import Space
from registration.transforms.linear import Linear


def pair_of(ndim: int, seed: int = 0) -> PhantomPair:
    spacing = (3.2, 3.4, 4.5)[:ndim]
    fixed = oblique_space((50, 56, 38)[:ndim], spacing, 9)
    moving = oblique_space((56, 50, 40)[:ndim], (3.0, 3.8, 4.2)[:ndim], -14, flips=(0,))
    return phantom_pair(fixed, moving, seed)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_truth_aligns_everything(ndim: int) -> None:
    pair = pair_of(ndim)
    moved, inside = warp(pair.moving, pair.truth, pair.fixed.space)
    untouched, _ = warp(pair.moving, Linear.identity(ndim), pair.fixed.space)
    before, after = ((image.data - pair.fixed.data)[inside].abs().mean() for image in (untouched, moved))
    assert after < 0.4 * before and after < 0.05
    labels, _ = warp(pair.moving_labels, pair.truth, pair.fixed.space, nearest)
    scores = dice(pair.fixed_labels.data, labels.data)
    assert set(scores) <= set(NAMES) and len(scores) >= 6
    assert min(score for score in scores.values() if score is not None) > 0.75
    assert float(target_registration_error(pair.truth, pair.fixed_points, pair.moving_points).max()) < 1e-6
    assert float((pair.fixed_points - pair.moving_points).norm(dim=1).mean()) > 3


@pytest.mark.parametrize("seed", range(6))
def test_the_truth_is_one_to_one(seed: int) -> None:
    pair = pair_of(3, seed)
    points = pair.fixed.space.points(torch.zeros(0, dtype=torch.float64)).reshape(-1, 3)[::17]
    assert torch.allclose(pair.truth.inverse()(pair.truth(points)), points, atol=1e-6)
    assert folding_percent(pair.truth, pair.fixed.space) == 0


def test_seeds() -> None:
    first, again, other = pair_of(2, 1), pair_of(2, 1), pair_of(2, 2)
    assert torch.equal(first.fixed.data, again.fixed.data) and torch.equal(first.moving.data, again.moving.data)
    assert not torch.equal(first.fixed_labels.data, other.fixed_labels.data)


def test_grids_of_two_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="2 axes"):
        phantom_pair(Space.regular((9, 9)), Space.regular((9, 9, 9)))


def test_oblique_space() -> None:
    straight = oblique_space((8, 6, 4), (1.0, 2.0, 3.0), 0)
    assert straight.same_as(Space.regular((8, 6, 4), (1.0, 2.0, 3.0)))
    flipped = oblique_space((8, 6, 4), (1.0, 2.0, 3.0), 0, flips=(1,))
    assert torch.allclose(flipped.points().flip(1), straight.points(), atol=1e-5)
    turned = oblique_space((8, 6, 4), (1.0, 2.0, 3.0), 30)
    assert torch.allclose(turned.spacing, straight.spacing) and torch.allclose(
        turned.centre, straight.centre, atol=1e-9
    )
