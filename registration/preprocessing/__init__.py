"""What is done to an image before a network sees it: steps that a checkpoint can hold and inference repeats."""

from __future__ import annotations

from .base import Step
from .geometry import CropOrPad, Reorient, Resample
from .intensity import MatchHistogram, RobustScale
from .masks import ApplyMask, BiasCorrection, ForegroundMask
from .pipeline import Pipeline, carry_labels
from .shrink import Shrink

__all__ = [
    "ApplyMask",
    "BiasCorrection",
    "CropOrPad",
    "ForegroundMask",
    "MatchHistogram",
    "Pipeline",
    "Reorient",
    "Resample",
    "RobustScale",
    "Shrink",
    "Step",
    "carry_labels",
]
