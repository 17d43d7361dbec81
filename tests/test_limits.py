"""What numbers stages take: refused when they are given."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from registration.limits import check_above, check_counts, check_sizes
from registration.losses import LocalNormalisedCrossCorrelation
from registration.pairwise import DiffeomorphicStage, FieldLevel, SplineLevel, SplineStage, Steps
from registration.pairwise.initialise import Auto
from registration.training import Augmentation, Likeness


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, None, "2"])
def test_what_is_no_number_of_the_kind_is_named(value: Any) -> None:
    for check in (check_sizes, check_above, lambda **values: check_counts(0, **values)):
        with pytest.raises(ValueError, match=r"^size is a .*number"):
            check(size=value)
    with pytest.raises(ValueError, match="above 0"):
        check_above(size=0)
    with pytest.raises(ValueError, match=r"whole number from 2, got 2\.5"):
        check_counts(2, size=2.5)
    check_sizes(size=0)
    check_above(size=0.5)
    check_counts(2, size=2)


CORRELATION = LocalNormalisedCrossCorrelation()
LEVEL = FieldLevel(2, 3)


@pytest.mark.parametrize(
    "name, made",
    [
        ("shrink", lambda: FieldLevel(-1, 3)),
        ("iterations", lambda: FieldLevel(2, -1)),
        ("total", lambda: FieldLevel(2, 3, math.nan)),
        ("sigma", lambda: FieldLevel(2, 3, sigma=-1.0)),
        ("sigma", lambda: Steps(sigma=math.inf)),
        ("first", lambda: Steps(first=0)),
        ("edges", lambda: DiffeomorphicStage("x", CORRELATION, [LEVEL], edges=-1)),
        ("across", lambda: SplineLevel(2, 1)),
        ("closest", lambda: SplineLevel(2, 8, -1.0)),
        ("bending", lambda: SplineStage("x", CORRELATION, [SplineLevel(2, 8)], bending=math.nan)),
        ("margin", lambda: Auto(margin=math.nan)),
        ("edges", lambda: Likeness(CORRELATION, edges=-1)),
        ("gamma", lambda: Augmentation(gamma=math.inf)),
    ],
)
def test_stages_refuse_what_they_cannot_do(name: str, made: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=f"^{name} is a"):
        made()
