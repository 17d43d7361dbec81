"""Images from and to files of any format, always in RAS mm."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from ..errors import InputError
from ..image import Image, check_images
from ..space import Space, SpaceError
from .dicom import read_series
from .itk_images import read_itk, write_itk
from .label_maps import looks_like_labels
from .mgh import is_mgh, read_mgh, write_mgh
from .nifti import is_nifti, read_nifti
from .nifti_write import write_nifti
from .raw import EXACT_IN_FLOAT32, ChannelError, Raw, Source, finite_float32, scale_spacing
from .series import open_series
from .typed import as_type

PathLike = str | os.PathLike[str]
Notices = list[str] | None


@dataclass(frozen=True)
class Loaded:
    """An image, what its file says beyond voxels and grid, and what was decided while reading."""

    image: Image
    source: Source
    notices: tuple[str, ...] = ()


def load_image(
    path: PathLike,
    *,
    channel: int | Literal["all"] | None = None,
    spacing: Sequence[float] | None = None,
    missing: float | None = None,
) -> Loaded:
    """Read an image file with everything needed to write a result in its likeness.

    Parameters
    ----------
    path
        .nii, .nii.gz, .mgz, .mgh (nibabel); .mha, .mhd, .nrrd, .dcm, .png, .jpg, .tif and what else SimpleITK reads; or
        a folder with one DICOM series.
    channel
        Which volume of a 4-D file, or component of a colour image, to take, from 0. Without it files with several are
        refused, except colour pictures, which become luminance. "all" takes every volume of a NIfTI file.
    spacing
        D voxel spacings in mm (or one for all axes) that replace those of the file, in voxel-axis order.
    missing
        What NaN and infinite voxels become; the smallest finite value of the image without it.

    Returns
    -------
    The image, float32 (1, 1, *S) or (1, C, *S) of all volumes, its grid in RAS mm, its :class:`Source`, and notices.

    A NIfTI file whose header has two axes is 2-D; a volume of one slice, (X, Y, 1), is an ordinary 3-D image.

    Raises
    ------
    InputError
        In one line, for anything that is no whole image in the world.
    """
    if channel == "all":
        series = open_series(path)
        if series is not None:
            parts = [as_image(raw, spacing, missing, labels=False) for raw in series]
            image = replace(parts[0].image, data=torch.cat([part.image.data for part in parts], dim=1))
            said = dict.fromkeys(text for part in parts for text in part.notices)
            return Loaded(image, replace(parts[0].source, labels=series.labels()), tuple(said))
        channel = None
    return as_image(_read(path, channel), spacing, missing)


def as_image(
    raw: Raw, spacing: Sequence[float] | None = None, missing: float | None = None, labels: bool | None = None
) -> Loaded:
    """What was read as an image, see :func:`load_image`; ``labels`` where it is known what the voxels look like."""
    space = _space(raw, spacing)
    labels = looks_like_labels(raw.array) if labels is None else labels
    values = finite_float32(raw.source.path, raw.array, raw.said, missing)
    image = Image(torch.from_numpy(values)[None, None], space, name=str(raw.source.path))
    return Loaded(image, replace(raw.source, labels=labels), tuple(raw.said))


def read_image(
    path: PathLike,
    *,
    channel: int | Literal["all"] | None = None,
    spacing: Sequence[float] | None = None,
    notices: Notices = None,
) -> Image:
    """The image of :func:`load_image`; what was decided while reading is appended to ``notices``."""
    loaded = load_image(path, channel=channel, spacing=spacing)
    if notices is not None:
        notices.extend(loaded.notices)
    return loaded.image


def load_labels(path: PathLike, *, channel: int | None = None, spacing: Sequence[float] | None = None) -> Loaded:
    """Read a label map: whole numbers, float32 where that is exact and float64 beyond 2^24; else as :func:`load_image`.

    Parameters
    ----------
    channel
        Which volume of a 4-D file, from 0; one of structures in volumes of their own. Needed if there are several.

    Raises
    ------
    InputError
        Also if a voxel is not a whole number.
    """
    return as_labels(_read(path, channel), spacing)


def as_labels(raw: Raw, spacing: Sequence[float] | None = None) -> Loaded:
    """What was read as a label map, see :func:`load_labels`."""
    path, array = raw.source.path, raw.array
    if array.dtype.kind == "f":
        bad = int(np.count_nonzero(~(array == np.rint(array))))  # also NaN
        if bad:
            raise InputError(
                path, f"holds {bad:,} voxels that are no whole numbers", "labels were expected, not intensities"
            )
    largest = max(abs(float(array.max())), abs(float(array.min())))
    values = np.ascontiguousarray(array, dtype=np.float32 if largest <= EXACT_IN_FLOAT32 else np.float64)
    if largest > 2**53:
        raise InputError(path, f"holds the label {largest:.17g}, beyond 2^53", "renumber the labels")
    image = Image(torch.from_numpy(values)[None, None], _space(raw, spacing), name=str(path))
    return Loaded(image, replace(raw.source, labels=True), tuple(raw.said))


def load_result(
    read: Callable[..., Loaded], path: PathLike, channel: int | None, spacing: Sequence[float] | None = None
) -> Loaded:
    """Read by :func:`load_image` or :func:`load_labels` what a program has made of one channel: a file of one volume,
    whatever the channel's number was, or of several, of which that channel is taken."""
    try:
        return read(path, channel=channel, spacing=spacing)
    except ChannelError as error:
        if channel is None or error.count > 1:
            raise
        return read(path, spacing=spacing)


