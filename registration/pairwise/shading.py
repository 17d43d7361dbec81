"""Slow shading, such as that of the coils of an MR scanner, taken out of two images where they then share more."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import downsample, gaussian
from ..image import Image
from ..transforms.base import Transform
from .chance import shared
from .initialise.mass import background
from .pair import Pair

_ACROSS = 48  # voxels along the longest axis on which shading is told
_WIDTH = 0.5  # of the object's radius of gyration: sigma of what counts as slow
_FEW = 0.01  # share of the object in a window from which on the window's mean counts more than the whole object's
_DARKEST = 0.1  # of the mean: less is no shading
_MORE = 1.01  # times what is shared with shading must be shared without


@dataclass(frozen=True, eq=False)
class Shading:
    """How bright an image is about each place, beside how bright it is on the whole.

    Parameters
    ----------
    level
        (C,) intensities of the background, which has no shading.
    gain
        (1, C, *S) on a coarse grid of the image's field of view; 1 on average.
    """

    level: Tensor
    gain: Tensor

    @classmethod
    def of(cls, image: Image) -> Shading:
        """Means of the distance from the background over the object, windows half as wide as its radius of gyration."""
        spacing = max(max(image.space.extent.tolist()) / _ACROSS, min(image.space.spacing.tolist()))
        small = downsample(image, image.space.with_spacing(spacing).shape)
        known = background(small)
        level, least = (torch.zeros(small.data.shape[1]), -1.0) if known is None else known
        level = level.to(small.data).reshape(-1, *[1] * image.ndim)
        distance = (small.data - level).abs()
        there = (distance.amax(dim=1, keepdim=True) > least).to(distance)
        if small.mask is not None:
            there = there * small.mask
        points = small.space.points(distance)[there[0, 0] > 0]
        if not len(points):
            return cls(level.flatten(), torch.ones_like(distance))
        radius = float((points - points.mean(dim=0)).square().sum(dim=1).mean().sqrt())
        sigma = [_WIDTH * radius / step for step in small.space.spacing.tolist()]
        typical = (distance * there).flatten(2).sum(dim=2) / there.sum()
        typical = typical.reshape(1, -1, *[1] * image.ndim).clamp_min(torch.finfo(torch.float32).tiny)
        mean = (gaussian(distance * there, sigma) + _FEW * typical) / (gaussian(there, sigma) + _FEW)
        return cls(level.flatten(), (mean / typical).clamp_min(_DARKEST))

    def without(self, image: Image) -> Image:
        """The image, on any grid of the same field of view, as bright everywhere as it is on the whole."""
        mode = {2: "bilinear", 3: "trilinear"}[image.ndim]
        gain = F.interpolate(self.gain, size=list(image.space.shape), mode=mode, align_corners=False)
        level = self.level.to(image.data).reshape(-1, *[1] * image.ndim)
        return image.with_data(gain.reciprocal_().mul_(image.data - level).add_(level))


def evened(pair: Pair, transform: Transform) -> tuple[Pair, str]:
    """The pair without its shading, and how much more the images then share; else the same pair and no words.

    Taking shading out of images that have none takes out what is darker in the middle of every head, and they share
    less; so the mutual information under a transform, fixed RAS mm -> moving RAS mm, tells.
    """
    coarse = pair.level(pair.coarse)
    both = [Shading.of(image) for image in coarse]
    fixed, moving = (s.without(image) for s, image in zip(both, coarse, strict=True))
    before, after = pair.shared(transform), shared(fixed, moving, transform)
    if not after > _MORE * before:
        return pair, ""
    fixed, moving = (s.without(image) for s, image in zip(both, (pair.fixed, pair.moving), strict=True))
    told = f"they share {after:.3f} nats of mutual information then, {before:.3f} with it"
    return Pair(fixed, moving, terms=pair.terms, wary=pair.wary, whole=pair.whole), told
