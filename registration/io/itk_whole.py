"""Whether ITK's transform files are whole: what lacks, ITK takes for zeros."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np

from ..errors import InputError

# Numbers that ITK's linear transforms have, besides a centre.
_PARAMETERS = {
    "Euler2DTransform": 3, "Rigid2DTransform": 3, "Similarity2DTransform": 4, "Euler3DTransform": 6,
    "VersorTransform": 3, "VersorRigid3DTransform": 6, "Similarity3DTransform": 7, "ScaleVersor3DTransform": 9,
    "ScaleSkewVersor3DTransform": 15, "ComposeScaleSkewVersor3DTransform": 12,
}  # fmt: skip
_FULL = ("AffineTransform", "MatrixOffsetTransformBase")


def check_itk(file: Path) -> None:
    """Refuse a text, MATLAB, HDF5 or MINC file that ITK reads and that lacks something or holds NaN; others pass.

    Raises
    ------
    InputError
        Saying which.
    """
    if file.suffix.lower() == ".mat":
        _check_matlab(file)
    elif h5py.is_hdf5(file):
        _check_hdf5(file)
    elif file.suffix.lower() == ".xfm":
        _check_minc(file)
    else:
        _check_text(file)


def _check_text(file: Path) -> None:
    """Refuse ITK text that lacks numbers or holds NaN.

    ITK would take a transform without parameters for the identity, read what is not there as zeros, and crash on NaN.
    """
    with file.open("rb") as stream:
        if b"Insight Transform File" not in stream.read(256):
            return
        stream.seek(0)
        lines = [line.split(b":", 1) for line in stream if b":" in line and b"CompositeTransform" not in line]
    found: dict[bytes, list[bytes]] = {b"Transform": [], b"Parameters": [], b"FixedParameters": []}
    for name, value in lines:
        if name.strip() in found:
            found[name.strip()].append(value.strip())
    if len({len(values) for values in found.values()}) != 1:
        raise InputError(file, "is truncated: a transform in it has no parameters", "copy it again")
    for kind, *texts in zip(*found.values(), strict=True):
        try:
            counts = [len(_finite(text.split())) for text in texts]
        except ValueError:
            raise InputError(file, "holds parameters that are no finite numbers", "write it again") from None
        _check_counts(file, kind.decode("latin-1"), counts[0], counts[1])


def _check_minc(file: Path) -> None:
    """Refuse ITK's text for MINC without its numbers or its field, of which the reader speaks on standard error.

    What MINC itself writes counts in RAS mm and leads from the moving to the fixed image; ITK would read it as its own.
    """
    text = file.read_bytes().decode("latin-1")
    if "ITK-XFM" not in text:
        problem = "is a transform of MINC (RAS mm, source to target), which is not read"
        raise InputError(file, problem, "itk_convert_xfm of MINC writes it for ITK")
    kinds = re.findall(r"^\s*Transform_Type\s*=\s*(\w+)\s*;", text, re.MULTILINE)
    matrices = re.findall(r"^\s*Linear_Transform\s*=([^;]*);", text, re.MULTILINE)
    try:
        counts = [len(_finite(matrix.split())) for matrix in matrices]
    except ValueError:
        raise InputError(file, "holds a matrix that is no finite numbers", "write it again") from None
    if not kinds or [kind.lower() for kind in kinds].count("linear") != len(counts) or set(counts) - {12}:
        raise InputError(file, "is truncated: a transform in it has no matrix of 12 numbers", "copy it again")
    for name in re.findall(r"^\s*Displacement_Volume\s*=\s*([^;]*?)\s*;", text, re.MULTILINE):
        if not (file.parent / name).is_file():
            raise InputError(file, f"its field should be in {name}, which is not there", "keep both files together")


def _check_matlab(file: Path) -> None:
    """Refuse an ITK .mat file (MATLAB level 4) that is cut, which ITK reads as if zeros followed."""
    data, at, kind, counts = file.read_bytes(), 0, "", list[int]()
    cut = InputError(file, "is truncated: its end is missing", "copy it again")
    while len(counts) < 2:
        if len(data) < at + 20:
            raise cut
        form, rows, columns, imaginary, length = np.frombuffer(data[at : at + 20], "<i4").tolist()
        if form not in (0, 10) or imaginary or not 0 < length < 256 or min(rows, columns) < 0:
            return  # of another kind: the reader says what
        begin, number = at + 20 + length, ("<f8", "<f4")[form // 10]
        end = begin + rows * columns * np.dtype(number).itemsize
        if len(data) < end:
            raise cut
        if not np.isfinite(np.frombuffer(data[begin:end], number)).all():
            raise InputError(file, "holds parameters that are no finite numbers", "write it again")
        kind = kind or data[at + 20 : begin].rstrip(b"\0").decode("latin-1")
        counts.append(rows * columns)
        at = end
    _check_counts(file, kind, counts[0], counts[1])


def _check_hdf5(file: Path) -> None:
    """Refuse ITK's HDF5 with a transform without numbers, of which its reader speaks at length on standard error."""
    try:
        with h5py.File(file) as store:
            group = store.get("TransformGroup")
            # A view of h5py holds the lock of the library until it has come to its end, which an error would prevent.
            parts = [_part(part) for part in list(group.values())] if isinstance(group, h5py.Group) else []
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        why = " ".join(str(error).split())[:120]
        raise InputError(file, f"is damaged: a transform in it cannot be read ({why})", "copy it again") from None
    for kind, parameters, fixed in parts:
        if not kind.startswith("CompositeTransform"):
            _check_counts(file, kind, parameters, fixed)


def _part(part: h5py.Group) -> tuple[str, int, int]:
    """What kind of transform it is, and how many parameters and fixed parameters it has."""
    kind = bytes(part["TransformType"][0]).decode("latin-1")
    if kind.startswith("CompositeTransform"):
        return kind, 0, 0
    # Files of older versions have their own spelling.
    prefix = "Transform" if "TransformParameters" in part else "Tranform"
    return kind, len(part[f"{prefix}Parameters"]), len(part[f"{prefix}FixedParameters"])


def _finite(words: list[bytes] | list[str]) -> list[float]:
    values = [float(word) for word in words]
    if not np.isfinite(values).all():
        raise ValueError("not finite")
    return values


def _check_counts(file: Path, kind: str, parameters: int, fixed: int) -> None:
    """Refuse a linear transform, such as ``Euler3DTransform_double_3_3``, with too few numbers."""
    name, d = kind.split("_")[0], 2 if kind.endswith("2_2") else 3
    needed = _PARAMETERS.get(name, d * (d + 1) if name in _FULL else None)
    if needed is not None and (parameters < needed or fixed < d):
        raise InputError(
            file, f"is truncated: its {name} has {parameters} parameters and a centre of {fixed} numbers, "
            f"{needed} and {d} were expected", "copy it again",
        )  # fmt: skip
