"""Mean squared difference of intensities."""

from __future__ import annotations

from torch import Tensor

from .base import Similarity, masked_mean


class MeanSquaredError(Similarity):
    """Mean of ``(warped - fixed)**2`` over channels and voxels: for images of one scanner and contrast."""

    @property
    def divisible(self) -> bool:
        """True: no voxel is compared by what lies far away."""
        return True

    def compare(self, warped: Tensor, fixed: Tensor, mask: Tensor | None) -> Tensor:
        return masked_mean((warped - fixed).square(), mask)

    def unrelated(self, warped: Tensor, fixed: Tensor) -> Tensor:
        """Expected squared difference of the two images with their voxels shuffled, over the whole grid.

        Not 0: having no overlap must not look like a perfect fit.
        """
        axes = tuple(range(2, warped.ndim))
        spread = warped.var(dim=axes, unbiased=False) + fixed.var(dim=axes, unbiased=False)
        return (spread + (warped.mean(dim=axes) - fixed.mean(dim=axes)).square()).mean(dim=1)
