"""Padding that repeats the border of an image: nothing is aligned there, and the result holds there all the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from registration.evaluation.metrics import folding_percent
from registration.image import Image
from registration.pairwise import Auto, Centres, Pipeline, presets
from registration.pairwise.border import inner_pair, unrepeated
from registration.pairwise.boxes import beyond, continued
from registration.phantom import oblique_space, phantom_pair
from registration.space import Space

SPACING = (1.0, 2.0, 1.5)


def padded(image: Image, before: Sequence[int], after: Sequence[int], mode: str = "edge") -> Image:
    widths = [(0, 0), (0, 0), *zip(before, after, strict=True)]
    data = torch.from_numpy(np.pad(image.data.numpy(), widths, mode=mode))  # type: ignore[call-overload]
    return Image(data, image.space.cropped([-n for n in before], data.shape[2:]), name=image.name)


def noise(space: Space, channels: int = 1) -> Tensor:
    return torch.rand(1, channels, *space.shape, generator=torch.Generator().manual_seed(3))


@given(
    shape=st.lists(st.integers(2, 6), min_size=2, max_size=3),
    widths=st.lists(st.integers(0, 4), min_size=6, max_size=6),
    degrees=st.floats(0, 180),
    channels=st.integers(1, 2),
)
@settings(max_examples=60, deadline=None)
def test_padding_with_edge_values_is_taken_away_and_nothing_else(
    shape: list[int], widths: list[int], degrees: float, channels: int
) -> None:
    d = len(shape)
    space = oblique_space(tuple(shape), SPACING[:d], degrees)
    image = Image(noise(space, channels), space, name="crop")
    found = unrepeated(padded(image, widths[:d], widths[3 : 3 + d]))
    assert torch.equal(found.data, image.data)
    assert found.space.shape == space.shape
    torch.testing.assert_close(found.space.affine, space.affine)
    assert unrepeated(image) is image


def test_flat_borders_stay() -> None:
    image = Image.of(noise(Space.regular((5, 6, 7)))[0, 0])
    wide = padded(image, (3, 3, 3), (2, 2, 2), "constant")
    assert unrepeated(wide) is wide


def test_an_image_that_is_the_same_throughout_along_an_axis_stays() -> None:
    plane = noise(Space.regular((5, 6)))[0, 0]
    image = Image.of(plane[:, :, None].expand(5, 6, 9).contiguous())
    assert unrepeated(image) is image
    flat = Image.of(torch.ones(4, 5))
    assert unrepeated(flat) is flat


def test_what_a_mask_chooses_stays() -> None:
    image = padded(Image.of(noise(Space.regular((5, 6)))[0, 0]), (2, 2), (2, 2))
    inside = torch.zeros(image.space.shape)
    inside[3:6, 3:6] = 1
    assert unrepeated(image.with_mask(inside)).space.shape == (5, 6)
    inside[0, 3] = 1
    assert unrepeated(image.with_mask(inside)).space.shape == image.space.shape


def test_a_grid_is_drawn_out_where_the_part_ends() -> None:
    whole = oblique_space((20, 24, 16), SPACING, 20)
    part = whole.cropped((4, 0, 5), (10, 20, 11))
    box = part.cropped((0, 3, 0), (10, 17, 8))  # ends with the part at the start of two axes, the ends of two
    level = box.resized((5, 17, 8))
    found = beyond(level, part, whole, [(1, 1), (9, 6), (7, 9)])
    assert found.shape == (2 + 5 + 3, 17 + 6, 7 + 8)
    torch.testing.assert_close(found.affine, level.cropped((-2, 0, -7), found.shape).affine)
    inner = part.cropped((1, 1, 1), (3, 3, 3))
    assert beyond(inner, part, whole, [(9, 9)] * 3).shape == inner.shape


def test_a_grid_goes_on_to_fill_a_box() -> None:
    grid = oblique_space((20, 24, 16), SPACING, 20)
    box = grid.cropped((-3, 2, 0), (30, 10, 18)).resized((60, 20, 36))
    found = continued(grid, box)
    assert found.shape == (30, 10, 18)
    torch.testing.assert_close(found.affine, grid.cropped((-3, 2, 0), found.shape).affine)


@pytest.mark.parametrize("ndim", [2, 3])
def test_padding_changes_no_result_and_is_mapped_both_ways(ndim: int) -> None:
    shape = {2: (56, 50), 3: (40, 36, 30)}[ndim]
    spacing = [180 / n for n in shape]
    pair = phantom_pair(oblique_space(shape, spacing, 15), oblique_space(shape, spacing, -10), seed=4)
    start, size = [n // 5 for n in shape], [n - 2 * (n // 5) for n in shape]
    window = (slice(None), slice(None), *(slice(a, a + n) for a, n in zip(start, size, strict=True)))
    crops = [Image(image.data[window], image.space.cropped(start, size)) for image in (pair.fixed, pair.moving)]
    widths = [5, 8, 6][:ndim], [7, 3, 9][:ndim]
    wide = [padded(image, *widths) for image in crops]
    runs = Pipeline(Auto(), presets.fast().diffeomorphic(), symmetric=True)
    plain, found = runs(*crops).transform, runs(*wide).transform
    inside = crops[0].space.points(crops[0].data).reshape(-1, ndim)
    far = float((plain(inside) - inside).norm(dim=-1).max())
    assert far > 1
    assert float((found(inside) - plain(inside)).norm(dim=-1).mean()) < 0.02 * far
    everywhere = wide[0].space.points(wide[0].data).reshape(-1, ndim)
    there = found(everywhere)
    away = (found.inverse()(there) - everywhere).norm(dim=-1)
    assert float(away.mean()) < 0.1 * max(spacing)
    assert folding_percent(found, wide[0].space) == 0


def test_centres_are_those_of_the_images_as_given() -> None:
    image = Image.of(noise(Space.regular((12, 10)))[0, 0])
    wide = padded(image, (0, 0), (6, 4))
    start = Centres()(inner_pair(wide, image))
    torch.testing.assert_close(start(wide.space.centre[None])[0], image.space.centre)
