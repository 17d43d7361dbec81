"""Intensities laid out by how many voxels have them, and what that does for tissues in a small part of the range."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from registration import Image
from registration.losses import LocalMutualInformation
from registration.losses._spread import spread_out
from registration.pairwise import DiffeomorphicStage, presets


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.floats(0, 1), st.sampled_from([(2, 1, 30), (1, 2, 9, 11), (1, 1, 5, 6, 7)]))
def test_order_and_extremes_are_kept(seed: int, power: float, shape: tuple[int, ...]) -> None:
    data = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) ** 3
    found = spread_out(data, None, power)
    for old, new in zip(data.flatten(0, 1).flatten(1), found.flatten(0, 1).flatten(1), strict=True):
        assert bool((new[old.argsort()].diff() >= 0).all())
        torch.testing.assert_close(torch.stack(new.aminmax()), torch.stack(old.aminmax()), rtol=1e-5, atol=1e-5)


def test_powers() -> None:
    data = torch.cat([torch.linspace(0, 0.1, 900), torch.linspace(0.1, 1, 100)])[None, None]
    torch.testing.assert_close(spread_out(data, None, 0.0), data, rtol=0, atol=1e-6)
    even = spread_out(data, None, 1.0)  # nine tenths of the values take nine tenths of the range
    assert 0.85 < float(even[0, 0, 899]) < 0.95
    assert 0.1 < float(spread_out(data, None, 0.5)[0, 0, 899]) < 0.85


def test_what_is_counted() -> None:
    data = torch.rand(1, 1, 8, 9, 10)
    mask = data < 0.5
    some = spread_out(data, mask, 0.5)
    assert float(some.max()) == pytest.approx(float(data[mask].max()))  # what lies beyond has the extreme value
    for left in (torch.full_like(data, 3.0), data * 0):
        torch.testing.assert_close(spread_out(left, None, 0.5), left)
    torch.testing.assert_close(spread_out(data, torch.zeros_like(mask), 0.5), data)


def test_given_ranges_are_of_intensities_as_they_are() -> None:
    data = torch.rand(1, 1, 8, 9, 10) ** 2
    assert LocalMutualInformation(fixed_range=(0, 1)).suited(data) is data
    assert LocalMutualInformation(spread=0.0).suited(data) is data
    assert not torch.equal(LocalMutualInformation().suited(data), data)


def test_soft_tissue_beside_bone_is_told_apart() -> None:
    soft = 0.03 * torch.rand(1, 1, 20, 20, 20, generator=torch.Generator().manual_seed(0))
    soft[..., :3] = 1.0
    told = []
    for spread in (0.0, 0.5):
        loss = LocalMutualInformation(spread=spread)
        told.append(-float(loss(loss.suited(soft), loss.suited(soft))))
    assert told[1] > 2 * told[0]


def test_the_dense_stage_sees_it() -> None:
    stages = [
        replace(presets.fast(), fields=LocalMutualInformation(spread=spread)).diffeomorphic()[-1] for spread in (0, 0.5)
    ]
    assert all(isinstance(stage, DiffeomorphicStage) for stage in stages)
    image = Image.of(torch.rand(9, 10, 11) ** 4)
    made = [stage.channels for stage in stages if isinstance(stage, DiffeomorphicStage)]
    plain, spread = (channels.values(channels.suited(image))[0] for channels in made)
    torch.testing.assert_close(plain[1], spread[1], rtol=0, atol=0)  # edges are those of the image as it is
    torch.testing.assert_close(plain[0], image.data[0, 0], rtol=0, atol=0)
    assert float((plain[0] - spread[0]).abs().max()) > 0.1
