"""DICOM series: a folder of slices as one volume."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from .itk_images import affine_of, array_of, grey, no_warnings, one_slice, reason
from .raw import Raw, Source


def read_series(folder: Path, channel: int | None = None) -> Raw:
    """Read the one DICOM series in a folder, sorted by position.

    Raises
    ------
    InputError
        If there is none, or several, or it cannot be read.
    """
    if not os.access(folder, os.R_OK | os.X_OK):
        raise InputError(folder, "no permission to read this folder", "change its permissions or copy it")
    try:
        with no_warnings():  # a folder without slices is said below, in one line
            ids = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    except RuntimeError:
        ids = ()
    if not ids:
        raise InputError(
            folder, "no DICOM series in this folder", "give the folder that holds the slices, or an image file"
        )
    groups = {i: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), i) for i in ids}
    if len(groups) > 1:
        sizes = ", ".join(f"{len(names)} files like {Path(names[0]).name}" for names in groups.values())
        raise InputError(folder, f"holds {len(groups)} DICOM series ({sizes})", "give a folder with one series")
    names = groups[ids[0]]
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(names)
    reader.MetaDataDictionaryArrayUpdateOn()
    try:
        with no_warnings():  # uneven slices are said below, in one line
            image = reader.Execute()
    except RuntimeError as error:
        raise InputError(folder, f"its DICOM series cannot be read ({reason(error)})") from None
    said: list[str] = []
    array = array_of(image)
    array, dtype = grey(folder, array, 3, "dicom", channel, said)
    _even_slices(folder, reader, image, said)
    affine = affine_of(image)
    if len(names) == 1 and image.GetSize()[2] == 1:
        tags = {key: reader.GetMetaData(0, key) for key in reader.GetMetaDataKeys(0)}
        affine = one_slice(folder, affine, tags, said)
    return Raw(array, 3, affine, Source(folder, "dicom", dtype), said)


def _even_slices(folder: Path, reader: Any, image: Any, said: list[str]) -> None:
    """Say when slices do not lie where the volume's regular grid puts them."""
    worst = 0.0
    for k in range(image.GetSize()[2]):
        if not reader.HasMetaDataKey(k, "0020|0032"):
            return
        try:
            place = np.array([float(v) for v in reader.GetMetaData(k, "0020|0032").split("\\")])
        except ValueError:
            return
        worst = max(worst, float(np.linalg.norm(place - image.TransformIndexToPhysicalPoint((0, 0, k)))))
    if worst > 0.05 * image.GetSpacing()[2]:
        said.append(f"{folder}: slices are missing or unevenly spaced; positions are off by up to {worst:.3g} mm")
