"""Several similarities at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ..compiled import Region
from ..limits import HEAVIEST, check_above, check_counts
from .base import Bound, Similarity


@dataclass(frozen=True, eq=False)
class Part:
    """One term of a :class:`WeightedSum`.

    Parameters
    ----------
    similarity
        The loss.
    weight
        What it is multiplied by, positive.
    channels
        The channels it sees, counted from 0; None for all.
    """

    similarity: Similarity
    weight: float = 1.0
    channels: Sequence[int] | None = None

    def __post_init__(self) -> None:
        check_above(HEAVIEST, weight=self.weight)
        if self.channels is not None and not self.channels:
            raise ValueError("channels are those that it sees, at least one, got none")
        for channel in () if self.channels is None else self.channels:
            check_counts(0, channels=channel)

    def of(self, image: Tensor) -> Tensor:
        """The (B, C', *S) channels of a (B, C, *S) image.

        Raises
        ------
        ValueError
            If the image has too few.
        """
        if self.channels is None:
            return image
        if max(self.channels) >= image.shape[1]:
            raise ValueError(f"channels {list(self.channels)} do not exist in an image with {image.shape[1]}")
        return image[:, list(self.channels)]


class WeightedSum(Similarity):
    """The sum of similarities, each times its weight and on its own choice of channels.

    Weights are taken as they are: a histogram's loss spans nats, a correlation's 0 to 1, a descriptor's far less.
    Gradients go wherever the parts send them.

    Parameters
    ----------
    parts
        One or more.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__()
        if not parts:
            raise ValueError("a weighted sum needs at least one part")
        self.parts = tuple(parts)
        self.similarities = nn.ModuleList(part.similarity for part in parts)

    @property
    def reach(self) -> int:
        """The farthest of the parts'."""
        return max(part.similarity.reach for part in self.parts)

    def spaced(self, spacing: Sequence[float]) -> WeightedSum:
        return WeightedSum([Part(p.similarity.spaced(spacing), p.weight, p.channels) for p in self.parts])

    def compare(self, warped: Tensor, fixed: Tensor, mask: Tensor | None) -> Tensor:
        return _sum([p.weight * p.similarity(p.of(warped), p.of(fixed), mask) for p in self.parts])

    def unrelated(self, warped: Tensor, fixed: Tensor) -> Tensor:
        """The same sum of the parts' values."""
        return _sum([p.weight * p.similarity.unrelated(p.of(warped), p.of(fixed)) for p in self.parts])

    def push(self, moving: Tensor, fixed: Tensor, region: Region, metric: Sequence[float], out: Tensor) -> float:
        """The parts' pushes, one after another into the same result."""
        return sum(
            p.weight * p.similarity.push(p.of(moving), p.of(fixed), region, [p.weight * m for m in metric], out)
            for p in self.parts
        )

    def bind(self, fixed: Tensor, mask: Tensor | None = None, moving: Tensor | None = None) -> Bound:
        bounds = [
            (part, part.similarity.bind(part.of(fixed), mask, None if moving is None else part.of(moving)))
            for part in self.parts
        ]

        def bound(warped: Tensor, more: Tensor | None = None) -> Tensor:
            return _sum([part.weight * one(part.of(warped), more) for part, one in bounds])

        return bound


def _sum(values: list[Tensor]) -> Tensor:
    result = values[0]
    for value in values[1:]:
        result = result + value
    return result
