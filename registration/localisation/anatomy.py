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

    Any input size: borders are repeated to a multiple of 2**levels, and the answer is cut to ``ceil(S / shrink)``.

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
        Of the demons from fine to coarse; each level has half the resolution of the one before.
    sigma
        Of their smoothing, in voxels of each level.
    probability, contrast
        What a unit of both counts there.
    shrink
        Voxels per node of the velocity along every axis, 1 or 2: that of the family.
    """

    def __init__(
        self,
        ndim: int,
        inputs: int,
        labels: Sequence[int],
        full: int = 8,
        widths: Sequence[int] = (16, 32, 48, 64),
        iterations: Sequence[int] = (2, 0, 4, 4),
        sigma: float = 1.0,
        probability: float = 2.0,
        contrast: float = 0.1,
        shrink: float = 1,
    ) -> None:
        super().__init__()
        values = [int(value) for value in labels]
        if not values or 0 in values or len(set(values)) < len(values):
            raise ValueError(f"labels are different values other than 0, at least one, got {values}")
        if inputs % 2:
            raise ValueError(f"two images of as many channels each have an even number together, got {inputs}")
        if not iterations or min(iterations) < 0:
            raise ValueError(f"iterations are numbers from 0, at least one, got {list(iterations)}")
        if shrink not in (1, 2):
            raise ValueError(f"velocities are given at every voxel or at every second, shrink is {shrink}")
        self.labels, self.iterations, self.sigma = tuple(values), tuple(int(n) for n in iterations), float(sigma)
        self.shrink = int(shrink)
        self.probability, self.contrast = float(probability), float(contrast)
        # Every image comes with its local contrast.
        self.network = UNet(ndim, inputs, len(values) + 1, widths, final=(), full=full, start=0.1)

    def forward(self, fixed: Tensor, warped: Tensor) -> Tensor:
        """(B, D, *ceil(S / shrink)) velocities in voxels of the input."""
        return self.looked(fixed, warped)[0]

    def looked(self, fixed: Tensor, warped: Tensor) -> tuple[Tensor, Tensor]:
        """The velocities, and (2B, 1 + labels, *S) logits of what is where, for the fixed images first."""
        images = torch.cat([fixed, warped])
        with full_precision(images):
            edges = contrast(images)
        logits = self.network(torch.cat([images, edges], dim=1)).to(images.dtype)
        with full_precision(images):
            seen = [self.probability * logits.softmax(dim=1), self.contrast * edges]
            velocity = demons(self.shrunk(torch.cat(seen, dim=1)), self.iterations, self.sigma)
        nodes = [-(-n // self.shrink) for n in fixed.shape[2:]]
        cut = velocity[(slice(None), slice(None), *(slice(n) for n in nodes))].contiguous()
        return self.shrink * cut, logits

    def shrunk(self, features: Tensor) -> Tensor:
        """At the resolution of the velocity, with borders repeated as far as the coarsest level needs it."""
        whole = padded(features, self.shrink * 2 ** (len(self.iterations) - 1))
        return whole if self.shrink == 1 else (F.avg_pool2d, F.avg_pool3d)[features.ndim - 4](whole, 2)

    def proposed(self, fixed: Image, moving: Image, initial: Transform) -> tuple[Tensor, Named]:
        """(B, P) velocities in radii of the fixed domain along world axes, and what was named."""
        velocity, logits = self.looked(fixed.data, pulled(fixed, moving, initial))
        return self.in_radii(velocity, fixed), Named(self.labels, logits)
