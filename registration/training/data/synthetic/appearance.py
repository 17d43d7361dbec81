"""Intensities for a label map: a contrast that no scanner has, so that a network learns shapes and not tissues."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ....filters import gaussian, resample


@dataclass(frozen=True)
class Appearance:
    """Draws an image for a label map (Hoffmann et al. 2022, doi:10.1109/TMI.2021.3116879).

    Each label gets a mean of 0 to 1 and its own noise; the image is blurred, multiplied by a smooth bias field,
    brought to [0, 1] and bent by a power.

    Parameters
    ----------
    noise
        Largest standard deviation of the noise of a label, as a share of the range of means.
    blur
        Largest standard deviation of the Gaussian, voxels.
    bias
        Largest standard deviation of the logarithm of the bias field.
    gamma
        Standard deviation of the logarithm of the power.
    """

    noise: float = 0.1
    blur: float = 1.0
    bias: float = 0.3
    gamma: float = 0.25

    def __call__(self, labels: Tensor, generator: Generator) -> Tensor:
        """(1, *S) float32 in [0, 1] for (1, *S) labels."""
        first, last = (int(v) for v in labels.aminmax())
        where = (labels - first).long()
        means = torch.rand(last - first + 1, generator=generator)
        spreads = self.noise * torch.rand(last - first + 1, generator=generator)
        image = means[where] + spreads[where] * torch.randn(labels.shape, generator=generator)
        blur, bias = (torch.rand(2, generator=generator) * torch.tensor([self.blur, self.bias])).tolist()
        shape = labels.shape[1:]
        image = gaussian(image[None], [blur] * len(shape))
        knots = bias * torch.randn(1, 1, *(min(4, n) for n in shape), generator=generator)
        image = image * resample(knots, shape).exp()
        low, high = image.aminmax()
        image = (image - low) / (high - low).clamp(min=1e-6)
        power = torch.exp(self.gamma * torch.randn((), generator=generator))
        return image[0].clamp(0, 1).pow(power)
