"""Slow shading left out of what deforms two images, where they share more without it."""

from __future__ import annotations

import pytest
import torch

from registration.image import Image
from registration.pairwise import Header, Pair, Pipeline, Silent, presets
from registration.pairwise.shading import Shading, evened
from registration.phantom import PhantomPair, oblique_space, phantom_pair
from registration.space import Space

SHAPES = [(64, 72, 56), (128, 144)]


@pytest.fixture(scope="module", params=SHAPES, ids=["3d", "2d"])
def phantom(request: pytest.FixtureRequest) -> PhantomPair:
    shape: tuple[int, ...] = request.param
    fixed = Space.regular(shape, 200 / max(shape))
    moving = oblique_space([n - 6 for n in shape], [210 / max(shape)] * len(shape), 10, flips=[0])
    centred = fixed.affine.clone()
    centred[:-1, -1] -= fixed.centre
    return phantom_pair(Space(shape, centred), moving, 2)


def shade(image: Image, strength: float) -> tuple[Image, torch.Tensor]:
    """Brighter towards one corner, darker towards the other; by exp(±strength) at the ends of the first axis."""
    places = image.space.points() / 100
    gain = (strength * (places[..., 0] - 0.7 * places[..., 1])).exp().float()[None, None]
    return image.with_data(image.data * gain), gain


def spread(gain: torch.Tensor, where: torch.Tensor) -> float:
    return float(gain[where].log().std())


@pytest.mark.parametrize("background", [0.0, 1.0])
def test_known_shading_is_told_and_taken_out(phantom: PhantomPair, background: float) -> None:
    image = phantom.fixed
    shaded, gain = shade(image, 0.8)
    object_ = phantom.fixed_labels.data > 0.5
    if background:  # a white slide: what is dark stands out, and shading leaves the background alone
        image, shaded = (i.with_data(background - i.data) for i in (image, shaded))
    even = Shading.of(shaded).without(shaded)
    bare = Shading.of(image).without(image)
    left = (even.data - background) / (bare.data - background)
    clear = object_ & ((image.data - background).abs() > 0.2)
    assert spread(left.abs(), clear) < 0.5 * spread(gain, clear)
    # What has no shading hardly changes.
    assert spread(((bare.data - background) / (image.data - background)).abs(), clear) < 0.3 * spread(gain, clear)


def test_images_without_shading_stay_the_very_same(phantom: PhantomPair) -> None:
    pair = Pair(phantom.fixed, phantom.moving)
    same, told = evened(pair, phantom.truth)
    assert same is pair and told == ""


class Notes(Silent):
    def __init__(self) -> None:
        self.told = ""

    def note(self, text: str) -> None:
        self.told += text


def test_shaded_images_are_aligned_better_without(phantom: PhantomPair) -> None:
    fixed, moving = shade(phantom.fixed, 0.9)[0], shade(phantom.moving, -0.9)[0]
    missed = {}
    for even in (True, False):
        notes = Notes()
        found = Pipeline(Header(), presets.fast().diffeomorphic(), even=even)(fixed, moving, observer=notes)
        missed[even] = float((found.transform(phantom.fixed_points) - phantom.moving_points).norm(dim=1).mean())
        assert ("slow shading is left out" in notes.told) is even, notes.told
    assert missed[True] < missed[False]


def test_masks_channels_and_empty_objects(phantom: PhantomPair) -> None:
    mask = phantom.fixed_labels.data > 0.5
    shaded, _ = shade(phantom.fixed, 0.8)
    two = shaded.with_data(torch.cat([shaded.data, 3 * phantom.fixed.data], dim=1)).with_mask(mask)
    told = Shading.of(two)
    assert told.gain.shape[1] == 2 and bool(torch.isfinite(told.without(two).data).all())
    assert float(told.gain[:, 0].std()) > 2 * float(told.gain[:, 1].std())
    flat = shaded.with_data(torch.ones_like(shaded.data))
    assert torch.allclose(Shading.of(flat).without(flat).data, flat.data, atol=1e-5)
    nothing = shaded.with_mask(torch.zeros_like(mask))
    assert torch.allclose(Shading.of(nothing).without(nothing).data, shaded.data, atol=1e-5)
