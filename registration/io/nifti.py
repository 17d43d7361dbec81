"""NIfTI in by nibabel's headers; the voxels are read here, so that a short or damaged file is always noticed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import InputError
from .files import existing_file
from .nifti_stored import Header, begin, opened, take
from .raw import Fourth, Raw, Source, check_channel, choose_channel, orderly

# xyzt_units code -> mm per unit; 0 (unknown) is taken for mm, as every tool does.
_UNITS = {1: ("metres", 1e3), 3: ("microns", 1e-3)}
# sform and qform that put no corner further apart than this many voxels are the same to any purpose.
_SAME_VOXELS = 0.1
# Vectors that are not displacements, by the name of their intent.
_POSITIONS = {"Mapping": "SPM", "NREG_TRANS": "NiftyReg"}


def is_nifti(path: Path) -> bool:
    """Whether the name ends like a NIfTI file."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def read_nifti(path: str | os.PathLike[str], channel: int | None = None) -> Raw:
    """Read a NIfTI-1 or -2 file.

    A file whose header says two axes is 2-D; (X, Y, 1) is a 3-D image of one slice. Trailing axes of one are dropped.

    Raises
    ------
    InputError
        If it is missing, truncated, damaged, no NIfTI file, or of a voxel type that is no intensity.
    """
    file, (header, sizes), data = _stored(path)
    shape = header.get_data_shape()
    d = min(len(shape), 3)
    rest = [n for n in shape[d:] if n > 1]
    if rest and header["intent_code"] in (1006, 1007) and shape[-1] == d:
        raise InputError(
            file, "holds vectors (a displacement field), no intensities", "give it as --transform or --initial"
        )
    check_channel(file, rest, channel)
    return raw_of(file, header, sizes, choose_channel(file, data, d, channel))


def raw_of(file: Path, header: Header, sizes: np.ndarray, stored: np.ndarray) -> Raw:
    """(*S) voxels as stored, in their place in the world and scaled as the header says.

    Parameters
    ----------
    sizes
        Of voxels, as :func:`read_header` gives them.

    Raises
    ------
    InputError
        If the header places them nowhere.
    """
    array, d, said = stored, stored.ndim, list[str]()
    affine = _world(file, header, sizes[:d], said)
    slope, inter = header.get_slope_inter()
    dtype = array.dtype.newbyteorder("=")
    if slope is not None and (slope, inter or 0.0) != (1.0, 0.0):
        array = array.astype(np.float64 if dtype.itemsize >= 4 else np.float32) * slope + (inter or 0.0)
        dtype = np.dtype(np.float32)
    code = int(header["sform_code"]) or int(header["qform_code"]) or 1
    source = Source(file, "nifti", dtype, code if code in (1, 2, 3, 4, 5) else 2, affine, fourth=_fourth(header))
    return Raw(array, d, affine if d == 3 else _in_plane(file, affine), source, said)


def _fourth(header: Header) -> Fourth | None:
    axes = int(header["dim"][0])
    if axes < 4:
        return None
    intent = tuple(float(header[f"intent_p{n}"]) for n in (1, 2, 3)), bytes(header["intent_name"][()])
    return Fourth(
        tuple(header["pixdim"][4 : axes + 1].tolist()), int(header["xyzt_units"]) & 56, float(header["toffset"]),
        (int(header["intent_code"]), *intent),  # type: ignore[arg-type]
    )  # fmt: skip


def _stored(path: str | os.PathLike[str]) -> tuple[Path, tuple[Header, np.ndarray], np.ndarray]:
    """File, header as :func:`read_header` gives it, and voxels as stored."""
    file = existing_file(path)
    with opened(file) as (stream, packed):
        header, shape, dtype = begin(file, stream, packed)
        return file, header, take(file, stream, shape, dtype, packed)


