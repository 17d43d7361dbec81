"""A word about points that lie where a transform knows nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ..transforms.base import Transform


def told_beyond(transform: Transform, points: Tensor, what: str, share: bool = False) -> list[str]:
    """A note if some of (N, D) RAS mm points leave the grid of a field of the transform; none otherwise.

    Parameters
    ----------
    what
        The points in a word.
    share
        Whether the points stand for more than themselves, so that a share is told rather than a number.
    """
    from ..transforms.reach import beyond_fields

    beyond, still = beyond_fields(transform, points)
    count = int(beyond.sum())
    if not count:
        return []
    many = f"about {100 * count / len(beyond):.2g} % of the {what}" if share else f"{count} of {len(beyond)} {what}"
    moves = "does not move them" if still else "goes on as at its border"
    return [f"{many} lie outside the grid of the transform's displacement field, which {moves} there"]
