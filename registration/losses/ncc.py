"""Global normalised cross-correlation."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Similarity, total


class NormalisedCrossCorrelation(Similarity):
    """``1 - ncc``: 0 for images equal up to gain and offset, 1 for unrelated ones, 2 for inverted contrast.

    The correlation is taken per channel over the whole image, and the losses of the channels are averaged. A channel
    that is constant (to rounding) has correlation 0 and no gradient.

    Parameters
    ----------
    squared
        Use ``1 - ncc**2`` instead, which accepts inverted contrast as well.
    """

    def __init__(self, squared: bool = False) -> None:
        super().__init__()
        self.squared = squared

    def compare(self, warped: Tensor, fixed: Tensor, mask: Tensor | None) -> Tensor:
        weight = None if mask is None else _normalised(mask)
        x, varies_x = _centred(warped, weight)
        y, varies_y = _centred(fixed, weight)
        varies = varies_x & varies_y
        scale = torch.where(varies, _mean(x * x, weight) * _mean(y * y, weight), 1)
        ncc = torch.where(varies, _mean(x * y, weight) * scale.rsqrt(), 0)
        return (1 - (ncc.square() if self.squared else ncc)).mean(dim=1)

    def unrelated(self, warped: Tensor, fixed: Tensor) -> Tensor:
        """1: no correlation."""
        return warped.new_ones(warped.shape[0])


def _normalised(mask: Tensor) -> Tensor:
    """Weights (B, 1, *S) that sum to 1, or to 0 where the mask is empty."""
    count = total(mask.flatten(1)).to(mask.dtype).reshape(-1, *[1] * (mask.ndim - 1))
    return mask / torch.where(count > 0, count, 1)


def _mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """(B, C) mean over voxels."""
    values = values if weight is None else values * weight
    summed = total(values.flatten(2))
    return (summed / values[0, 0].numel() if weight is None else summed).to(values.dtype)


def _centred(x: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """The image less its mean, and (B, C) whether what remains is more than rounding."""
    mean = _mean(x.detach(), weight)  # its derivative drops out, as the other image is centred as well
    centred = x - mean.reshape(*mean.shape, *[1] * (x.ndim - 2))
    with torch.no_grad():
        rounding = 16 * torch.finfo(x.dtype).eps
        varies = _mean(centred * centred, weight) > (rounding * mean).square()
    return centred, varies
