"""What numbers settings take: refused when they are given, not in the middle of a registration or a training."""

from __future__ import annotations

import math
from typing import Any


def check_sizes(**values: Any) -> None:
    """Refuse what is no finite number of 0 or more, with a :class:`ValueError` that names it."""
    for name, value in values.items():
        if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise ValueError(f"{name} is a number of 0 or more, got {value!r}")


def check_counts(least: int, **values: Any) -> None:
    """Refuse what is no whole number from ``least``, with a :class:`ValueError` that names it."""
    for name, value in values.items():
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} is a whole number from {least}, got {value!r}")


def check_above(**values: Any) -> None:
    """Refuse what is no finite number above 0, with a :class:`ValueError` that names it."""
    for name, value in values.items():
        if not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise ValueError(f"{name} is a number above 0, got {value!r}")
