"""Similarities of images and penalties on deformations: one per file, on (B, C, *S) tensors."""

from __future__ import annotations

from .base import Bound, Similarity
from .lncc import LocalNormalisedCrossCorrelation
from .mi import MutualInformation
from .mse import MeanSquaredError
from .ncc import NormalisedCrossCorrelation
from .regularity import bending_energy, diffusion_energy, folding_penalty, jacobian_determinant

__all__ = [
    "Bound",
    "LocalNormalisedCrossCorrelation",
    "MeanSquaredError",
    "MutualInformation",
    "NormalisedCrossCorrelation",
    "Similarity",
    "bending_energy",
    "diffusion_energy",
    "folding_penalty",
    "jacobian_determinant",
]
