"""Labels and landmarks guide the diffeomorphic stage where the images alone lead astray."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from registration.evaluation.metrics import dice, folding_percent
from registration.filters import downsample
from registration.image import Image
from registration.losses import WideLocalCorrelation
from registration.pairwise import DiffeomorphicStage, FieldLevel, Pair, Silent
from registration.pairwise.guides import LabelGuide, LandmarkGuide
from registration.pairwise.middle import Middle
from registration.pairwise.terms import LabelOverlap, Landmarks, Proposal, Term
from registration.phantom import oblique_space
from registration.sampling import nearest, unit_grid, warp
from registration.space import Space
from registration.transforms.base import Transform
from registration.transforms.linear import Linear

SIZE = (40, 36, 20)


def ball(space: Space, x: float, radius: float = 8.0) -> torch.Tensor:
    """(*S) 1 in a ball about a place on the first axis of the grid, mm from the centre."""
    centre = space.centre + x * space.affine[:-1, 0] / space.spacing[0]
    return ((space.points().double() - centre).norm(dim=-1) < radius).float()


def decoy(ndim: int) -> tuple[Image, Image, Image, Image]:
    """A ball; beside it another that looks like it, and farther off the one that it is, known by its label."""
    space = oblique_space(SIZE[:ndim], (1.5, 1.6, 2.0)[:ndim], 15, flips=[0])
    fixed, wrong, right = ball(space, 0), ball(space, -7), ball(space, 9)
    images = Image.of(fixed, space, "fixed"), Image.of((wrong + 0.95 * right).clamp(max=1), space, "moving")
    return *images, Image.of(3 * fixed, space, "fixed labels"), Image.of(3 * right, space, "moving labels")


def aligned(fixed: Image, moving: Image, terms: Sequence[Term]) -> Transform:
    stage = DiffeomorphicStage("dense", WideLocalCorrelation(), [FieldLevel(2, 30, 0.5), FieldLevel(1, 20, 0.4)])
    pair = Pair(fixed, moving, terms=terms)
    return stage(pair, Linear.identity(fixed.ndim), Silent())[0]


@pytest.mark.parametrize("ndim", [2, 3])
def test_labels_lead_where_the_image_goes_wrong(ndim: int) -> None:
    fixed, moving, fixed_labels, moving_labels = decoy(ndim)
    scores = []
    for terms in ([], [LabelOverlap(fixed_labels, moving_labels, 3)]):
        found = aligned(fixed, moving, terms)
        warped = warp(moving_labels, found, fixed.space, nearest)[0]
        scores.append(dice(fixed_labels.data, warped.data).get(3) or 0.0)
        assert folding_percent(found, fixed.space) == 0
    assert scores[0] < 0.6 and scores[1] > 0.85


@pytest.mark.parametrize("ndim", [2, 3])
def test_landmarks_lead_where_the_image_goes_wrong(ndim: int) -> None:
    fixed, moving, *_ = decoy(ndim)
    here = fixed.space.centre[None]
    there = here + 9 * fixed.space.affine[:-1, 0] / fixed.space.spacing[0]
    missed = []
    for terms in ([], [Landmarks(here, there, 500)]):
        found = aligned(fixed, moving, terms)
        missed.append(float((found(here) - there).norm()))
        assert folding_percent(found, fixed.space) == 0
    assert missed[0] > 6 and missed[1] < 2


@pytest.mark.parametrize("ndim", [2, 3])
def test_guides_measure_and_descend_what_terms_do(ndim: int) -> None:
    fixed, moving, fixed_labels, moving_labels = decoy(ndim)
    middle = Middle(fixed, moving, Linear.identity(ndim), None)
    here = fixed.space.centre[None] + torch.tensor([[2.0, -1.0, 0.5][:ndim]])
    landmarks = (here, here + torch.tensor([[3.0, 4.0, 0.0][:ndim]]))
    guides = [
        (LabelGuide((fixed_labels, moving_labels), [3.0], 2.0, middle), None),
        (LandmarkGuide(landmarks, 7.0, fixed.space), 7 * 25 / fixed.space.radius**2),
    ]
    for guide, expected in guides:
        middle.phi_m.zero_()
        out = torch.zeros_like(middle.phi_m)
        before = guide.push(middle, out[0].numel(), out)
        assert expected is None or before == pytest.approx(expected, rel=1e-4)
        assert 0 < before <= 2
        middle.phi_m -= 0.2 * out / out.abs().max()
        after = guide.push(middle, 1, torch.zeros_like(out))
        slope = float((out * middle.phi_m).sum()) / out[0].numel()
        # What the derivative promises to first order for labels; of landmarks, where fields move as one.
        assert after < before
        if expected is None:
            assert after - before == pytest.approx(slope, rel=0.5)


@pytest.mark.parametrize("ndim", [2, 3])
def test_landmarks_promise_what_opposite_moves_bring(ndim: int) -> None:
    space = Space.regular(SIZE[:ndim], 2.0)
    image = Image.of(torch.rand(space.shape), space)
    here = space.centre[None]
    there = here + torch.tensor([[3.0, 2.0, -1.0][:ndim]])
    middle = Middle(image, image, Linear.identity(ndim), None)
    guide, out = LandmarkGuide((here, there), 7.0, space), torch.zeros_like(middle.phi_m)
    before = guide.push(middle, out[0].numel(), out)
    move = torch.zeros_like(out)
    move[3 - ndim :] = 0.001 * (torch.arange(ndim) + 1.0).reshape(-1, *[1] * 3)
    middle.phi_m += move
    middle.phi_f -= move
    after = guide.push(middle, 1, torch.zeros_like(out))
    assert after - before == pytest.approx(float((out * move).sum()) / out[0].numel(), rel=0.05)


@pytest.mark.parametrize("radius", [2.0, 3.0, 5.0])
@pytest.mark.parametrize("shrink", [1, 3, 4])
def test_a_label_is_at_coarse_levels_what_the_term_sees(radius: float, shrink: int) -> None:
    space = Space.regular((40, 36, 32))
    labels = [Image.of(ball(space, x, radius), space) for x in (0.0, radius)]
    level = labels[0].with_data(torch.rand(1, 1, *space.shape))
    level = downsample(level, [n // shrink for n in space.shape])
    middle, identity = Middle(level, level, Linear.identity(3), None), Linear.identity(3)
    found = LabelGuide((labels[0], labels[1]), [1.0], 1.0, middle).push(middle, 1, torch.zeros_like(middle.phi_m))
    term = LabelOverlap(labels[0], labels[1], 1.0).bind(level, level, space)
    expected = term(Proposal(unit_grid(identity, level.space, level.space, level.data), identity))
    assert found == pytest.approx(float(expected), abs=0.01)
