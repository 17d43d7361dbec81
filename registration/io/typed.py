"""Values in the type of voxels that a file holds."""

from __future__ import annotations

import numpy as np


def as_type(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values in the type of the file: integers rounded and clipped, floats as float32, truth values as uint8."""
    if dtype.kind == "b":
        dtype = np.dtype(np.uint8)
    if dtype.kind not in "iu":
        return array.astype(np.float32, copy=False)
    limits = np.iinfo(dtype)
    # float32 cannot hold the largest 32- and 64-bit integers: clip in float64, and below the limit it rounds up to.
    values = np.rint(np.nan_to_num(array.astype(np.float64 if dtype.itemsize >= 4 else array.dtype)))
    if dtype.itemsize == 8:
        return np.clip(values, -(2.0**53) if limits.min else 0.0, 2.0**53).astype(dtype)
    return np.clip(values, limits.min, limits.max).astype(dtype)
