"""Similarities of images and penalties on deformations: one per file, on (B, C, *S) tensors."""

from __future__ import annotations

from .base import Bound, Similarity
from .lncc import LocalNormalisedCrossCorrelation
from .local_mi import LocalMutualInformation
from .mi import MutualInformation
from .mind import SelfSimilarityContext
from .mse import MeanSquaredError
from .ncc import NormalisedCrossCorrelation
from .ngf import NormalisedGradientFields
from .regularity import bending_energy, diffusion_energy, folding_penalty, jacobian_determinant
from .weighted import Part, WeightedSum
from .wide import WideLocalCorrelation

__all__ = [
    "Bound",
    "LocalMutualInformation",
    "LocalNormalisedCrossCorrelation",
    "MeanSquaredError",
    "MutualInformation",
    "NormalisedCrossCorrelation",
    "NormalisedGradientFields",
    "Part",
    "SelfSimilarityContext",
    "Similarity",
    "WeightedSum",
    "WideLocalCorrelation",
    "bending_energy",
    "diffusion_energy",
    "folding_penalty",
    "jacobian_determinant",
]
