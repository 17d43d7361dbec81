"""Separable filters and antialiased pyramids, on tensors of shape (B, C, *S), 2-D and 3-D in one code.

Borders: window sums see zeros outside; the Gaussian sees the image mirrored at its outer voxel *edges* (no flux
through the border), which keeps the mean and makes the filter its own adjoint.
"""

from __future__ import annotations

from .box import box_sum
from .derivatives import gradient, gradient_magnitude
from .levels import downsample, pyramid, refine
from .smooth import gaussian, resample, spline

__all__ = [
    "box_sum",
    "downsample",
    "gaussian",
    "gradient",
    "gradient_magnitude",
    "pyramid",
    "refine",
    "resample",
    "spline",
]
