"""NIfTI out: sform and qform, mm, compressed for speed."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np

from .files import atomic_path
from .nifti import corners_apart
from .raw import Fourth, Source

# Level 1 packs float images as well as 9 does to a few percent, more than twice as fast.
_GZIP_LEVEL = 1


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray, like: Source | None) -> list[str]:
    """Write (*S) voxels of the wanted dtype with sform and, where a rotation and zooms can say it, qform; units mm.

    Parameters
    ----------
    affine
        (D+1, D+1) RAS mm.
    like
        Gives the world code, for a 2-D image the height and thickness of its slice, and for several volumes what is
        known of them.

    Returns
    -------
    What had to be decided.
    """
    image, said = _image(path, array, affine, like)
    _save(path, image)
    return said


def write_series(
    path: Path, volumes: Iterable[np.ndarray], like_all: np.ndarray, affine: np.ndarray, like: Source | None
) -> list[str]:
    """:func:`write_nifti` of (X, Y, Z) volumes one after another.

    Parameters
    ----------
    like_all
        An array of the shape (X, Y, Z, ...) and type of all; it may be a broadcast zero.
    """
    image, said = _image(path, like_all, affine, like)
    header = image.header.copy()
    header["magic"], header["vox_offset"] = header.single_magic, header.single_vox_offset
    header.set_slope_inter(1, 0)
    with _opened(path) as out:
        out.write(header.binaryblock)
        out.write(bytes(header.single_vox_offset - header.sizeof_hdr))
        for volume in volumes:
            out.write(volume.astype(like_all.dtype, copy=False).tobytes(order="F"))
    return said


def _image(path: Path, array: np.ndarray, affine: np.ndarray, like: Source | None) -> tuple[Any, list[str]]:
    """(*S) or (*S, ...) voxels as a nibabel image with everything that its header says."""
    d = affine.shape[0] - 1
    full = np.eye(4)
    if d == 2 and like is not None and like.affine is not None:
        full = like.affine.copy()
        # A slice without thickness would make the affine singular.
        full[2, 2] = full[2, 2] or 1.0
    full[np.ix_([*range(d), 3], [*range(d), 3])] = affine
    image, said = _placed(path, array, full, like.code if like is not None else 1)
    if like is not None and like.fourth is not None and array.ndim > 3:
        _set_fourth(image.header, like.fourth)
    return image, said


def _set_fourth(header: Any, fourth: Fourth) -> None:
    count = min(len(fourth.steps), int(header["dim"][0]) - 3)
    header["pixdim"][4 : 4 + count] = fourth.steps[:count]
    header["xyzt_units"] = (int(header["xyzt_units"]) & 7) | fourth.unit
    header["toffset"] = fourth.offset
    code, parameters, name = fourth.intent
    header["intent_code"], header["intent_name"] = code, name
    for number, value in enumerate(parameters, 1):
        header[f"intent_p{number}"] = value


def write_vectors(path: Path, vectors: np.ndarray, affine: np.ndarray) -> list[str]:
    """Write (*S, D) float32 LPS vectors as ITK and ANTs do: (X, Y, Z, 1, D) with the intent "vector" (1007)."""
    d = vectors.shape[-1]
    full = np.eye(4)
    full[np.ix_([*range(d), 3], [*range(d), 3])] = affine
    array = vectors.reshape(*vectors.shape[:d], *[1] * (4 - d), d)
    image, said = _placed(path, array, full, 1)
    image.header.set_intent("vector")
    _save(path, image)
    return said


def _placed(path: Path, array: np.ndarray, full: np.ndarray, code: int) -> tuple[Any, list[str]]:
    """A nibabel image with both forms set, or only the sform where the affine is sheared."""
    big = max(array.shape) > 32767
    image: Any = (nib.Nifti2Image if big else nib.Nifti1Image)(array, None, dtype=array.dtype)
    header, said = image.header, list[str]()
    header.set_xyzt_units("mm", "sec")
    header.set_qform(full, code)
    header.set_sform(full, code)
    spacing = float(np.linalg.norm(full[:3, :3], axis=0).min())
    if corners_apart(header.get_qform(), full, array.shape) > 1e-2 * spacing:
        header.set_qform(full, 0)
        said.append(f"{path}: the affine is sheared, which a qform cannot say; only the sform is set")
    return image, said


def _save(path: Path, image: Any) -> None:
    with _opened(path) as out:
        image.to_stream(out)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which is there whole in the end or not at all; packed if its name says so."""
    with atomic_path(path) as temporary, temporary.open("wb") as out:
        if path.name.lower().endswith(".gz"):
            # Name and time stay out of the archive: the same voxels give the same bytes.
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, out, mtime=0) as packed:
                yield cast(BinaryIO, packed)
        else:
            yield out
