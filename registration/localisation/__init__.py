"""Localisers: free parameters, or networks that propose them from the images."""

from .anatomy import AnatomyVelocity
from .base import Localiser, Named
from .cnn import ParameterNetwork
from .demons import Demons
from .dense import DenseVelocity, VoxelVelocity
from .free import FreeParameters
from .keypoints import Keypoints, PointFinder
from .networks import Encoder, UNet
from .posed import Posed
from .pyramid import MatchingPyramid

__all__ = [
    "AnatomyVelocity",
    "Demons",
    "DenseVelocity",
    "Encoder",
    "FreeParameters",
    "Keypoints",
    "Localiser",
    "MatchingPyramid",
    "Named",
    "ParameterNetwork",
    "PointFinder",
    "Posed",
    "UNet",
    "VoxelVelocity",
]
