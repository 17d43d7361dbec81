"""A network that finds the same points in every image of a kind: what keypoint registration fits a transform to."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn

from ..image import Image
from .base import full_precision


class PointFinder(nn.Module, ABC):
    """Finds the same places of the anatomy in every image of a kind."""

    any_size = False
    """Whether images of another size than those of training mean the same to it, voxel by voxel."""

    @abstractmethod
    def forward(self, image: Image) -> tuple[Tensor, Tensor]:
        """(B, K, D) points in the world mm of the image's grid, and (B, K) weights with mean 1."""


class Keypoints(PointFinder):
    """K points and their weights in one image at a time (Wang et al. 2023, arXiv 2304.09941).

    The network draws a map for each point; the point is the map's centre of mass, in mm through the image's grid, so
    anisotropic and oblique voxels need no care. Its weight is the map's mass relative to the others of the same image.

    Parameters
    ----------
    network
        (B, C, *S) -> (B, K, *nodes) over the same field of view. Its maps must differ from the start: maps that are
        all alike put all points into the centre, where no transform is determined.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Image) -> tuple[Tensor, Tensor]:
        """(B, K, D) points in the world mm of the image's grid, and (B, K) weights with mean 1."""
        logits = self.network(image.data)
        with full_precision(image.data):
            maps = F.softplus(logits.float()).flatten(2)
            nodes = image.space.resized(tuple(logits.shape[2:]))
            mass = maps.sum(dim=-1) + 1e-8
            places = (nodes.points(maps).flatten(0, -2) - nodes.centre.to(maps)) / nodes.radius
            points = (maps @ places) / mass[..., None] * nodes.radius + nodes.centre.to(maps)
            return points, mass / mass.mean(dim=1, keepdim=True)