def read_labels(
    path: PathLike, *, channel: int | None = None, spacing: Sequence[float] | None = None, notices: Notices = None
) -> Image:
    """The label image of :func:`load_labels`; what was decided while reading is appended to ``notices``."""
    loaded = load_labels(path, channel=channel, spacing=spacing)
    if notices is not None:
        notices.extend(loaded.notices)
    return loaded.image


def write_image(
    path: PathLike,
    image: Image,
    *,
    like: Source | None = None,
    dtype: np.dtype | type | str | None = None,
    notices: Notices = None,
) -> None:
    """Write an image; the ending of ``path`` chooses the format.

    Parameters
    ----------
    image
        (1, C, *S); several channels become a fourth axis of a NIfTI file, or frames of FreeSurfer's.
    like
        Source of the image whose grid this one has: gives the NIfTI world code, and the height of a 2-D slice.
    dtype
        Of the voxels in the file, float32 without; usually ``source.dtype`` of the image that was warped. Integers are
        rounded and clipped to their range; 64-bit floats become float32.

    Raises
    ------
    InputError
        If the format cannot hold the image or the folder cannot be written to.
    """
    check_images(image=image)
    file = Path(path)
    if image.data.shape[0] != 1:
        raise ValueError(f"{image.name}: one image at a time is written, got a batch of {image.data.shape[0]}")
    wanted = np.dtype(np.float32 if dtype is None else dtype)
    array = as_type(image.data[0].movedim(0, -1).detach().cpu().numpy(), wanted)
    affine = image.space.affine.numpy()
    if array.shape[-1] == 1:
        array = array[..., 0]
    elif not (is_nifti(file) or is_mgh(file)):
        raise InputError(file, f"only .nii, .nii.gz and .mgz take the {array.shape[-1]} channels of {image.name}")
    elif image.ndim == 2:
        array = array[:, :, None, :]
    if is_nifti(file):
        said = write_nifti(file, array, affine, like)
    else:
        said = (write_mgh if is_mgh(file) else write_itk)(file, array, affine)
    if notices is not None:
        notices.extend(said)


def _read(path: PathLike, channel: int | None) -> Raw:
    file = Path(path)
    if file.is_dir():
        return read_series(file, channel)
    read = read_nifti if is_nifti(file) else read_mgh if is_mgh(file) else read_itk
    return read(file, channel)


def _space(raw: Raw, spacing: Sequence[float] | None) -> Space:
    file = raw.source.path
    affine = raw.affine if spacing is None else scale_spacing(file, raw.affine, spacing)
    try:
        return Space(raw.array.shape, torch.from_numpy(affine))
    except SpaceError as error:
        raise InputError(file, str(error), "repair the header") from None
