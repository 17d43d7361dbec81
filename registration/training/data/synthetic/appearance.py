"""Intensities for a label map: a contrast that no scanner has, so that a network learns shapes and not tissues."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from ....filters import gaussian, resample
from ....limits import WIDEST, check_counts, check_shares, check_sizes


class Contrast(ABC):
    """Draws how bright labels are."""

    @abstractmethod
    def __call__(self, count: int, generator: Generator) -> Tensor:
        """(count,) means of 0 to 1."""


@dataclass(frozen=True)
class AnyContrast(Contrast):
    """Every label for itself."""

    def __call__(self, count: int, generator: Generator) -> Tensor:
        return torch.rand(count, generator=generator, dtype=torch.float32)


@dataclass(frozen=True)
class CurveContrast(Contrast):
    """A random curve over grey levels, through the origin: level 0 stays dark, neighbours stay alike.

    Parameters
    ----------
    knots
        Straight pieces and one.
    rising
        Share of curves that only rise, so that what is bright stays bright, as in scans of one kind.
    """

    knots: int = 6
    rising: float = 0.5

    def __post_init__(self) -> None:
        check_counts(2, 1000, knots=self.knots)
        check_shares(rising=self.rising)

    def __call__(self, count: int, generator: Generator) -> Tensor:
        heights = torch.rand(self.knots, generator=generator, dtype=torch.float32)
        heights[0] = 0.0
        if torch.rand((), generator=generator, dtype=torch.float32) < self.rising:
            heights = heights.sort().values
        heights = heights / heights.max().clamp(min=1e-6)
        place = torch.linspace(0, self.knots - 1, count, dtype=torch.float32)
        below = place.floor().long().clamp(max=self.knots - 2)
        return torch.lerp(heights[below], heights[below + 1], place - below)


@dataclass(frozen=True)
class Alike:
    """What two images have in common that show one label map in one contrast.

    Parameters
    ----------
    seed
        Of the contrast.
    first, last
        Smallest and largest label of the map; an image may show a part of them, as the others were moved out of it.
    """

    seed: int
    first: int
    last: int


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
    contrast
        Draws the means.
    """

    noise: float = 0.1
    blur: float = 1.0
    bias: float = 0.3
    gamma: float = 0.25
    contrast: Contrast = field(default_factory=AnyContrast)

    def __post_init__(self) -> None:
        check_sizes(WIDEST, blur=self.blur)
        check_sizes(10, noise=self.noise, bias=self.bias, gamma=self.gamma)

    def __call__(self, labels: Tensor, generator: Generator, alike: Alike | None = None) -> Tensor:
        """(1, *S) float32 in [0, 1] for (1, *S) labels.

        Parameters
        ----------
        generator
            Of noise, blur and bias; also of means, spreads and power without ``alike``.
        alike
            Gives means, spreads and power to every image that is drawn with it, each with noise, blur and bias of its
            own.
        """
        if alike is None:
            common, (first, last) = generator, (int(v) for v in labels.aminmax())
        else:
            common, first, last = Generator().manual_seed(alike.seed), alike.first, alike.last
        where = (labels - first).long()
        means = self.contrast(last - first + 1, common)
        spreads = self.noise * torch.rand(last - first + 1, generator=common, dtype=torch.float32)
        image = means[where] + spreads[where] * torch.randn(labels.shape, generator=generator, dtype=torch.float32)
        most = torch.tensor([self.blur, self.bias], dtype=torch.float32)
        blur, bias = (torch.rand(2, generator=generator, dtype=torch.float32) * most).tolist()
        shape = labels.shape[1:]
        image = gaussian(image[None], [blur] * len(shape))
        knots = bias * torch.randn(1, 1, *(min(4, n) for n in shape), generator=generator, dtype=torch.float32)
        image = image * resample(knots, shape).exp()
        low, high = image.aminmax()
        image = (image - low) / (high - low).clamp(min=1e-6)
        power = torch.exp(self.gamma * torch.randn((), generator=common, dtype=torch.float32))
        return image[0].clamp(0, 1).pow(power)
