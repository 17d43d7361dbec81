"""A network that names the anatomy in each image, and a velocity that brings what it named onto each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..image import Image
from ..transforms.base import Transform
from .base import Named, full_precision, pulled
from .demons import demons
from .dense import VoxelVelocity
from .matching import contrast
from .networks import UNet, padded


class AnatomyVelocity(VoxelVelocity):
    """Velocities from what a network says each voxel of either image is.

    Where labels can be trained on, telling what is where is learnt much faster from the labels of each image than from
    the overlap of pairs (Xu and Niethammer 2019, arXiv 1904.08465, train both networks together). The velocity then
    follows without further weights: :func:`~registration.localisation.demons.demons` aligns the probabilities, and the
    local contrast where nothing is named. Gradients pass through it, so that the overlap of pairs is learnt from too.
    Exchanging the images inverts the transform exactly.

    Any input size: borders are repeated to a multiple of 2**levels, and the answer is cut to ``ceil(S / 2)``.

    Parameters
    ----------
    ndim
        Spatial dimension D.
    inputs
        Channels of both images together, as for the other networks.
    labels
        Values of the label maps to be named; every other value is background.
    full
        Channels of the network at full resolution.
    widths
        Channels at 1/2, 1/4, ... of the resolution.
    iterations
        Of the demons at 1/2, 1/4, ... of the resolution.
    sigma
        Of their smoothing, in voxels of each level.
    probability, contrast
        What a unit of both counts there.
    """

    def __init__(
        self,
        ndim: int,
        inputs: int,
        labels: Sequence[int],
        full: int = 8,
        widths: Sequence[int] = (16, 32, 48, 64),
        iterations: Sequence[int] = (3, 4, 4, 4),
        sigma: float = 1.0,
        probability: float = 2.0,
        contrast: float = 0.1,
    ) -> None:
        super().__init__()
        values = [int(value) for value in labels]
        if not values or 0 in values or len(set(values)) < len(values):
            raise ValueError(f"labels are different values other than 0, at least one, got {values}")
        if inputs % 2:
            raise ValueError(f"two images of as many channels each have an even number together, got {inputs}")
        if not 0 < len(iterations) <= len(widths):
            raise ValueError(f"iterations are for 1 to {len(widths)} levels, got {list(iterations)}")
        self.labels, self.iterations, self.sigma = tuple(values), tuple(iterations), float(sigma)
        self.probability, self.contrast = float(probability), float(contrast)
        # Every image comes with its local contrast.
        self.network = UNet(ndim, inputs, len(values) + 1, widths, final=(), full=full, start=0.1)

    def forward(self, fixed: Tensor, warped: Tensor) -> Tensor:
        """(B, D, *ceil(S / 2)) velocities in voxels of the input."""
        return self.looked(fixed, warped)[0]

    def looked(self, fixed: Tensor, warped: Tensor) -> tuple[Tensor, Tensor]:
        """The velocities, and (2B, 1 + labels, *S) logits of what is where, for the fixed images first."""
        images = torch.cat([fixed, warped])
        with full_precision(images):
            edges = contrast(images)
        logits = self.network(torch.cat([images, edges], dim=1)).to(images.dtype)
        with full_precision(images):
            seen = [self.probability * logits.softmax(dim=1), self.contrast * edges]
            half = self.halved(torch.cat(seen, dim=1))
            velocity = demons(half, self.iterations, self.sigma)
        nodes = [-(-n // 2) for n in fixed.shape[2:]]
        return 2 * velocity[(slice(None), slice(None), *(slice(n) for n in nodes))].contiguous(), logits

    def halved(self, features: Tensor) -> Tensor:
        """At half the resolution, with borders repeated as far as the coarsest level needs it."""
        pool = (F.avg_pool2d, F.avg_pool3d)[features.ndim - 4]
        return pool(padded(features, 2 ** len(self.iterations)), 2)

    def proposed(self, fixed: Image, moving: Image, initial: Transform) -> tuple[Tensor, Named]:
        """(B, P) velocities in radii of the fixed domain along world axes, and what was named."""
        velocity, logits = self.looked(fixed.data, pulled(fixed, moving, initial))
        return self.in_radii(velocity, fixed), Named(self.labels, logits)
