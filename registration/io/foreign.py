"""Transforms written by other programs: ITK, ANTs, SimpleITK, elastix, FreeSurfer, and matrices in plain text."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from ..errors import InputError
from ..transforms.base import Transform
from ..transforms.linear import Linear
from .elastix import is_elastix, read_elastix
from .image_whole import check_whole
from .itk_images import affine_of, kind_of
from .itk_transforms import convert, field_of
from .itk_whole import check_itk
from .lta import read_lta
from .nifti import is_nifti, read_vectors
from .own import TransformInfo

_START = 8192  # bytes that tell what a text is


def read_foreign(file: Path) -> tuple[Transform, TransformInfo]:
    """The transform in a file of another program, fixed RAS mm -> moving RAS mm, and what is known of it.

    Raises
    ------
    InputError
        If it is of no kind known here.
    """
    said: list[str] = []
    if is_nifti(file):
        values, affine, lps = read_vectors(file, said)
        return field_of(file, values, affine, lps), _told(file, said)
    if file.suffix.lower() in (".mha", ".mhd", ".nrrd"):
        return _vector_image(file), _told(file, said)
    with file.open("rb") as stream:
        start = stream.read(_START)
    if b"nxforms" in start and b"\0" not in start:
        return read_lta(file)
    if is_elastix(start):
        return read_elastix(file)
    matrix = plain_matrix(file, start)
    if matrix is not None:
        if file.suffix.lower() == ".mat":
            raise InputError(
                file, "a text matrix named .mat is FSL's, in voxel-scaled coordinates that need both images",
                f"give [{file},fsl] together with them; if it is a RAS matrix, name it .txt",
            )  # fmt: skip
        return Linear(torch.from_numpy(matrix)), _told(file, said)
    return convert(file, _itk(file, start), said), _told(file, said)


def _told(file: Path, said: list[str]) -> TransformInfo:
    return TransformInfo(file, exact=False, notices=tuple(said))


def _itk(file: Path, start: bytes) -> Any:
    """The transform in a file of ITK."""
    if b"ThinPlateSplineKernelTransform" in start:
        raise InputError(
            file, "is a spline of 3D Slicer, which is not read", "Slicer can save it as a displacement field"
        )
    check_itk(file)
    try:
        return sitk.ReadTransform(str(file))
    except RuntimeError:
        raise InputError(
            file,
            "cannot be read as a transform",
            "transform.h5, a transform or field of ITK, ANTs, elastix or FreeSurfer, or a RAS matrix was expected",
        ) from None


def _vector_image(file: Path) -> Transform:
    """A displacement field stored as a vector image in LPS mm, as ITK's filters write it."""
    check_whole(file, kind_of(file))
    try:
        image = sitk.ReadImage(str(file))
    except RuntimeError:
        raise InputError(file, "cannot be read as a displacement field", "it is damaged or no image") from None
    d = image.GetDimension()
    if d not in (2, 3) or image.GetNumberOfComponentsPerPixel() != d:
        raise InputError(file, "is an image, no transform", f"vectors of {d} components were expected")
    return field_of(file, sitk.GetArrayFromImage(image).transpose([*range(d - 1, -1, -1), d]), affine_of(image), True)


def plain_matrix(file: Path, start: bytes) -> np.ndarray | None:
    """A (D+1, D+1) matrix in plain text, or None if a file that begins so is no table of numbers.

    Raises
    ------
    InputError
        If it is a table of numbers but no affine matrix that can be inverted.
    """
    start = start.removeprefix(codecs.BOM_UTF8)
    if b"\0" in start or b"Insight" in start[:64] or b"MNI Transform" in start[:256]:
        return None
    lines = [re.sub(r"[#%].*", "", line).replace(",", " ").split() for line in start.decode("latin-1").splitlines()]
    try:
        rows = [[float(v) for v in line] for line in lines if line]
    except ValueError:
        return None
    if not rows:
        return None
    n = len(rows)
    if n not in (3, 4) or any(len(row) != n for row in rows):
        shape = " x ".join(map(str, sorted({(n, len(row)) for row in rows})[0]))
        raise InputError(file, f"holds a table of numbers ({shape})", "a 4 x 4 matrix was expected (3 x 3 in 2-D)")
    matrix = np.array(rows)
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise InputError(file, "its matrix is singular or not finite", "an invertible one was expected")
    if not np.allclose(matrix[-1], [0.0] * (n - 1) + [1.0], atol=1e-9):
        raise InputError(file, f"the last row of its matrix is {rows[-1]}", "0 ... 0 1 was expected")
    return matrix
