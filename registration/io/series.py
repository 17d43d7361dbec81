"""NIfTI files of several volumes, read and written one volume at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..image import Image
from ..space import Space
from .files import existing_file
from .label_maps import looks_like_labels
from .nifti import is_nifti, raw_of
from .nifti_stored import begin, opened, take
from .nifti_write import write_series
from .raw import Raw, Source
from .typed import as_type

# Intents of numbers that belong together at a voxel and turn with the image, by what they are.
_TURNING = {
    1004: "matrices", 1005: "tensors", 1006: "vectors", 1007: "vectors", 1008: "points", 1010: "quaternions",
    2003: "colours", 2004: "colours",
}  # fmt: skip


@dataclass(frozen=True)
class Series:
    """A file of several volumes on one grid; going through it reads it anew, one volume after another.

    Parameters
    ----------
    file
        Its path.
    shape
        (X, Y, Z, ...) of all voxels, as the header says.
    """

    file: Path
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of volumes."""
        return math.prod(self.shape[3:])

    def __iter__(self) -> Iterator[Raw]:
        """The volumes in the order of the file.

        Raises
        ------
        InputError
            If it is truncated, damaged, or placed nowhere.
        """
        with opened(self.file) as (stream, packed):
            (header, sizes), _, dtype = begin(self.file, stream, packed)
            for number in range(1, self.count + 1):
                stored = take(self.file, stream, self.shape[:3], dtype, packed and number == self.count)
                yield raw_of(self.file, header, sizes, stored)

    def labels(self) -> bool:
        """Whether every volume that is not of one value looks like labels, and at least one is of several."""
        seen = False
        for raw in self:
            if float(raw.array.min()) == float(raw.array.max()):
                continue
            if not looks_like_labels(raw.array):
                return False
            seen = True
        return seen


def open_series(path: str | os.PathLike[str]) -> Series | None:
    """The volumes of a NIfTI file along its fourth axis; None where the file is another or holds one volume.

    Raises
    ------
    InputError
        If its numbers are vectors, tensors or colours, which a transform would have to turn as well.
    """
    file = Path(path)
    if not is_nifti(file) or file.is_dir():
        return None
    with opened(existing_file(file)) as (stream, packed):
        (header, _), shape, _ = begin(file, stream, packed)
    if sum(n > 1 for n in shape[3:]) != 1:
        return None
    intent = int(header["intent_code"])
    if intent in (1006, 1007) and shape[-1] == 3:
        raise InputError(
            file, "holds vectors (a displacement field), no intensities", "give it as --transform or --initial"
        )
    if intent in _TURNING:
        problem = f"holds {_TURNING[intent]} (intent {intent}), of which resampling each volume by itself makes others"
        raise InputError(file, problem, f"one component is chosen with --channel 0 ... {math.prod(shape[3:]) - 1}")
    return Series(file, shape)


def write_volumes(
    path: str | os.PathLike[str],
    images: Iterable[Image],
    shape: Sequence[int],
    space: Space,
    *,
    like: Source | None = None,
    dtype: np.dtype | type | str | None = None,
    notices: list[str] | None = None,
) -> None:
    """Write (1, 1, *S) images in turn as the volumes of one NIfTI file, with no more than one of them in memory.

    Parameters
    ----------
    shape
        Of the axes after the spatial ones; the file holds as many volumes as their product.
    space
        The 3-D grid of all images.
    like, dtype
        As of :func:`registration.io.images.write_image`.

    Raises
    ------
    InputError
        If the ending names another format, or the file cannot be written.
    """
    file = Path(path)
    if not is_nifti(file):
        raise InputError(file, f"only .nii and .nii.gz take {int(np.prod(shape))} volumes")
    wanted = np.dtype(np.float32 if dtype is None else dtype)
    arrays = (as_type(image.data[0, 0].detach().cpu().numpy(), wanted) for image in images)
    like_all = np.broadcast_to(as_type(np.zeros(1, np.float32), wanted), (*space.shape, *shape))
    said = write_series(file, arrays, like_all, space.affine.numpy(), like)
    if notices is not None:
        notices.extend(said)
