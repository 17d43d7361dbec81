"""Every other image format by SimpleITK. World positions there are LPS; they become RAS here and nowhere else.

Tensor axis k is ITK index k: of a PNG, axis 0 counts columns to the right and axis 1 rows downwards.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from .files import atomic_path, beside, check_claim, existing_file
from .image_whole import check_whole
from .raw import Raw, Source, check_channel, choose_channel, orderly

_KINDS = {
    ".mha": "meta",
    ".mhd": "meta",
    ".nrrd": "nrrd",
    ".nhdr": "nrrd",
    ".dcm": "dicom",
    ".tif": "tiff",
    ".jpg": "jpeg",
}
_ANALYZE = ("hdr", "img")
# Rec. 601, as Pillow's and OpenCV's conversion to grey.
_LUMINANCE = np.array([0.299, 0.587, 0.114])
PHOTOGRAPHS = {"png", "jpeg", "tiff", "bmp", "gif"}


def flip(d: int) -> np.ndarray:
    """(D+1, D+1) matrix between LPS and RAS, its own inverse."""
    return np.diag([-1.0, -1.0] + [1.0] * (d - 1))


def kind_of(path: Path) -> str:
    """The format in a word, from the ending."""
    ending = path.suffix.lower()
    return _KINDS.get(ending, ending.lstrip(".") or "dicom")


def affine_of(image: Any) -> np.ndarray:
    """(D+1, D+1) voxel index -> RAS mm of a SimpleITK image or reader."""
    d = image.GetDimension()
    affine = np.eye(d + 1)
    affine[:d, :d] = np.reshape(image.GetDirection(), (d, d)) * np.asarray(image.GetSpacing())
    affine[:d, d] = image.GetOrigin()
    return flip(d) @ affine


def set_geometry(image: Any, affine: np.ndarray) -> None:
    """Give a SimpleITK image the place of a (D+1, D+1) RAS affine."""
    d = affine.shape[0] - 1
    lps = flip(d) @ affine
    spacing = np.linalg.norm(lps[:d, :d], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:d, d].tolist())
    image.SetDirection((lps[:d, :d] / spacing).ravel().tolist())


def read_itk(path: str | Path, channel: int | None = None) -> Raw:
    """Read a file of any format SimpleITK knows, not a folder.

    Raises
    ------
    InputError
        If it is missing, truncated, no image or of more than three axes without ``channel``.
    """
    file = existing_file(path)
    kind, said = kind_of(file), list[str]()
    check_whole(file, kind)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        with no_warnings():  # what matters of them is said below, in one line
            reader.ReadImageInformation()
            shape, components = reader.GetSize(), reader.GetNumberOfComponents()
            # The voxel type is not known in bytes here; one byte is the least it can be.
            stored = sum(p.stat().st_size for p in [file, *beside(file)])
            check_claim(file, int(np.prod(shape, dtype=object)) * components, stored)
            image = reader.Execute()
    except RuntimeError as error:
        problem, cure = f"cannot be read as an image ({reason(error)})", "it is damaged or no image"
        if "Unable to determine ImageIO" in str(error):
            problem = "cannot be read as an image: it is damaged, or of a format that is not known here"
            cure = "convert it to .nii.gz"
        raise InputError(file, problem, cure) from None
    affine, d = affine_of(image), image.GetDimension()
    array, dtype = grey(file, array_of(image), d, kind, channel, said)
    if d > 3:
        if d > 4:
            raise InputError(file, f"has {d} axes {shape}, 2 or 3 were expected")
        check_channel(file, [shape[3]] if shape[3] > 1 else [], channel)
        array, affine, d = array[..., channel or 0], affine[np.ix_([0, 1, 2, 4], [0, 1, 2, 4])], 3
    if kind in PHOTOGRAPHS and np.allclose(np.linalg.norm(affine[:d, :d], axis=0), 1):
        said.append(f"{file}: no pixel spacing in the file, 1 mm is assumed (--spacing sets it)")
    tags = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    if kind in _ANALYZE and tags.get("nifti_type") == "0":
        said.append(f"{file}: Analyze files do not say which side is left; their axes are taken as ITK takes them")
    if kind == "dicom" and shape[2:] == (1,):
        affine = one_slice(file, affine, tags, said)
    return Raw(array, d, affine, Source(file, kind, dtype), said)


@contextlib.contextmanager
def no_warnings() -> Iterator[None]:
    """ITK's own warnings go past Python, straight to the terminal."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def one_slice(path: Path, affine: np.ndarray, tags: Mapping[str, str], said: list[str]) -> np.ndarray:
    """(4, 4) affine of a DICOM file of one slice, as thick as its tags say, which is told.

    ITK takes 1 mm where a file does not give the distance of slices.
    """
    thickness = float(np.linalg.norm(affine[:3, 2]))
    told = f"{thickness:.4g} mm thick"
    try:
        given = float(tags.get("0018|0050", ""))
    except ValueError:
        given = 0.0
    if 0 < given < np.inf and thickness == 1:
        affine = affine @ np.diag([1.0, 1.0, given, 1.0])
        told = f"{given:.4g} mm thick by its SliceThickness"
    elif thickness == 1:
        told = "taken as 1 mm thick (--spacing sets it)"
    cure = "" if path.is_dir() else "; a series is read by giving the folder of its slices"
    said.append(f"{path}: one slice of DICOM, {told}{cure}")
    return affine


