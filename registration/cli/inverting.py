"""Inverses of what files hold: one is made where there is one, and it is said where there is none."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..transforms.base import Transform


def inverted(chain: Transform, file: Path) -> Transform:
    """The inverse of what was read from ``file``, also where it folds a little, see :func:`telling_misses`.

    Raises
    ------
    InputError
        If there is none.
    """
    from ..errors import InputError
    from ..transforms.base import compose, parts_of
    from ..transforms.inverse import NumericalInverse

    try:
        backward = chain.inverse()
    except (ValueError, NotImplementedError) as error:
        raise InputError(file, f"cannot be inverted: {error}") from error
    result: Transform | None = None
    for part in parts_of(backward):
        if isinstance(part, NumericalInverse):
            part = NumericalInverse(part.forward, part.tolerance, strict=False)
        result = part if result is None else compose(result, part)
    assert result is not None
    return result


@contextlib.contextmanager
def telling_misses(notices: list[str]) -> Iterator[None]:
    """Add to ``notices``, in one line, at how many points an inverse that was used in here misses, and by how much."""
    from ..transforms.inverse import InversionWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    misses = [str(warning.message) for warning in caught if issubclass(warning.category, InversionWarning)]
    for warning in caught:
        if not issubclass(warning.category, InversionWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    notices += misses[-1:]  # of the finest grid, if several were tried
