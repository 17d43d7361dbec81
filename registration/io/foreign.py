"""Transforms written by other programs: ITK, ANTs, SimpleITK, Slicer, and matrices in plain text."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from ..errors import InputError
from ..space import Space, SpaceError
from ..transforms.base import Transform, compose
from ..transforms.field import DisplacementField
from ..transforms.linear import Linear
from .image_whole import check_whole
from .itk_images import affine_of, flip, kind_of
from .itk_whole import check_itk
from .nifti import is_nifti, read_vectors

# A B-spline of order 3 is smooth: this many samples per control point follow it to a thousandth of its size.
_SAMPLES_PER_KNOT = 8
_MOST_SAMPLES = 1 << 24
# What texts of programs whose transforms are not read begin with or hold, and what makes them readable.
_UNREAD = (
    (b"nxforms", "a transform of FreeSurfer (LTA)", "lta_convert --outitk writes it for ITK"),
    (b'(Transform "', "a transform of elastix", "transformix -def all writes it as a displacement field"),
    (b"ThinPlateSplineKernelTransform", "a spline of 3D Slicer", "Slicer can save it as a displacement field"),
)


def read_foreign(file: Path) -> tuple[Transform, list[str]]:
    """The transform in a file of another program, fixed RAS mm -> moving RAS mm, and what had to be decided.

    Raises
    ------
    InputError
        If it is of no kind known here.
    """
    said: list[str] = []
    if is_nifti(file):
        values, affine, lps = read_vectors(file, said)
        return _field(file, values, affine, lps), said
    if file.suffix.lower() in (".mha", ".mhd", ".nrrd"):
        return _vector_image(file), said
    matrix = _text_matrix(file)
    if matrix is not None:
        return Linear(torch.from_numpy(matrix)), said
    _check_known(file)
    check_itk(file)
    try:
        transform = sitk.ReadTransform(str(file))
    except RuntimeError:
        raise InputError(
            file,
            "cannot be read as a transform",
            "transform.h5, an ITK or ANTs transform or field, or a RAS matrix was expected",
        ) from None
    return convert(file, transform, said), said


def _check_known(file: Path) -> None:
    """Refuse what is known but not read, and say what can be done."""
    with file.open("rb") as stream:
        start = stream.read(4096)
    for mark, what, cure in _UNREAD:
        if mark in start:
            raise InputError(file, f"is {what}, which is not read", cure)


def convert(file: Path, transform: Any, said: list[str]) -> Transform:
    """A SimpleITK transform as one of ours: linear ones and fields exactly, B-splines sampled, and that is said."""
    d = transform.GetDimension()
    transform = transform.Downcast() if hasattr(transform, "Downcast") else transform
    if isinstance(transform, sitk.CompositeTransform):
        # ITK applies the last of the queue first: the queue is outermost first, like a chain here.
        parts = [convert(file, transform.GetNthTransform(i), said) for i in range(transform.GetNumberOfTransforms())]
        result: Transform = Linear.identity(d)
        for part in parts:
            result = compose(result, part)
        return result
    if transform.IsLinear():
        return Linear(torch.from_numpy(_matrix_of(file, transform)))
    if isinstance(transform, sitk.DisplacementFieldTransform):
        image = transform.GetDisplacementField()
    elif isinstance(transform, sitk.BSplineTransform):
        image = _sampled(transform, said, file)
    else:
        raise InputError(
            file, f"holds a {transform.GetName()}, which cannot be used here", "save it as a displacement field"
        )
    values = sitk.GetArrayFromImage(image)
    return _field(file, values.transpose([*range(d - 1, -1, -1), d]), affine_of(image), True)


def _matrix_of(file: Path, transform: Any) -> np.ndarray:
    """(D+1, D+1) RAS matrix of a linear SimpleITK transform, whatever its centre and parameters."""
    d = transform.GetDimension()
    origin = np.array(transform.TransformPoint([0.0] * d))
    matrix = np.eye(d + 1)
    # Far points keep the digits of the linear part when the offset is large.
    for axis in range(d):
        point = [0.0] * d
        point[axis] = 1024.0
        matrix[:d, axis] = (np.array(transform.TransformPoint(point)) - origin) / 1024
    matrix[:d, d] = origin
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise InputError(file, "holds a linear transform that is singular or not finite", "write it again")
    return flip(d) @ matrix @ flip(d)


def _sampled(transform: Any, said: list[str], file: Path) -> Any:
    """A B-spline sampled finely on its own domain."""
    mesh = np.array(transform.GetTransformDomainMeshSize())
    lengths = np.array(transform.GetTransformDomainPhysicalDimensions())
    size = mesh * _SAMPLES_PER_KNOT + 1
    while size.prod() > _MOST_SAMPLES:
        size = size // 2 + 1
    spacing = lengths / np.maximum(size - 1, 1)
    said.append(f"{file}: a B-spline, sampled every {spacing.min():.3g} mm; outside its domain it does not move points")
    # The domain is open at its far end, where the spline is already switched off: stay just inside.
    return sitk.TransformToDisplacementField(
        transform,
        sitk.sitkVectorFloat64,
        size.tolist(),
        transform.GetTransformDomainOrigin(),
        (spacing * (1 - 1e-9)).tolist(),
        transform.GetTransformDomainDirection(),
    )


def _field(file: Path, values: np.ndarray, affine: np.ndarray, lps: bool) -> Transform:
    """(*S, D) vectors on a grid as a displacement in RAS mm."""
    d = values.shape[-1]
    try:
        space = Space(values.shape[:-1], torch.from_numpy(np.ascontiguousarray(affine)))
    except SpaceError as error:
        raise InputError(file, f"holds a displacement field on no proper grid ({error})") from None
    if space.ndim != d:
        raise InputError(
            file, f"holds vectors of {d} components on {space.ndim} axes", "a displacement field has as many"
        )
    values = np.array(np.moveaxis(values, -1, 0), dtype=np.float32, order="C")
    if not np.isfinite(values).all():
        raise InputError(file, "its displacements hold NaN or infinite numbers")
    if lps:
        values[:2] *= -1
    return DisplacementField(torch.from_numpy(values), space, still_outside=True)


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
    return _field(file, sitk.GetArrayFromImage(image).transpose([*range(d - 1, -1, -1), d]), affine_of(image), True)


def _text_matrix(file: Path) -> np.ndarray | None:
    """A (D+1, D+1) matrix in plain text (RAS mm), or None if the file is no table of numbers.

    Raises
    ------
    InputError
        If it is a table of numbers but no affine matrix, or an FSL matrix, whose coordinates are not the world's.
    """
    with file.open("rb") as stream:
        start = stream.read(8192).removeprefix(codecs.BOM_UTF8)
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
        raise InputError(
            file, f"holds a table of numbers ({shape})", "a 4 x 4 matrix in RAS mm was expected (3 x 3 in 2-D)"
        )
    matrix = np.array(rows)
    if file.suffix.lower() == ".mat":
        raise InputError(
            file,
            "a text matrix named .mat is FSL's, in voxel-scaled coordinates that need both images",
            "convert it to RAS or ITK; if it is a RAS matrix already, name it .txt",
        )
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise InputError(
            file, "its matrix is singular or not finite", "an invertible one, fixed -> moving in RAS mm, was expected"
        )
    if not np.allclose(matrix[-1], [0.0] * (n - 1) + [1.0], atol=1e-9):
        raise InputError(file, f"the last row of its matrix is {rows[-1]}", "0 ... 0 1 was expected")
    return matrix
