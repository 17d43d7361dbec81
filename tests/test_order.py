"""Exchanging fixed and moving gives the inverse transform."""

from __future__ import annotations

import pytest
import torch

from registration.families import Affine
from registration.losses import MutualInformation, WideLocalCorrelation
from registration.pairwise import CentresOfMass, DiffeomorphicStage, FieldLevel, LinearStage, Pipeline
from registration.pairwise.order import swapped
from registration.phantom import oblique_space, phantom_pair
from registration.transforms.linear import Linear
from registration.transforms.tps import ThinPlateSpline


@pytest.mark.parametrize("ndim", [2, 3])
def test_exchanged_images_give_the_inverse(ndim: int) -> None:
    spaces = [
        oblique_space((44, 40, 24)[:ndim], (4.0, 4.4, 7.0)[:ndim], 20, flips=[0]),
        oblique_space((40, 46, 30)[:ndim], (4.2, 4.0, 6.0)[:ndim], -15),
    ]
    pair = phantom_pair(spaces[0], spaces[1], seed=4, noise=0.01)
    stages = [
        LinearStage("affine", Affine(), MutualInformation(), (4, 2)),
        DiffeomorphicStage("dense", WideLocalCorrelation(), [FieldLevel(2, 8), FieldLevel(1, 8)]),
    ]
    pipeline = Pipeline(CentresOfMass(), stages, symmetric=True)
    there, back = pipeline(pair.fixed, pair.moving), pipeline(pair.moving, pair.fixed)
    assert swapped(pair.fixed, pair.moving, None, ()) != swapped(pair.moving, pair.fixed, None, ())
    points = pair.fixed.space.points()[pair.fixed_labels.data[0, 0] > 0][::7].double()
    moved = there.transform(points)
    assert float((moved - points).norm(dim=-1).mean()) > 1
    # One is the other's inverse to the bit; what is left is the interpolation of fields between voxels of 4 to 7 mm.
    assert torch.equal(back.transform.inverse()(points), moved)
    assert float((back.transform(moved) - points).norm(dim=-1).mean()) < 0.8


def test_starts_that_bend_and_other_dimensions_keep_the_order() -> None:
    pair = phantom_pair(oblique_space((20, 20), (2.0, 2.0), 0), oblique_space((24, 24), (1.0, 1.0), 0), seed=1)
    points = torch.rand(5, 2, dtype=torch.float64)
    bend = ThinPlateSpline(points, points + 0.1)
    assert swapped(pair.fixed, pair.moving, None, ()) and swapped(pair.fixed, pair.moving, Linear.identity(2), ())
    assert not swapped(pair.fixed, pair.moving, bend, ())
    masked = pair.fixed.with_mask(torch.ones_like(pair.fixed.data, dtype=torch.bool))
    assert not swapped(masked, pair.moving, None, ()) and swapped(pair.moving, masked, None, ())
