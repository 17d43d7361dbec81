"""Transforms for other programs, all fixed -> moving; only the axes change, to LPS where the program asks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import InputError
from ..space import Space
from ..transforms.base import Transform
from ..transforms.tps import ThinPlateSpline
from .chain import decode, encode, one_linear
from .files import atomic_path
from .itk_images import flip
from .nifti_write import write_vectors
from .transforms import split_linear

PathLike = str | os.PathLike[str]


def write_itk_affine(path: PathLike, transform: Transform) -> None:
    """Write a linear transform as ITK's AffineTransform (LPS mm, fixed -> moving): .tfm, .txt or .mat.

    Raises
    ------
    InputError
        If the transform is not linear or the file cannot be written.
    """
    file = Path(path)
    if file.suffix.lower() not in (".tfm", ".txt", ".mat"):
        raise InputError(file, "an ITK affine transform ends in .tfm, .txt or .mat")
    matrix = _matrix(file, transform)
    d = matrix.shape[0] - 1
    lps = flip(d) @ matrix @ flip(d)
    affine = sitk.AffineTransform(d)
    affine.SetMatrix(lps[:d, :d].ravel().tolist())
    affine.SetTranslation(lps[:d, d].tolist())
    with atomic_path(file) as temporary:
        sitk.WriteTransform(affine, str(temporary))


def write_ras_matrix(path: PathLike, transform: Transform) -> None:
    """Write a linear transform as a (D+1, D+1) matrix in plain text, RAS mm, fixed -> moving.

    Raises
    ------
    InputError
        If the transform is not linear or the file cannot be written.
    """
    file = Path(path)
    matrix = _matrix(file, transform)
    with atomic_path(file) as temporary:
        # 17 digits bring every double back.
        np.savetxt(temporary, matrix, fmt="%.17g", header="fixed RAS mm -> moving RAS mm")


def write_slicer_tps(path: PathLike, transform: Transform) -> None:
    """Write a 3-D thin-plate spline, or a linear map after one, as a kernel transform in text (.tfm) for 3D Slicer.

    The kernel there is r, ours in 3-D; the smoothing weight is not in the format, so the targets are the points where
    the spline does lead, which gives the same spline. ITK's own Python packages and SimpleITK do not read this class.

    Raises
    ------
    InputError
        If the transform is of another form or the file cannot be written.
    """
    file = Path(path)
    outer, inner = split_linear(decode(encode(transform)))
    if not isinstance(inner, ThinPlateSpline) or inner.ndim != 3:
        raise InputError(
            file, "only a 3-D thin-plate spline can be written for Slicer", "write transform.h5 or a Warp.nii.gz"
        )
    points = inner.points.double()
    with torch.no_grad():
        targets = outer(inner(points))
    if file.suffix.lower() != ".tfm":
        raise InputError(file, "a Slicer spline ends in .tfm")
    lines = [
        "#Insight Transform File V1.0",
        "#Transform 0",
        "Transform: ThinPlateSplineKernelTransform_double_3_3",
        f"Parameters: {_lps_text(points)}",
        f"FixedParameters: {_lps_text(targets)}",
    ]
    with atomic_path(file) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="ascii")


def write_ants_warp(path: PathLike, transform: Transform, fixed: Space) -> list[str]:
    """Write the whole transform as one displacement field on the fixed grid, as ANTs names ``Warp.nii.gz``.

    One file that holds affine and deformation cannot be applied in the wrong order.

    Returns
    -------
    What had to be decided.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    file = Path(path)
    if not file.name.lower().endswith((".nii", ".nii.gz")):
        raise InputError(file, "a displacement field for ANTs ends in .nii.gz")
    whole = decode(encode(transform))
    with torch.no_grad():
        field = (whole.on_grid(fixed) - fixed.points()).reshape(*fixed.shape, fixed.ndim)
    field[..., :2] *= -1
    return write_vectors(file, field.numpy(), fixed.affine.numpy())


def _matrix(file: Path, transform: Transform) -> np.ndarray:
    """(D+1, D+1) float64 matrix of a linear transform."""
    return one_linear(file, transform, "the transform is not linear, so no matrix says it").matrix.double().numpy()


def _lps_text(points: Tensor) -> str:
    """(N, 3) RAS mm points as LPS numbers in a row."""
    lps = points.double().numpy() * np.diag(flip(points.shape[1]))[: points.shape[1]]
    return " ".join(f"{v:.17g}" for v in lps.ravel())
