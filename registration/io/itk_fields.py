"""Displacement fields as ITK's transform files hold them: a grid in LPS mm, and vectors in a row."""

from __future__ import annotations

import numpy as np

from ..space import Space
from .itk_images import flip


def itk_grid(space: Space) -> np.ndarray:
    """ITK's fixed parameters of a field: size, origin, spacing, direction by rows; LPS mm."""
    d = space.ndim
    lps = flip(d) @ space.affine.numpy()
    spacing = np.linalg.norm(lps[:d, :d], axis=0)
    return np.concatenate([np.array(space.shape, float), lps[:d, d], spacing, (lps[:d, :d] / spacing).ravel()])


def itk_vectors(displacement: np.ndarray) -> np.ndarray:
    """(*S, D) RAS mm as ITK's parameters: LPS, components side by side, the first voxel axis fastest."""
    d = displacement.shape[-1]
    reversed_axes = displacement.transpose([*range(d - 1, -1, -1), d])
    lps = np.empty(reversed_axes.shape, np.float32)
    np.multiply(reversed_axes, np.diag(flip(d))[:d].astype(np.float32), out=lps)
    return lps.reshape(-1)


def from_itk_vectors(parameters: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(D, *S) RAS mm of what :func:`itk_vectors` gave.

    Raises
    ------
    ValueError
        If there are not as many numbers as the shape needs.
    """
    d = len(shape)
    lps = np.asarray(parameters, np.float32).reshape(*reversed(shape), d)
    return np.ascontiguousarray((lps * np.diag(flip(d))[:d].astype(np.float32) + np.float32(0)).T)
