"""What numbers settings take: refused when they are given, not in the middle of a registration or a training."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, TypeGuard

LARGEST = 1e30
"""Numbers are not larger than this: images are of single precision."""
WIDEST = 10_000
"""Windows are not wider than this many voxels to either side, as no image is; nor do steps go further at once."""
HEAVIEST = 1e12
"""Weights are not larger than this: squares of what they multiply must not overflow."""


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value is a number: true and false are none, although Python counts with them."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether a value is a whole number."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_sizes(up_to: float = LARGEST, **values: Any) -> None:
    """Refuse what is no number of 0 or more, or too large, with a :class:`ValueError` that names it."""
    for name, value in values.items():
        if not is_number(value) or not 0 <= value <= up_to:
            raise ValueError(f"{name} is a number of 0 or more{_most(value, up_to)}, got {value!r}")


def check_above(up_to: float = LARGEST, **values: Any) -> None:
    """Refuse what is no number above 0, or too large, with a :class:`ValueError` that names it."""
    for name, value in values.items():
        if not is_number(value) or not 0 < value <= up_to:
            raise ValueError(f"{name} is a number above 0{_most(value, up_to)}, got {value!r}")


def check_counts(least: int, up_to: float = LARGEST, **values: Any) -> None:
    """Refuse what is no whole number from ``least``, or too large, with a :class:`ValueError` that names it."""
    for name, value in values.items():
        if not is_whole(value) or not least <= value <= up_to:
            raise ValueError(f"{name} is a whole number from {least}{_most(value, up_to)}, got {value!r}")


def _most(value: Any, up_to: float) -> str:
    """What to say of an upper limit: nothing where it is not that which a value goes against."""
    return f" and up to {up_to}" if is_number(value) and value > up_to else ""


def check_finite(**values: Any) -> None:
    """Refuse what is no finite number, with a :class:`ValueError` that names it."""
    for name, value in values.items():
        if not is_number(value) or not math.isfinite(value):
            raise ValueError(f"{name} is a finite number, got {value!r}")


def check_shares(**values: Any) -> None:
    """Refuse what is no number from 0 to 1, with a :class:`ValueError` that names it."""
    for name, value in values.items():
        if not is_number(value) or not 0 <= value <= 1:
            raise ValueError(f"{name} is a share from 0 to 1, got {value!r}")
