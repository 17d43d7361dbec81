"""A network that names the anatomy in each image, and a velocity that brings what it named onto each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..image import Image
from ..limits import HEAVIEST, is_number
from ..transforms.base import Transform
from .base import Named, full_precision, pulled
from .demons import Demons
from .dense import VoxelVelocity
from .matching import contrast
from .networks import UNet, check_both, check_counts


class AnatomyVelocity(VoxelVelocity):
    """Velocities from what a network says each voxel of either image is.

    Where labels can be trained on, telling what is where is learnt much faster from the labels of each image than from
    the overlap of pairs (Xu and Niethammer 2019, arXiv 1904.08465, train both networks together). The velocity then
    follows without further weights: :class:`~registration.localisation.Demons` align the probabilities, and the
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
        Values of the label maps to be named; every other value is background. Settings that leave them out take those
        of the first training pair.
    demons
        Align what was named.
    full
        Channels of the network at full resolution.
    widths
        Channels at 1/2, 1/4, ... of the resolution.
    counts
        What a unit of probability and one of local contrast count for the demons.
    """

    def __init__(
        self,
        ndim: int,
        inputs: int,
        labels: Sequence[int] | None,
        demons: Demons,
        full: int = 8,
        widths: Sequence[int] = (16, 32, 48, 64),
        counts: Sequence[float] = (2.0, 0.1),
    ) -> None:
        super().__init__()
        if labels is None:
            raise ValueError("no labels are given to be named, and the data have none")
        values = list(labels)
        whole = all(isinstance(value, int) for value in values)
        if not values or not whole or 0 in values or len(set(values)) < len(values):
            raise ValueError(f"labels are different whole numbers other than 0, at least one, got {values}")
        if len(counts) != 2 or not all(is_number(count) and 0 <= count <= HEAVIEST for count in counts):
            raise ValueError(f"counts are two numbers of 0 or more, of probability and of contrast, got {counts}")
        check_counts(1, inputs=inputs, full=full)
        check_both(inputs)
        self.labels, self.demons, self.shrink = tuple(values), demons, demons.shrink
        self.probability, self.contrast = (float(count) for count in counts)
        # Every image comes with its local contrast.
        self.network = UNet(ndim, inputs, len(values) + 1, widths, final=(), full=full, start=0.1)

    def forward(self, fixed: Tensor, warped: Tensor) -> Tensor:
        """(B, D, *ceil(S / shrink)) velocities in voxels of the input."""
        return self.looked(fixed, warped)[0]

    def looked(self, fixed: Tensor, warped: Tensor) -> tuple[Tensor, Tensor]:
        """The velocities, and (2B, 1 + labels, *S) logits of what is where, for the fixed images first."""
        logits, edges = self.logits(fixed, warped)
        with full_precision(logits):
            seen = [self.probability * logits.softmax(dim=1), self.contrast * edges]
            return self.demons(torch.cat(seen, dim=1)), logits

    def logits(self, fixed: Tensor, warped: Tensor) -> tuple[Tensor, Tensor]:
        """Those logits, and the (2B, C, *S) local contrast of both images."""
        images = torch.cat([fixed, warped])
        with full_precision(images):
            edges = contrast(images)
        return self.network(torch.cat([images, edges], dim=1)).to(images.dtype), edges

    def proposed(self, fixed: Image, moving: Image, initial: Transform) -> tuple[Tensor, Named]:
        """(B, P) velocities in radii of the fixed domain along world axes, and what was named."""
        velocity, logits = self.looked(fixed.data, pulled(fixed, moving, initial))
        return self.in_radii(velocity, fixed), Named(self.labels, logits)

    def named(self, fixed: Image, moving: Image, initial: Transform) -> Named:
        """What was named, without the velocity, which takes most of the time."""
        return Named(self.labels, self.logits(fixed.data, pulled(fixed, moving, initial))[0])
