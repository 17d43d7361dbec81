"""Which labels of a pair are judged, and what becomes of one that is not there: the one place that says so.

A label that only one of the two original images has is *missing*: there is nothing to compare, so it has no value and
counts in no mean. A label that both have and that is nowhere on the fixed grid after warping is *lost*: its overlap is
0, for otherwise a transform that destroys a structure would be rewarded with a better mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .metrics import dice, label_counts


@dataclass(frozen=True)
class Labels:
    """The labels of a pair.

    Parameters
    ----------
    wanted
        Those of either image in ascending order, without 0.
    missing
        Label -> the image that does not have it.
    """

    wanted: tuple[int, ...]
    missing: dict[int, str]


def labels_of_pair(fixed: Tensor, moving: Tensor, names: Sequence[str] = ("fixed", "moving")) -> Labels:
    """The labels of two original maps.

    Parameters
    ----------
    fixed, moving
        Label maps of any shapes, integer-valued.
    names
        What ``missing`` calls the two.
    """
    present = {name: set(labels_of(values)) for name, values in zip(names, (fixed, moving), strict=True)}
    wanted = sorted(set().union(*present.values()))
    return Labels(
        tuple(wanted), {label: name for label in wanted for name, found in present.items() if label not in found}
    )


def labels_of(values: Tensor) -> list[int]:
    """The labels of a map in ascending order, without 0."""
    return sorted(label for label in label_counts(values.flatten().round().long()) if label != 0)


def overlaps(fixed: Tensor, warped: Tensor, labels: Labels) -> tuple[dict[int, float | None], list[int]]:
    """Dice overlap of every wanted label, None where it is missing; and the labels that were lost, whose overlap is 0.

    Parameters
    ----------
    fixed, warped
        Label maps of one shape: the fixed one, and the moving one on the fixed grid.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    found = dice(fixed, warped, labels.wanted)
    lost = [label for label in labels.wanted if label not in labels.missing and found.get(label) is None]
    scores = {label: None if label in labels.missing else found.get(label) or 0.0 for label in labels.wanted}
    return scores, lost
