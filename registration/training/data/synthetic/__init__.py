"""Pairs made from label maps or from noise, with any contrast and a known deformation (SynthMorph's idea)."""

from __future__ import annotations

from .anatomy import Anatomy, FromFiles, RandomShapes, Scans
from .appearance import AnyContrast, Appearance, Contrast, CurveContrast
from .dataset import Recipe, SyntheticDataset, SyntheticPairs
from .deformations import Chain, RandomFlow, RandomLinear, RandomMap, RandomSpline, Still

__all__ = [
    "Anatomy",
    "AnyContrast",
    "Appearance",
    "Chain",
    "Contrast",
    "CurveContrast",
    "FromFiles",
    "RandomFlow",
    "RandomLinear",
    "RandomMap",
    "RandomShapes",
    "RandomSpline",
    "Recipe",
    "Scans",
    "Still",
    "SyntheticDataset",
    "SyntheticPairs",
]
