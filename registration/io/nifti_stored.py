"""The bytes of a NIfTI file: its header, and the voxels as they are stored, all of them or some in turn."""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import nibabel as nib
import numpy as np

from ..errors import InputError
from .files import check_claim

_LONGEST = nib.Nifti2Header.sizeof_hdr
Header = nib.Nifti1Header


@contextmanager
def opened(file: Path) -> Iterator[tuple[BinaryIO, bool]]:
    """The bytes of a file, unpacked if need be, and whether they are packed.

    Raises
    ------
    InputError
        If they cannot be unpacked or read.
    """
    with file.open("rb") as probe:
        packed = probe.read(2) == b"\x1f\x8b"
    try:
        with cast(BinaryIO, gzip.open(file) if packed else file.open("rb")) as stream:
            yield stream, packed
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            file, f"the compressed data are truncated or damaged ({error})", "copy the file again"
        ) from None
    except PermissionError:
        raise InputError(file, "no permission to read this file") from None


def read_header(file: Path, stream: BinaryIO) -> tuple[Header, np.ndarray]:
    """The header at the start of a stream, checked for sanity but without its extensions, and the (3,) sizes of voxels
    as they stand there: the header has 1 for those of 0, and none below."""
    start = stream.read(_LONGEST + 4)  # four bytes after the header say whether there are extensions
    size = {int.from_bytes(start[:4], order) for order in ("little", "big")}
    kind = nib.Nifti1Header if 348 in size else nib.Nifti2Header if 540 in size else None
    if kind is None or len(start) < kind.sizeof_hdr + 4:
        raise InputError(
            file, "this is no NIfTI file (its first bytes are no NIfTI header)", "check the file and its ending"
        )
    if kind is nib.Nifti1Header and start[344:348] != b"n+1\0":
        raise InputError(
            file, "this is no NIfTI file (an Analyze header without orientation?)", "convert it to .nii.gz"
        )
    # nibabel tells its logger, and so the terminal, what it mends; a logger of our own keeps that quiet.
    quiet = logging.Logger("nifti")
    quiet.addHandler(logging.NullHandler())
    try:
        header = kind(start[: kind.sizeof_hdr], check=False)
        sizes = np.array(header["pixdim"][1:4], dtype=np.float64)
        header.check_fix(logger=quiet, error_level=40)
        header.get_data_shape()
        header.get_data_dtype()
        header.get_slope_inter()
        int(header["vox_offset"])
    except Exception as error:
        cure = "write it again with the program it came from"
        raise InputError(file, f"its NIfTI header is damaged ({error})", cure) from None
    return header, sizes


def begin(file: Path, stream: BinaryIO, packed: bool) -> tuple[tuple[Header, np.ndarray], tuple[int, ...], np.dtype]:
    """Header, shape and type of the voxels at which the stream then stands.

    Raises
    ------
    InputError
        If it is no header of intensities, or it promises more than the file can hold.
    """
    header, sizes = read_header(file, stream)
    shape = tuple(int(n) for n in header.get_data_shape())
    if len(shape) < 2 or min(shape) < 1:
        raise InputError(file, f"its header gives the shape {shape}, an image of 2 or 3 axes was expected")
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        name = {"V": "RGB colours", "c": "complex numbers"}.get(dtype.kind, f"voxels of type {dtype}")
        raise InputError(file, f"holds {name}, intensities were expected", "convert it to a real-valued image")
    count = int(np.prod(shape, dtype=object))
    length = count * dtype.itemsize
    offset = max(int(header["vox_offset"]), header.sizeof_hdr)
    stored = file.stat().st_size
    check_claim(file, length + offset, stored)
    if not packed and stored < offset + length:
        raise InputError(
            file,
            f"is truncated: {shape} voxels need {offset + length:,} bytes, the file has {stored:,}",
            "copy it again",
        )
    stream.seek(offset)
    return (header, sizes), shape, dtype


def take(file: Path, stream: BinaryIO, shape: Sequence[int], dtype: np.dtype, last: bool) -> np.ndarray:
    """The next voxels of a stream (F order); every byte must be there.

    Parameters
    ----------
    last
        Whether packed bytes end with them, so that their checksum is looked at.

    Raises
    ------
    InputError
        If the stream ends before.
    """
    length = int(np.prod(shape, dtype=object)) * dtype.itemsize
    data = bytearray(length)
    view, got = memoryview(data), 0
    while got < length and (step := stream.readinto(view[got:])):  # type: ignore[attr-defined]
        got += step
    if got < length:
        raise InputError(
            file, f"is truncated: {shape} voxels need {length:,} bytes, {got:,} are there", "copy it again"
        )
    if last:
        # The checksum stands after the last byte and is only looked at when the end is read.
        stream.read(1)
    return np.frombuffer(data, dtype=dtype).reshape(shape, order="F")
