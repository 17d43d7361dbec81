"""Localisers: free parameters, or networks that propose them from the images."""

from .base import Localiser
from .cnn import ParameterNetwork
from .dense import DenseVelocity
from .free import FreeParameters
from .keypoints import Keypoints, PointFinder
from .networks import Encoder, UNet
from .posed import Posed

__all__ = [
    "DenseVelocity",
    "Encoder",
    "FreeParameters",
    "Keypoints",
    "Localiser",
    "ParameterNetwork",
    "PointFinder",
    "Posed",
    "UNet",
]
