"""Matrices of FSL's FLIRT: from the input to the reference image, in mm along the axes of their voxels."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError
from ..space import Space
from ..transforms.base import Transform
from ..transforms.linear import Linear
from .chain import one_linear
from .files import atomic_path, existing_file


def read_flirt(path: Path, fixed: Space, moving: Space) -> Linear:
    """Read what ``flirt -omat`` has written, fixed RAS mm -> moving RAS mm.

    Parameters
    ----------
    fixed, moving
        The grids of ``-ref`` and of ``-in``.

    Raises
    ------
    InputError
        If it is no text of an invertible 4 x 4 matrix, or an image is not 3-D.
    """
    from .foreign import plain_matrix

    file = existing_file(path)
    with file.open("rb") as stream:
        matrix = plain_matrix(file, stream.read(1 << 13))
    if matrix is None or len(matrix) != 4 or fixed.ndim != 3 or moving.ndim != 3:
        raise InputError(file, "was given as a matrix of FSL", "a text of 4 x 4 numbers and 3-D images were expected")
    inside = np.linalg.inv(matrix) @ _scaled(fixed) @ np.linalg.inv(fixed.affine.numpy())
    return Linear(torch.from_numpy(moving.affine.numpy() @ np.linalg.inv(_scaled(moving)) @ inside))


def write_flirt(path: str | os.PathLike[str], transform: Transform, fixed: Space, moving: Space) -> None:
    """Write a linear 3-D transform as FLIRT does, for ``-in`` moving and ``-ref`` fixed.

    Raises
    ------
    InputError
        If the transform is of another kind or the file cannot be written.
    """
    file = Path(path)
    single = one_linear(file, transform, "FLIRT has linear transforms in 3-D alone", 3)
    with atomic_path(file) as temporary:
        np.savetxt(temporary, flirt_matrix(single, fixed, moving), fmt="%.17g")


def flirt_matrix(transform: Linear, fixed: Space, moving: Space) -> np.ndarray:
    """(4, 4) what FLIRT would have written of a linear transform between these grids."""
    backward = np.linalg.inv(transform.matrix.double().numpy())
    inside = fixed.affine.inverse().numpy() @ backward @ moving.affine.numpy()
    return _scaled(fixed) @ inside @ np.linalg.inv(_scaled(moving))


def _scaled(space: Space) -> np.ndarray:
    """(4, 4) voxel indices -> the coordinates of FSL: mm from the first voxel, left-handed as radiologists look.

    So along the first axis it counts from the last voxel where the axes of the image are right-handed.
    """
    size = space.spacing.numpy()
    scaled = np.diag([*size, 1.0])
    if np.linalg.det(space.affine.numpy()[:3, :3]) > 0:
        scaled[0, 0], scaled[0, 3] = -size[0], (space.shape[0] - 1) * size[0]
    return scaled
