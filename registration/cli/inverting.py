"""Inverses of what files hold: it is said where there is none."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator


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