def array_of(image: Any) -> np.ndarray:
    """(*S) or (*S, C) voxels with the spatial axes in index order; SimpleITK gives (z, y, x[, c])."""
    array, d = sitk.GetArrayFromImage(image), image.GetDimension()
    return array.transpose([*range(d - 1, -1, -1), *range(d, array.ndim)])


def grey(
    file: Path, array: np.ndarray, d: int, kind: str, channel: int | None, said: list[str]
) -> tuple[np.ndarray, np.dtype]:
    """(*S) values from (*S) or (*S, C): colours become luminance, other components are chosen by ``channel``."""
    if array.dtype.kind not in "iuf":
        raise InputError(file, f"holds voxels of type {array.dtype}, intensities were expected")
    dtype = array.dtype
    if array.ndim == d:
        # A lone channel of a 3-D or 2-D image; 4-D images choose theirs later.
        if d <= 3:
            check_channel(file, [], channel)
        return array, dtype
    components = array.shape[-1]
    if channel is not None or not (dtype in (np.uint8, np.uint16) and (kind in PHOTOGRAPHS or components in (3, 4))):
        return choose_channel(file, array, d, channel), dtype
    if components < 3:
        said.append(f"{file}: grey and transparency; the transparency is ignored")
        return array[..., 0], dtype
    colours = "colours and transparency" if components == 4 else "colours"
    said.append(f"{file}: {colours} are turned into luminance (--channel picks one)")
    return (array[..., :3] @ _LUMINANCE).astype(np.float32), dtype


# What others can read back where it was; pictures have no place in the world.
_WRITTEN = (".mha", ".nrrd", ".mnc", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_CARELESS = ("jpeg", "bmp")  # on a full disk their writers end the program, or leave an empty file without a word
_MOST_BYTES = 4  # of these formats for a byte of a picture
_PLACED = ("meta", "nrrd", "mnc")  # kinds that hold where their voxels lie


def write_itk(path: Path, array: np.ndarray, affine: np.ndarray) -> list[str]:
    """Write (*S) voxels with a (D+1, D+1) RAS affine in the format of the path's ending.

    Pictures (PNG, JPEG, TIFF) hold neither place nor orientation. A 2-D image that has one loses it there, which is
    said; a volume that has one is refused, for it would lie elsewhere in every other program.
    """
    kind = kind_of(path)
    if path.suffix.lower() in (".mhd", ".nhdr", ".hdr", ".img"):
        raise InputError(
            path, "a header with a separate data file cannot be replaced in one step", "write .nii.gz, .mha or .nrrd"
        )
    if path.suffix.lower() not in _WRITTEN:
        raise InputError(path, "no image is written with this ending", "write .nii.gz, .mha, .nrrd or .png")
    said = [] if kind in _PLACED else _lost(path, kind, affine)
    if kind in ("png", "jpeg", "bmp") and array.dtype != np.uint8 and not (array.dtype == np.uint16 and kind == "png"):
        low, high = float(array.min()), float(array.max())
        said.append(f"{path}: intensities {orderly((low, high))} are scaled to 0...255")
        array = np.rint((array - low) * (255 / max(high - low, 1e-30))).astype(np.uint8)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    set_geometry(image, affine)
    if kind in _CARELESS and path.parent.is_dir() and shutil.disk_usage(path.parent).free < _MOST_BYTES * array.nbytes:
        raise InputError(path, "cannot be written (no space left on device)", "make room, or choose another folder")
    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), kind in ("meta", "nrrd", "tiff"))
        except RuntimeError as error:
            # ITK names the temporary file, which would only puzzle.
            raise InputError(
                path, f"cannot be written ({reason(error)})", "write .nii.gz, .mha, .nrrd or .png"
            ) from None
    return said


def _lost(path: Path, kind: str, affine: np.ndarray) -> list[str]:
    """What a picture cannot say of a (D+1, D+1) RAS affine, in a sentence if anything.

    Raises
    ------
    InputError
        If it is the place of a volume, or this kind of picture has no third axis.
    """
    d = len(affine) - 1
    lps = flip(d) @ affine
    spacing = np.diag(lps)[:d]
    plain = np.allclose(lps, np.diag([*spacing, 1.0]), atol=1e-6) and bool((spacing > 0).all())
    if d == 3 and (kind != "tiff" or not plain):
        problem = f"a {kind} file holds 2-D images" if kind != "tiff" else "a tiff file holds no place or orientation"
        raise InputError(path, f"{problem}, this is a volume in the world", "write .nii.gz, .mha or .nrrd")
    if not plain:
        return [f"{path}: {kind} files hold no place in the world, it is lost; .nii.gz, .mha and .nrrd keep it"]
    if d == 3 and abs(spacing[2] - 1) > 1e-6:
        return [f"{path}: tiff files do not hold the distance of slices, {spacing[2]:.4g} mm (--spacing sets it)"]
    return []


def reason(error: Exception) -> str:
    """The last telling line of a SimpleITK message, without addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = re.sub(r"^.*?(ITK ERROR|sitk::ERROR):\s*", "", lines[-1] if lines else "unknown error")
    return re.sub(r"\(0x[0-9a-f]+\)", "", text)[:160]
