"""What every image format is reduced to on its way in: an array on its voxel axes, and an affine to RAS mm."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError

# float32 holds every integer up to here.
EXACT_IN_FLOAT32 = 1 << 24


@dataclass(frozen=True)
class Fourth:
    """What a NIfTI header says of the axes after the spatial ones, such as the repetition time of a series.

    Parameters
    ----------
    steps
        Along these axes, of ``pixdim``, in the unit of ``unit``.
    unit
        Code of the unit of time or frequency, as in ``xyzt_units``: 8 s, 16 ms, 24 us, 32 Hz, 40 ppm, 48 rad/s.
    offset
        Of the fourth axis, ``toffset``.
    intent
        Code, three parameters and name of what the values mean.
    """

    steps: tuple[float, ...]
    unit: int = 0
    offset: float = 0.0
    intent: tuple[int, tuple[float, float, float], bytes] = (0, (0.0, 0.0, 0.0), b"")


@dataclass(frozen=True)
class Source:
    """What an image file says beyond its voxels and grid, kept so that a result can be written in its likeness.

    Parameters
    ----------
    path
        The file or the DICOM folder.
    kind
        Its format in a word: nifti, meta, nrrd, dicom, png...
    dtype
        Of the voxels in the file; float32 when the file scales its integers to real values.
    code
        NIfTI code of the world the affine leads to (1 scanner, 2 aligned, 3 Talairach, 4 MNI); 1 for other formats.
    affine
        (4, 4) voxel to RAS mm as in a NIfTI header, also for 2-D: holds the height and thickness of a 2-D slice.
    labels
        Whether the voxels look like labels (see :func:`registration.io.label_maps.looks_like_labels`).
    fourth
        What a NIfTI file of several volumes says of them.
    """

    path: Path
    kind: str
    dtype: np.dtype
    code: int = 1
    affine: np.ndarray | None = None
    labels: bool = False
    fourth: Fourth | None = None


class ChannelError(InputError):
    """A file of several volumes or components of which none was chosen, or one that is not there.

    Parameters
    ----------
    count
        How many the file holds.
    """

    def __init__(self, where: str | os.PathLike[str], problem: str = "", cure: str = "", count: int = 0) -> None:
        super().__init__(where, problem, cure)
        self.count = count


@dataclass
class Raw:
    """Voxels as read.

    Parameters
    ----------
    array
        (*S) or (*S, C) values; ``ndim`` says how many axes are spatial.
    affine
        (D+1, D+1) float64 voxel index -> RAS mm.
    said
        What the reader had to decide, in sentences for the person at the keyboard.
    """

    array: np.ndarray
    ndim: int
    affine: np.ndarray
    source: Source
    said: list[str] = field(default_factory=list)


def choose_channel(file: Path, array: np.ndarray, ndim: int, channel: int | None) -> np.ndarray:
    """Bring (*S, ...) voxels to (*S): drop trailing axes of one, take the channel that was asked for.

    Raises
    ------
    ChannelError
        If there are several channels and none was chosen, or the chosen one is not there.
    """
    rest = [n for n in array.shape[ndim:] if n > 1]
    array = array.reshape(*array.shape[:ndim], -1, order="A") if array.ndim > ndim else array[..., None]
    check_channel(file, rest, channel)
    return array[..., channel or 0]


def check_channel(file: Path, rest: Sequence[int], channel: int | None) -> None:
    """Whether ``channel`` picks one image out of axes of lengths ``rest`` beyond the spatial ones."""
    shape = " x ".join(map(str, rest)) or "1"
    count = int(np.prod(list(rest), dtype=object)) if rest else 1
    if len(rest) > 1:
        raise InputError(file, f"has several axes beyond the spatial ones ({shape})", "extract one image first")
    if channel is None and count > 1:
        problem = f"holds {count} volumes or channels, one is needed"
        raise ChannelError(file, problem, f"choose with --channel 0 ... {count - 1}", count)
    if channel is not None and not 0 <= channel < count:
        cure = f"channels count from 0 to {count - 1}" if count > 1 else "it holds one volume"
        raise ChannelError(file, f"has no channel {channel}", cure, count)


def scale_spacing(file: Path, affine: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """The affine with other voxel spacings (mm) along the same axes, the first voxel kept where it is."""
    d = affine.shape[0] - 1
    steps = [float(s) for s in spacing] * (d if len(list(spacing)) == 1 else 1)
    if len(steps) != d or not all(np.isfinite(s) and s > 0 for s in steps):
        raise InputError(
            file,
            f"needs {d} positive spacings in mm, got {list(spacing)}",
            f"give one per axis, e.g. --spacing {','.join(['0.5', '0.5', '2'][:d])}",
        )
    result = affine.copy()
    result[:d, :d] *= np.asarray(steps) / np.linalg.norm(affine[:d, :d], axis=0)
    return result


def finite_float32(file: Path, array: np.ndarray, said: list[str], missing: float | None = None) -> np.ndarray:
    """C-contiguous float32 values; NaN and infinite voxels become ``missing`` or the smallest value, and that is said.

    Raises
    ------
    InputError
        If no voxel is finite.
    """
    if array.dtype.kind in "iub":
        if (
            array.dtype.itemsize >= 4
            and array.size
            and max(abs(int(array.min())), abs(int(array.max()))) > EXACT_IN_FLOAT32
        ):
            said.append(f"{file}: integers beyond 2^24 are rounded to 24 bits")
        return np.ascontiguousarray(array, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.ascontiguousarray(array, dtype=np.float32)
        # A sum is NaN or infinite if any voxel is, and costs far less than looking at each.
        total = values.sum(dtype=np.float64)
    if np.isfinite(total):
        return values
    good = np.isfinite(values)
    if not good.any():
        raise InputError(file, "holds no voxel that is finite in 32 bits, only NaN, infinite or huge values")
    bad = int(values.size - np.count_nonzero(good))
    floor = float(values[good].min()) if missing is None else missing
    what = f"the smallest value {floor:g}" if missing is None else f"{floor:g}"
    said.append(f"{file}: {bad:,} NaN or infinite voxels ({100 * bad / values.size:.2g} %) set to {what}")
    return np.where(good, values, np.float32(floor))


def orderly(values: Any) -> str:
    """Numbers for a message, short."""
    return "(" + ", ".join(f"{float(v):.4g}" for v in values) + ")"
