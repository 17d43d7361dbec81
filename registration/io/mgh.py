"""FreeSurfer's volumes, .mgz and .mgh, in and out by nibabel's headers."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np

from ..errors import InputError
from .files import atomic_path, check_claim, existing_file
from .nifti_stored import opened, take
from .raw import Raw, Source, check_channel, choose_channel

_OFFSET = 284  # of the voxels, in bytes
_GZIP_LEVEL = 1  # as for NIfTI
_FOOTER = 1 << 24  # bytes after them that are read at most, for the sake of a checksum
_TYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
# What is written for types that the format does not know.
_WIDER = {"i1": np.int16, "u4": np.int32, "i8": np.int32, "u8": np.int32}
Header = nib.freesurfer.mghformat.MGHHeader


def is_mgh(path: Path) -> bool:
    """Whether the name ends like a volume of FreeSurfer."""
    return path.name.lower().endswith((".mgz", ".mgh"))


def read_mgh(path: str | os.PathLike[str], channel: int | None = None) -> Raw:
    """Read a volume of FreeSurfer, compressed or not; always 3-D, frames are channels.

    Raises
    ------
    InputError
        If it is missing, truncated, damaged, no such file, or holds values on a surface.
    """
    file = existing_file(path)
    with opened(file) as (stream, packed):
        header, placed = read_header(file, stream)
        dims = tuple(int(n) for n in header["dims"])
        check_channel(file, [n for n in dims[3:] if n > 1], channel)
        data = _voxels(file, (stream, packed), dims, np.dtype(_TYPES[int(header["type"])]))
    with np.errstate(all="ignore"):  # what is not finite is told below
        affine = np.asarray(header.get_affine(), dtype=np.float64)
    if not np.isfinite(affine).all():
        raise InputError(file, "its header places voxels at NaN or infinite numbers", "repair the header")
    said = []
    if not placed:
        said.append(
            f"{file}: the header does not say where its voxels lie; coronal slices of 1 mm are taken, as in nibabel"
        )
    source = Source(file, "mgh", data.dtype.newbyteorder("="), affine=affine)
    return Raw(choose_channel(file, data, 3, channel), 3, affine, source, said)


def _voxels(file: Path, stored: tuple[BinaryIO, bool], dims: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """What follows the header, (X, Y, Z, C) in F order; all of it must be there."""
    stream, packed = stored
    length, size = _OFFSET + int(np.prod(dims, dtype=object)) * dtype.itemsize, file.stat().st_size
    check_claim(file, length, size)
    if not packed and size < length:
        problem = f"is truncated: {dims} voxels need {length:,} bytes, the file has {size:,}"
        raise InputError(file, problem, "copy it again")
    data = take(file, stream, dims, dtype, last=False)
    left = _FOOTER if packed else 0
    while left > 0 and (more := stream.read(1 << 16)):
        left -= len(more)
    return data


def read_header(file: Path, stream: BinaryIO) -> tuple[Header, bool]:
    """The header at the start of a stream, and whether it places the voxels.

    Raises
    ------
    InputError
        If there is none, or it is none of a volume.
    """
    start = stream.read(_OFFSET)
    if len(start) < _OFFSET or start[:4] != b"\0\0\0\1":
        raise InputError(
            file, "this is no volume of FreeSurfer (its first bytes are no MGH header)", "check the file and its ending"
        )
    header = Header(start, check=False)
    dims, kind = tuple(int(n) for n in header["dims"]), int(header["type"])
    if min(dims) < 1:
        raise InputError(file, f"its header gives the shape {dims}, sizes from 1 were expected")
    if kind not in _TYPES:
        raise InputError(file, f"holds voxels of MGH type {kind}, intensities were expected", "convert it to .nii.gz")
    if dims[0] > 1 and dims[1:3] == (1, 1):
        raise InputError(file, f"holds {dims[0]:,} values on a surface, a volume was expected")
    return header, int.from_bytes(start[28:30], "big") != 0


def write_mgh(path: Path, array: np.ndarray, affine: np.ndarray) -> list[str]:
    """Write (X, Y, Z) or (X, Y, Z, C) voxels with a (4, 4) RAS affine; packed if the name ends with .mgz.

    Raises
    ------
    InputError
        If the format cannot hold the image, or it cannot be written.
    """
    if len(affine) != 4:
        raise InputError(
            path, f"{path.suffix} files hold volumes, this image has 2 axes", "write .nii.gz, .mha or .nrrd"
        )
    wider = np.dtype(_WIDER.get(array.dtype.str[1:], array.dtype))
    limits = np.iinfo(wider) if wider.kind in "iu" else None
    if limits and wider != array.dtype and (array.min() < limits.min or array.max() > limits.max):
        raise InputError(path, f"{path.suffix} files hold no whole numbers beyond 2^31", "write .nii.gz")
    image = nib.MGHImage(array.astype(wider, copy=False), affine)
    with atomic_path(path) as temporary, temporary.open("wb") as out:
        if path.suffix.lower() == ".mgz":
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, out, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(out)
    return []
