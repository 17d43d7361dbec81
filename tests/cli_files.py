"""Small files and options for the tests of the commands."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

AFFINE = np.diag([2.0, 3.0, 4.0, 1.0])


def volume(
    path: Path, shape: tuple[int, ...] = (12, 10, 8), affine: np.ndarray = AFFINE, dtype: str = "float32"
) -> Path:
    """A file with a smooth blob, in the corner rather than the middle."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    centre = np.array(shape).reshape(-1, *[1] * len(shape)) * 0.4
    data = 100 * np.exp(-(((index - centre) / 3) ** 2).sum(axis=0))
    nib.save(nib.Nifti1Image(data.astype(dtype), affine), path)
    return path
