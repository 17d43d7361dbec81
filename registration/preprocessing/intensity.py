"""Steps that change intensities alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..image import Image
from .base import Step

_MOST = 1_000_000
_FEW = 5  # order statistics that are found faster one by one than by sorting


def quantiles(values: Tensor, shares: Sequence[float]) -> Tensor:
    """Order statistics of (N,) values at shares of 0 to 1, of an even choice where there are more than a million."""
    chosen = values[:: max(1, values.numel() // _MOST)]
    if len(shares) < _FEW:
        return torch.stack([chosen.kthvalue(1 + round(share * (chosen.numel() - 1))).values for share in shares])
    chosen = chosen.sort().values
    return torch.stack([chosen[round(share * (chosen.numel() - 1))] for share in shares])


def inside_mask(image: Image, item: int, channel: int) -> Tensor:
    """(N,) values of one channel within the mask; of the whole channel without a mask or where it is empty."""
    values = image.data[item, channel]
    if image.mask is None:
        return values.flatten()
    chosen = values[image.mask[item % image.mask.shape[0], 0]]
    return values.flatten() if chosen.numel() == 0 else chosen


def _check_shares(low: float, high: float) -> None:
    if not 0 <= low < high <= 1:
        raise ValueError(f"low and high are shares of the voxels, 0 <= low < high <= 1, got {low} and {high}")


@dataclass(frozen=True)
class RobustScale(Step):
    """Linear scaling that brings two quantiles (over the mask) to 0 and 1, each channel by itself.

    A constant image becomes zeros.

    Parameters
    ----------
    low, high
        Shares of the voxels below the value that becomes 0, and below the one that becomes 1.
    clip
        Whether values beyond are cut to [0, 1].
    """

    low: float = 0.005
    high: float = 0.995
    clip: bool = True

    def __post_init__(self) -> None:
        _check_shares(self.low, self.high)

    def __call__(self, image: Image) -> Image:
        data = torch.empty_like(image.data)
        for item in range(data.shape[0]):
            for channel in range(data.shape[1]):
                values = inside_mask(image, item, channel)
                bottom, top = quantiles(values, (self.low, self.high))
                if top <= bottom:  # nearly everything has one value: take the whole range
                    bottom, top = values.aminmax()
                width = (top - bottom).clamp(min=torch.finfo(data.dtype).tiny)
                data[item, channel] = (image.data[item, channel] - bottom) / width
        return image.with_data(data.clamp_(0, 1) if self.clip else data)


@dataclass(frozen=True)
class MatchHistogram(Step):
    """Bring the quantiles of an image (over its mask) to given values, linearly between them (Nyul and Udupa 1999).

    Parameters
    ----------
    landmarks
        The wanted values of the quantiles at even shares from ``low`` to ``high``, rising; two at least.
    low, high
        Shares of the first and the last quantile; what lies beyond takes their values.
    """

    landmarks: Sequence[float]
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        _check_shares(self.low, self.high)
        if len(self.landmarks) < 2 or any(b < a for a, b in pairwise(self.landmarks)):
            raise ValueError(f"landmarks of a histogram are two or more values that do not fall, got {self.landmarks}")

    @staticmethod
    def like(reference: Image, count: int = 64, low: float = 0.0, high: float = 1.0) -> MatchHistogram:
        """The step that gives other images the histogram of the first channel of a reference, by ``count`` values."""
        if count < 2:
            raise ValueError(f"a histogram is matched at two or more quantiles, got {count}")
        shares = torch.linspace(low, high, count, dtype=torch.float64).tolist()
        return MatchHistogram(tuple(quantiles(inside_mask(reference, 0, 0), shares).double().tolist()), low, high)

    @staticmethod
    def like_file(path: str, count: int = 64, low: float = 0.0, high: float = 1.0) -> MatchHistogram:
        """As :meth:`like`, of an image file; the file is read once, its quantiles become part of the step."""
        from ..io.images import read_image

        return MatchHistogram.like(read_image(path), count, low, high)

    def __call__(self, image: Image) -> Image:
        shares = torch.linspace(self.low, self.high, len(self.landmarks), dtype=torch.float64).tolist()
        targets = torch.tensor(tuple(self.landmarks), dtype=image.data.dtype, device=image.data.device)
        data = torch.empty_like(image.data)
        for item in range(data.shape[0]):
            for channel in range(data.shape[1]):
                found = quantiles(inside_mask(image, item, channel), shares)
                data[item, channel] = _piecewise(image.data[item, channel], found, targets)
        return image.with_data(data)


def _piecewise(values: Tensor, knots: Tensor, targets: Tensor) -> Tensor:
    """Linear interpolation of (K,) targets over (K,) rising knots; equal knots (a background) share their mean."""
    knots, where, count = knots.unique_consecutive(return_inverse=True, return_counts=True)
    targets = torch.zeros_like(knots).index_add_(0, where, targets) / count
    if knots.numel() == 1:
        return targets.expand_as(values).clone()
    right = torch.searchsorted(knots, values.contiguous()).clamp(1, knots.numel() - 1)
    left = right - 1
    share = ((values - knots[left]) / (knots[right] - knots[left])).clamp(0, 1)
    return targets[left] + share * (targets[right] - targets[left])
