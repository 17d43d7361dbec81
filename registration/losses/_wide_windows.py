"""Wide windows made of blocks of voxels, so that their size costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..compiled.region import window_sums
from ..limits import WIDEST, check_above, check_counts, check_shares


@dataclass(frozen=True)
class WideWindows:
    """Windows of several blocks about every block.

    Parameters
    ----------
    share
        Width of a window as a share of the image, along each axis; a block is at least one voxel.
    radius
        Windows have 2*radius+1 blocks along an axis.
    """

    share: float
    radius: int

    def __post_init__(self) -> None:
        check_shares(share=self.share)
        check_above(share=self.share)
        check_counts(0, WIDEST, radius=self.radius)

    def blocks(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Sides of a block in voxels, for images of this spatial shape."""
        return tuple(max(1, round(self.share * n / (2 * self.radius + 1))) for n in shape)

    def sums(self, x: Tensor, first: int, last: int) -> Tensor:
        """Sums over windows of what is known of every block, whose axes begin at ``first`` and end before ``last``.

        Beyond the border there is nothing.
        """
        for axis in range(first, last):
            x = window_sums(x, axis, self.radius)
        return x