def read_vectors(path: str | os.PathLike[str], said: list[str]) -> tuple[np.ndarray, np.ndarray, bool]:
    """Read a displacement field stored as vectors, such as ANTs' ``Warp.nii.gz``.

    Parameters
    ----------
    said
        What had to be decided is appended to it.

    Returns
    -------
    (*S, D) float32 vectors in mm, (D+1, D+1) affine of the grid to RAS mm, and whether the vectors are LPS: they are
    for the intent "vector" (1007, ITK and ANTs), and RAS for the intent "displacement" (1006).

    Raises
    ------
    InputError
        If the file holds no field.
    """
    file, (header, sizes), data = _stored(path)
    shape, intent = data.shape, int(header["intent_code"])
    if data.ndim != 5 or shape[3] != 1 or shape[4] not in (2, 3) or intent not in (1006, 1007):
        raise InputError(
            file,
            f"is no displacement field: its shape is {shape} with intent {intent}",
            "(X, Y, Z, 1, 3) with intent 1007 (vector) was expected",
        )
    name = bytes(header["intent_name"][()]).rstrip(b"\0").decode("latin-1")
    if name in _POSITIONS:
        raise InputError(
            file, f"is a deformation of {_POSITIONS[name]}, which holds positions or knots",
            "write it as displacements in mm, for ITK or ANTs",
        )  # fmt: skip
    d = shape[4]
    if d == 2 and shape[2] != 1:
        raise InputError(file, f"holds vectors of 2 components on 3 axes {shape[:3]}")
    affine = _world(file, header, sizes[:d], said)
    slope, inter = header.get_slope_inter()
    values = data.reshape(*shape[:d], d, order="F").astype(np.float32)
    if slope is not None and (slope, inter or 0.0) != (1.0, 0.0):
        values = values * np.float32(slope) + np.float32(inter or 0.0)
    return values, affine if d == 3 else _in_plane(file, affine), intent == 1007


def _world(file: Path, header: Header, sizes: np.ndarray, said: list[str]) -> np.ndarray:
    """(4, 4) affine to RAS mm: the sform if coded, else the qform, else nibabel's fallback; conflicts are said.

    ``sizes`` are those of voxels as they stand in the file; those of 0 are taken as 1, as nibabel and ITK do.
    """
    sform, qform = header.get_sform(coded=True)[0], None
    try:
        with np.errstate(all="ignore"):  # what is not finite is told below
            qform = header.get_qform(coded=True)[0]
    except Exception:
        said.append(f"{file}: its qform is damaged and was ignored")
    affine = sform if sform is not None else qform
    if affine is None:
        affine = header.get_base_affine()
        said.append(
            f"{file}: the header has neither sform nor qform; voxel axes are taken as in nibabel, "
            f"centred on the world origin with spacing {orderly(header.get_zooms()[:3])}"
        )
    if sform is None and (sizes <= 0).any():
        taken = orderly(header.get_zooms()[: len(sizes)])
        said.append(f"{file}: its header gives voxel sizes of {orderly(sizes)}, taken as {taken} (--spacing sets them)")
    affine = np.array(affine, dtype=np.float64)
    if not np.isfinite(affine).all():
        raise InputError(
            file, "its voxel-to-world affine holds NaN or infinite numbers", "repair the header (sform, qform)"
        )
    if sform is not None and qform is not None and np.isfinite(qform).all():
        apart = corners_apart(sform, qform, header.get_data_shape())
        zooms = np.linalg.norm(affine[:3, :3], axis=0)
        if apart > _SAME_VOXELS * max(zooms.min(), 1e-9):
            said.append(f"{file}: sform and qform disagree by up to {apart:.3g} mm; the sform is used")
    unit = _UNITS.get(int(header["xyzt_units"]) & 7)
    if unit:
        said.append(f"{file}: its positions are in {unit[0]} and were converted to mm")
        affine[:3] *= unit[1]
    return affine


def corners_apart(one: np.ndarray, other: np.ndarray, shape: Sequence[int]) -> float:
    """Largest distance between the places that two affines give the corners of a grid."""
    full = [*shape[:3], 1, 1][:3]
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in full], [1], indexing="ij"), -1).reshape(-1, 4)
    return float(np.linalg.norm(corners @ (one - other)[:3].T, axis=1).max())


def _in_plane(file: Path, affine: np.ndarray) -> np.ndarray:
    """(3, 3) in-plane part of the affine of a 2-D file, whose plane must be the world's x-y plane."""
    steps = np.linalg.norm(affine[:3, :2], axis=0)
    if (np.abs(affine[2, :2]) > 1e-3 * np.maximum(steps, 1e-12)).any():
        raise InputError(
            file,
            f"a 2-D image whose axes {orderly(affine[:3, 0])} and {orderly(affine[:3, 1])} leave the world's x-y plane",
            "store it as a 3-D volume of one slice",
        )
    return affine[np.ix_([0, 1, 3], [0, 1, 3])]
