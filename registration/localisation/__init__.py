"""Localisers: free parameters, or networks that propose them from the images."""

from .base import Localiser
from .cnn import ParameterNetwork
from .dense import DenseVelocity
from .free import FreeParameters
from .keypoints import Keypoints
from .networks import Encoder, UNet

__all__ = ["DenseVelocity", "Encoder", "FreeParameters", "Keypoints", "Localiser", "ParameterNetwork", "UNet"]
