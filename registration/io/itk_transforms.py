"""Transforms of SimpleITK, LPS mm, as ours: linear ones and fields exactly, B-splines sampled."""

from __future__ import annotations

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
from .itk_images import affine_of, flip

# A B-spline of order 3 is smooth: this many samples per control point follow it to a thousandth of its size.
_SAMPLES_PER_KNOT = 8
_MOST_SAMPLES = 1 << 24
_INSIDE = 1e-9  # of the length of its domain


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
    return field_of(file, values.transpose([*range(d - 1, -1, -1), d]), affine_of(image), True)


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
    # At its far end, and by rounding at any, the spline is already switched off: stay just inside.
    axes = np.reshape(transform.GetTransformDomainDirection(), (len(size), len(size)))
    return sitk.TransformToDisplacementField(
        transform,
        sitk.sitkVectorFloat64,
        size.tolist(),
        (transform.GetTransformDomainOrigin() + axes @ lengths * _INSIDE).tolist(),
        (spacing * (1 - 2 * _INSIDE)).tolist(),
        axes.ravel().tolist(),
    )


def field_of(file: Path, values: np.ndarray, affine: np.ndarray, lps: bool) -> Transform:
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
