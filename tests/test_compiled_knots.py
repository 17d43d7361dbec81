"""Compiled sums over the knots of a spline equal those by torch."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from registration import compiled
from registration.transforms.tps import ThinPlateSpline


@pytest.mark.parametrize("ndim", [2, 3])
def test_moves_and_slopes_equal_torch(ndim: int) -> None:
    torch.manual_seed(0)
    points = torch.rand(40, ndim, dtype=torch.float64) * 100
    spline = ThinPlateSpline(points, points + torch.randn(40, ndim, dtype=torch.float64), smoothing=0.1)
    places = torch.cat(
        [torch.rand(7, 30, ndim, dtype=torch.float64) * 120 - 10, points[:7, None].expand(7, 5, ndim)], 1
    )
    with torch.no_grad():
        moved, slopes = spline(places), spline.jacobian(places)
        with (
            mock.patch.object(compiled, "available", lambda: False),
            mock.patch("registration.compiled.knots.available", lambda: False),
        ):
            expected, steep = spline(places), spline.jacobian(places)
    assert not torch.equal(moved, expected)  # two ways of adding
    assert torch.allclose(moved, expected, atol=1e-5)
    assert torch.allclose(slopes, steep, atol=1e-9)


def test_an_inverse_in_parts_equals_one_point_at_a_time() -> None:
    torch.manual_seed(1)
    points = torch.rand(30, 3, dtype=torch.float64) * 100
    inverse = ThinPlateSpline(points, points + 3 * torch.randn(30, 3, dtype=torch.float64), smoothing=1.0).inverse()
    places = torch.rand(50, 3, dtype=torch.float64) * 100
    together = inverse(places)
    alone = torch.cat([inverse(place[None]) for place in places])
    assert torch.allclose(together, alone, atol=1e-5)
