"""How many volumes a file holds, from its header alone."""

from __future__ import annotations

import math
from pathlib import Path

import SimpleITK as sitk

from ..errors import InputError
from .itk_images import PHOTOGRAPHS, kind_of
from .mgh import is_mgh
from .mgh import read_header as read_mgh_header
from .nifti import is_nifti
from .nifti_stored import opened, read_header


def count_volumes(path: Path) -> int | None:
    """Volumes or components beyond the spatial axes of an image file; None where its header does not tell.

    What is wrong with a file is left to whoever reads it.
    """
    if path.is_dir():
        return None
    try:
        if is_mgh(path):
            return _of_mgh(path)
        return _of_nifti(path) if is_nifti(path) else _of_others(path)
    except (InputError, OSError, EOFError, RuntimeError, ValueError):
        return None


def _of_nifti(path: Path) -> int | None:
    with opened(path) as (stream, _):
        beyond = [n for n in read_header(path, stream)[0].get_data_shape()[3:] if n > 1]
    return math.prod(beyond) if len(beyond) < 2 else None


def _of_mgh(path: Path) -> int:
    with opened(path) as (stream, _):
        return int(read_mgh_header(path, stream)[0]["dims"][3])


def _of_others(path: Path) -> int | None:
    if kind_of(path) in PHOTOGRAPHS:
        return None  # colours become one grey value
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    beyond = reader.GetSize()[3] if reader.GetDimension() > 3 else 1
    return int(beyond * reader.GetNumberOfComponents())
