"""Similarities of images and penalties on deformations: one per file, on (B, C, *S) tensors."""

from __future__ import annotations

from .base import Bound, Similarity
from .lncc import LocalNormalisedCrossCorrelation
from .mse import MeanSquaredError
from .ncc import NormalisedCrossCorrelation

__all__ = [
    "Bound",
    "LocalNormalisedCrossCorrelation",
    "MeanSquaredError",
    "NormalisedCrossCorrelation",
    "Similarity",
]
